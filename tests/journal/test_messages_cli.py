"""`hl7bridge messages` and the spans of time it understands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from journal_support import parked, received

from hl7bridge.cli.durations import parse_duration
from hl7bridge.cli.messages import messages, operator_name, patient_identifiers
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE
from hl7bridge.journal.protocol import Change, State
from hl7bridge.journal.sqlite import SqliteJournal

SENTINEL = "PAT4711"
RAW = b"MSH|^~\\&|LAB|HOSP|||20240101||ORU^R01|7|P|2.5\rPID|1||PAT4711^^^HOSP~PAT9^^^X||DOE^JANE\r"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"journal": {"path": str(tmp_path / "journal")}})


@pytest.fixture
def ids(config: Config) -> list[str]:
    async def fill() -> list[str]:
        journal = await SqliteJournal.open(config.journal.path, min_free_bytes=0)
        dead = await journal.append(parked(1))
        waiting = await journal.append(received(7, raw=RAW, type="ORU^R01", listener="lab"))
        await journal.apply(Change(waiting.id, State.WAITING, 1, 4e9, "endpoint-rejected", "503", "v1"))
        await journal.replay(dead.id, by="eva")
        await journal.append(received(2))
        await journal.append(received(2, raw=b"MSH|other"))
        await journal.close()
        return [dead.id, waiting.id]

    return asyncio.run(fill())


def run(config: Config, *words: str) -> Result:
    return CliRunner().invoke(messages, words, obj=config)


def audited(config: Config) -> list[Any]:
    async def read() -> list[Any]:
        journal = await SqliteJournal.open(config.journal.path, mode="guest")
        entries = await journal.audited()
        await journal.close()
        return entries

    return asyncio.run(read())


def test_the_list_shows_newest_first_and_no_patient(config: Config, ids: list[str]) -> None:
    result = run(config, "list")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "RECEIVED", "LISTENER", "TYPE", "CONTROL", "ID", "STATE", "ATTEMPTS", "REASON"]
    assert [line.split()[0] for line in lines[-2:]] == [ids[1], ids[0]]
    assert SENTINEL not in result.output and "lane" not in result.output
    assert not audited(config)


def test_the_list_is_filtered(config: Config, ids: list[str]) -> None:
    def found(*words: str) -> list[dict[str, Any]]:
        result = run(config, "list", "--json", *words)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    (row,) = found("--state", "waiting")
    assert row["id"] == ids[1] and row["reason"] == "endpoint-rejected" and SENTINEL not in str(row)
    columns = ["id", "received", "listener", "type", "control_id", "state", "attempts", "reason", "mapping_version"]
    assert list(row) == columns
    assert len(found("--state", "waiting", "--state", "received")) == 4
    assert len(found("--type", "ORU^R01", "--listener", "lab")) == 1
    assert len(found("--control-id", "2")) == 2
    assert len(found("--limit", "3")) == 3
    assert found("--newer-than", "1d") == []
    assert len(found("--older-than", "1h30m")) == 4


def test_an_empty_list_is_said_on_standard_error(config: Config, ids: list[str]) -> None:
    result = run(config, "list", "--state", "delivered")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No message matches" in result.stderr


def test_show_tells_the_story_without_the_patient(config: Config, ids: list[str]) -> None:
    result = run(config, "show", "7")
    assert result.exit_code == 0, result.output
    for words in (ids[1], "waiting", "endpoint-rejected; 503", "mapping version:  v1", f"bytes:            {len(RAW)}"):
        assert words in result.stdout
    assert SENTINEL not in result.output and not audited(config)
    assert "replayed by eva" in run(config, "show", ids[0]).stdout


def test_show_lineage_has_paths_and_no_values_and_says_when_the_tables_are_others(
    config: Config, ids: list[str]
) -> None:
    result = run(config, "show", ids[1], "--lineage")
    assert result.exit_code == 0, result.output
    assert "PID[1]-5[1].1" in result.stdout and "segments/PID-Patient.yaml:" in result.stdout
    assert "v1 translated this message" in result.stderr
    assert SENTINEL not in result.output and "DOE" not in result.output
    assert not audited(config)
    document = json.loads(run(config, "show", ids[1], "--lineage", "--json").stdout)
    assert document["id"] == ids[1] and document["fields"] and SENTINEL not in json.dumps(document)


def test_show_as_json_has_the_history(config: Config, ids: list[str]) -> None:
    shown = json.loads(run(config, "show", ids[0], "--json").stdout)
    assert [step["state"] for step in shown["history"]] == ["received", "dead", "received"]
    assert "patient_identifiers" not in shown


def test_the_raw_message_is_printed_exactly_and_audited(config: Config, ids: list[str]) -> None:
    result = run(config, "show", ids[1], "--raw")
    assert result.stdout_bytes == RAW
    assert "recorded in the audit" in result.stderr
    (entry,) = audited(config)
    assert (entry.actor, entry.action, entry.subject) == (operator_name(), "show message", ids[1])


def test_patient_identifiers_are_printed_and_audited(config: Config, ids: list[str]) -> None:
    result = run(config, "show", "7", "--patient")
    assert "PAT4711^^^HOSP, PAT9^^^X" in result.stdout and "JANE" not in result.output
    assert [entry.action for entry in audited(config)] == ["show patient identifiers"]
    shown = json.loads(run(config, "show", "7", "--patient", "--json").stdout)
    assert shown["patient_identifiers"] == ["PAT4711^^^HOSP", "PAT9^^^X"]


def test_nothing_is_shown_when_it_cannot_be_audited(
    config: Config, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: Any) -> None:
        from hl7bridge.errors import JournalError

        raise JournalError("disk full")

    monkeypatch.setattr(SqliteJournal, "audit", failing)
    for asked in ("--raw", "--patient"):
        result = run(config, "show", "7", asked)
        assert (result.exit_code, result.stdout) == (EXIT_UNAVAILABLE, "")
        assert "disk full" in result.stderr


def test_a_control_id_of_several_messages_lists_them(config: Config, ids: list[str]) -> None:
    result = run(config, "show", "2", "--raw")
    assert result.exit_code == EXIT_FAILED
    assert len(result.stdout.splitlines()) == 3 and "show one by its id" in result.stderr
    assert not audited(config)


def test_an_unknown_message_is_an_error(config: Config, ids: list[str]) -> None:
    result = run(config, "show", "nothing")
    assert (result.exit_code, result.stdout) == (EXIT_FAILED, "")
    assert "Error: no message" in result.stderr


def test_no_journal_is_an_error_that_says_where_it_looked(config: Config) -> None:
    result = run(config, "list")
    assert result.exit_code == EXIT_UNAVAILABLE
    assert config.journal.path in result.stderr


def test_a_control_id_cannot_steer_the_terminal(config: Config) -> None:
    async def fill() -> None:
        journal = await SqliteJournal.open(config.journal.path, min_free_bytes=0)
        await journal.append(received(1, control_id="\x1b[31m\udcff\x9b"))
        await journal.close()

    asyncio.run(fill())
    result = run(config, "list")
    assert result.exit_code == 0 and "?[31m??" in result.stdout and "\x1b" not in result.stdout
    assert run(config, "list", "--json").exit_code == 0


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"MSH|^~\\&|a\nPID|1||A~B|\nPID|2||C", ["A", "B", "C"]),
        (b"MSH#*$\\&#a\r\nPID#1##A$B#\r\n", ["A", "B"]),
        ("FHS|^~\\&\rMSH|^~\\&|a\rPID|1||M\xfcller".encode("latin-1"), ["Müller"]),
        (b"\xef\xbb\xbfMSH|^~\\&|a\rPID|1", []),
        (b"PIDX|1||A\rMSH", []),
        (b"", []),
        (b"\xff\x00", []),
    ],
)
def test_pid_3_is_found_whatever_the_separators(raw: bytes, expected: list[str]) -> None:
    assert patient_identifiers(raw) == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1w", 604800), ("1h30m", 5400),
                          (" 1.5H ", 5400), ("45", 45)],
)  # fmt: skip
def test_a_span_of_time_is_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-3d", "3 d", "2y", "1h-", "٣d"])
def test_what_is_no_span_of_time_is_refused(config: Config, text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_duration(text)
    assert run(config, "list", "--older-than", text).exit_code == EXIT_USAGE
