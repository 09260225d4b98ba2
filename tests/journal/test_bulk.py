"""Many rows by few statements."""

from __future__ import annotations

import sqlite3

import pytest

from hl7bridge.journal.bulk import SIZES, Insert


def _table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE things (number INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    return connection


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 15, 16, 63, 64, 65, 149, 300])
def test_every_row_is_inserted_once_and_as_it_is(count: int, single: bool) -> None:
    connection = _table()
    rows = [(number, f"n{number}") for number in range(count)]
    assert Insert("things", "number, name")(connection, rows, single) == count
    assert connection.execute("SELECT number, name FROM things ORDER BY number").fetchall() == rows


def test_what_is_there_already_is_not_counted_and_the_first_of_a_group_stays() -> None:
    connection = _table()
    rows = [(number, f"n{number % 50}") for number in range(100)]
    assert Insert("things", "number, name", "ON CONFLICT (name) DO NOTHING")(connection, rows) == 50
    assert connection.execute("SELECT max(number) FROM things").fetchone() == (49,)


def test_a_group_takes_few_statements() -> None:
    connection, told = _table(), []
    connection.set_trace_callback(told.append)
    Insert("things", "number, name")(connection, [(number, str(number)) for number in range(100)])
    assert len(told) == 4  # 64, 16, 16, 4


def test_no_statement_has_more_values_than_sqlite_takes() -> None:
    assert SIZES[-1] == 1
    assert max(SIZES) * 16 < 32_766
