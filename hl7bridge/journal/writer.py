"""The one thread that writes: it drains whatever is queued into one transaction and one commit, then answers them all.

What holds here:
- An outcome is told only after COMMIT has returned: under WAL and synchronous=FULL that is after the fsync.
- When the store fails (disk full, read-only, IO error, locked), all works of the group get JournalError, the
  transaction is rolled back, and the thread goes on with the next group: it recovers when the disk does.
- After an error of input or output the file is not trusted: a kernel may drop what an fsync failed to write, and
  say nothing of it the next time. The connection is closed, and before another message is taken a new one looks at the
  file and copies the whole log into the database, which has to reach the disk.
- When one work fails for a reason of its own (a value the file cannot hold), the group is done again one by one behind
  savepoints, and only that work fails.
- The GIL is given away inside each SQLite step, and waited for behind a busy event loop: so few and large statements
  (bulk.py) are what makes this fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hl7bridge.errors import Hl7BridgeError, JournalError
from hl7bridge.journal import schema
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import DamagedPage
from hl7bridge.journal.rows import Mint
from hl7bridge.journal.transaction import Round, Tally, Work, write

GROUP_WORKS = 1024  # one transaction holds at most this many works
GROUP_BYTES = 32 * 1024 * 1024  # and no further one once its messages hold this many bytes
NOTE_SECONDS = 1.0  # what became of an answer waits no longer for a commit to go with
MOST_NOTES = 1_000_000  # while the disk fails; an older one is then told as not recorded
ITEM_FAILURES = (  # SQLite's and Python's words for "this value cannot be stored", as opposed to "the store is ill"
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
)

_ILL = (  # primary result codes after which the file is looked at before it is written again
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
)

OnCommit = Callable[[float, int], None]  # seconds the transaction took, number of works; called in the writer's thread
# told the outcome, in that event loop; the bytes its message holds
_Item = tuple[Work, Callable[[Any], None], asyncio.AbstractEventLoop, int]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the writer goes by. `file`: the database; `connect` opens a connection that may write."""

    file: Path
    connect: Callable[[], sqlite3.Connection]
    clock: Callable[[], float]
    max_backlog: int
    min_free_bytes: int
    on_commit: OnCommit | None
    guard: Guard


