"""What others may read is said, what is stored is told by doctor, and lineage is stored where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hl7bridge.config import Config, Encryption
from hl7bridge.delivery.disk import wider_than_private
from hl7bridge.examine.at_rest import at_rest
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.service.tablesets import TableSets
from hl7bridge.translators.answer import answer
from hl7bridge.translators.wire import Done, Refused, Work

SAMPLES = Path(__file__).parents[2] / "samples"


def graded(config: Config) -> dict[str, str]:
    return {finding.subject: finding.grade for finding in at_rest(config)}


@pytest.fixture
def folders(tmp_path: Path) -> Config:
    for name in ("journal", "dlq"):
        (tmp_path / name).mkdir(mode=0o700)
    paths = {"journal": {"path": str(tmp_path / "journal")}, "dead_letters": {"path": str(tmp_path / "dlq")}}
    return Config.model_validate(paths)


def test_files_that_others_may_read_fail_the_doctor(folders: Config, tmp_path: Path) -> None:
    assert graded(folders)["modes"] == "ok"
    (tmp_path / "journal" / "journal.sqlite3").touch(mode=0o600)
    assert wider_than_private(tmp_path / "journal") == []
    (tmp_path / "journal" / "journal.sqlite3").chmod(0o640)
    assert wider_than_private(tmp_path / "journal") == [tmp_path / "journal" / "journal.sqlite3"]
    assert graded(folders)["modes"] == "FAIL"


def test_the_doctor_tells_whether_it_is_encrypted_and_who_may_read_the_key(folders: Config, tmp_path: Path) -> None:
    (warning,) = [finding for finding in at_rest(folders) if finding.subject == "encryption"]
    assert warning.grade == "warn" and "in clear" in warning.text and "keys new" in warning.remedy
    meant = folders.model_copy(update={"encryption": Encryption(accept_clear=True)})
    assert graded(meant)["encryption"] == "ok"
    key = tmp_path / "key"
    key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    key.chmod(0o644)
    settings = folders.model_dump(include={"journal", "dead_letters"})
    config = Config.model_validate({**settings, "encryption": {"keys": {"a": f"file:{key}"}, "active": "a"}})
    assert graded(config)["encryption"] == "FAIL"
    key.chmod(0o600)
    assert graded(config)["encryption"] == "ok"
    key.write_text("no key\n")
    assert graded(config)["encryption"] == "FAIL"


def test_damaged_messages_fail_the_doctor(folders: Config, tmp_path: Path) -> None:
    assert "journal content" not in graded(folders)
    (tmp_path / "dlq" / "damaged" / "2024-01-01").mkdir(parents=True, mode=0o700)
    assert graded(folders)["journal content"] == "FAIL"


async def test_a_torn_page_of_the_journal_fails_the_doctor(folders: Config, tmp_path: Path) -> None:
    assert "journal file" not in graded(folders), "there is none"
    journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0)
    await journal.audit("somebody", "something", "ZZNEEDLEZZ" + "x" * 9000)
    assert graded(folders)["journal file"] == "ok", "beside the daemon"
    await journal.close()
    assert graded(folders)["journal file"] == "ok"
    file = tmp_path / "journal" / "journal.sqlite3"
    content = bytearray(file.read_bytes())
    start = content.index(b"ZZNEEDLEZZ") // 8192 * 8192
    content[start : start + 4096] = b"\xa5" * 4096
    file.write_bytes(content)
    assert graded(folders)["journal file"] == "FAIL"
    file.write_bytes(b"no database at all" * 1000)
    assert graded(folders)["journal file"] == "FAIL"


@pytest.mark.parametrize("wanted", ["stored", "recomputed"])
def test_lineage_comes_with_the_translation_only_where_it_is_to_be_stored(wanted: str) -> None:
    tables = TableSets(Config.model_validate({"translate": {"lineage": wanted}}))
    raw = (SAMPLES / "adt_a01_admit.hl7").read_bytes()
    said = answer(Work(raw, "default"), tables)
    assert isinstance(said, Done)
    assert bool(said.lineage_document) == (wanted == "stored")
    if wanted == "stored":
        assert b'"path":"Bundle.entry[0]' in said.lineage_document
        family = next(line for line in raw.splitlines() if line.startswith(b"PID")).split(b"|")[5].split(b"^")[0]
        assert family not in said.lineage_document, "paths, never values"
        refused = answer(Work(b"MSH|^~\\&|A|B|||20240101||ADT^A01|1|P|2.5\rEVN|A01\r", "default"), tables)
        assert isinstance(refused, Refused | Done)
