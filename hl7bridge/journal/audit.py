"""The audit: who looked at or changed what, as a chain in which every entry holds the hash of the one before.

Changing or taking out an entry breaks the chain at that place. The file's triggers refuse both; the chain tells when
somebody went round them. Taking off the newest entries cannot be told from the file alone: keep the last hash
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from hl7bridge.journal.rows import bindable, readable
from hl7bridge.journal.transaction import Round

GENESIS = bytes(32)  # `previous` of the first entry

_LAST = "SELECT hash FROM audit ORDER BY number DESC LIMIT 1"
_INSERT = "INSERT INTO audit (at, actor, action, subject, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = (
    "SELECT number, at, actor, action, subject, detail, previous, hash FROM audit"
    " WHERE number > ? ORDER BY number LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`at`: seconds since the epoch; `previous`, `hash`: 32 bytes."""

    number: int
    at: float
    actor: str
    action: str
    subject: str
    detail: str
    previous: bytes
    hash: bytes


def digest(previous: bytes, at: float, actor: str, action: str, subject: str, detail: str) -> bytes:
    """SHA-256 over the hash before and the entry as JSON (ASCII, so that every text has one spelling)."""
    return hashlib.sha256(previous + json.dumps([at, actor, action, subject, detail]).encode("ascii")).digest()


def record(round_: Round, actor: str, action: str, subject: str, detail: str) -> None:
    """The task behind `Journal.audit`: runs alone in the file, so that the chain has no branches."""
    last = round_.connection.execute(_LAST).fetchone()
    previous = last[0] if last else GENESIS
    hashed = digest(previous, round_.now, actor, action, subject, detail)
    texts = map(bindable, (actor, action, subject, detail))
    round_.connection.execute(_INSERT, (round_.now, *texts, previous, hashed))


def read(connection: sqlite3.Connection, after: int, limit: int) -> list[AuditEntry]:
    rows = connection.execute(_SELECT, (after, limit)).fetchall()
    return [
        AuditEntry(number, at, readable(actor), readable(action), readable(subject), readable(detail), previous, hash_)
        for number, at, actor, action, subject, detail, previous, hash_ in rows
    ]


def broken_at(entries: Iterable[AuditEntry], previous: bytes = GENESIS) -> int | None:
    """The number of the first entry that does not follow from the one before; None for a whole chain."""
    for entry in entries:
        expected = digest(previous, entry.at, entry.actor, entry.action, entry.subject, entry.detail)
        if entry.previous != previous or entry.hash != expected:
            return entry.number
        previous = entry.hash
    return None
