"""The chain of seals as it stands in the journal: read, linked, held against what each seal holds.

A seal follows from the one before by its hash, and its receipts by its root; the chain ends where the journal's count
says it does. A finding says what does not fit and where, never a value of a message.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hl7bridge.journal import receipts

SEAL = "SELECT number, at, hash, root, acks, leaves FROM seals"
SEALS_AT_ONCE = 500
MOST_FINDINGS = 1000  # a journal that is wrong everywhere is told by its first thousand places


@dataclass(frozen=True, slots=True)
class Finding:
    """`seal`: number of the seal, 0: none; `id`: of the message, "": none."""

    text: str
    seal: int = 0
    id: str = ""

    def __str__(self) -> str:
        where = [f"message {self.id}" if self.id else "", f"seal {self.seal}" if self.seal else ""]
        return ", ".join(filter(None, where)) + (": " if any(where) else "") + self.text


@dataclass(slots=True)
class Seal:
    """One as stored: `root` is over `acks` and `leaves`, `hash` over number, time, root and the hash before."""

    number: int
    at: float
    hash: bytes
    root: bytes
    acks: bytes
    leaves: bytes

    def fits(self) -> bool:
        """Are its receipts those that were sealed?"""
        return receipts.root_of(self.leaves, self.acks) == self.root

    def items(self) -> list[tuple[int, int, bytes]]:
        """Its leaves: (seq, step, hash); none when they cannot be read."""
        try:
            return list(receipts.leaves_of(self.leaves))
        except ValueError:
            return []


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the newest seal."""
    number, hash = connection.execute("SELECT seals, seal_hash FROM tally").fetchone()
    return number, hash.hex()


class Chain:
    """Follows the seals in order; `hash` is what the next one must follow from."""

    def __init__(self, connection: sqlite3.Connection, first: int = 0) -> None:
        """From the seal `first`, or from the oldest that is kept."""
        self._connection = connection
        oldest = connection.execute("SELECT min(number) FROM seals").fetchone()[0] or 1
        self.first = max(first, oldest)
        self.number = self.first - 1
        self.hash: bytes | None = receipts.GENESIS if self.first == 1 else None  # None: any
        self.findings: list[Finding] = []
        if self.first > oldest:
            row = connection.execute("SELECT hash FROM seals WHERE number = ?", (self.number,)).fetchone()
            self.hash = row[0] if row else None

    def links(self) -> int:
        """Every seal follows from the one before: by their hashes alone. Returns how many there are."""
        count = 0
        for number, at, hash, root in self._connection.execute(
            "SELECT number, at, hash, root FROM seals WHERE number >= ? ORDER BY number", (self.first,)
        ):
            self._link(number, at, hash, root)
            count += 1
        self.end()
        return count

    def some(self) -> list[Seal]:
        """The next seals, linked and held against their roots; empty at the end."""
        found = [
            Seal(*row)
            for row in self._connection.execute(
                f"{SEAL} WHERE number > ? ORDER BY number LIMIT ?", (self.number, SEALS_AT_ONCE)
            )
        ]
        for seal in found:
            self._link(seal.number, seal.at, seal.hash, seal.root)
            if not seal.fits():
                self._say("its receipts were changed", seal.number)
        return found

    def end(self) -> None:
        """The chain ends where the journal says it does."""
        number, hash = head(self._connection)
        if number != self.number or (self.hash is not None and hash != self.hash.hex()):
            self._say(
                f"the chain ends here, the journal's count says {number}: newer seals were taken off", self.number
            )

    def _link(self, number: int, at: float, hash: bytes, root: bytes) -> None:
        if number != self.number + 1:
            self._say(f"{number - self.number - 1} seals before it are missing", number)
            self.hash = None
        if self.hash is not None and receipts.hash_of(self.hash, number, at, root) != hash:
            self._say("does not follow from the seal before", number)
        self.number, self.hash = number, hash

    def _say(self, text: str, seal: int) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(text, seal))
