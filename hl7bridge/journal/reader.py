"""Reading the journal: in threads of its own, each with its own connection, beside the writer and never in its way.

What holds here:
- A claim's cost depends on what is claimable, not on how many messages the journal holds: received and waiting messages
  are found by partial indexes, named with INDEXED BY so that a plan that would walk the table is an error.
- No read transaction outlives one call: a long listing is read page by page, so that the write-ahead log can be reused.
- A page ends early once its messages hold READ_BYTES: a limit of messages alone would not bound memory.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hl7bridge.errors import JournalError
from hl7bridge.journal import rows
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Entry, Figures, Filter, State, Step
from hl7bridge.sealing import Damaged, KeyMissing

READER_THREADS = 2  # one for the worker's claims, one for whoever else asks
READ_BYTES = 32 * 1024 * 1024
PAGE = 200  # messages read at once by a listing
DUE_SORTED = 4096  # up to so many due messages are sorted by arrival; more are met soon enough in order of arrival

T = TypeVar("T")

_RECEIVED = (
    "SELECT seq FROM messages INDEXED BY messages_received WHERE state = 'received' AND seq > :after"
    " ORDER BY seq LIMIT :limit"
)
_DUE_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM messages INDEXED BY messages_due"
    " WHERE state = 'waiting' AND next_attempt <= :now LIMIT :sorted)"
)
_DUE_BY_TIME = (
    "SELECT seq FROM messages INDEXED BY messages_due WHERE state = 'waiting' AND next_attempt <= :now AND seq > :after"
    " ORDER BY seq LIMIT :limit"
)
_DUE_BY_ARRIVAL = (
    "SELECT seq FROM messages INDEXED BY messages_waiting WHERE state = 'waiting' AND seq > :after"
    " AND next_attempt <= :now ORDER BY seq LIMIT :limit"
)
_BLOCKED = "SELECT lanes FROM messages INDEXED BY messages_due WHERE state = 'waiting' AND next_attempt > ?"
_BLOCKED_AMONG = (
    "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM waiting_lanes WHERE lane = value AND next_attempt > ?)"
)
_OLDEST = (
    "SELECT min(received_at) FROM messages WHERE seq IN ("
    "SELECT * FROM"
    " (SELECT seq FROM messages INDEXED BY messages_received WHERE state = 'received' ORDER BY seq LIMIT 1)"
    " UNION ALL SELECT * FROM"
    " (SELECT seq FROM messages INDEXED BY messages_waiting WHERE state = 'waiting' ORDER BY seq LIMIT 1))"
)
_WHOLE = (
    f"SELECT {rows.ENTRY_COLUMNS} FROM messages m {rows.ENTRY_TABLES}"
    " WHERE m.seq IN (SELECT value FROM json_each(?)) ORDER BY m.seq "
)
_INDEX_OF_STATE = {
    State.RECEIVED: "INDEXED BY messages_received",
    State.WAITING: "INDEXED BY messages_waiting",
    State.DEAD: "INDEXED BY messages_dead",
}


class Readers:
    """A few threads with a connection each."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="journal-reader")
        self._closed = False

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `read`, which sees one moment of the journal."""
        if self._closed:
            raise JournalError("the journal is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, read)

    def _run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                self._connections.append(connection)
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise JournalError(f"the journal could not be read: {error}") from error
        except KeyMissing as error:
            raise JournalError(str(error)) from error

    def close(self) -> None:
        """Blocks until the reads under way are done."""
        self._closed = True
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def claimable(connection: sqlite3.Connection, guard: Guard, now: float, after_seq: int, limit: int) -> list[Entry]:
    """See Journal.claimable. What cannot be read is given as damaged, so that the rest is served."""
    terms = {"now": now, "after": after_seq, "limit": limit, "sorted": DUE_SORTED}
    seqs = [seq for (seq,) in connection.execute(_RECEIVED, terms)]
    (due,) = connection.execute(_DUE_COUNT, terms).fetchone()
    if due:
        seqs += [seq for (seq,) in connection.execute(_DUE_BY_TIME if due < DUE_SORTED else _DUE_BY_ARRIVAL, terms)]
        seqs.sort()
    return _served(connection, guard, seqs[:limit])


def _served(connection: sqlite3.Connection, guard: Guard, seqs: list[int], order: str = "ASC") -> list[Entry]:
    """The messages of these seqs; where a page of the file is torn, one by one."""
    statement = _WHOLE + order
    try:
        return _bounded(connection.execute(statement, (json.dumps(seqs),)), guard)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    entries: list[Entry] = []
    size = 0
    for seq in seqs:
        entry = _salvaged(connection, guard, statement, seq)
        if entry is not None:
            entries.append(entry)
            size += len(entry.raw)
        if size >= READ_BYTES:
            break
    return entries


def _salvaged(connection: sqlite3.Connection, guard: Guard, statement: str, seq: int) -> Entry | None:
    """One message: whole, or what is known of it without its payload, or None when not even that can be read."""
    try:
        return next(iter(_bounded(connection.execute(statement, (json.dumps([seq]),)), guard)), None)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    try:
        row = connection.execute(f"SELECT {rows.SUMMARY_COLUMNS} FROM messages m WHERE m.seq = ?", (seq,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return None
    return None if row is None else rows.entry(row, "the page of the journal's file that holds the message is damaged")


def is_damage(error: sqlite3.Error) -> bool:
    """Is the file damaged at this place, as opposed to locked, full or gone?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def blocked_lanes(connection: sqlite3.Connection, now: float, among: Iterable[str] | None) -> frozenset[str]:
    """See Journal.blocked_lanes. Without `among` it costs as much as is blocked, with it as many lookups as lanes."""
    if among is not None:
        return frozenset(lane for (lane,) in connection.execute(_BLOCKED_AMONG, (json.dumps(list(among)), now)))
    return frozenset(lane for (lanes,) in connection.execute(_BLOCKED, (now,)) for lane in rows.split_lanes(lanes))


