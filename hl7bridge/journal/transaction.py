"""What one transaction of the journal holds: appends, changes of state and tasks, as statements on a connection.

No threads, no clock, no COMMIT: the writer opens and ends the transaction. All that counts (last seq, the tally) is
read from the file at the beginning and written at the end, so that a rollback leaves nothing behind and a guest's
transactions between two of ours are seen. Each work gives an outcome at its own place: a value, or the Hl7BridgeError
that is its own. Any other exception means that the transaction has to be rolled back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hl7bridge.errors import Hl7BridgeError, JournalFull, JournalRefusal
from hl7bridge.journal import terms
from hl7bridge.journal.protocol import Appended, Change, Received, State
from hl7bridge.journal.rows import Mint, bindable, id_bytes, id_text, join_lanes, split_lanes

NEXT_STATES: dict[State, frozenset[State]] = {  # what `apply` may do; only `replay` leads back to RECEIVED
    State.RECEIVED: frozenset({State.WAITING, State.DELIVERED, State.DEAD}),
    State.WAITING: frozenset({State.WAITING, State.DELIVERED, State.DEAD}),
    State.DELIVERED: frozenset(),
    State.DEAD: frozenset(),
}
ARRIVAL_STATES = frozenset({State.RECEIVED, State.DEAD})
REPLAYABLE = frozenset({State.DELIVERED, State.DEAD})

_INSERT_MESSAGE = (
    "INSERT INTO messages (seq, id, control_id, sender, sha256, received_at, listener, peer, type, lanes, ack_code,"
    " state, reason, detail, steps) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (control_id, sender, sha256) DO NOTHING"
)
_INSERT_PAYLOAD = "INSERT INTO payloads (seq, raw, ack) VALUES (?, ?, ?)"
_INSERT_STEP = (
    "INSERT INTO history (seq, step, at, state, attempts, reason, detail, actor) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_STORED_AMONG = "SELECT seq FROM messages WHERE seq BETWEEN ? AND ?"
_REUSED_AMONG = (  # `o.seq < m.seq` passes over at most the later arrivals of this same group
    "SELECT m.seq FROM messages m WHERE m.seq BETWEEN ? AND ? AND EXISTS (SELECT 1 FROM messages o"
    " WHERE o.control_id = m.control_id AND o.sender = m.sender AND o.seq < m.seq)"
)
_FIRST_ARRIVAL = (
    "SELECT m.id, p.ack FROM messages m JOIN payloads p ON p.seq = m.seq"
    " WHERE m.control_id = ? AND m.sender = ? AND m.sha256 = ?"
)
_PRESENT = "SELECT seq, state, steps, next_attempt, lanes FROM messages WHERE id = ?"
_FREE_LANE = "DELETE FROM waiting_lanes WHERE lane = ? AND next_attempt = ? AND seq = ?"
_HOLD_LANE = "INSERT OR IGNORE INTO waiting_lanes (lane, next_attempt, seq) VALUES (?, ?, ?)"
_UPDATE_STATE = (
    "UPDATE messages SET state = ?, attempts = ?, next_attempt = ?, reason = ?, detail = ?, delivered_at = ?,"
    " steps = ?, mapping_version = coalesce(nullif(?, ''), mapping_version) WHERE seq = ?"
)
_BACK_TO_RECEIVED = (
    "UPDATE messages SET state = 'received', attempts = 0, next_attempt = 0, reason = '', detail = '',"
    " delivered_at = NULL, steps = steps + 1, replays = replays + 1, edit = coalesce(?, edit) WHERE seq = ?"
)


@dataclass(slots=True)
class Tally:
    """The one row that knows how many messages are in each state, and the last place given to an arrival."""

    last_seq: int
    counts: dict[str, int]

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Tally:
        row = connection.execute("SELECT last_seq, received, waiting, delivered, dead FROM tally").fetchone()
        return cls(row[0], {"received": row[1], "waiting": row[2], "delivered": row[3], "dead": row[4]})

    def write(self, connection: sqlite3.Connection) -> None:
        values = (self.last_seq, *(self.counts[name] for name in ("received", "waiting", "delivered", "dead")))
        connection.execute("UPDATE tally SET last_seq = ?, received = ?, waiting = ?, delivered = ?, dead = ?", values)

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
        _append(round_, appends, outcomes)
    changes: list[tuple[int, Change]] = []
    for index, work in enumerate(works):
        if isinstance(work, Change):
            changes.append((index, work))
        elif not isinstance(work, Received):
            _apply(round_, changes, outcomes)  # in the order in which they were asked for
            changes = []
            try:
                outcomes[index] = work(round_)
            except Hl7BridgeError as error:
                outcomes[index] = error
    _apply(round_, changes, outcomes)
    round_.tally.write(round_.connection)
    return outcomes


def _append(round_: Round, appends: list[tuple[int, Received]], outcomes: list[Any]) -> None:
    if round_.room < len(appends):
        appends = _admitted(round_, appends, outcomes)
        if not appends:
            return
    if any(message.terms is not None for _, message in appends):
        appends = terms.admitted(round_.connection, appends, outcomes, _duplicate)
        if not appends:
            return
    connection, tally = round_.connection, round_.tally
    first = tally.last_seq + 1
    rows = [_message_row(round_, first + place, message) for place, (_, message) in enumerate(appends)]
    last = tally.last_seq = tally.last_seq + len(rows)
    cursor = connection.executemany(_INSERT_MESSAGE, rows)
    if cursor.rowcount == len(rows):
        stored = None  # every one: the usual case
    else:
        stored = {seq for (seq,) in connection.execute(_STORED_AMONG, (first, last))}
    arrivals = appends if stored is None else [pair for n, pair in enumerate(appends) if first + n in stored]
    seqs = range(first, last + 1) if stored is None else sorted(stored)
    connection.executemany(
        _INSERT_PAYLOAD, [(seq, message.raw, message.ack) for seq, (_, message) in zip(seqs, arrivals, strict=True)]
    )
    for seq, (_, message) in zip(seqs, arrivals, strict=True):
        tally.counts[message.state.value] += 1
        if message.state is not State.RECEIVED:  # parked on arrival: the story has a second step
            reason, detail = message.reason, bindable(message.detail)
            connection.execute(_INSERT_STEP, (seq, 1, message.received_at, message.state.value, 0, reason, detail, ""))
    reused = {seq for (seq,) in connection.execute(_REUSED_AMONG, (first, last))}
    for place, (index, message) in enumerate(appends):
        seq = first + place
        if stored is None or seq in stored:
            outcomes[index] = Appended(id_text(rows[place][1]), message.ack, False, seq in reused)
        else:
            outcomes[index] = _duplicate(connection, message)


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
        join_lanes(message.lanes),
        message.ack_code,
        message.state.value,
        message.reason,
        bindable(message.detail),
        1 if parked else 0,
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
            outcomes[index] = _duplicate(round_.connection, message) or JournalFull(
                "the backlog has reached max_backlog"
                if round_.space
                else "less than min_free_bytes is free on the disk"
            )
    return admitted


def _duplicate(connection: sqlite3.Connection, message: Received) -> Appended | None:
    identity = (bindable(message.control_id), bindable(message.sender), message.sha256)
    row = connection.execute(_FIRST_ARRIVAL, identity).fetchone()
    return Appended(id_text(row[0]), row[1], True, False) if row else None


def _apply(round_: Round, changes: list[tuple[int, Change]], outcomes: list[Any]) -> None:
    """All changes of a stretch in two statements; a message that changes twice sees its own earlier change."""
    present: dict[str, Present] = {}
    held: dict[tuple[str, float, int], bool] = {}  # what becomes of rows of waiting_lanes: the last word counts
    updates: list[tuple[Any, ...]] = []
    steps: list[tuple[Any, ...]] = []
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
        delivered_at = at if change.state is State.DELIVERED else None
        updates.append((new, change.attempts, change.next_attempt, change.reason, detail, delivered_at, step,
                        change.mapping_version, seq))  # fmt: skip
        steps.append((seq, step, at, new, change.attempts, change.reason, detail, ""))
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
        round_.connection.executemany(_INSERT_STEP, steps)


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
    edit = None
    if raw is not None:
        statement = "INSERT INTO edits (seq, at, raw) VALUES (?, ?, ?)"
        edit = round_.connection.execute(statement, (seq, round_.now, raw)).lastrowid
    round_.connection.execute(_BACK_TO_RECEIVED, (edit, seq))
    detail = "" if raw is None else "with an edited payload"
    step = (seq, steps + 1, round_.now, State.RECEIVED.value, 0, "", detail, bindable(by))
    round_.connection.execute(_INSERT_STEP, step)
    round_.tally.move(old, State.RECEIVED.value)


def remove(round_: Round, state: State, seqs: list[int]) -> int:
    """Remove messages of one state with everything about them. The caller chose them in this same transaction."""
    keys = [(seq,) for seq in seqs]
    for table in ("payloads", "history", "edits", "messages"):
        round_.connection.executemany(f"DELETE FROM {table} WHERE seq = ?", keys)
    round_.tally.counts[state.value] -= len(seqs)
    return len(seqs)
