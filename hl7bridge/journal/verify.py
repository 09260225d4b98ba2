"""The verification of the whole journal: every seal, every message, and every message that ever arrived.

Each message is judged as `prove` judges one, and must be there, or its removal must be sealed. Reads only; works beside
a running daemon and on a copy. What cannot be opened because its key is not at hand raises KeyMissing: it is neither
right nor wrong.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hl7bridge.journal import owed, receipts, rows
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.proof import MESSAGE, Judged
from hl7bridge.journal.seals import MOST_FINDINGS, SEAL, Chain, Finding, Seal, head

MESSAGES_AT_ONCE = 200
CACHED_SEALS = 4000

Leaves = dict[tuple[int, int], bytes]  # (seq, step) -> hash
Progress = Callable[[int, int], None]  # done, of so many


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the whole journal. `head`: number and hash of the newest seal, to be kept elsewhere."""

    seals: int
    messages: int
    removed: int
    head: tuple[int, str]
    findings: tuple[Finding, ...]


class Whole:
    """Verifies everything, a little at a time: `run` on a read connection; each piece is a transaction of its own."""

    def __init__(self, connection: sqlite3.Connection, guard: Guard, progress: Progress | None = None) -> None:
        self._connection, self._guard = connection, guard
        self._progress = progress or (lambda done, total: None)
        self._chain = Chain(connection)
        self._findings: list[Finding] = []
        self._live: dict[int, int] = {}  # seq -> how many steps have leaves, of messages that should be there
        self._removed = 0
        self._older = 0  # messages up to this seq are from before receipts were kept
        self._pruned: tuple[int, bytes] | None = None
        self._cache: OrderedDict[int, Leaves] = OrderedDict()

    def run(self, anchor: tuple[int, str] | None = None) -> Verdict:
        """`anchor`: number and hash of a seal, kept elsewhere: the chain must hold it."""
        seals, _ = head(self._connection)
        (total,) = self._connection.execute("SELECT received + waiting + delivered + dead FROM tally").fetchone()
        work = max(seals - self._chain.first + 1, 0) + total
        done = self._follow(work)
        messages, doubtful = 0, []
        beyond = 0
        while True:
            with _Moment(self._connection):
                page = self._connection.execute(
                    f"{MESSAGE} WHERE m.seq > ? ORDER BY m.seq LIMIT ?", (beyond, MESSAGES_AT_ONCE)
                ).fetchall()
                doubtful += [row[0] for row in page if self._judge(row)]
            if not page:
                break
            beyond = page[-1][0]
            messages += len(page)
            self._progress(min(done + messages, work), work)
        with _Moment(self._connection):  # what changed meanwhile is looked at again, with the seals that came meanwhile
            self._follow(work)
            self._chain.end()
            self._again(doubtful)
            self._gone()
            self._owed()
            self._anchored(anchor)
            end = head(self._connection)
        self._progress(work, work)
        findings = (*self._chain.findings, *self._findings)[:MOST_FINDINGS]
        return Verdict(end[0] - self._chain.first + 1, messages, self._removed, end, findings)

    def _follow(self, work: int) -> int:
        done = 0
        while seals := self._chain.some():
            for seal in seals:
                self._take(seal)
            done += len(seals)
            self._progress(min(done, work), work)
        return done

    def _take(self, seal: Seal) -> None:
        for seq, step, hash in seal.items():
            if step == receipts.ARRIVAL:
                self._live[seq] = 0
            elif step == receipts.REMOVED:
                self._live.pop(seq, None)
                self._removed += 1
            elif step == receipts.ORIGIN:
                self._older = seq
            elif step == receipts.PRUNED:
                self._pruned = (seq, hash)
            elif step == receipts.AUDITED:
                continue  # `seq` is no message's: see audit.verify
            else:
                self._live[seq] = self._live.get(seq, 0) + 1

    def _leaf(self, number: int, step: int, seq: int) -> bytes | None:
        found = self._cache.get(number)
        if found is None:
            row = self._connection.execute(f"{SEAL} WHERE number = ?", (number,)).fetchone()
            found = self._cache[number] = {(s, n): h for s, n, h in Seal(*row).items()} if row else {}
            if len(self._cache) > CACHED_SEALS:
                self._cache.popitem(last=False)
        return found.get((seq, step))

    def _judge(self, row: tuple[Any, ...]) -> list[Finding]:
        """What is wrong with one message, as far as the seals that were followed tell."""
        seq = row[0]
        judged = Judged(self._connection, self._guard, row, lambda number, step: self._leaf(number, step, seq))
        sealed = sum(1 for event in judged.events()[1:] if event.seal)
        found = judged.findings
        id = rows.id_text(row[1])
        if row[10] == 0 and seq > self._older:
            found.append(Finding("has no receipt of its arrival", 0, id))
        if sealed != self._live.get(seq, 0) or (row[10] and seq not in self._live):
            found.append(Finding(f"its story has {sealed} sealed steps, its receipts {self._live.get(seq, 0)}", 0, id))
        return found

    def _again(self, doubtful: list[int]) -> None:
        for seq in doubtful:
            row = self._connection.execute(f"{MESSAGE} WHERE m.seq = ?", (seq,)).fetchone()
            if row is not None:
                self._findings += self._judge(row)

    def _gone(self) -> None:
        """Messages that arrived and are neither there nor removed."""
        there = {seq for (seq,) in self._connection.execute("SELECT seq FROM messages")}
        for seq in sorted(self._live.keys() - there)[:MOST_FINDINGS]:
            if seq > self._older or self._live[seq]:
                self._findings.append(Finding(f"message number {seq} is gone without a receipt of its removal"))
        if self._chain.first > 1:
            row = self._connection.execute(
                "SELECT at, hash, root FROM seals WHERE number = ?", (self._chain.first,)
            ).fetchone()
            pruned = self._pruned
            if pruned is None or pruned[0] != self._chain.first - 1:
                self._findings.append(Finding("the seals before it are missing", self._chain.first))
            elif row and receipts.hash_of(pruned[1], self._chain.first, row[0], row[2]) != row[1]:
                self._findings.append(Finding("does not follow from the seal before", self._chain.first))

    def _owed(self) -> None:
        """Application acknowledgements have no receipts, but what is sealed has to open."""
        for number, kind, _, stored in owed.everything(self._connection):
            if owed.opened(self._guard, kind, number, stored) is None:
                what = "header" if kind == owed.HEADER else "text"
                self._findings.append(Finding(f"the {what} of application ACK number {number} is not what was stored"))

    def _anchored(self, anchor: tuple[int, str] | None) -> None:
        if anchor is None or anchor[0] < self._chain.first:
            return
        row = self._connection.execute("SELECT hash FROM seals WHERE number = ?", (anchor[0],)).fetchone()
        if row is None or row[0].hex() != anchor[1]:
            text = "is not there: newer seals were taken off" if row is None else "has another hash than the one given"
            self._findings.append(Finding(text, anchor[0]))


class _Moment:
    """A read transaction: one moment of the journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")
