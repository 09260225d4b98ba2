"""Application acknowledgements that are exchanges of their own: what the journal keeps of each until it is settled.

    awaited --the message is delivered or dead--> decided --built--> due --> sent | given-up
                                                       '--> not-due (MSH-16 wanted another outcome)

What holds: a row is written in the transaction that stores its message (terms.py) and decided in the one that settles
it (a trigger, so that no way of changing a state can forget it). Header and bytes are sealed like messages (owed.py).
The acknowledgement is built once and its bytes kept: one that is sent again is the same message. Rows outlive their
messages; settled ones go after `KEEP`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hl7bridge.journal import owed as stored
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Owed
from hl7bridge.journal.rows import bindable, id_bytes, id_text, readable
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.journal.transaction import Round

KEEP = 30 * 86_400.0  # seconds a settled row is kept for `messages show`
AT_ONCE = 100  # rows a look gives, and rows removed in one transaction

_COLUMNS = (
    "a.number, m.id, a.channel, a.condition, a.header, a.state, a.reason, a.code, a.control_id, a.raw, a.attempts,"
    " a.next_attempt, a.detail, a.at, a.due_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM acknowledgements a LEFT JOIN messages m ON m.seq = a.seq"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One row. `message_id`: "" where the message was refused or is gone; times in seconds since the epoch.

    damaged: header or bytes are not what was stored; nothing may be sent of them.
    """

    number: int
    message_id: str
    channel: str
    condition: str
    header: bytes = field(repr=False)
    state: str
    reason: str
    code: str
    control_id: str = field(repr=False)
    raw: bytes = field(repr=False)
    attempts: int
    next_attempt: float
    detail: str
    at: float
    due_at: float
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What an acknowledgement says: MSA-1, its own MSH-10 and its bytes; no bytes: none is sent after all."""

    code: str
    control_id: str = field(repr=False)
    raw: bytes = field(repr=False)


class Acknowledgements:
    """The rows of one journal. All methods raise JournalError when the store fails."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def decided(self, channels: Collection[str]) -> Sequence[Acknowledgement]:
        """Those on these channels whose message has met its fate, oldest first."""
        names = [bindable(name) for name in channels]
        among = ", ".join("?" * len(names))
        condition = f"WHERE a.state = 'decided' AND a.channel IN ({among}) ORDER BY a.number LIMIT ?"
        return await self._read(condition, *names, AT_ONCE)

    async def awaiting_translation(self) -> Sequence[Acknowledgement]:
        """Those that a translation decides, oldest first."""
        return await self._read(
            "WHERE a.state = 'awaited' AND a.after = 'translated' ORDER BY a.number LIMIT ?", AT_ONCE
        )

    async def due(self, channel: str, now: float) -> Sequence[Acknowledgement]:
        """Those that may be sent now, those that waited longest first."""
        condition = "WHERE a.state = 'due' AND a.channel = ? AND a.next_attempt <= ? ORDER BY a.next_attempt LIMIT ?"
        return await self._read(condition, bindable(channel), now, AT_ONCE)

    async def of(self, message_id: str) -> Sequence[Acknowledgement]:
        """The message's own."""
        return await self._read("WHERE m.id = ? ORDER BY a.number", id_bytes(message_id))

    async def pending(self) -> dict[str, int]:
        """How many are neither settled nor awaited, by channel."""
        statement = "SELECT channel, count(*) FROM acknowledgements WHERE state IN ('decided', 'due') GROUP BY channel"
        return await self._journal.read(lambda c: {readable(name): count for name, count in c.execute(statement)})

    async def channels(self) -> frozenset[str]:
        """The channels that somebody is still owed something on."""
        statement = "SELECT DISTINCT channel FROM acknowledgements WHERE state IN ('awaited', 'decided', 'due')"
        return await self._journal.read(lambda c: frozenset(readable(name) for (name,) in c.execute(statement)))

    async def decide(self, number: int, reason: str) -> None:
        """The tables decided: `reason` "" is AA. Nothing happens where the message's fate came first."""
        statement = "UPDATE acknowledgements SET state = 'decided', reason = ? WHERE number = ? AND state = 'awaited'"
        await self._write(statement, reason, number)

    async def build(self, number: int, built: Built | None, now: float) -> None:
        """Decided -> due, or not-due without bytes."""
        if built is None:
            await self._write("UPDATE acknowledgements SET state = 'not-due', at = ? WHERE number = ?", now, number)
            return
        await self._journal.write(partial(_built, number=number, built=built, now=now))

    async def owe(self, owed: Owed, built: Built, now: float) -> None:
        """For a message that was refused, and so is not in the journal."""
        await self._journal.write(partial(_owed, owed=owed, built=built, now=now))

    async def again(self, number: int, next_attempt: float, detail: str) -> None:
        """It was tried in vain."""
        statement = "UPDATE acknowledgements SET attempts = attempts + 1, next_attempt = ?, detail = ? WHERE number = ?"
        await self._write(statement, next_attempt, detail, number)

    async def settle(self, number: int, state: str, detail: str, now: float, attempts: int = 1) -> None:
        """sent or given-up."""
        statement = (
            "UPDATE acknowledgements SET state = ?, detail = ?, at = ?, attempts = attempts + ? WHERE number = ?"
        )
        await self._write(statement, state, detail, now, attempts, number)

    async def forget(self, now: float) -> None:
        """Removes what was settled longer than KEEP ago."""
        statement = (
            "DELETE FROM acknowledgements WHERE number IN (SELECT number FROM acknowledgements"
            " WHERE state IN ('sent', 'not-due', 'given-up') AND at < ? LIMIT ?)"
        )
        await self._write(statement, now - KEEP, AT_ONCE)

    async def _read(self, condition: str, *terms: object) -> Sequence[Acknowledgement]:
        return await self._journal.read(partial(_rows, guard=self._journal.guard, condition=condition, terms=terms))

    async def _write(self, statement: str, *terms: object) -> None:
        await self._journal.write(partial(_execute, statement=statement, terms=terms))


def _rows(
    connection: sqlite3.Connection, guard: Guard, condition: str, terms: Sequence[object]
) -> list[Acknowledgement]:
    return [_row(guard, row) for row in connection.execute(f"{_SELECT} {condition}", tuple(terms))]


def _row(guard: Guard, row: tuple[Any, ...]) -> Acknowledgement:
    number, id, channel, condition, header, state, reason, code, control_id, raw, *rest = row
    texts = [
        stored.opened(guard, kind, number, text) for (kind, _), text in zip(stored.COLUMNS, (header, raw), strict=True)
    ]
    head, bytes_ = (text or b"" for text in texts)
    known = (condition, head, state, reason, code, control_id, bytes_, *rest, None in texts)
    return Acknowledgement(number, "" if id is None else id_text(id), readable(channel), *known)


def _built(round_: Round, number: int, built: Built, now: float) -> None:
    statement = (
        "UPDATE acknowledgements SET state = 'due', code = ?, control_id = ?, raw = ?, next_attempt = ?, due_at = ?"
        " WHERE number = ? AND state = 'decided'"
    )
    raw = stored.seal(round_.guard, stored.RAW, number, built.raw)
    round_.connection.execute(statement, (built.code, built.control_id, raw, now, now, number))


def _owed(round_: Round, owed: Owed, built: Built, now: float) -> None:
    _built(round_, stored.insert(round_, None, owed, "decided", "", now), built, now)


def _execute(round_: Round, statement: str, terms: Sequence[object]) -> None:
    round_.connection.execute(statement, tuple(terms))
