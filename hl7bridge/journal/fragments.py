"""Parts of messages that wait for each other (protocol.Fragment): which are there, and the whole in their place.

What holds: a part is a message of its own in the journal, acknowledged, recognised when it is sent again, and a dead
letter when the others do not come. The whole is stored, and its parts settled, in one transaction; a part that was a
dead letter already is taken back, so a late part still completes its message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hl7bridge.errors import JournalRefusal
from hl7bridge.journal import transaction
from hl7bridge.journal.protocol import Appended, Change, Received, State
from hl7bridge.journal.rows import id_text, readable
from hl7bridge.journal.sqlite import SqliteJournal

_OPEN = (
    "SELECT m.id, m.listener, m.sender, f.pointer, f.continues FROM fragments f JOIN messages m ON m.seq = f.seq"
    " WHERE m.state <> 'delivered' ORDER BY f.seq"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A part that is not yet in its message."""

    id: str
    listener: str
    sender: str = field(repr=False)
    pointer: str = field(repr=False)
    continues: str = field(repr=False)


class Fragments:
    """The parts in one journal. Methods raise JournalError when the store fails."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def waiting(self) -> Sequence[Waiting]:
        """In order of arrival."""
        return await self._journal.read(_waiting)

    async def joined(self, whole: Received, parts: Sequence[str]) -> Appended:
        """Stores the whole and settles its parts. JournalRefusal: one of them is gone or was settled."""
        appended: Appended = await self._journal.write(partial(_joined, whole=whole, parts=parts))
        return appended


def complete(waiting: Sequence[Waiting]) -> list[list[Waiting]]:
    """The chains that are whole, each from the part without pointer to the one that continues nowhere."""
    followers: dict[tuple[str, str, str], list[Waiting]] = {}
    for part in waiting:
        if part.pointer:
            followers.setdefault((part.listener, part.sender, part.pointer), []).append(part)
    chains: list[list[Waiting]] = []
    used: set[str] = set()
    for first in waiting:
        if first.pointer:
            continue
        chain = [first]
        while chain[-1].continues:
            key = (first.listener, first.sender, chain[-1].continues)
            taken = used | {part.id for part in chain}
            following = next((part for part in followers.get(key, ()) if part.id not in taken), None)
            if following is None:
                break
            chain.append(following)
        if not chain[-1].continues:
            chains.append(chain)
            used |= {part.id for part in chain}
    return chains


def _waiting(connection: sqlite3.Connection) -> list[Waiting]:
    return [Waiting(id_text(id), *map(readable, rest)) for id, *rest in connection.execute(_OPEN)]


def _joined(round_: transaction.Round, whole: Received, parts: Sequence[str]) -> Appended:
    """The task behind `joined`. Looks at everything before it writes anything."""
    for id in parts:
        found = transaction.find(round_.connection, id)
        if found is None or found[1] == State.DELIVERED.value:
            raise JournalRefusal("a part of the message is gone or belongs to another whole")
    outcomes: list[Any] = [None] * (1 + len(parts))
    transaction.append(round_, [(0, whole)], outcomes)
    if isinstance(outcomes[0], Exception):  # the journal is full
        raise outcomes[0]
    detail = f"joined into {outcomes[0].id}"
    for place, id in enumerate(parts, 1):
        found = transaction.find(round_.connection, id)
        if found is not None and found[1] == State.DEAD.value:
            transaction.replay(round_, id, None, "hl7bridge")
        change = Change(id, State.DELIVERED, 0, detail=detail, at=whole.received_at)
        transaction.apply(round_, [(place, change)], outcomes)
    appended: Appended = outcomes[0]
    return appended
