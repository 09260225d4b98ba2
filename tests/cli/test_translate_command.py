"""`hl7bridge translate` in one process and in several: the same bundles, in the same order, the same errors."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli import translate
from hl7bridge.cli.main import cli

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Some samples in one compressed file, one of them beyond what the tables take."""
    whole = [file.read_bytes() for file in sorted(SAMPLES.glob("adt_a0*.hl7"))[:8]]
    whole.insert(3, b"MSH|^~\\&|A|B|||20240501120000||SIU^S12|C9|P|2.5\r")
    file = tmp_path / "feed.hl7.xz"
    file.write_bytes(lzma.compress(b"\n".join(whole)))
    return file


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["translate", *words])


def test_several_processes_give_what_one_gives_in_the_same_order(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "AT_ONCE", 2)
    one, two = (run(str(feed), str(feed.parent / "absent"), "--processes", n) for n in ("1", "2"))
    assert one.stdout == two.stdout and one.stderr == two.stderr
    assert one.exit_code == two.exit_code == 1
    assert one.stdout.count("\n") == 8
    assert "message 4: " in two.stderr and "absent: cannot be read" in two.stderr


def test_several_processes_write_the_files_that_one_writes(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "AT_ONCE", 2)
    folders = [feed.parent / "one", feed.parent / "two"]
    for number, folder in enumerate(folders, 1):
        assert run(str(feed), "-o", str(folder), "--processes", str(number)).exit_code == 1
    written = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    assert written[0] == written[1] and len(written[0]) == 8