def get(connection: sqlite3.Connection, guard: Guard, id: str) -> Entry | None:
    """See Journal.get."""
    row = connection.execute("SELECT seq FROM messages WHERE id = ?", (rows.id_bytes(id),)).fetchone()
    if row is None:
        return None
    return next(iter(_served(connection, guard, [row[0]])), None)


def original(connection: sqlite3.Connection, guard: Guard, id: str) -> bytes | None:
    """The payload as it arrived, whatever edits a replay brought; None when there is no such message."""
    key = rows.id_bytes(id)
    row = connection.execute(
        "SELECT p.raw, m.seq FROM messages m JOIN payloads p ON p.seq = m.seq WHERE m.id = ?", (key,)
    ).fetchone()
    return guard.open("raw", row[1], key or b"", row[0]) if row else None


def lineage(connection: sqlite3.Connection, id: str) -> tuple[str, bytes] | None:
    """The version of the tables and the document that was stored with a message, if one was."""
    statement = "SELECT l.mapping_version, l.document FROM lineages l JOIN messages m ON m.seq = l.seq WHERE m.id = ?"
    row = connection.execute(statement, (rows.id_bytes(id),)).fetchone()
    return (row[0], zlib.decompress(row[1])) if row else None


def history(connection: sqlite3.Connection, guard: Guard, id: str) -> list[Step]:
    """See Journal.history: the arrival from the message itself, then the steps."""
    statement = "SELECT seq, received_at FROM messages WHERE id = ?"
    row = connection.execute(statement, (rows.id_bytes(id),)).fetchone()
    if row is None:
        return []
    seq, key = row[0], rows.id_bytes(id) or b""
    story = [Step(row[1], State.RECEIVED, 0)]
    statement = (
        "SELECT at, state, attempts, reason, detail, actor, step, proof FROM history WHERE seq = ? ORDER BY step"
    )
    for found in connection.execute(statement, (seq,)):
        try:
            proof = guard.open(f"proof {found[6]}", seq, key, found[7])
        except Damaged:
            proof = b""
        story.append(rows.step(found, proof))
    return story


def figures(connection: sqlite3.Connection) -> Figures:
    """See Journal.figures: three rows, however many messages there are."""
    received, waiting, dead = connection.execute("SELECT received, waiting, dead FROM tally").fetchone()
    (oldest,) = connection.execute(_OLDEST).fetchone()
    return Figures(received + waiting, dead, oldest)


def count(connection: sqlite3.Connection) -> int:
    """All messages, from the tally."""
    return int(connection.execute("SELECT received + waiting + delivered + dead FROM tally").fetchone()[0])


def page(
    connection: sqlite3.Connection,
    guard: Guard,
    filter: Filter,
    now: float,
    beyond: int | None,
    limit: int,
    with_raw: bool,
) -> list[Entry]:
    """The next messages of a listing, from behind the seq `beyond` (None: from its beginning)."""
    index, condition, terms = where(filter, now)
    if beyond is not None:
        condition += f" AND m.seq {'<' if filter.newest_first else '>'} ?"
        terms.append(beyond)
    order = "DESC" if filter.newest_first else "ASC"
    columns = "m.seq" if with_raw else rows.SUMMARY_COLUMNS
    statement = f"SELECT {columns} FROM messages m {index} WHERE {condition} ORDER BY m.seq {order} LIMIT ?"
    found = connection.execute(statement, (*terms, limit)).fetchall()
    if not with_raw:
        return [rows.entry(row) for row in found]
    return _served(connection, guard, [seq for (seq,) in found], order)


def where(filter: Filter, now: float) -> tuple[str, str, list[Any]]:
    """The index to use (or none), the condition on `messages m` and its terms."""
    index, conditions = "", ["1"]
    terms: list[Any] = []
    if len(filter.states) == 1:
        conditions.append(f"m.state = '{State(filter.states[0]).value}'")  # a literal: a partial index needs it
        if filter.id is None and filter.control_id is None:
            index = _INDEX_OF_STATE.get(filter.states[0], "")
    elif filter.states:
        conditions.append(f"m.state IN ({', '.join('?' * len(filter.states))})")
        terms += [state.value for state in filter.states]
    for column, value in (("reason", filter.reason), ("type", filter.type), ("listener", filter.listener),
                          ("control_id", filter.control_id)):  # fmt: skip
        if value is not None:
            conditions.append(f"m.{column} = ?")
            terms.append(rows.bindable(value))
    if filter.id is not None:
        conditions.append("m.id = ?")
        terms.append(rows.id_bytes(filter.id))
    if filter.older_than is not None:
        conditions.append("m.received_at < ?")
        terms.append(now - filter.older_than)
    if filter.newer_than is not None:
        conditions.append("m.received_at > ?")
        terms.append(now - filter.newer_than)
    return index, " AND ".join(conditions), terms


def _bounded(found: Iterable[tuple[Any, ...]], guard: Guard) -> list[Entry]:
    """Entries until they hold READ_BYTES; at least one, if there is one."""
    entries: list[Entry] = []
    size = 0
    for row in found:
        entries.append(rows.whole(row, guard))
        size += len(row[2] or b"")
        if size >= READ_BYTES:
            break
    return entries
