"""Damage to real bytes in real files: it is found, what it hit is set aside, the rest is served (fault catalogue 56)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from journal_support import NOW, Clock, received

from hl7bridge.cli.journal import journal as journal_commands
from hl7bridge.config import Config
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.delivery.outcome import Delivered, Outcome
from hl7bridge.delivery.shipment import Probe, Shipment
from hl7bridge.errors import JournalError, JournalRefusal
from hl7bridge.journal import files, verify
from hl7bridge.journal.files import DATABASE, PAGE_BYTES
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Change, Entry, Filter, State
from hl7bridge.journal.sqlite import DAY, SqliteJournal
from hl7bridge.worker import Worker

MESSAGES = 12


def raw(number: int) -> bytes:
    return b"MSH|^~\\&|LAB|HOSP|||20240101||ADT^A01|%d|P|2.5\rOBX|1|TX|||NEEDLE%04d" % (number, number) + b"x" * 3000


async def opened(folder: Path) -> SqliteJournal:
    return await SqliteJournal.open(folder, min_free_bytes=0, clock=Clock())


async def filled(folder: Path) -> list[str]:
    journal = await opened(folder)
    ids = [(await journal.append(received(n, raw=raw(n), lanes=(f"lane{n}",)))).id for n in range(MESSAGES)]
    await journal.close()
    return ids


def flipped(folder: Path, needle: bytes) -> None:
    """One bit of the file, inside a message."""
    content = bytearray((folder / DATABASE).read_bytes())
    content[content.index(needle)] ^= 0x01
    (folder / DATABASE).write_bytes(content)


def torn(folder: Path, needle: bytes) -> None:
    """The page that holds a message was written half: its first half is of something else."""
    content = bytearray((folder / DATABASE).read_bytes())
    start = content.index(needle) // PAGE_BYTES * PAGE_BYTES
    content[start : start + PAGE_BYTES // 2] = b"\xa5" * (PAGE_BYTES // 2)
    (folder / DATABASE).write_bytes(content)


class Bundle:
    bundle, entries, mapping_version = b"{}", 1, "v1"


class Taking:
    """An endpoint that takes everything."""

    def __init__(self) -> None:
        self.took: list[str] = []

    async def deliver(self, shipment: Shipment) -> Outcome:
        self.took.append(shipment.id)
        return Delivered(200)

    async def probe(self) -> Probe:
        return Probe(True, "")

    async def close(self) -> None: ...


@pytest.mark.parametrize(("damage", "lost"), [(flipped, 1), (torn, 3)])
async def test_a_damaged_message_is_set_aside_and_the_others_are_delivered(
    tmp_path: Path, damage: Callable[[Path, bytes], None], lost: int
) -> None:
    folder = tmp_path / "journal"
    ids = await filled(folder)
    damage(folder, b"NEEDLE0005")
    journal = await opened(folder)
    translated: list[Entry] = []

    def translate(entry: Entry) -> Bundle:
        translated.append(entry)
        return Bundle()

    config = Config.model_validate({"dead_letters": {"path": str(tmp_path / "dlq")}})
    endpoint, letters = Taking(), DeadLetters(tmp_path / "dlq")
    worker = Worker(journal, translate, endpoint, letters, config)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while (await journal.figures()).undelivered:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await worker.drain()
    await running
    dead = [entry async for entry in journal.find(Filter(states=(State.DEAD,)), with_raw=False)]
    assert 1 <= len(dead) <= lost and {entry.reason for entry in dead} == {"damaged"}
    assert ids[5] in {entry.id for entry in dead}
    assert set(endpoint.took) == set(ids) - {entry.id for entry in dead}
    assert all(entry.raw == raw(int(entry.control_id)) for entry in translated), "no damaged byte was translated"
    assert (tmp_path / "dlq" / "damaged").is_dir()
    await journal.close()


async def test_a_bit_that_flipped_in_a_payload_is_named_by_the_verification(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    flipped(tmp_path, b"NEEDLE0005")
    with contextlib.closing(files.connect_reader(tmp_path / DATABASE)) as connection:
        findings = verify.Whole(connection, Guard()).run().findings
    assert [(finding.id, finding.text) for finding in findings] == [
        (ids[5], "the stored message is not the one that was received")
    ]


async def test_a_resend_of_a_damaged_message_is_still_known_and_its_dead_letter_can_be_replayed_with_an_edit(
    tmp_path: Path,
) -> None:
    ids = await filled(tmp_path)
    flipped(tmp_path, b"NEEDLE0005")
    journal = await opened(tmp_path)
    again = await journal.append(received(5, raw=raw(5)))
    assert (again.id, again.duplicate) == (ids[5], True)
    await journal.close()


async def test_a_log_that_was_cut_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    """What a power cut leaves: the last transaction, which nobody was told of, is not there; the rest is."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    journal = await opened(live)
    kept = [(await journal.append(received(n, raw=raw(n)))).id for n in range(3)]
    copy.mkdir()
    await journal.append(received(3, raw=raw(3)))
    for path in live.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    await journal.close()
    log = copy / (DATABASE + "-wal")
    log.write_bytes(log.read_bytes()[:-100])
    (copy / (DATABASE + "-shm")).unlink(missing_ok=True)
    journal = await opened(copy)
    assert [entry.id async for entry in journal.find(Filter())] == kept
    assert not (await journal.append(received(3, raw=raw(3)))).duplicate, "its sender was not answered and sends again"
    await journal.close()


