"""The terms on which some messages are taken, held in the transaction that stores them (protocol.Terms).

What holds:
- Terms are looked at before anything of the message is written, so a refused one leaves nothing behind, and what they
  change (the number a link expects, an acknowledgement that is owed) stands exactly when the message does.
- A resend of what is stored gets its stored answer whatever the terms say. Messages of one group see each other.
- Sequence numbers are HL7 v2.9.1 section 2.10.1: `expected` is -1 where any number may come first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hl7bridge.journal import owed
from hl7bridge.journal.protocol import Appended, ControlIdReused, OutOfSequence, Received, State
from hl7bridge.journal.rows import bindable

if TYPE_CHECKING:
    from hl7bridge.journal.transaction import Round

Pair = tuple[int, Received]  # a message and the index of its outcome
Duplicate = Callable[[Received], Appended | None]

ANY = -1  # expected: whatever comes next
INCOMPLETE = "waits for the other parts of its message"

_CAME_BEFORE = "SELECT 1 FROM messages WHERE control_id = ? AND sender = ? LIMIT 1"
_EXPECTED = "SELECT expected FROM sequences WHERE link = ?"
_EXPECT = (
    "INSERT INTO sequences (link, expected, at) VALUES (?, ?, ?)"
    " ON CONFLICT (link) DO UPDATE SET expected = excluded.expected, at = excluded.at"
)
_PART = "INSERT INTO fragments (seq, pointer, continues) VALUES (?, ?, ?)"


def admitted(round_: Round, appends: list[Pair], outcomes: list[Any], duplicate: Duplicate) -> list[Pair]:
    """Those that may be stored; the others have their outcome. The numbers that links expect move on with them."""
    connection = round_.connection
    taken: list[Pair] = []
    among: dict[tuple[str, str], bytes] = {}  # what this group stores already: the first bytes under a control id
    for index, message in appends:
        identity = (message.control_id, message.sender)
        if message.terms is not None and among.get(identity) != message.sha256:
            outcome = _judged(connection, message, identity in among, duplicate)
            if outcome is not None:
                outcomes[index] = outcome
                continue
            if message.terms.link:
                expect(round_, message.terms.link, message.terms.sequence_number + 1)
        among.setdefault(identity, message.sha256)
        taken.append((index, message))
    return taken


def _judged(
    connection: sqlite3.Connection, message: Received, reused: bool, duplicate: Duplicate
) -> Appended | Exception | None:
    """None: the message may be stored."""
    terms = message.terms
    assert terms is not None
    if terms.refuse_reuse:
        key = (bindable(message.control_id), bindable(message.sender))
        if reused or connection.execute(_CAME_BEFORE, key).fetchone() is not None:
            return duplicate(message) or ControlIdReused("another message has this control id")
    if terms.link:
        expected = expects(connection, terms.link)
        if expected not in (ANY, terms.sequence_number):
            return duplicate(message) or OutOfSequence(expected)
    return None


def stored(round_: Round, seq: int, message: Received) -> None:
    """What the message's terms add to it, right behind its own rows."""
    terms = message.terms
    assert terms is not None
    if terms.owed is not None:
        state = "awaited" if message.state is State.RECEIVED else "decided"
        owed.insert(round_, seq, terms.owed, state, message.reason, message.received_at)
    if terms.fragment is not None:
        part = terms.fragment
        round_.connection.execute(_PART, (seq, bindable(part.pointer), bindable(part.continues)))


def expects(connection: sqlite3.Connection, link: str) -> int:
    """The number that comes next on this link; ANY before its first message."""
    row = connection.execute(_EXPECTED, (bindable(link),)).fetchone()
    return ANY if row is None else int(row[0])


def expect(round_: Round, link: str, number: int) -> None:
    round_.connection.execute(_EXPECT, (bindable(link), number, round_.now))


def start(round_: Round, link: str, number: int) -> int:
    """A sender starts (0) or resynchronises (-1) its link: the number it is told to send next, ANY for any."""
    if number == ANY:
        expect(round_, link, ANY)
    return expects(round_.connection, link)
