"""The audit tells who did what, and whether anybody touched it: listed, verified, exported as AuditEvents."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fhir.resources.R4B.auditevent import AuditEvent

from hl7bridge.cli.main import cli
from hl7bridge.fhir.audit_event import audit_event
from hl7bridge.journal import audit as auditing
from hl7bridge.journal.files import DATABASE
from hl7bridge.journal.sqlite import SqliteJournal

DID = (
    ("eva", "show message", "01a2-1"),
    ("eva", "replay dead letters", "3 messages"),
    ("10.1.2.3", "refuse connection", "listener lab"),
    ("hl7bridge", "change configuration", "2 keys"),
    ("eva", "activate mappings", "9f2c"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0)
        for actor, action, subject in DID:
            await journal.audit(actor, action, subject, "why")
        await journal.close()

    asyncio.run(fill())
    return tmp_path / "journal"


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HL7BRIDGE_JOURNAL__PATH", str(folder))
    return lambda *words: CliRunner().invoke(cli, ["audit", *words])


@pytest.fixture
def change(folder: Path) -> Callable[[str], None]:
    """A hand in the file that knows SQL and takes the triggers away first."""

    def do(statement: str) -> None:
        connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        connection.close()

    return do


def test_the_entries_are_listed_oldest_first(run: Callable[..., Result]) -> None:
    lines = run("list").output.splitlines()
    assert lines[0].split() == ["NUMBER", "AT", "WHO", "DID", "TO", "DETAIL"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert "show message" in lines[1]
    objects = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert [(one["actor"], one["action"], one["subject"]) for one in objects] == list(DID)


def test_only_the_entries_of_a_span_are_listed(run: Callable[..., Result], change: Callable[[str], None]) -> None:
    change("UPDATE audit SET at = at - 86400 * 3 WHERE number < 4")
    assert len(run("list", "--since", "1d", "--json").output.splitlines()) == 2


def test_a_whole_audit_is_whole_and_says_its_end(run: Callable[..., Result]) -> None:
    done = run("verify")
    assert done.exit_code == 0
    assert "The audit of 5 entries is whole. Its end is 5:" in done.output
    anchor = json.loads(run("verify", "--json").output)["anchor"]
    assert run("verify", "--anchor", anchor).exit_code == 0


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE audit SET actor = 'bob' WHERE number = 2", "entry 2: was changed"),
        ("UPDATE audit SET at = at + 60 WHERE number = 5", "entry 5: was changed"),
        ("DELETE FROM audit WHERE number = 3", "entry 4: does not follow from the one before: entries were taken out"),
        ("DELETE FROM audit WHERE number = 5", "entry 5: is gone, its receipt is there"),
        ("DELETE FROM audit", "entry 1: is gone, its receipt is there"),
    ],
)
def test_what_was_changed_or_taken_out_is_found(
    run: Callable[..., Result], change: Callable[[str], None], statement: str, finding: str
) -> None:
    change(statement)
    done = run("verify")
    assert done.exit_code == 1
    assert finding in done.output.splitlines()
    assert "NOT WHOLE" in done.output
    assert finding in json.loads(run("verify", "--json").output)["findings"]


def test_an_entry_put_in_behind_the_last_is_found(run: Callable[..., Result], change: Callable[[str], None]) -> None:
    last = json.loads(run("list", "--json").output.splitlines()[-1])
    previous = bytes.fromhex(last["hash"])
    forged = auditing.digest(previous, 1.0, "eva", "show message", "x", "")
    change(
        "INSERT INTO audit (at, actor, action, subject, detail, previous, hash)"
        f" VALUES (1.0, 'eva', 'show message', 'x', '', x'{previous.hex()}', x'{forged.hex()}')"
    )
    done = run("verify")
    assert done.exit_code == 1
    assert "entry 6: has no receipt: it was put in" in done.output


def test_a_whole_chain_forged_anew_is_found_by_an_anchor_kept_elsewhere(
    run: Callable[..., Result], change: Callable[[str], None]
) -> None:
    anchor = json.loads(run("verify", "--json").output)["anchor"]
    change("DELETE FROM audit WHERE number = 5")
    change("UPDATE seals SET leaves = x'', acks = x'' WHERE number = (SELECT max(number) FROM seals)")
    done = run("verify", "--anchor", anchor)
    assert done.exit_code == 1
    assert "entry 5: is not there: newer entries were taken off" in done.output
    assert run("verify").exit_code == 0, "without the anchor nobody could tell: that is what it is for"


def test_an_anchor_that_is_none_is_refused_in_words(run: Callable[..., Result]) -> None:
    done = run("verify", "--anchor", "five")
    assert done.exit_code == 2
    assert "NUMBER:HASH" in done.output


def test_a_copy_of_the_journal_is_verified_where_it_lies(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["audit", "verify", "--journal", str(folder)])
    assert done.exit_code == 0, done.output
    assert "5 entries" in done.output


def test_the_receipts_of_the_journal_bear_the_audits_leaves(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["journal", "verify", "--journal", str(folder)])
    assert done.exit_code == 0, done.output


def test_every_entry_is_exported_as_a_valid_audit_event(run: Callable[..., Result]) -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in run("export").output.splitlines()]
    for event in events:
        AuditEvent.model_validate(event)
    told = [(event["type"]["code"], event.get("subtype", [{}])[0].get("code"), event["action"]) for event in events]
    assert told == [
        ("110110", None, "R"),
        ("110110", None, "E"),
        ("110113", "110126", "E"),
        ("110113", "110131", "U"),
        ("110113", "110131", "U"),
    ]
    assert [event["outcome"] for event in events] == ["0", "0", "8", "0", "0"]
    assert [event["agent"][0]["who"]["display"] for event in events] == [actor for actor, _, _ in DID]
    assert len({event["id"] for event in events}) == 5
    assert events == [json.loads(line) for line in run("export").output.splitlines()], "the same ids again"


@pytest.mark.servers
def test_an_audit_event_passes_the_official_validator(validator: Callable[[bytes], dict[str, Any]]) -> None:
    entries = [
        {
            "fullUrl": f"urn:uuid:0a9b7f4e-0000-4000-8000-00000000000{number}",
            "resource": audit_event(number, 1_767_323_045.25, actor, action, subject, "why", bytes([number]) * 32),
        }
        for number, (actor, action, subject) in enumerate(DID, 1)
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    found = validator(json.dumps(bundle).encode())
    assert (found["fatal"], found["error"]) == (0, 0), found["issues"]