class Writer:
    """Owns the write connection. `submit` and `put` are called on an event loop; all else happens in the thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Item]] = {}  # not yet in the queue
        self._gathering = threading.Lock()
        self._waiting: deque[_Item] = deque()  # of the thread: out of the queue, not yet in a transaction
        self._ended = False  # of the thread: nothing more will come
        self._connection: sqlite3.Connection | None = settings.connect()
        self._path = str(settings.file)
        self._inode = settings.file.stat().st_ino
        self._mint = Mint()
        self._suspect = False  # the disk failed since the file was last known to be whole
        self._notes: deque[tuple[int, int]] = deque(maxlen=MOST_NOTES)  # what became of answers, until the next commit
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """The future of the work's outcome."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.put(work, partial(fulfil, future))
        return future

    def put(self, work: Work, then: Callable[[Any], None], size: int = 0) -> None:
        """`then` is told the outcome, a value or an exception, in this event loop: all of a commit in one call of it.

        `size`: bytes of the work's message, for the bound of a group.
        """
        loop = asyncio.get_running_loop()
        with self._gathering:
            if self._closed:
                loop.call_soon(then, JournalError("the journal is closed"))
            elif (gathered := self._gathered.get(loop)) is not None:
                gathered.append((work, then, loop, size))
            else:
                self._gathered[loop] = [(work, then, loop, size)]
                loop.call_soon(self._hand_over, loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What came in one turn of the loop wakes the thread once, and shares a commit."""
        with self._gathering:
            gathered = self._gathered.pop(loop, None)
            if gathered is not None:  # else `close` was faster
                self._queue.put(gathered)

    def note(self, seq: int, flags: int) -> None:
        """For the receipts: with the next commit, which need not be for this. From any thread."""
        self._notes.append((seq, flags))

    def close(self) -> None:
        """Finish what is queued, then close the connection. Blocks until the thread has ended."""
        with self._gathering:
            if not self._closed:
                self._closed = True
                for gathered in self._gathered.values():
                    self._queue.put(gathered)
                self._gathered.clear()
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._ended or self._waiting:
            group = self._group()
            if group or self._notes:
                _resolve(group, self._outcomes([item[0] for item in group]))
        self._disconnect()

    def _group(self) -> list[_Item]:
        """What is there now, as much as one transaction may hold; waits while there is nothing."""
        waiting, came = self._waiting, self._queue
        with contextlib.suppress(queue.Empty):
            while not self._ended and not (waiting and came.empty()):
                items = came.get_nowait() if waiting else came.get(timeout=NOTE_SECONDS)
                if items is None:
                    self._ended = True
                else:
                    waiting.extend(items)
        group: list[_Item] = []
        size = 0
        while waiting and len(group) < GROUP_WORKS and size < GROUP_BYTES:
            item = waiting.popleft()
            group.append(item)
            size += item[3]
        return group

    def _outcomes(self, works: list[Work]) -> list[Any]:
        """A value or an exception for each work, after the commit that made them true."""
        started = time.perf_counter()
        try:
            outcomes = self._commit(works)
        except Exception as error:
            self._abandon(error)
            return [_failure(error) for _ in works]
        if self._settings.on_commit is not None:
            with contextlib.suppress(Exception):  # a metric that fails must not cost a commit that stands
                self._settings.on_commit(time.perf_counter() - started, len(works))
        return outcomes

    def _commit(self, works: list[Work]) -> list[Any]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._reopened()
        space = self._free_bytes() >= self._settings.min_free_bytes
        pop = self._notes.popleft
        notes = [pop() for _ in range(len(self._notes))]
        try:
            outcomes = self._transact(connection, works, space, notes)
        except BaseException:
            self._notes.extendleft(reversed(notes))
            raise
        return outcomes

    def _transact(
        self, connection: sqlite3.Connection, works: list[Work], space: bool, notes: list[tuple[int, int]]
    ) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = write(self._round(connection, space, notes), works)
        except ITEM_FAILURES:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._alone(connection, work, space) for work in works]
            write(self._round(connection, space, notes), [])
        connection.execute("COMMIT")
        return outcomes

    def _alone(self, connection: sqlite3.Connection, work: Work, space: bool) -> Any:
        connection.execute("SAVEPOINT work")
        try:
            (outcome,) = write(self._round(connection, space), [work])
        except ITEM_FAILURES as error:
            connection.execute("ROLLBACK TO work")
            outcome = JournalError(f"the journal cannot hold this: {_cause(error)}")
        connection.execute("RELEASE work")
        return outcome

    def _round(self, connection: sqlite3.Connection, space: bool, notes: Sequence[tuple[int, int]] = ()) -> Round:
        now, tally, keys = self._settings.clock(), Tally.read(connection), self._settings
        tally.seals.acks = notes
        return Round(connection, tally, now, self._mint, keys.max_backlog, space, keys.guard)

    def _free_bytes(self) -> int:
        """Also proves that the file is still at its path: SQLite would write on into a deleted one without a word."""
        if os.stat(self._path).st_ino != self._inode:  # noqa: PTH116 - once a commit: a Path costs three times the call
            raise JournalError("the journal's file was replaced under the running process: restart hl7bridge")
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    def _reopened(self) -> sqlite3.Connection:
        """A new connection; after a failure of the disk, to a file that was looked at and written through."""
        connection = self._settings.connect()
        if self._suspect:
            try:
                schema.check(connection, "the journal's file")
                connection.execute("SELECT last_seq FROM tally").fetchone()[0]
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
                if busy:
                    raise JournalError(
                        "the journal's file is in use and cannot be written through after a disk failure"
                    )
            except BaseException:
                connection.close()
                raise
            self._suspect = False
        return connection

    def _abandon(self, error: Exception) -> None:
        """Undo the transaction; the next group opens another connection where this one cannot be trusted any more."""
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _ILL:
            self._suspect = True
            self._disconnect()
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:  # SQLite has rolled back by itself after some errors
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _failure(error: Exception) -> JournalError:
    torn = isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
    return (DamagedPage if torn else JournalError)(f"the journal could not be written: {_cause(error)}")


def _cause(error: Exception) -> str:
    """SQLite's and the system's words name tables and causes, never values; other texts may quote: only the type."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, sqlite3.Error | Hl7BridgeError) else type(error).__name__


def _resolve(group: list[_Item], outcomes: list[Any]) -> None:
    """One call into each event loop for all of its works; usually there is one loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Callable[[Any], None], Any]]] = {}
    for (_, then, loop, _), outcome in zip(group, outcomes, strict=True):
        loops.setdefault(loop, []).append((then, outcome))
    for loop, settled in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more, what is committed stands
            loop.call_soon_threadsafe(_settle, loop, settled)


def _settle(loop: asyncio.AbstractEventLoop, settled: list[tuple[Callable[[Any], None], Any]]) -> None:
    for then, outcome in settled:
        try:
            then(outcome)
        except Exception as error:  # one that fails must not keep the others from their outcome
            loop.call_exception_handler({"message": "an outcome of the journal was not taken", "exception": error})


def fulfil(future: asyncio.Future[Any], outcome: Any) -> None:
    """Gives a future its value or exception; one whose caller was cancelled is left."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
