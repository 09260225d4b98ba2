"""The proof of one message: what happened to it, its facts as they stand held against its receipts (`prove`).

Its facts are hashed and held against the leaves; leaves without facts are omissions, facts without leaves are
inventions; the seals from its first one to the newest must follow from each other, and the stored bytes must be those
that were received and answered. Reads only. What cannot be opened because its key is not at hand raises KeyMissing: it
is neither right nor wrong.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from hl7bridge.journal import receipts, rows
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.reader import is_damage
from hl7bridge.journal.seals import SEAL, Chain, Finding, Seal
from hl7bridge.sealing import Damaged

MESSAGE = (
    "SELECT m.seq, m.id, m.control_id, m.sender, m.sha256, m.received_at, m.listener, m.peer, m.type, m.ack_code,"
    " m.seal, m.state, m.steps, m.edit FROM messages m"
)
_HISTORY = (
    "SELECT step, at, state, attempts, reason, detail, actor, proof, seal FROM history WHERE seq = ? ORDER BY step"
)


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


def prove(connection: sqlite3.Connection, guard: Guard, seq: int) -> Proof | None:
    """What happened to the message of this seq, held against the receipts; None when there is none."""
    row = connection.execute(f"{MESSAGE} WHERE m.seq = ?", (seq,)).fetchone()
    if row is None:
        return None
    sign = receipts.SEQ.pack(seq)
    statement = f"{SEAL} WHERE number >= ? AND (instr(acks, ?) OR instr(leaves, ?)) ORDER BY number"
    seals = [Seal(*found) for found in connection.execute(statement, (row[10], sign, sign))]
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
    judged = Judged(connection, guard, row, lambda number, step: leaves.get((number, step)))
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


def _answers(seal: Seal, seq: int) -> Iterator[Event]:
    try:
        acks = list(receipts.acks_of(seal.acks))
    except ValueError:
        return
    for found, flags in acks:
        if found == seq:
            written = bool(flags & receipts.WRITTEN)
            what = "answered-again" if flags & receipts.RESEND else "answered" if written else "not-answered"
            yield Event(seal.at, what, seal.number, seal.fits(), {"written": written})


class Judged:
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
