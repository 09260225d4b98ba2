"""The journal's folder: who may open it, beginnings, migrations, damage; a guest beside the owner; the audit chain."""

# ruff: noqa: ASYNC221, ASYNC240 (nothing else runs on a test's event loop)

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_support import NOW, Clock, parked, received

from hl7bridge.errors import JournalError, JournalRefusal
from hl7bridge.journal import audit, reader, removal, schema
from hl7bridge.journal import sqlite as embedded
from hl7bridge.journal.files import DATABASE, LOCK
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.rows import Mint
from hl7bridge.journal.sqlite import SqliteJournal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "journal"


async def opened(folder: Path, **settings: Any) -> SqliteJournal:
    defaults: dict[str, Any] = {"min_free_bytes": 0, "clock": Clock()}
    return await SqliteJournal.open(folder, **(defaults | settings))


async def filled(folder: Path, messages: int = 3) -> list[str]:
    """A journal with parked messages that was closed cleanly; their ids."""
    journal = await opened(folder)
    ids = [(await journal.append(parked(n))).id for n in range(messages)]
    await journal.close()
    return ids


# --- the lock


async def test_a_second_owner_is_refused_and_told_the_process(folder: Path) -> None:
    journal = await opened(folder)
    with pytest.raises(JournalError, match=rf"in use by process {os.getpid()}\b"):
        await opened(folder)
    await journal.append(received(1))
    await journal.close()
    await (await opened(folder)).close()


