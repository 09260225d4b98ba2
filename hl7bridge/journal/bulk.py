"""Many rows into a table by few statements.

SQLite's module gives the interpreter away at each step and has to wait for it afterwards; `executemany` steps once a
row, so a hundred messages are a hundred waits behind a busy event loop. One statement with many rows is one step. There
are a few sizes of statement, so that each is prepared once and kept by the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

SIZES: Final = (64, 16, 4, 1)  # rows of a statement; times the columns they stay far below SQLite's 32,766 values


class Insert:
    """INSERT of rows into `table`. `columns`: their names, by commas; `conflict`: what follows the values."""

    __slots__ = ("_statements",)

    def __init__(self, table: str, columns: str, conflict: str = "") -> None:
        row = f"({', '.join('?' * (columns.count(',') + 1))})"
        self._statements = tuple(
            (size, f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * size)} {conflict}") for size in SIZES
        )

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], single: bool = False) -> int:
        """How many were inserted. `single`: one by one, where each is so large that it should be copied alone."""
        inserted = at = 0
        for size, statement in self._statements[-1:] if single else self._statements:
            while len(rows) - at >= size:
                values = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows[at : at + size]))
                inserted += connection.execute(statement, values).rowcount
                at += size
        return inserted
