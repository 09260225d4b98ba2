"""Saves what can be read of a damaged journal into a new one: row by row, so that one torn page costs its own rows.

What holds: the damaged journal is read from a copy of its own and never written. Every message that is whole keeps its
id, state, story and receipts; one whose payload is gone comes as it is, and the daemon makes it a dead letter
(`damaged`). A file whose first page is torn gets the first page of a new journal of the same version: the tables stand
at the same pages there, unless the journal was begun by an older version.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from hl7bridge.errors import JournalError
from hl7bridge.journal import files, schema

_COUNTED = "tally"  # made anew


@dataclass(slots=True)
class Saved:
    """`rows`: by table; `lost`: rows that could not be read, by table; `repaired`: the first page was made anew."""

    rows: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    repaired: bool = False


def salvage(old: Path, new: Path) -> Saved:
    """From the folder `old` into the folder `new`, which must not hold a journal. Raises JournalError."""
    if (new / files.DATABASE).exists():
        raise JournalError(f"{new} holds a journal already")
    if not (old / files.DATABASE).exists():
        raise JournalError(f"there is no journal in {old}")
    files.open_owner(new).release()
    copy = new / "damaged"
    copy.mkdir(mode=0o700)
    saved = Saved()
    try:
        for path in old.glob(files.DATABASE + "*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, copy / path.name)
        source = _readable(copy / files.DATABASE, new / files.DATABASE, saved)
        with contextlib.closing(source), contextlib.closing(files.connect(new / files.DATABASE)) as target:
            target.execute("BEGIN IMMEDIATE")
            target.execute("DELETE FROM seals")
            for table in _tables(target):
                saved.rows[table], saved.lost[table] = _table(source, target, table)
            _tally(source, target)
            target.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{old} cannot be saved: {error}") from None
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return saved


def _readable(file: Path, model: Path, saved: Saved) -> sqlite3.Connection:
    """A connection to the copy; with the model's first page where its own is torn."""
    for attempt in (1, 2):
        connection = sqlite3.connect(file, isolation_level=None)
        try:
            if schema.check(connection, str(file)) != schema.CURRENT:
                raise JournalError(f"{file.name} is of another version: use the hl7bridge that wrote it")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            connection.execute("SELECT 1 FROM messages LIMIT 1").fetchone()
        except (sqlite3.DatabaseError, JournalError) as error:
            connection.close()
            if attempt == 2 or isinstance(error, sqlite3.OperationalError):
                raise
            _new_first_page(file, model)
            saved.repaired = True
        else:
            return connection
    raise AssertionError


def _new_first_page(file: Path, model: Path) -> None:
    """The model's first page, with the number of pages that the file has, and no free ones."""
    with contextlib.closing(files.connect(model)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = files.PAGE_BYTES
    page = bytearray(model.read_bytes()[:size])
    page[18:20] = b"\x01\x01"  # no log: what the log held was copied, or is lost
    page[28:32] = (file.stat().st_size // size).to_bytes(4, "big")
    page[32:40] = bytes(8)
    for log in (file.with_name(file.name + "-wal"), file.with_name(file.name + "-shm")):
        log.unlink(missing_ok=True)
    with file.open("r+b") as target:
        target.write(page)


def _tables(target: sqlite3.Connection) -> list[str]:
    statement = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> ?"
    return [name for (name,) in target.execute(statement, (_COUNTED,))]


def _table(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> tuple[int, int]:
    """How many rows were saved, and how many could not be: where the table cannot be walked, one by one by its key."""
    found = target.execute(f"PRAGMA table_info({table})").fetchall()
    columns = [row[1] for row in found]
    numbers = [row[1] for row in found if row[5] and row[2] == "INTEGER"]
    key = numbers[0] if len([row for row in found if row[5]]) == len(numbers) == 1 else None
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"
    select = f"SELECT {names} FROM {table}"
    done = lost = 0
    try:
        for row in source.execute(select):
            target.execute(insert, row)
            done += 1
        return done, 0
    except sqlite3.DatabaseError:
        if key is None:
            return done, 1
    most = source.execute("SELECT max(last_seq, seals) FROM tally").fetchone()[0]
    with contextlib.suppress(sqlite3.DatabaseError):  # numbers of their own, of refused messages too, may be greater
        most = max(most, source.execute(f"SELECT max({key}) FROM {table}").fetchone()[0] or 0)
    done = 0
    for number in range(1, most + 1):
        try:
            row = source.execute(f"{select} WHERE {key} = ?", (number,)).fetchone()
        except sqlite3.DatabaseError:
            lost += 1
            continue
        if row is not None:
            target.execute(insert, row)
            done += 1
    return done, lost


def _tally(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Counted anew; the end of the chain of receipts as it was."""
    last, number, hash = source.execute("SELECT last_seq, seals, seal_hash FROM tally").fetchone()
    counts = dict(target.execute("SELECT state, count(*) FROM messages GROUP BY state"))
    values = [counts.get(state, 0) for state in ("received", "waiting", "delivered", "dead")]
    target.execute(
        "UPDATE tally SET last_seq = ?, received = ?, waiting = ?, delivered = ?, dead = ?, seals = ?, seal_hash = ?",
        (last, *values, number, hash),
    )
