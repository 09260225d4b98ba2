"""The embedded journal: SQLite under WAL with synchronous=FULL, one writer thread with group commit, readers beside it.

One process owns a journal folder (mode "owner": serve). Commands open it as guests beside the owner, or alone: their
transactions are short, and the owner sees what they did because nothing about messages is cached outside the file.
The parts: files.py (folder, lock, start), schema.py (tables), transaction.py (what a commit holds), bulk.py (rows by
few statements), receipts.py (a commit's seal), seals.py (their chain), guard.py (encryption), writer.py (the thread
that commits), reader.py (queries), audit.py (a chain of its own). One machine, a local disk: SQLite's WAL does not work
over NFS.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from hl7bridge.errors import JournalError, JournalRefusal
from hl7bridge.journal import audit as auditing
from hl7bridge.journal import files, reader, receipts, rotation, seals, transaction
from hl7bridge.journal.guard import Guard, open_guard
from hl7bridge.journal.protocol import Appended, Change, Entry, Figures, Filter, Received, State, Step, Then
from hl7bridge.journal.removal import Removal
from hl7bridge.journal.rows import id_bytes
from hl7bridge.journal.writer import OnCommit, Settings, Writer, fulfil
from hl7bridge.sealing import Keyring, is_sealed

Answer = TypeVar("Answer")

DAY = 86_400.0
RETAINED_AT_ONCE = 10_000  # messages one call of `retain` removes at most

_EXPIRED = (
    "SELECT seq FROM messages INDEXED BY messages_delivered WHERE state = 'delivered' AND delivered_at < ?"
    " ORDER BY delivered_at LIMIT ?"
)


class SqliteJournal:
    """A Journal in a folder of the local disk. Make one with `open`; use it from one event loop or several."""

    def __init__(
        self, writer: Writer, readers: reader.Readers, lock: files.Lock | None, clock: Callable[[], float], keep: float,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._readers = readers
        self._lock = lock
        self._clock = clock
        self._keep = keep
        self._guard = settings.guard
        self._settings = settings
        self._retention = Removal(settings)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        mode: Literal["owner", "guest"] = "owner",
        clock: Callable[[], float] = time.time,
        retention_days: float = 30.0,
        max_backlog: int = 5_000_000,
        min_free_bytes: int = 256 * 1024 * 1024,
        on_commit: OnCommit | None = None,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        keyring: Keyring | None = None,
    ) -> SqliteJournal:
        """Open the journal in the folder `path`; an owner makes one where there never was one.

        retention_days, max_backlog, min_free_bytes: as in config.Journal. `on_commit` gets the seconds each
        transaction took and its number of works, in the writer's thread. `factory`: the class of the writing
        connection, for tests. `keyring`: what seals the messages; none: they are stored in clear. JournalError: in use
        by another owner, missing, damaged, of a newer version, not to be written, or sealed by a key that is not at
        hand.
        """
        folder = Path(path)
        lock = await asyncio.to_thread(files.open_owner if mode == "owner" else files.open_guest, folder)
        file = folder / files.DATABASE
        try:
            guard = await asyncio.to_thread(_guard, file, keyring or Keyring(), clock(), mode == "owner")
            connect = partial(files.connect, file, factory)
            settings = Settings(file, connect, clock, max_backlog, min_free_bytes, on_commit, guard)
            writer = await asyncio.to_thread(Writer, settings)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, sqlite3.Error | OSError):
                raise JournalError(f"{file} cannot be written: {error}") from error
            raise
        readers = reader.Readers(partial(files.connect_reader, file))
        return cls(writer, readers, lock, clock, retention_days * DAY, settings)

    async def append(self, message: Received) -> Appended:
        """See Journal.append. ValueError: a state in which no message arrives."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.store(message, partial(fulfil, future))
        appended: Appended = await future
        return appended

    def store(self, message: Received, then: Then) -> None:
        """See Journal.store."""
        if message.state not in transaction.ARRIVAL_STATES:
            raise ValueError(f"no message arrives as {message.state.value}")
        if is_sealed(message.raw):
            raise ValueError("what looks encrypted is no message")
        self._writer.put(message, then, len(message.raw))

    def entry(self, message: Received, appended: Appended) -> Entry:
        """What `claimable` would read of a message that was just appended."""
        return Entry(
            seq=appended.seq,
            id=appended.id,
            raw=message.raw,
            sha256=message.sha256,
            received_at=message.received_at,
            listener=message.listener,
            peer=message.peer,
            sender=message.sender,
            control_id=message.control_id,
            type=message.type,
            lanes=self._guard.lanes(message.lanes),
            state=message.state,
            attempts=0,
            next_attempt=0.0,
            reason=message.reason,
            detail=message.detail,
            ack_code=message.ack_code,
            mapping_version="",
            delivered_at=None,
            replays=0,
        )

    def answered(self, seq: int, written: bool, resend: bool = False) -> None:
        """See Journal.answered."""
        self._writer.note(seq, (receipts.WRITTEN if written else 0) | (receipts.RESEND if resend else 0))

    async def apply(self, change: Change) -> None:
        await self._writer.submit(change)

    async def claimable(self, now: float, after_seq: int, limit: int) -> Sequence[Entry]:
        return await self._readers.run(
            partial(reader.claimable, guard=self._guard, now=now, after_seq=after_seq, limit=limit)
        )

    async def blocked_lanes(self, now: float, among: Collection[str] | None = None) -> frozenset[str]:
        return await self._readers.run(partial(reader.blocked_lanes, now=now, among=among))

    async def get(self, id: str) -> Entry | None:
        return await self._readers.run(partial(reader.get, guard=self._guard, id=id))

    async def original(self, id: str) -> bytes | None:
        """The payload as it arrived, where `get` gives the latest edit."""
        return await self._readers.run(partial(reader.original, guard=self._guard, id=id))

    async def history(self, id: str) -> Sequence[Step]:
        return await self._readers.run(partial(reader.history, guard=self._guard, id=id))

    async def lineage(self, id: str) -> tuple[str, bytes] | None:
        """The version of the tables and the lineage that was stored with a message, if one was."""
        return await self._readers.run(partial(reader.lineage, id=id))

    async def find(self, filter: Filter, *, with_raw: bool = True) -> AsyncGenerator[Entry, None]:
        """See Journal.find: page by page, each page one moment. `with_raw` False: `raw` stays empty, for listings."""
        left, beyond, now = filter.limit, None, self._clock()
        while left is None or left > 0:
            size = reader.PAGE if left is None else min(left, reader.PAGE)
            read = partial(
                reader.page, guard=self._guard, filter=filter, now=now, beyond=beyond, limit=size, with_raw=with_raw
            )
            entries = await self._readers.run(read)
            for entry in entries:
                yield entry
            if not entries:
                return
            beyond = entries[-1].seq
            left = None if left is None else left - len(entries)

    async def replay(self, id: str, raw: bytes | None = None, *, by: str = "") -> None:
        await self._writer.submit(partial(transaction.replay, id=id, raw=raw, by=by))

    async def purge(self, filter: Filter) -> int:
        if any(state is not State.DEAD for state in filter.states):
            raise JournalRefusal("only dead messages can be purged")
        if filter.id is not None and id_bytes(filter.id) is None:
            return 0
        removal = Removal(self._settings)
        most = sys.maxsize if filter.limit is None else filter.limit
        total = 0
        while more := await removal.run(State.DEAD, partial(_dead, filter=filter, now=self._clock()), most - total):
            total += more
        if removal.stuck:
            raise JournalRefusal(
                f"{total} were removed; {len(removal.stuck)} stand on damaged pages of the journal's file and cannot"
                " be: `hl7bridge journal salvage` makes a file without these pages"
            )
        return total

    async def retain(self, now: float) -> int:
        """See Journal.retain. A call is bounded: what is left goes with the next one.

        What stands on a damaged page of the file is stepped over, and stays in `stuck`.
        """
        if self._keep <= 0:  # kept for ever
            return 0
        return await self._retention.run(State.DELIVERED, partial(_expired, before=now - self._keep), RETAINED_AT_ONCE)

    @property
    def stuck(self) -> frozenset[int]:
        """Seqs of messages past their retention that damage does not let go."""
        return frozenset(self._retention.stuck)

    async def figures(self) -> Figures:
        return await self._readers.run(reader.figures)

    async def audit(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        task = partial(auditing.record, actor=actor, action=action, subject=subject, detail=detail)
        await self._writer.submit(task)

    async def audited(self, after: int = 0, limit: int = 1000) -> list[auditing.AuditEntry]:
        """Entries of the audit with a number greater than `after`, in order."""
        return await self._readers.run(partial(auditing.read, after=after, limit=limit))

    @property
    def guard(self) -> Guard:
        """How columns are sealed, for the readers of further tables."""
        return self._guard

    async def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """The answer of a reading connection, for the journal's further tables (acknowledgements, fragments)."""
        return await self._readers.run(work)

    async def write(self, task: transaction.Task) -> Any:
        """The outcome of a task in a transaction, which stands when this returns."""
        return await self._writer.submit(task)

    async def rotate(self, after: int) -> rotation.Batch:
        """Seals the next messages behind the seq `after` with the active key: one short transaction."""
        batch: rotation.Batch = await self._writer.submit(partial(rotation.reseal, after=after))
        return batch

    async def rotate_owed(self, after: int) -> rotation.Batch:
        """The same for application acknowledgements, behind the row `after`."""
        batch: rotation.Batch = await self._writer.submit(partial(rotation.reseal_owed, after=after))
        return batch

    async def retire(self) -> list[str]:
        """Forgets keys that nothing is sealed with any more; gives their ids. See rotation.retire."""
        gone: list[str] = await self._writer.submit(rotation.retire)
        return gone

    async def count(self) -> int:
        """How many messages there are, in whatever state."""
        return await self._readers.run(reader.count)

    async def head(self) -> tuple[int, str]:
        """Number and hash of the newest seal of the receipts."""
        return await self._readers.run(seals.head)

    async def close(self) -> None:
        """Commit what is queued, close, free the lock. Harmless the second time."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.close)
        if self._lock is not None:
            self._lock.release()


def _guard(file: Path, keyring: Keyring, now: float, owner: bool) -> Guard:
    with contextlib.closing(files.connect(file)) as connection:
        return open_guard(connection, keyring, now, owner)


def _dead(connection: sqlite3.Connection, limit: int, filter: Filter, now: float) -> list[int]:
    _, condition, terms = reader.where(filter, now)
    statement = (
        f"SELECT m.seq FROM messages m INDEXED BY messages_dead WHERE {condition} AND m.state = 'dead'"
        " ORDER BY m.seq LIMIT ?"
    )
    return [seq for (seq,) in connection.execute(statement, (*terms, limit))]


def _expired(connection: sqlite3.Connection, limit: int, before: float) -> list[int]:
    return [seq for (seq,) in connection.execute(_EXPIRED, (before, limit))]
