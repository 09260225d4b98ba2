"""Application acknowledgements as they are stored: a row each, header and bytes sealed like messages, bound to the row.

What holds: a row outlives its message, and a refused message has none, so what is sealed is bound to the row's number.
What does not open is told by `opened`, never served.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Owed
from hl7bridge.journal.rows import bindable
from hl7bridge.sealing import Damaged

if TYPE_CHECKING:
    from hl7bridge.journal.transaction import Round

HEADER, RAW = "owed header", "owed ack"  # kinds of the sealed columns `header` and `raw`
COLUMNS = ((HEADER, "header"), (RAW, "raw"))

PAGE = 1000
_NEXT = "SELECT coalesce(max(number), 0) + 1 FROM acknowledgements"
_INSERT = (
    "INSERT INTO acknowledgements (number, seq, channel, condition, after, header, state, reason, at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def insert(round_: Round, seq: int | None, owed: Owed, state: str, reason: str, at: float) -> int:
    """A row for the message of this seq (None: it was refused); gives its number."""
    number: int = round_.connection.execute(_NEXT).fetchone()[0]
    header = seal(round_.guard, HEADER, number, owed.header)
    row = (number, seq, bindable(owed.channel), owed.condition, owed.after, header, state, reason, at)
    round_.connection.execute(_INSERT, row)
    return number


def seal(guard: Guard, kind: str, number: int, text: bytes) -> bytes:
    return guard.seal(kind, number, b"", text)


def opened(guard: Guard, kind: str, number: int, stored: bytes) -> bytes | None:
    """The text; None: it is not what was stored. Raises KeyMissing."""
    try:
        return guard.open(kind, number, b"", stored) if stored else stored
    except Damaged:
        return None


def texts(connection: sqlite3.Connection, after: int, limit: int) -> Iterator[tuple[int, str, str, bytes]]:
    """(number, kind, column, stored) of the sealed columns of the next rows behind the row `after`, in order."""
    statement = "SELECT number, header, raw FROM acknowledgements WHERE number > ? ORDER BY number LIMIT ?"
    for number, *stored in connection.execute(statement, (after, limit)).fetchall():
        for (kind, column), text in zip(COLUMNS, stored, strict=True):
            yield number, kind, column, text


def everything(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str, bytes]]:
    """As `texts`, of all rows, page by page."""
    last, more = 0, True
    while more:
        more = False
        for text in texts(connection, last, PAGE):
            yield text
            last, more = text[0], True
