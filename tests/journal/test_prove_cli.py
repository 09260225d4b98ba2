"""`hl7bridge prove` and `hl7bridge journal verify`: beside the daemon, on a copy, and without a word about the patient."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from journal_support import received

from hl7bridge.cli.journal import journal as journal_commands
from hl7bridge.cli.prove import prove
from hl7bridge.config import Config
from hl7bridge.journal.files import DATABASE
from hl7bridge.journal.protocol import Change, State
from hl7bridge.journal.sqlite import SqliteJournal

SENTINEL = "ZZSENTINELZZ"
PROOF = {"bundle_sha256": "ab" * 32, "entries": 3, "status": 200, "answer_sha256": "cd" * 32,
         "written": [[f"Patient/{SENTINEL}", 'W/"1"']]}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"journal": {"path": str(tmp_path / "journal")}})


async def fill(config: Config) -> SqliteJournal:
    journal = await SqliteJournal.open(config.journal.path, min_free_bytes=0)
    raw = b"MSH|^~\\&|LAB|HOSP|||20240101||ADT^A01|C1|P|2.5\rPID|1||ZZSENTINELZZ\r"
    for number in (1, 2):
        found = await journal.append(received(number, raw=raw + b"OBX|%d\r" % number, control_id="C1"))
        journal.answered(found.seq, True)
        await journal.apply(Change(found.id, State.DELIVERED, 1, mapping_version="v1", proof=PROOF))
    return journal


def run(config: Config, *arguments: str, command: object = prove) -> Result:
    return CliRunner().invoke(command, list(arguments), obj=config)  # type: ignore[arg-type]


def filled(config: Config) -> None:
    async def work() -> None:
        await (await fill(config)).close()

    asyncio.run(work())


async def test_every_message_with_the_control_id_is_told_beside_the_running_daemon(config: Config) -> None:
    journal = await fill(config)
    result = await asyncio.to_thread(run, config, "C1")
    await journal.close()
    assert result.exit_code == 0, result.output
    assert result.stdout.count("verified: every step fits its receipt") == 2
    assert [word in result.stdout for word in ("received", "answered", "delivered", "abababababababab…")] == [True] * 4
    assert SENTINEL not in result.output


def test_as_json_it_is_for_programs_and_shows_the_server_s_names_only_when_asked(config: Config) -> None:
    filled(config)
    result = run(config, "C1", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["verified"] for one in told] == [True, True]
    assert [event["what"] for event in told[0]["events"]] == ["received", "answered", "delivered"]
    assert told[0]["events"][2]["facts"]["answer_sha256"] == "cd" * 32
    assert SENTINEL not in result.output
    shown = run(config, told[0]["id"], "--json", "--locations")
    assert SENTINEL in shown.stdout and "recorded in the audit" in shown.stderr


def test_a_copy_that_cannot_be_written_is_proven_too(config: Config, tmp_path: Path) -> None:
    filled(config)
    copy = tmp_path / "copy"
    shutil.copytree(config.journal.path, copy)
    for path in (copy, *copy.iterdir()):
        path.chmod(0o500 if path.is_dir() else 0o400)
    shutil.rmtree(config.journal.path)
    assert run(config, "C1", "--journal", str(copy)).exit_code == 0
    assert run(config, "verify", "--journal", str(copy), command=journal_commands).exit_code == 0
    copy.chmod(0o700)
    assert sorted(path.name for path in copy.iterdir()) == ["journal.lock", DATABASE]


def test_a_record_that_was_changed_is_said_with_the_exit_code(config: Config) -> None:
    filled(config)
    with contextlib.closing(sqlite3.connect(Path(config.journal.path) / DATABASE, isolation_level=None)) as connection:
        connection.execute("UPDATE history SET at = at + 60 WHERE seq = 2")
    result = run(config, "C1")
    assert result.exit_code == 1
    assert "NOT VERIFIED" in result.stdout and "step 1 is not what its receipt says" in result.stdout
    whole = run(config, "verify", "--json", command=journal_commands)
    assert whole.exit_code == 1
    assert [finding["text"] for finding in json.loads(whole.stdout)["findings"]] == [
        "step 1 is not what its receipt says"
    ]


def test_the_whole_journal_is_verified_and_its_head_is_an_anchor_for_later(config: Config) -> None:
    filled(config)
    told = json.loads(run(config, "verify", "--json", command=journal_commands).stdout)
    assert (told["verified"], told["messages"]) == (True, 2)
    assert run(config, "verify", "--anchor", told["head"], command=journal_commands).exit_code == 0
    number, _ = told["head"].split(":")
    assert run(config, "verify", "--anchor", f"{number}:{'0' * 64}", command=journal_commands).exit_code == 1
    assert run(config, "verify", "--anchor", "mine", command=journal_commands).exit_code == 2


def test_what_is_not_there_is_an_error(config: Config) -> None:
    filled(config)
    assert "no message in the journal" in str(run(config, "C9").exception)
    assert "there is no journal" in str(run(config.model_copy(update={"journal": Config().journal}), "C1").exception)
