"""Verification of receipts: of the chain of seals, of one message with its story (`prove`), of the whole journal.

Reads only; works beside a running daemon and on a copy. A finding says what does not fit and where, never a value of a
message. What cannot be opened because its key is not at hand raises KeyMissing: it is neither right nor wrong.

One message: its facts as they stand are hashed and held against the leaves; leaves without facts are omissions, facts
without leaves are inventions; the seals from its first one to the newest must follow from each other, and the stored
bytes must be those that were received and answered. The whole journal: the same for every message, and every message
that ever arrived must be there, or its removal must be sealed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from hl7bridge.journal import owed, receipts, rows
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.reader import is_damage
from hl7bridge.sealing import Damaged

SEALS_AT_ONCE = 500
MESSAGES_AT_ONCE = 200
CACHED_SEALS = 4000
MOST_FINDINGS = 1000  # a journal that is wrong everywhere is told by its first thousand places

Leaves = dict[tuple[int, int], bytes]  # (seq, step) -> hash
Progress = Callable[[int, int], None]  # done, of so many


@dataclass(frozen=True, slots=True)
class Finding:
    """`seal`: number of the seal, 0: none; `id`: of the message, "": none."""

    text: str
    seal: int = 0
    id: str = ""

    def __str__(self) -> str:
        where = [f"message {self.id}" if self.id else "", f"seal {self.seal}" if self.seal else ""]
        return ", ".join(filter(None, where)) + (": " if any(where) else "") + self.text


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `seal` 0: from before receipts were kept, so without proof. `proven`: its leaf fits."""

    at: float
    what: str  # received, answered, not-answered, answered-again, or the state it came to be in
    seal: int
    proven: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proof:
    """Of one message. `proven` False without findings: it is from before receipts were kept."""

    seq: int
    id: str
    control_id: str
    sender: str
    type: str
    sha256: str
    events: tuple[Event, ...]
    findings: tuple[Finding, ...]
    bytes: str  # of the stored message: whole, edited (whole, too) or damaged
    answered: bool | None  # None: not recorded
    seals: int  # that were checked, from its first to the newest

    @property
    def verified(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the whole journal. `head`: number and hash of the newest seal, to be kept elsewhere."""

    seals: int
    messages: int
    removed: int
    head: tuple[int, str]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Seal:
    number: int
    at: float
    hash: bytes
    root: bytes
    acks: bytes
    leaves: bytes

    def fits(self) -> bool:
        return receipts.root_of(self.leaves, self.acks) == self.root

    def items(self) -> list[tuple[int, int, bytes]]:
        try:
            return list(receipts.leaves_of(self.leaves))
        except ValueError:
            return []


_SEAL = "SELECT number, at, hash, root, acks, leaves FROM seals"
_MESSAGE = (
    "SELECT m.seq, m.id, m.control_id, m.sender, m.sha256, m.received_at, m.listener, m.peer, m.type, m.ack_code,"
    " m.seal, m.state, m.steps, m.edit FROM messages m"
)
_HISTORY = (
    "SELECT step, at, state, attempts, reason, detail, actor, proof, seal FROM history WHERE seq = ? ORDER BY step"
)


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the newest seal."""
    number, hash = connection.execute("SELECT seals, seal_hash FROM tally").fetchone()
    return number, hash.hex()


# ---- the chain


class Chain:
    """Follows the seals in order; `link` is what the next one must follow from."""

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

    def some(self) -> list[_Seal]:
        """The next seals, linked and held against their roots; empty at the end."""
        found = [
            _Seal(*row)
            for row in self._connection.execute(
                f"{_SEAL} WHERE number > ? ORDER BY number LIMIT ?", (self.number, SEALS_AT_ONCE)
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


# ---- one message


def prove(connection: sqlite3.Connection, guard: Guard, seq: int) -> Proof | None:
    """What happened to the message of this seq, held against the receipts; None when there is none."""
    row = connection.execute(f"{_MESSAGE} WHERE m.seq = ?", (seq,)).fetchone()
    if row is None:
        return None
    sign = receipts.SEQ.pack(seq)
    statement = f"{_SEAL} WHERE number >= ? AND (instr(acks, ?) OR instr(leaves, ?)) ORDER BY number"
    seals = [_Seal(*found) for found in connection.execute(statement, (row[10], sign, sign))]
    chain = Chain(connection, row[10] or (seals[0].number if seals else 0))
    count = chain.links()
    id = rows.id_text(row[1])
    findings = chain.findings + [Finding("its receipts were changed", s.number, id) for s in seals if not s.fits()]
    leaves = {(s.number, step): hash for s in seals for found, step, hash in s.items() if found == seq}
    events, answered = [], None
    for seal in seals:
        for event in _answers(seal, seq):
            events.append(event)
            if event.what != "answered-again":
                answered = event.what == "answered"
    judged = _Judged(connection, guard, row, lambda number, step: leaves.get((number, step)))
    story = judged.events()
    found = {(event.seal, step) for step, event in enumerate(story)}
    missing = [key for key in leaves if key not in found and key[1] < receipts.NO_STEP]
    findings += judged.findings
    findings += [Finding(f"step {step} of its story is missing", number, id) for number, step in missing]
    ordered = [event for _, _, event in sorted(
        [(e.seal, 0, e) for e in events] + [(e.seal, 1, e) for e in story], key=lambda item: item[:2]
    )]  # fmt: skip
    return Proof(
        seq, id, rows.readable(row[2]), rows.readable(row[3]), rows.readable(row[8]), row[4].hex(), tuple(ordered),
        tuple(findings), judged.bytes, answered, count,
    )  # fmt: skip


def _answers(seal: _Seal, seq: int) -> Iterator[Event]:
    try:
        acks = list(receipts.acks_of(seal.acks))
    except ValueError:
        return
    for found, flags in acks:
        if found == seq:
            written = bool(flags & receipts.WRITTEN)
            what = "answered-again" if flags & receipts.RESEND else "answered" if written else "not-answered"
            yield Event(seal.at, what, seal.number, seal.fits(), {"written": written})


class _Judged:
    """One message's rows held against its leaves. `leaf`: by number of the seal and step."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        guard: Guard,
        row: tuple[Any, ...],
        leaf: Callable[[int, int], bytes | None],
    ) -> None:
        self._connection, self._guard, self._row, self._leaf = connection, guard, row, leaf
        self._id = rows.id_text(row[1])
        self.findings: list[Finding] = []
        self.bytes = "whole"

    def events(self) -> list[Event]:
        """The arrival, then the steps, by number."""
        return [self._arrival(), *self._steps()]

    def _arrival(self) -> Event:
        seq, id, *known = self._row[:9]
        ack_code, seal = self._row[9], self._row[10]
        raw, ack = self._payload(seq, id)
        if raw is None or hashlib.sha256(raw).digest() != known[2]:
            self._say("the stored message is not the one that was received", seal)
            self.bytes = "damaged"
        proven = False
        if ack is None:
            self._say("the stored answer cannot be read", seal)
        else:
            proven = self._fits(seal, receipts.ARRIVAL, receipts.arrival(seq, id, known, ack_code, ack), "its arrival")
        self._edit(seq, id)
        facts = {
            "sha256": known[2].hex(), "listener": rows.readable(known[4]), "peer": rows.readable(known[5]),
            "ack_code": ack_code, "ack_sha256": None if ack is None else hashlib.sha256(ack).hexdigest(),
            "ack_bytes": None if ack is None else len(ack),
        }  # fmt: skip
        return Event(known[3], "received", seal, proven, facts)

    def _payload(self, seq: int, id: bytes) -> tuple[bytes | None, bytes | None]:
        try:
            row = self._connection.execute("SELECT raw, ack FROM payloads WHERE seq = ?", (seq,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return None, None
        return (self._opened("raw", seq, id, row[0]), self._opened("ack", seq, id, row[1])) if row else (None, None)

    def _edit(self, seq: int, id: bytes) -> None:
        for number, stored, digest in self._connection.execute(
            "SELECT number, raw, sha256 FROM edits WHERE seq = ? ORDER BY number", (seq,)
        ):
            raw = self._opened(f"edit {number}", seq, id, stored)
            if raw is None or hashlib.sha256(raw).digest() != digest:
                self._say(f"edit {number} is not what was stored", 0)
                self.bytes = "damaged"
            elif self.bytes == "whole":
                self.bytes = "edited"

    def _steps(self) -> list[Event]:
        seq, id, steps = self._row[0], self._row[1], self._row[12]
        events, state = [], "received"
        for number, at, state, attempts, reason, detail, actor, proof, seal in self._connection.execute(
            _HISTORY, (seq,)
        ):
            opened = self._opened(f"proof {number}", seq, id, proof)
            proven = False
            if opened is None:
                self._say(f"the proof of step {number} cannot be read", seal)
            else:
                facts = receipts.step(seq, number, at, state, attempts, reason, detail, actor, opened)
                proven = self._fits(seal, number, facts, f"step {number}")
            told = {"attempts": attempts, "reason": reason, "detail": rows.readable(detail),
                    "actor": rows.readable(actor), **_plain(opened)}  # fmt: skip
            events.append(Event(at, state, seal, proven, {key: value for key, value in told.items() if value != ""}))
        if len(events) != steps:
            self._say(f"its story has {len(events)} steps, not {steps}", 0)
        if state != self._row[11]:
            self._say(f"its story ends as {state}, but it is said to be {self._row[11]}", 0)
        return events

    def _fits(self, seal: int, step: int, facts: bytes, what: str) -> bool:
        if seal == 0:
            return False
        leaf = self._leaf(seal, step)
        if leaf is None:
            self._say(f"{what} has no receipt", seal)
        elif leaf != hashlib.sha256(facts).digest():
            self._say(f"{what} is not what its receipt says", seal)
        else:
            return True
        return False

    def _opened(self, kind: str, seq: int, id: bytes, stored: bytes) -> bytes | None:
        try:
            return self._guard.open(kind, seq, id, stored)
        except Damaged:
            return None

    def _say(self, text: str, seal: int) -> None:
        self.findings.append(Finding(text, seal, self._id))


def _plain(proof: bytes | None) -> dict[str, Any]:
    try:
        found = orjson.loads(proof) if proof else {}
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


# ---- the whole journal


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
                    f"{_MESSAGE} WHERE m.seq > ? ORDER BY m.seq LIMIT ?", (beyond, MESSAGES_AT_ONCE)
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

    def _take(self, seal: _Seal) -> None:
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
            row = self._connection.execute(f"{_SEAL} WHERE number = ?", (number,)).fetchone()
            found = self._cache[number] = {(s, n): h for s, n, h in _Seal(*row).items()} if row else {}
            if len(self._cache) > CACHED_SEALS:
                self._cache.popitem(last=False)
        return found.get((seq, step))

    def _judge(self, row: tuple[Any, ...]) -> list[Finding]:
        """What is wrong with one message, as far as the seals that were followed tell."""
        seq = row[0]
        judged = _Judged(self._connection, self._guard, row, lambda number, step: self._leaf(number, step, seq))
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
            row = self._connection.execute(f"{_MESSAGE} WHERE m.seq = ?", (seq,)).fetchone()
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
