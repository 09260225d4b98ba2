"""The journal's folder: one database, one lock; made once, never silently made again.

- `journal.sqlite3` is made beside under another name and renamed when its tables are in it and on the disk: an empty
  file under this name is damage, not a beginning.
- `journal.lock` is held (flock) by the process that owns the journal and names it. Its second line says that a
  journal was made here, so that a database gone missing is an error and not a fresh start.
- The folder and the files are for their owner only (0700, 0600): they hold patient data.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hl7bridge.errors import JournalError
from hl7bridge.journal import schema

DATABASE = "journal.sqlite3"
LOCK = "journal.lock"
BUSY_SECONDS = 5.0  # how long a transaction waits for another process's
CHECKED_BYTES = (
    512 * 1024 * 1024
)  # after an unclean end, a file up to this size is checked page by page at start (about a second)
CHECKPOINT_PAGES = 4000  # the write-ahead log is copied into the database when it has this many pages
# pages SQLite keeps: they fill as messages come, so they bound how the daemon grows; the system keeps the file anyway
WRITER_CACHE_KIB, READER_CACHE_KIB = 16_384, 4_096
PAGE_BYTES = 8192  # two or three messages of usual size a page; measured a fifth faster than 4096
_MADE = "made"

Connect = Callable[..., sqlite3.Connection]


class Lock:
    """The owner's lock. Freed by `release`, or by the kernel when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._lines()[:1]
            os.close(self._descriptor)
            raise JournalError(
                f"the journal {folder} is in use by process {holder[0] if holder else 'unknown'}: stop it, or give this"
                " instance a journal.path of its own"
            ) from None
        self.made = _MADE in self._lines()[1:]
        self.write(self.made)

    def _lines(self) -> list[str]:
        return os.pread(self._descriptor, 100, 0).decode("ascii", "replace").split()

    def write(self, made: bool) -> None:
        """Say who holds the lock, and whether a journal was made in this folder."""
        os.pwrite(self._descriptor, f"{os.getpid()}\n{_MADE if made else '-':4}\n".encode().ljust(32), 0)
        os.fsync(self._descriptor)
        self.made = made

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def connect(file: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection that may write, each commit on the disk before it returns. The file must be there."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None,
        check_same_thread=False, factory=factory,
    )  # fmt: skip
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
                       f"cache_size = -{WRITER_CACHE_KIB}", "temp_store = MEMORY", "secure_delete = FAST"):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(file: Path) -> sqlite3.Connection:
    """A connection that only reads."""
    connection = connect(file)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def connect_proof(file: Path, copy: bool = False) -> sqlite3.Connection:
    """A connection that cannot write; `copy`: nobody else has the file, and nothing is made beside it. JournalError."""
    last: sqlite3.Error | None = None
    log = file.with_name(file.name + "-wal")
    ways = ["mode=ro"]
    if not log.exists():  # without a log the file is all there is
        ways.insert(0 if copy else 1, "mode=ro&immutable=1")
    for way in ways:
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?{way}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        try:
            found = schema.check(connection, str(file))
        except sqlite3.DatabaseError as error:
            connection.close()
            last = error
        except BaseException:
            connection.close()
            raise
        else:
            if found < schema.CURRENT:
                connection.close()
                raise JournalError(f"{file} has journal version {found}: start `hl7bridge serve` once to migrate it")
            return connection
    raise JournalError(f"{file} cannot be read ({last}). {ADVICE}")


def whole(folder: Path) -> bool | None:
    """Is every page of the journal's file in order? None: it is too large to be asked in passing. Nothing is written.

    Without a journal it is. Raises JournalError when the file cannot be opened at all.
    """
    file = folder / DATABASE
    if not file.exists():
        return True
    if file.stat().st_size > CHECKED_BYTES:
        return None
    with contextlib.closing(connect_proof(file)) as connection:
        try:
            return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
        except sqlite3.DatabaseError:
            return False


def open_owner(folder: Path) -> Lock:
    """Lock the folder, make the journal if there never was one, check it, bring it to the present version."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = Lock(folder)
    except OSError as error:
        raise JournalError(f"the journal's folder {folder} cannot be used: {error.strerror}") from error
    try:
        file = folder / DATABASE
        if not file.exists():
            _make(folder, lock)
        with contextlib.closing(_checked(file, unclean=_left_open(file))) as connection:
            schema.migrate(connection)
        if not lock.made:
            lock.write(made=True)
    except sqlite3.Error as error:
        lock.release()
        raise JournalError(f"{folder / DATABASE} cannot be used: {error}") from error
    except BaseException:
        lock.release()
        raise
    return lock


def open_guest(folder: Path) -> None:
    """Check that there is a journal of the present version, which a guest can read and write beside its owner."""
    file = folder / DATABASE
    if not file.exists():
        raise JournalError(f"there is no journal in {folder}: check journal.path, or start hl7bridge once")
    try:
        with contextlib.closing(_checked(file, unclean=False)) as connection:
            found = schema.version(connection)
    except sqlite3.Error as error:
        raise JournalError(f"{file} cannot be used: {error}") from error
    if found < schema.CURRENT:
        raise JournalError(
            f"{file} has journal version {found}, this program needs {schema.CURRENT}:"
            " start `hl7bridge serve` once to migrate it"
        )


def _left_open(file: Path) -> bool:
    """A clean end removes the write-ahead log (or leaves it to a guest that was still reading)."""
    log = file.with_name(file.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _make(folder: Path, lock: Lock) -> None:
    file = folder / DATABASE
    if lock.made or _left_open(file):
        raise JournalError(
            f"{file} is missing although a journal was made in this folder: restore it from a copy;"
            f" to begin a new journal and give up what was in the old one, remove {LOCK} and {DATABASE}-* there"
        )
    unfinished = file.with_name(file.name + ".new")
    for left in folder.glob(unfinished.name + "*"):  # an earlier start that did not get to the rename
        left.unlink()
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # only before the first table and before WAL
        connection.execute("VACUUM")
    with contextlib.closing(connect(unfinished)) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        schema.migrate(connection)
    unfinished.rename(file)  # closing the only connection has copied the log into the file, with fsync, and removed it
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(file: Path, unclean: bool) -> sqlite3.Connection:
    """An open connection to a file that is whole, as far as a start may cost.

    After a clean end only the header and the tally are read. After an unclean one SQLite restores the log by its
    checksums as it opens; then a file up to CHECKED_BYTES is checked page by page, a larger one is not: it would keep
    senders waiting for minutes, and a damaged page is still an error, never a wrong answer, when it is read.
    """
    if file.stat().st_size == 0:
        raise JournalError(f"{file} is empty, which a journal never is. {ADVICE}")
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(file)
        schema.check(connection, str(file))
        connection.execute("SELECT last_seq FROM tally").fetchone()[0]
        if unclean and file.stat().st_size <= CHECKED_BYTES:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
            if found != ["ok"]:
                raise JournalError(f"{file} is damaged ({len(found)} finding). {ADVICE}")
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise JournalError(f"{file} cannot be used: {error}") from error
        if isinstance(error, sqlite3.DatabaseError | TypeError):  # TypeError: the tally has no row
            raise JournalError(f"{file} is damaged ({error}). {ADVICE}") from error
        raise
    return connection


ADVICE = (
    "Keep a copy of the whole folder; then `hl7bridge journal salvage NEW-FOLDER` saves what can be read, or restore a"
    " backup; hl7bridge does not start a new journal over a damaged one"
)
