"""The audit: who looked at or changed what, as a chain in which every entry holds the hash of the one before.

Changing or taking out an entry breaks the chain at that place. The file's triggers refuse both; the chain tells when
somebody went round them. Each entry has a leaf in the receipts of its transaction (receipts.py), so that the newest
cannot be taken off, or one put behind them, without making the receipts anew too; who has kept the last hash elsewhere
sees that as well.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass

from hl7bridge.journal import receipts
from hl7bridge.journal.rows import bindable, readable
from hl7bridge.journal.transaction import Round

GENESIS = bytes(32)  # `previous` of the first entry

_LAST = "SELECT hash FROM audit ORDER BY number DESC LIMIT 1"
_INSERT = "INSERT INTO audit (at, actor, action, subject, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = (
    "SELECT number, at, actor, action, subject, detail, previous, hash FROM audit"
    " WHERE number > ? ORDER BY number LIMIT ?"
)


_LEAVES = "SELECT leaves FROM seals WHERE instr(leaves, ?)"
_AT_ONCE = 1000
_MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `last`: number and hash of the newest entry."""

    entries: int
    last: tuple[int, bytes]
    findings: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.findings


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
    number = round_.connection.execute(_INSERT, (round_.now, *texts, previous, hashed)).lastrowid
    assert number is not None
    round_.tally.seals.add(number, receipts.AUDITED, hashed)


def read(connection: sqlite3.Connection, after: int, limit: int) -> list[AuditEntry]:
    rows = connection.execute(_SELECT, (after, limit)).fetchall()
    return [
        AuditEntry(number, at, readable(actor), readable(action), readable(subject), readable(detail), previous, hash_)
        for number, at, actor, action, subject, detail, previous, hash_ in rows
    ]


def verify(connection: sqlite3.Connection, anchor: tuple[int, bytes] | None = None) -> Verdict:
    """Holds every entry against the one before and against its receipt. `anchor`: an entry's number and hash."""
    receipted = _receipted(connection)
    first = min(receipted, default=0)  # older entries are from before receipts were kept, or theirs are pruned
    findings: list[str] = []
    count, last = 0, (0, GENESIS)
    while page := read(connection, last[0], _AT_ONCE):
        for entry in page:
            fits = digest(last[1], entry.at, entry.actor, entry.action, entry.subject, entry.detail)
            if entry.previous != last[1]:
                findings.append(f"entry {entry.number}: does not follow from the one before: entries were taken out")
            elif entry.hash != fits:
                findings.append(f"entry {entry.number}: was changed")
            if first and entry.number >= first:
                receipt = receipted.pop(entry.number, None)
                if receipt is None:
                    findings.append(f"entry {entry.number}: has no receipt: it was put in")
                elif receipt != hashlib.sha256(entry.hash).digest():
                    findings.append(f"entry {entry.number}: its receipt is of another")
            if anchor is not None and anchor[0] == entry.number and anchor[1] != entry.hash:
                findings.append(f"entry {entry.number}: has another hash than the one given")
            last = entry.number, entry.hash
        count += len(page)
    findings += [f"entry {number}: is gone, its receipt is there" for number in sorted(receipted)]
    if anchor is not None and anchor[0] > last[0]:
        findings.append(f"entry {anchor[0]}: is not there: newer entries were taken off")
    return Verdict(count, last, tuple(findings[:_MOST_FINDINGS]))


def _receipted(connection: sqlite3.Connection) -> dict[int, bytes]:
    """What the receipts hold of the audit: an entry's number -> the SHA-256 of its hash."""
    sign = receipts.AUDITED.to_bytes(4, "big")
    found: dict[int, bytes] = {}
    for (column,) in connection.execute(_LEAVES, (sign,)):
        leaves = receipts.leaves_of(column[: len(column) - len(column) % receipts.LEAF.size])
        found |= {seq: hash for seq, step, hash in leaves if step == receipts.AUDITED}
    return found
