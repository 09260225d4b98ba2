"""What one transaction of the journal holds: appends, changes of state and tasks, as statements on a connection.

No threads, no clock, no COMMIT: the writer opens and ends the transaction. All that counts (last seq, the tally) is
read from the file at the beginning and written at the end, so that a rollback leaves nothing behind and a guest's
transactions between two of ours are seen. Each work gives an outcome at its own place: a value, or the Hl7BridgeError
that is its own. Any other exception means that the transaction has to be rolled back.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from hl7bridge.errors import Hl7BridgeError, JournalFull, JournalRefusal
from hl7bridge.journal import receipts, terms
from hl7bridge.journal.bulk import Insert
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Appended, Change, Received, State
from hl7bridge.journal.receipts import ARRIVAL, Seals
from hl7bridge.journal.rows import Mint, bindable, id_bytes, id_text, join_lanes, split_lanes
from hl7bridge.sealing import Damaged, is_sealed

NEXT_STATES: dict[State, frozenset[State]] = {  # what `apply` may do; only `replay` leads back to RECEIVED
    State.RECEIVED: frozenset({State.WAITING, State.DELIVERED, State.DEAD}),
    State.WAITING: frozenset({State.WAITING, State.DELIVERED, State.DEAD}),
    State.DELIVERED: frozenset(),
    State.DEAD: frozenset(),
}
ARRIVAL_STATES = frozenset({State.RECEIVED, State.DEAD})
REPLAYABLE = frozenset({State.DELIVERED, State.DEAD})

PRUNED_LEAST = 50  # fewer seals than that are not worth a receipt
PRUNED_AT_ONCE = 2_000

_INSERT_MESSAGES = Insert(
    "messages",
    "seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes, ack_code, state, reason, detail,"
    " steps, seal",
    "ON CONFLICT (control_id, sender, sha256) DO NOTHING",
)
_INSERT_PAYLOADS = Insert("payloads", "seq, raw, ack")
_INSERT_STEPS = Insert("history", "seq, step, at, state, attempts, reason, detail, actor, proof, seal")
SINGLE_BYTES = 1024 * 1024  # payloads of more than that together are copied one by one
_STORED_AMONG = "SELECT seq FROM messages WHERE seq BETWEEN ? AND ?"
_REUSED_AMONG = (  # `o.seq < m.seq` passes over at most the later arrivals of this same group
    "SELECT m.seq FROM messages m WHERE m.seq BETWEEN ? AND ? AND EXISTS (SELECT 1 FROM messages o"
    " WHERE o.control_id = m.control_id AND o.sender = m.sender AND o.seq < m.seq)"
)
_FIRST_ARRIVAL = (
    "SELECT m.id, p.ack, m.seq FROM messages m JOIN payloads p ON p.seq = m.seq"
    " WHERE m.control_id = ? AND m.sender = ? AND m.sha256 = ?"
)
_PRESENT = "SELECT seq, state, steps, next_attempt, lanes FROM messages WHERE id = ?"
_FREE_LANE = "DELETE FROM waiting_lanes WHERE lane = ? AND next_attempt = ? AND seq = ?"
_HOLD_LANE = "INSERT OR IGNORE INTO waiting_lanes (lane, next_attempt, seq) VALUES (?, ?, ?)"
_UPDATE_STATE = (
    "UPDATE messages SET state = ?, attempts = ?, next_attempt = ?, reason = ?, detail = ?, delivered_at = ?,"
    " steps = ?, mapping_version = coalesce(nullif(?, ''), mapping_version) WHERE seq = ?"
)
_KEEP_LINEAGE = "INSERT OR REPLACE INTO lineages (seq, mapping_version, document) VALUES (?, ?, ?)"
_INSERT_EDIT = "INSERT INTO edits (number, seq, at, raw, sha256) VALUES (?, ?, ?, ?, ?)"
_BACK_TO_RECEIVED = (
    "UPDATE messages SET state = 'received', attempts = 0, next_attempt = 0, reason = '', detail = '',"
    " delivered_at = NULL, steps = steps + 1, replays = replays + 1, edit = coalesce(?, edit) WHERE seq = ?"
)


@dataclass(slots=True)
class Tally:
    """The one row that knows how many messages are in each state, and the last place given to an arrival."""

    last_seq: int
    counts: dict[str, int]
    seals: Seals

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Tally:
        row = connection.execute(
            "SELECT last_seq, received, waiting, delivered, dead, seals, seal_hash FROM tally"
        ).fetchone()
        counts = {"received": row[1], "waiting": row[2], "delivered": row[3], "dead": row[4]}
        return cls(row[0], counts, Seals(row[5], row[6]))

    def write(self, connection: sqlite3.Connection, at: float) -> None:
        """Also the seal of what this transaction did."""
        self.seals.write(connection, at)
        values = (*(self.counts[name] for name in ("received", "waiting", "delivered", "dead")),)
        connection.execute(
            "UPDATE tally SET last_seq = ?, received = ?, waiting = ?, delivered = ?, dead = ?, seals = ?,"
            " seal_hash = ?",
            (self.last_seq, *values, self.seals.number, self.seals.hash),
        )

    @property
    def undelivered(self) -> int:
        return self.counts["received"] + self.counts["waiting"]

    def move(self, old: str, new: str) -> None:
        self.counts[old] -= 1
        self.counts[new] += 1


@dataclass(slots=True)
class Round:
    """What the works of one transaction share. `space`: is enough of the disk left to take messages?"""

    connection: sqlite3.Connection
    tally: Tally
    now: float
    mint: Mint
    max_backlog: int
    space: bool
    guard: Guard

    @property
    def room(self) -> int:
        """How many more undelivered messages are taken."""
        return self.max_backlog - self.tally.undelivered if self.space else 0


Task = Callable[[Round], object]  # refuses (JournalRefusal) before it writes anything, never after
Work = Received | Change | Task
Present = tuple[int, str, int, float, str]  # seq, state, number of steps, next attempt, lanes of a stored message


def write(round_: Round, works: Sequence[Work]) -> list[Any]:
    """Do all the works; each outcome at its work's index. Appends first: no other work knows of their messages yet."""
    outcomes: list[Any] = [None] * len(works)
    appends = [(index, work) for index, work in enumerate(works) if type(work) is Received]
    if appends:
        append(round_, appends, outcomes)
    changes: list[tuple[int, Change]] = []
    for index, work in enumerate(works):
        if isinstance(work, Change):
            changes.append((index, work))
        elif not isinstance(work, Received):
            apply(round_, changes, outcomes)  # in the order in which they were asked for
            changes = []
            try:
                outcomes[index] = work(round_)
            except Hl7BridgeError as error:
                outcomes[index] = error
    apply(round_, changes, outcomes)
    round_.tally.write(round_.connection, round_.now)
    return outcomes


