"""After an error of the disk the journal's file is not trusted before it was opened anew, looked at and written through."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journal_support import ill, received

from hl7bridge.errors import JournalError
from hl7bridge.journal.sqlite import SqliteJournal


def _error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "reopened"),
    [(sqlite3.SQLITE_IOERR_FSYNC, True), (sqlite3.SQLITE_CORRUPT, True), (sqlite3.SQLITE_FULL, False)],
)
async def test_a_failed_disk_is_looked_at_and_written_through_before_anything_is_taken(
    tmp_path: Path, code: int, reopened: bool
) -> None:
    connection: Any = ill()
    journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0, factory=connection)
    try:
        kept = await journal.append(received(0))
        connection.failures["COMMIT"] = [_error(code)]
        with pytest.raises(JournalError):
            await journal.append(received(1))
        connection.trace.clear()
        assert not (await journal.append(received(1))).duplicate
        told = [word for word in connection.trace if word in ("PRAGMA", "BEGIN")]
        assert (told[0] == "PRAGMA") is reopened
        assert (await journal.append(received(0))).id == kept.id
    finally:
        await journal.close()


async def test_nothing_is_taken_while_the_file_cannot_be_written_through(tmp_path: Path) -> None:
    connection: Any = ill()
    journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0, factory=connection)
    try:
        await journal.append(received(0))
        connection.failures["COMMIT"] = [_error(sqlite3.SQLITE_IOERR_FSYNC)]
        with pytest.raises(JournalError):
            await journal.append(received(1))
        connection.failures["PRAGMA"] = [_error(sqlite3.SQLITE_IOERR_FSYNC)] * 3
        for _ in range(3):
            with pytest.raises(JournalError):
                await journal.append(received(1))
        assert not (await journal.append(received(1))).duplicate
    finally:
        await journal.close()
