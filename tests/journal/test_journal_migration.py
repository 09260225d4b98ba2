"""A journal as version 2 wrote it comes to the present version with everything in it, and without going back."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

import pytest
from journal_support import NOW, Clock, received

from hl7bridge.errors import JournalError
from hl7bridge.journal import files, schema, verify
from hl7bridge.journal.files import DATABASE, LOCK
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.proof import prove
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.rows import id_text
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import Keyring

RAW = b"MSH|^~\\&|LAB|HOSP|||20240101||ADT^A01|%d|P|2.5\rPID|1||7\r"
EDIT = b"MSH|mended"
_MESSAGE = (
    "INSERT INTO messages (seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes, ack_code,"
    " state, steps, edit, delivered_at) VALUES (?, ?, ?, 'LAB|HOSP', ?, ?, 'default', 'p', 'ADT^A01', ?, 'AA', ?, ?, ?, ?)"
)


def version_2(folder: Path) -> list[str]:
    """What hl7bridge 2 left: a delivered message, a dead one with an edit, one that waits, one that just came."""
    folder.mkdir(parents=True)
    ids = [bytes([n]) * 16 for n in range(1, 5)]
    with contextlib.closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {files.PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        for statements in schema.MIGRATIONS[:2]:
            for statement in statements:
                assert isinstance(statement, str)
                connection.execute(statement)
        states = ("delivered", "dead", "waiting", "received")
        for seq, (id, state) in enumerate(zip(ids, states, strict=True), 1):
            digest = hashlib.sha256(RAW % seq).digest()
            steps, edit = int(state != "received"), 1 if state == "dead" else None
            delivered = NOW if state == "delivered" else None
            connection.execute(_MESSAGE, (seq, id, str(seq), digest, NOW, "lane", state, steps, edit, delivered))
            connection.execute("INSERT INTO payloads VALUES (?, ?, x'4d5341')", (seq, RAW % seq))
            if steps:
                connection.execute(
                    "INSERT INTO history (seq, step, at, state, attempts, reason, detail) VALUES (?, 1, ?, ?, 1, '', '')",
                    (seq, NOW, state),
                )
        connection.execute("INSERT INTO edits (number, seq, at, raw) VALUES (1, 2, ?, ?)", (NOW, EDIT))
        connection.execute("UPDATE messages SET next_attempt = ? WHERE seq = 3", (NOW + 9,))
        connection.execute("INSERT INTO waiting_lanes VALUES ('lane', ?, 3)", (NOW + 9,))
        connection.execute("UPDATE tally SET last_seq = 4, received = 1, waiting = 1, delivered = 1, dead = 1")
        connection.execute("PRAGMA user_version = 2")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    (folder / LOCK).write_bytes(b"1\nmade\n")
    return [id_text(id) for id in ids]


async def opened(folder: Path, keyring: Keyring | None = None) -> SqliteJournal:
    return await SqliteJournal.open(folder, min_free_bytes=0, clock=Clock(), keyring=keyring, retention_days=1)


@pytest.mark.parametrize("keyring", [None, Keyring({"one": bytes(32)}, "one")], ids=["clear", "encrypted"])
async def test_everything_of_a_journal_of_version_2_is_there_and_goes_on(tmp_path: Path, keyring: Keyring) -> None:
    folder = tmp_path / "journal"
    ids = version_2(folder)
    journal = await opened(folder, keyring)
    entries = [entry async for entry in journal.find(Filter())]
    assert [(entry.id, entry.state.value, entry.damaged) for entry in entries] == [
        (ids[0], "delivered", ""), (ids[1], "dead", ""), (ids[2], "waiting", ""), (ids[3], "received", ""),
    ]  # fmt: skip
    assert [entry.raw for entry in entries] == [RAW % 1, EDIT, RAW % 3, RAW % 4]
    assert await journal.blocked_lanes(NOW, entries[3].lanes) == set(entries[3].lanes)
    again = await journal.append(received(4, raw=RAW % 4))
    assert (again.id, again.ack, again.duplicate) == (ids[3], b"MSA", True)
    await journal.apply(Change(ids[3], State.DELIVERED, 1))
    await journal.replay(ids[1], by="eva")
    fresh = await journal.append(received(9))
    assert await journal.retain(NOW + 2 * 86_400) == 2
    await journal.close()
    with contextlib.closing(files.connect_reader(folder / DATABASE)) as connection:
        guard = Guard(keyring) if keyring else Guard()
        assert verify.Whole(connection, guard).run().findings == ()
        older, new = prove(connection, guard, 2), prove(connection, guard, fresh.seq)
    assert older is not None and new is not None
    assert [(event.what, bool(event.seal)) for event in older.events] == [
        ("received", False), ("dead", False), ("received", True)
    ]  # fmt: skip
    assert older.verified and new.events[0].proven


async def test_a_program_of_before_refuses_the_journal_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await opened(tmp_path)).close()
    monkeypatch.setattr(schema, "CURRENT", 2)
    with pytest.raises(JournalError, match="this program knows up to 2: start the newer hl7bridge that wrote it"):
        await opened(tmp_path)


async def test_lineage_is_kept_with_its_message_replaced_by_a_replay_s_and_removed_with_it(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    id = (await journal.append(received(1))).id
    assert await journal.lineage(id) is None
    await journal.apply(Change(id, State.DEAD, 1, reason="structure", mapping_version="v1", lineage=b'{"old": 1}'))
    await journal.replay(id)
    await journal.apply(Change(id, State.DELIVERED, 1, mapping_version="v2", at=NOW, lineage=b'{"new": 1}'))
    assert await journal.lineage(id) == ("v2", b'{"new": 1}')
    assert await journal.retain(NOW + 2 * 86_400) == 1
    await journal.close()
    with contextlib.closing(files.connect_reader(tmp_path / DATABASE)) as connection:
        assert connection.execute("SELECT count(*) FROM lineages").fetchone() == (0,)