def append(round_: Round, appends: list[tuple[int, Received]], outcomes: list[Any]) -> None:
    if round_.room < len(appends):
        appends = _admitted(round_, appends, outcomes)
        if not appends:
            return
    if any(message.terms is not None for _, message in appends):
        appends = terms.admitted(round_, appends, outcomes, partial(_duplicate, round_))
        if not appends:
            return
    connection, tally = round_.connection, round_.tally
    first = tally.last_seq + 1
    rows = [_message_row(round_, first + place, message) for place, (_, message) in enumerate(appends)]
    last = tally.last_seq = tally.last_seq + len(rows)
    if _INSERT_MESSAGES(connection, rows) == len(rows):
        stored = None  # every one: the usual case
    else:
        stored = {seq for (seq,) in connection.execute(_STORED_AMONG, (first, last))}
    arrivals = appends if stored is None else [pair for n, pair in enumerate(appends) if first + n in stored]
    seqs = range(first, last + 1) if stored is None else sorted(stored)
    guard, seals = round_.guard, tally.seals
    payloads, size = [], 0
    for seq, (_, message) in zip(seqs, arrivals, strict=True):
        tally.counts[message.state.value] += 1
        id, *known = rows[seq - first][1:9]
        raw, ack = message.raw, message.ack
        seals.add(seq, ARRIVAL, receipts.arrival(seq, id, known, message.ack_code, ack))
        if guard.keyring.active:
            raw, ack = guard.seal("raw", seq, id, raw), guard.seal("ack", seq, id, ack)
        payloads.append((seq, raw, ack))
        size += len(raw)
    _INSERT_PAYLOADS(connection, payloads, single=size > SINGLE_BYTES)
    for seq, (_, message) in zip(seqs, arrivals, strict=True):
        if message.state is not State.RECEIVED:  # parked on arrival: the story has a second step
            _step(round_, seq, 1, message.received_at, message.state.value, 0, message.reason, message.detail)
        if message.terms is not None:
            terms.stored(round_, seq, message)
    reused = {seq for (seq,) in connection.execute(_REUSED_AMONG, (first, last)).fetchall()}
    for place, (index, message) in enumerate(appends):
        seq = first + place
        if stored is None or seq in stored:
            outcomes[index] = Appended(id_text(rows[place][1]), message.ack, False, seq in reused, seq)
            if message.terms is not None and message.terms.fragment is not None:
                until = message.terms.fragment.until
                waits = Change(
                    outcomes[index].id, State.WAITING, 0, until, "", terms.INCOMPLETE, at=message.received_at
                )
                apply(round_, [(index, waits)], outcomes)
        else:
            outcomes[index] = _duplicate(round_, message)


