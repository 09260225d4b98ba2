"""The terms on which some messages are taken, held in the transaction that stores them (protocol.Terms).

What holds: terms are looked at before anything of the message is written, so a refused one leaves nothing behind; a
resend of what is stored gets its stored answer whatever the terms say; messages of one group see each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from hl7bridge.journal.protocol import Appended, ControlIdReused, Received
from hl7bridge.journal.rows import bindable

Pair = tuple[int, Received]  # a message and the index of its outcome
Duplicate = Callable[[sqlite3.Connection, Received], Appended | None]

_CAME_BEFORE = "SELECT 1 FROM messages WHERE control_id = ? AND sender = ? LIMIT 1"


def admitted(
    connection: sqlite3.Connection, appends: list[Pair], outcomes: list[Any], duplicate: Duplicate
) -> list[Pair]:
    """Those that may be stored; the others have their outcome."""
    taken: list[Pair] = []
    among: dict[tuple[str, str], bytes] = {}  # what this group stores already: the first bytes under a control id
    for index, message in appends:
        identity = (message.control_id, message.sender)
        if message.terms is not None and among.get(identity) != message.sha256:
            outcome = _judged(connection, message, identity in among, duplicate)
            if outcome is not None:
                outcomes[index] = outcome
                continue
        among.setdefault(identity, message.sha256)
        taken.append((index, message))
    return taken


def _judged(
    connection: sqlite3.Connection, message: Received, reused: bool, duplicate: Duplicate
) -> Appended | Exception | None:
    """None: the message may be stored."""
    assert message.terms is not None
    if message.terms.refuse_reuse:
        key = (bindable(message.control_id), bindable(message.sender))
        if reused or connection.execute(_CAME_BEFORE, key).fetchone() is not None:
            return duplicate(connection, message) or ControlIdReused("another message has this control id")
    return None