async def test_a_file_that_is_no_database_any_more_is_refused_with_what_to_do_and_left_as_it_is(tmp_path: Path) -> None:
    await filled(tmp_path)
    content = bytearray((tmp_path / DATABASE).read_bytes())
    content[:100] = bytes(100)
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(JournalError, match=r"damaged.*journal salvage.*does not start a new journal"):
        await opened(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == content


async def test_a_journal_that_somebody_else_locks_answers_negatively_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BUSY_SECONDS", 0.1)
    journal = await opened(tmp_path)
    await journal.append(received(1))
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            await journal.append(received(2))
        other.execute("ROLLBACK")
    assert not (await journal.append(received(2))).duplicate
    assert len(await journal.claimable(NOW, 0, 10)) == 2
    await journal.close()


async def test_retention_steps_over_a_torn_page_and_removes_the_rest(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    journal = await opened(tmp_path)
    for id in ids:
        await journal.apply(Change(id, State.DELIVERED, 1, at=NOW - 100 * DAY))
    await journal.close()
    torn(tmp_path, b"NEEDLE0005")
    journal = await opened(tmp_path)
    removed = await journal.retain(NOW)
    assert removed + len(journal.stuck) == MESSAGES and 1 <= len(journal.stuck) < MESSAGES, "a page and its neighbours"
    assert await journal.retain(NOW) == 0, "and they are not tried again each time"
    left = [entry.id async for entry in journal.find(Filter(), with_raw=False)]
    assert ids[5] in left and len(left) == len(journal.stuck)
    assert not (await journal.append(received(77))).duplicate, "the journal serves on"
    await journal.close()
    with contextlib.closing(files.connect_reader(tmp_path / DATABASE)) as connection:
        findings = verify.Whole(connection, Guard()).run().findings
    assert {finding.id for finding in findings} <= set(left), "what was removed is sealed as removed"


async def test_a_purge_removes_what_it_can_and_says_what_stands_on_damaged_pages(tmp_path: Path) -> None:
    ids = await filled(tmp_path)
    journal = await opened(tmp_path)
    for id in ids:
        await journal.apply(Change(id, State.DEAD, 1, reason="structure"))
    await journal.close()
    torn(tmp_path, b"NEEDLE0005")
    journal = await opened(tmp_path)
    with pytest.raises(JournalRefusal, match=r"\d+ were removed; \d stand on damaged pages .* journal salvage"):
        await journal.purge(Filter())
    left = [entry.id async for entry in journal.find(Filter(), with_raw=False)]
    assert ids[5] in left and len(left) < MESSAGES
    await journal.close()


@pytest.mark.parametrize("damage", ["a page of payloads", "the first page"])
async def test_what_a_damaged_journal_still_holds_is_saved_into_a_new_one(tmp_path: Path, damage: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    ids = await filled(old)
    if damage == "the first page":
        content = bytearray((old / DATABASE).read_bytes())
        content[:PAGE_BYTES] = bytes(PAGE_BYTES)
        (old / DATABASE).write_bytes(content)
    else:
        torn(old, b"NEEDLE0005")
    before = (old / DATABASE).read_bytes()
    result = CliRunner().invoke(
        journal_commands, ["salvage", str(new)], obj=Config.model_validate({"journal": {"path": str(old)}})
    )
    assert result.exit_code == (0 if damage == "the first page" else 1), result.output
    assert (old / DATABASE).read_bytes() == before
    journal = await opened(new)
    entries = {entry.id: entry async for entry in journal.find(Filter())}
    assert list(entries) == ids
    whole = [entry for entry in entries.values() if not entry.damaged]
    assert len(whole) >= MESSAGES - 3 and all(entry.raw == raw(int(entry.control_id)) for entry in whole)
    assert (len(whole) == MESSAGES) == (damage == "the first page")
    assert not (await journal.append(received(77))).duplicate
    await journal.close()
    with contextlib.closing(files.connect_reader(new / DATABASE)) as connection:
        findings = verify.Whole(connection, Guard()).run().findings
    assert {finding.id for finding in findings} == {entry.id for entry in entries.values() if entry.damaged}