def _message_row(round_: Round, seq: int, message: Received) -> tuple[Any, ...]:
    parked = message.state is not State.RECEIVED
    return (
        seq,
        round_.mint.new(round_.now),
        bindable(message.control_id),
        bindable(message.sender),
        message.sha256,
        message.received_at,
        bindable(message.listener),
        bindable(message.peer),
        bindable(message.type),
        join_lanes(round_.guard.lanes(message.lanes)),
        message.ack_code,
        message.state.value,
        message.reason,
        bindable(message.detail),
        1 if parked else 0,
        round_.tally.seals.next,
    )


def _admitted(round_: Round, appends: list[tuple[int, Received]], outcomes: list[Any]) -> list[tuple[int, Received]]:
    """Those for which there is room. A resend of what is stored gets the stored ACK even when the journal is full."""
    room = round_.room
    admitted = []
    for index, message in appends:
        if room > 0:
            admitted.append((index, message))
            room -= 1
        else:
            outcomes[index] = _duplicate(round_, message) or JournalFull(
                "the backlog has reached max_backlog"
                if round_.space
                else "less than min_free_bytes is free on the disk"
            )
    return admitted


def _duplicate(round_: Round, message: Received) -> Appended | None:
    """The stored answer; one that cannot be read any more is given anew, since the message is the same."""
    identity = (bindable(message.control_id), bindable(message.sender), message.sha256)
    row = round_.connection.execute(_FIRST_ARRIVAL, identity).fetchone()
    if row is None:
        return None
    id, stored, seq = row
    try:
        ack = round_.guard.open("ack", seq, id, stored)
    except Damaged:
        ack = message.ack
    return Appended(id_text(id), ack, True, False, seq)


def _step(
    round_: Round, seq: int, step: int, at: float, state: str, attempts: int, reason: str, detail: str,
    actor: str = "", proof: bytes = b"", id: bytes = b"",
) -> None:  # fmt: skip
    """One row of history with its receipt."""
    row = _step_row(round_, seq, step, at, state, attempts, reason, detail, actor, proof, id)
    _INSERT_STEPS(round_.connection, [row])


def _step_row(
    round_: Round, seq: int, step: int, at: float, state: str, attempts: int, reason: str, detail: str,
    actor: str = "", proof: bytes = b"", id: bytes = b"",
) -> tuple[Any, ...]:  # fmt: skip
    told, by, seals = bindable(detail), bindable(actor), round_.tally.seals
    seals.add(seq, step, receipts.step(seq, step, at, state, attempts, reason, told, by, proof))
    if proof:
        proof = round_.guard.seal(f"proof {step}", seq, id, proof)
    return (seq, step, at, state, attempts, reason, told, by, proof, seals.next)


