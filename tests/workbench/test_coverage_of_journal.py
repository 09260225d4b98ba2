"""`hl7bridge coverage --journal`: the messages of several days and senders, each with the tables it was taken with."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.journal.protocol import Received
from hl7bridge.journal.sqlite import SqliteJournal

DAY = 86400.0


def message(number: int, sender: str, event: str, more: str = "") -> bytes:
    pid = f"PID|1||{number}^^^A^MR||DOE{number}^JO|||F"
    return f"MSH|^~\\&|{sender}|||20240101||ADT^{event}|{number}|P|2.5\rEVN||20240101\r{pid}\rPV1||O\r{more}".encode()


def entry(raw: bytes, days_old: float, listener: str = "default") -> Received:
    parts = raw.decode().partition("\r")[0].split("|")
    sender, type_, control_id = "|".join(parts[2:4]), parts[8], parts[9]
    at, digest = time.time() - days_old * DAY, hashlib.sha256(raw).digest()
    return Received(raw, digest, at, listener, "192.0.2.1", sender, control_id, type_, (), b"", "AA")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five messages of three senders and eight days; the tables of one listener map their Z segment."""
    tmp_path = tmp_path_factory.mktemp("journal")
    table = tmp_path / "kitchen" / "segments" / "ZDI-Encounter.yaml"
    table.parent.mkdir(parents=True)
    table.write_text("table: ZDI-Encounter\nrows:\n  ZDI-2: {to: type.text}\nunmapped:\n  ZDI-1: counts\n")
    (tmp_path / "kitchen" / "messages").mkdir()
    (tmp_path / "kitchen" / "messages" / "ADT_A01.yaml").write_text(
        "message: ADT_A01\nsegments: ZDI after PV2\nrows:\n  ZDI: {use: ZDI-Encounter, into: Encounter#visit}\n"
    )
    settings = {
        "journal": {"path": str(tmp_path / "journal")},
        "listeners": [
            {"port": 1, "timezone": "UTC"},
            {"name": "kitchen", "port": 2, "timezone": "UTC", "overlays": [str(tmp_path / "kitchen")]},
        ],
    }
    (tmp_path / "hl7bridge.yaml").write_text(yaml.safe_dump(settings))
    diet = "ZDI|1|vegan\r"

    async def fill() -> None:
        journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0)
        for received in (
            entry(message(1, "ADT|NORTH", "A01", diet), 8),
            entry(message(2, "ADT|NORTH", "A08", diet), 3),
            entry(message(3, "ADT|NORTH", "A08"), 0.1),
            entry(message(4, "ADT|SOUTH", "A04", diet), 0.2, "kitchen"),
            entry(message(5, "LAB|SOUTH", "Z99"), 2),
        ):
            await journal.append(received)
        await journal.close()

    asyncio.run(fill())
    return tmp_path / "hl7bridge.yaml"


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(config), "coverage", "--journal", *words])


@pytest.fixture(scope="module")
def found(config: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """By sender and type; the command runs once, for it loads two sets of tables."""
    result = run(config, "--json")
    assert result.exit_code == 0, result.output
    assert "DOE" not in result.output and "vegan" not in result.output
    return {(one["sender"], one["type"]): one for one in json.loads(result.stdout)["senders"]}


def test_every_message_of_the_journal_counts_for_its_sender_and_type(
    found: dict[tuple[str, str], dict[str, Any]],
) -> None:
    assert {key: one["messages"] for key, one in found.items()} == {
        ("ADT|NORTH", "ADT^A01"): 1,
        ("ADT|NORTH", "ADT^A08"): 2,
        ("ADT|SOUTH", "ADT^A04"): 1,
        ("LAB|SOUTH", "ADT^Z99"): 1,
    }
    assert found["LAB|SOUTH", "ADT^Z99"]["refused"] == {"unsupported-event": 1}


def test_each_message_is_read_by_the_tables_of_its_listener(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    unread = {key: {field["field"] for field in one["not_read"]} for key, one in found.items()}
    assert "ZDI-2" in unread["ADT|NORTH", "ADT^A08"], "no table of this listener maps it"
    assert "ZDI-2" not in unread["ADT|SOUTH", "ADT^A04"]


def test_only_the_last_days_count_when_asked_and_the_gate_holds(config: Path) -> None:
    result = run(config, "--days", "1", "--fail-below", "99.9")
    assert result.exit_code == 1
    assert "of the populated fields are read, not 99.9 %" in result.stderr
    senders = [
        line.split()[:3] for line in result.stdout.splitlines() if line.startswith(("ADT|", "LAB|")) and "^" in line
    ]
    counted = [words for words in senders if words[1].startswith("ADT^")]
    assert counted == [["ADT|NORTH", "ADT^A08", "1"], ["ADT|SOUTH", "ADT^A04", "1"]]


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "hl7bridge.yaml"
    path.write_text(yaml.safe_dump({"journal": {"path": str(tmp_path / "none")}}))
    assert run(path).exit_code == 4