async def test_a_killed_owner_leaves_no_lock(folder: Path) -> None:
    code = (
        "import asyncio, os, sys; sys.path[:0] = sys.argv[2:]; from hl7bridge.journal.sqlite import SqliteJournal\n"
        "asyncio.run(SqliteJournal.open(sys.argv[1], min_free_bytes=0)); os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, str(folder), root], check=False)
    journal = await opened(folder)
    await journal.append(received(1))
    await journal.close()


# --- beginnings


async def test_only_the_owner_of_the_files_can_read_them(folder: Path) -> None:
    journal = await opened(folder)
    await journal.append(received(1))
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    await journal.close()


async def test_a_database_gone_missing_is_not_silently_begun_anew(folder: Path) -> None:
    await filled(folder)
    (folder / DATABASE).unlink()
    with pytest.raises(JournalError, match="missing although a journal was made"):
        await opened(folder)
    (folder / LOCK).unlink()  # what the error says to do
    await (await opened(folder)).close()


async def test_an_emptied_database_is_damage(folder: Path) -> None:
    await filled(folder)
    (folder / DATABASE).write_bytes(b"")
    with pytest.raises(JournalError, match="is empty"):
        await opened(folder)
    with pytest.raises(JournalError, match="is empty"):
        await opened(folder, mode="guest")


async def test_a_start_that_died_while_making_the_journal_is_taken_up_again(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / (DATABASE + ".new")).write_bytes(b"half")
    (folder / LOCK).write_bytes(b"1\n")
    journal = await opened(folder)
    await journal.append(received(1))
    await journal.close()
    assert not (folder / (DATABASE + ".new")).exists()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file"):
        await opened(tmp_path / "file" / "journal")


async def test_a_guest_does_not_make_a_journal(folder: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal in"):
        await opened(folder, mode="guest")
    assert not folder.exists()


# --- versions


def version_1(folder: Path) -> sqlite3.Connection:
    """A journal as version 1 wrote it, with one dead message."""
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    for statement in schema.MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO messages (seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes,"
        " ack_code, state, reason, steps)"
        " VALUES (1, ?, '1', 'LAB|HOSP', ?, ?, 'default', 'p', 'ADT^A01', 'l', 'AA', 'dead', 'r', 1)",
        (bytes(range(16)), bytes(32), NOW),
    )
    connection.execute("INSERT INTO payloads VALUES (1, x'4d5348', x'41')")
    connection.execute("INSERT INTO history VALUES (1, 1, ?, 'dead', 0, 'r', '')", (NOW,))
    connection.execute(
        "INSERT INTO messages (seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes, ack_code,"
        " state, next_attempt)"
        " SELECT n, randomblob(16), '2', 's', randomblob(32), 0, 'l', 'p', 't', lanes, 'AA', 'waiting', ?"
        " FROM (SELECT 2 n, 'a' lanes UNION SELECT 3, 'b' || char(31) || 'c' || char(31) || 'd' UNION SELECT 4, '')",
        (NOW + 9,),
    )
    connection.execute("INSERT INTO payloads SELECT seq, x'4d', x'41' FROM messages WHERE seq > 1")
    connection.execute("UPDATE tally SET last_seq = 4, dead = 1, waiting = 3")
    connection.execute("PRAGMA user_version = 1")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    return connection


async def test_a_journal_of_version_1_is_brought_to_the_present_one(folder: Path) -> None:
    connection = version_1(folder)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(history)")]
    connection.close()
    assert "actor" not in columns
    with pytest.raises(JournalError, match="version 1"):
        await opened(folder, mode="guest")
    journal = await opened(folder)
    assert await journal.blocked_lanes(NOW, ["a", "b", "c", "d", "e", ""]) == {"a", "b", "c", "d"}
    (entry,) = [entry async for entry in journal.find(Filter(states=(State.DEAD,)))]
    assert (entry.raw, entry.state) == (b"MSH", State.DEAD)
    await journal.replay(entry.id, by="eva")
    assert [(step.state, step.actor) for step in await journal.history(entry.id)] == [
        (State.RECEIVED, ""),
        (State.DEAD, ""),
        (State.RECEIVED, "eva"),
    ]
    await journal.close()
    await (await opened(folder, mode="guest")).close()


async def test_a_migration_that_fails_leaves_the_old_version_whole(folder: Path) -> None:
    connection = version_1(folder)
    connection.execute("CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit BEGIN SELECT 1; END")  # in step 2's way
    connection.close()
    with pytest.raises(JournalError, match="audit_is_fixed"):
        await opened(folder)
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    assert schema.version(connection) == 1
    assert "actor" not in [row[1] for row in connection.execute("PRAGMA table_info(history)")]
    connection.execute("DROP TRIGGER audit_is_fixed")
    connection.close()
    await (await opened(folder)).close()


@pytest.mark.parametrize("mode", ["owner", "guest"])
async def test_a_journal_of_a_newer_version_is_refused(folder: Path, mode: str) -> None:
    await filled(folder)
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute(f"PRAGMA user_version = {schema.CURRENT + 1}")
    connection.close()
    with pytest.raises(JournalError, match=f"version {schema.CURRENT + 1}.*up to {schema.CURRENT}"):
        await opened(folder, mode=mode)


async def test_another_programs_database_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(JournalError, match="not a journal of hl7bridge"):
        await opened(folder)


# --- damage


def _header(content: bytearray) -> None:
    content[:16] = b"no database here"


def _middle(content: bytearray) -> None:
    content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)


@pytest.mark.parametrize("damage", [_header, _middle])
async def test_a_damaged_database_is_refused_with_what_to_do(folder: Path, damage: Callable[[bytearray], None]) -> None:
    await filled(folder, 200)
    content = bytearray((folder / DATABASE).read_bytes())
    damage(content)
    (folder / DATABASE).write_bytes(content)
    (folder / (DATABASE + "-wal")).write_bytes(b"\0" * 32)  # as after an unclean end
    with pytest.raises(JournalError, match=r"damaged.*does not start a new journal"):
        await opened(folder)
    assert (folder / DATABASE).read_bytes()[: len(content)] == content


# --- guests


async def test_a_guest_replays_audits_and_purges_beside_the_owner(folder: Path) -> None:
    owner = await opened(folder)
    ids = [(await owner.append(parked(n))).id for n in range(3)]
    guest = await opened(folder, mode="guest")
    await guest.replay(ids[0], b"MSH|mended", by="eva")
    await guest.audit("eva", "replay", ids[0])
    (entry,) = await owner.claimable(NOW, 0, 10)
    assert (entry.id, entry.raw) == (ids[0], b"MSH|mended")
    assert await guest.purge(Filter(id=ids[1])) == 1
    await owner.apply(Change(ids[0], State.DELIVERED, 1))
    figures = await owner.figures()
    assert (figures.undelivered, figures.dead) == (0, 1)
    assert await guest.get(ids[1]) is None
    assert await guest.original(ids[0]) == parked(0).raw
    await guest.close()
    await owner.append(received(7))
    await owner.close()


async def test_owner_and_guest_write_at_the_same_time_and_nothing_is_lost(folder: Path) -> None:
    owner = await opened(folder)
    ids = [(await owner.append(parked(n))).id for n in range(60)]
    guest = await opened(folder, mode="guest")

    async def replays() -> None:
        for id in ids:
            await guest.replay(id)

    async def appends() -> None:
        for n in range(100, 160):
            await owner.append(received(n))

    await asyncio.gather(replays(), appends())
    figures = await owner.figures()
    assert (figures.undelivered, figures.dead) == (120, 0)
    assert len(await owner.claimable(NOW, 0, 500)) == 120
    await guest.close()
    await owner.close()


async def test_a_guest_works_without_an_owner(folder: Path) -> None:
    ids = await filled(folder)
    guest = await opened(folder, mode="guest")
    await guest.replay(ids[0])
    assert (await guest.figures()).undelivered == 1
    await guest.close()


# --- the audit


async def test_the_audit_is_append_only_and_holds_any_text(folder: Path) -> None:
    journal = await opened(folder)
    await asyncio.gather(*(journal.audit("eva", "show", f"subject {n}", "\ud800") for n in range(10)))
    entries = await journal.audited()
    assert [entry.number for entry in entries] == list(range(1, 11))
    assert entries[0].previous == audit.GENESIS
    assert {entry.detail for entry in entries} == {"\ud800"}
    await journal.close()
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    for statement in ("DELETE FROM audit WHERE number = 3", "UPDATE audit SET actor = 'bob' WHERE number = 3"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


# --- size


def _many(folder: Path, count: int, state: str, next_attempt: float) -> None:
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.execute(
        "INSERT INTO messages (seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes, ack_code,"
        " state, next_attempt) WITH RECURSIVE n(n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < 1000 + ?)"
        " SELECT n, randomblob(16), cast(n AS TEXT), 's', x'00', 0, 'l', 'p', 't', 'lane', 'AA', ?, ? FROM n",
        (count, state, next_attempt),
    )
    if state == "waiting":
        connection.execute("INSERT INTO waiting_lanes SELECT lanes, next_attempt, seq FROM messages WHERE seq >= 1000")
    connection.close()


@pytest.mark.parametrize(("state", "next_attempt"), [("delivered", 0.0), ("received", 0.0), ("waiting", NOW + 9)])
async def test_a_claim_does_not_read_the_messages_it_cannot_give(folder: Path, state: str, next_attempt: float) -> None:
    """Counted in steps of SQLite's machine, not in time: as many with 20,000 messages as with none."""
    ids = await filled(folder)
    journal = await opened(folder)
    await journal.replay(ids[0])
    await journal.close()
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(read: Callable[[sqlite3.Connection], object]) -> int:
        nonlocal steps
        steps = 0
        connection.set_progress_handler(count, 1)
        read(connection)
        connection.set_progress_handler(None, 0)
        return steps

    def reads() -> list[int]:
        return [
            cost(lambda c: reader.claimable(c, Guard(), NOW, 0, 2)),
            cost(lambda c: reader.blocked_lanes(c, NOW if state != "waiting" else NOW + 10, None)),
            cost(lambda c: reader.blocked_lanes(c, NOW, ["lane", "other"])),
            cost(reader.figures),
            cost(lambda c: reader.page(c, Guard(), Filter(states=(State.DEAD,)), NOW, None, 2, True)),
        ]

    before = reads()
    _many(folder, 20_000, state, next_attempt)
    after = reads()
    connection.close()
    for few, many in zip(before, after, strict=True):
        assert many < few + 100


async def test_many_due_messages_are_met_in_order_of_arrival(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "DUE_SORTED", 5)
    journal = await opened(folder)
    ids = [(await journal.append(received(n))).id for n in range(20)]
    for n, id in enumerate(ids):
        await journal.apply(Change(id, State.WAITING, 1, next_attempt=NOW - n))
    assert [entry.id for entry in await journal.claimable(NOW, 0, 3)] == ids[:3]
    await journal.close()


async def test_a_claim_of_large_messages_is_cut_to_bound_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "READ_BYTES", 1000)
    journal = await opened(folder)
    ids = [(await journal.append(received(n, raw=b"%d" % n + bytes(600)))).id for n in range(5)]
    assert [entry.id for entry in await journal.claimable(NOW, 0, 10)] == ids[:2]
    assert [entry.id async for entry in journal.find(Filter())] == ids
    await journal.close()


async def test_retention_works_in_small_transactions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "AT_ONCE", 4)
    monkeypatch.setattr(embedded, "RETAINED_AT_ONCE", 8)
    commits: list[int] = []
    journal = await opened(folder, on_commit=lambda seconds, works: commits.append(works))
    ids = [(await journal.append(received(n))).id for n in range(10)]
    for id in ids:
        await journal.apply(Change(id, State.DELIVERED, 1, at=NOW))
    commits.clear()
    assert [await journal.retain(NOW * 2), await journal.retain(NOW * 2), await journal.retain(NOW * 2)] == [8, 2, 0]
    assert len(commits) == 7, "batches of 4 and 4, 2, none; after each call one that lets go of receipts"
    await journal.close()


async def test_a_removed_message_leaves_nothing_behind(folder: Path) -> None:
    ids = await filled(folder, 2)
    journal = await opened(folder)
    await journal.replay(ids[0], b"MSH|mended")
    await journal.apply(Change(ids[0], State.DEAD, 1))
    assert await journal.purge(Filter()) == 2
    with pytest.raises(JournalRefusal):
        await journal.replay(ids[0])
    await journal.close()
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    for table in ("messages", "payloads", "edits", "history"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()


def test_ids_rise_within_a_millisecond_and_have_the_layout_of_version_7() -> None:
    mint = Mint()
    ids = [mint.new(NOW).hex() for _ in range(5000)]
    assert ids == sorted(set(ids))
    for id in ids:
        assert id[12] == "7" and id[16] in "89ab" and int(id[:12], 16) - int(NOW * 1000) in (0, 1)
    assert mint.new(NOW + 1).hex()[:12] == f"{int((NOW + 1) * 1000):012x}"