def apply(round_: Round, changes: list[tuple[int, Change]], outcomes: list[Any]) -> None:
    """All changes of a stretch in two statements; a message that changes twice sees its own earlier change."""
    present: dict[str, Present] = {}
    held: dict[tuple[str, float, int], bool] = {}  # what becomes of rows of waiting_lanes: the last word counts
    updates: list[tuple[Any, ...]] = []
    steps: list[tuple[Any, ...]] = []
    lineages: list[tuple[Any, ...]] = []
    for index, change in changes:
        found = present.get(change.id) or find(round_.connection, change.id)
        if found is None:
            outcomes[index] = JournalRefusal("no such message in the journal")
            continue
        seq, old, step, next_attempt, lanes = found
        if change.state not in NEXT_STATES[State(old)]:
            outcomes[index] = JournalRefusal(f"a message that is {old} cannot become {change.state.value}")
            continue
        at = change.at or round_.now
        new, detail, step = change.state.value, bindable(change.detail), step + 1
        proof = orjson.dumps(change.proof, option=orjson.OPT_SORT_KEYS) if change.proof else b""
        delivered_at = at if change.state is State.DELIVERED else None
        updates.append((new, change.attempts, change.next_attempt, change.reason, detail, delivered_at, step,
                        change.mapping_version, seq))  # fmt: skip
        id = id_bytes(change.id) or b""
        steps.append(
            _step_row(round_, seq, step, at, new, change.attempts, change.reason, change.detail, "", proof, id)
        )
        if change.lineage:
            lineages.append((seq, change.mapping_version, zlib.compress(change.lineage)))
        present[change.id] = (seq, new, step, change.next_attempt, lanes)
        for lane in split_lanes(lanes):
            if old == State.WAITING.value:
                held[lane, next_attempt, seq] = False
            if change.state is State.WAITING:
                held[lane, change.next_attempt, seq] = True
        round_.tally.move(old, new)
    if held:
        round_.connection.executemany(_FREE_LANE, [key for key, hold in held.items() if not hold])
        round_.connection.executemany(_HOLD_LANE, [key for key, hold in held.items() if hold])
    if updates:
        round_.connection.executemany(_UPDATE_STATE, updates)
        _INSERT_STEPS(round_.connection, steps)
    if lineages:
        round_.connection.executemany(_KEEP_LINEAGE, lineages)


def find(connection: sqlite3.Connection, id: str) -> Present | None:
    row: Present | None = connection.execute(_PRESENT, (id_bytes(id),)).fetchone()
    return row


def replay(round_: Round, id: str, raw: bytes | None, by: str) -> None:
    """The task behind `Journal.replay`. An edited payload is added; the original and earlier edits stay."""
    found = find(round_.connection, id)
    if found is None:
        raise JournalRefusal("no such message in the journal")
    seq, old, steps, _, _ = found
    if State(old) not in REPLAYABLE:
        if raw is not None:
            raise JournalRefusal(f"a message that is {old} is on its way: its payload cannot be edited now")
        return
    edit, proof, key = None, b"", id_bytes(id) or b""
    if raw is not None:
        if is_sealed(raw):
            raise JournalRefusal("the edited payload is encrypted, not a message")
        (edit,) = round_.connection.execute("SELECT coalesce(max(number), 0) + 1 FROM edits").fetchone()
        digest = hashlib.sha256(raw).digest()
        sealed = round_.guard.seal(f"edit {edit}", seq, key, raw)
        round_.connection.execute(_INSERT_EDIT, (edit, seq, round_.now, sealed, digest))
        proof = orjson.dumps({"edit_sha256": digest.hex()})
    round_.connection.execute(_BACK_TO_RECEIVED, (edit, seq))
    detail = "" if raw is None else "with an edited payload"
    _step(round_, seq, steps + 1, round_.now, State.RECEIVED.value, 0, "", detail, by, proof, key)
    round_.tally.move(old, State.RECEIVED.value)


def remove(round_: Round, state: State, seqs: list[int]) -> int:
    """Remove messages of one state with everything about them. The caller chose them in this same transaction."""
    keys = [(seq,) for seq in seqs]
    for table in ("payloads", "history", "edits", "fragments", "lineages", "messages"):
        round_.connection.executemany(f"DELETE FROM {table} WHERE seq = ?", keys)
    for seq in seqs:
        round_.tally.seals.add(seq, receipts.REMOVED, receipts.removal(seq))
    round_.tally.counts[state.value] -= len(seqs)
    return len(seqs)


def prune(round_: Round) -> None:
    """Removes seals older than the oldest message; a receipt of that says where the chain begins now."""
    connection, seals = round_.connection, round_.tally.seals
    (oldest,) = connection.execute("SELECT min(number) FROM seals").fetchone()
    row = connection.execute("SELECT seal FROM messages ORDER BY seq LIMIT 1").fetchone()
    last = min((seals.next if row is None else row[0]) - 1, seals.number - 1, (oldest or 0) + PRUNED_AT_ONCE)
    if oldest is None or last < oldest + PRUNED_LEAST:
        return
    (hash,) = connection.execute("SELECT hash FROM seals WHERE number = ?", (last,)).fetchone()
    connection.execute("DELETE FROM seals WHERE number <= ?", (last,))
    seals.leaves.append(receipts.LEAF.pack(last, receipts.PRUNED, hash))
