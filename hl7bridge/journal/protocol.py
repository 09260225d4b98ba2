"""What a journal promises, whatever stores it: SQLite today, a log for many machines later.

A message has one state at any time, and every change of state is one durable transaction:

    received --claim--> (in flight, in memory only) --> delivered
        ^                        |--> waiting (next_attempt) --> claimed again
        '------- replay ---------'--> dead --replay--> received

`append` returns when the message is on disk (fsync), never before: the positive ACK hangs on it. In flight is not a
stored state: what was in flight when the process died is claimed again, and delivery is idempotent.

Duplicates: the same sender, control_id and sha256 as a message the journal holds. It gets the first arrival's id and
ACK bytes and has no other effect, whatever state the first is in: a DEAD one stays dead, for the operator to replay.
Once retention or a purge has removed the first arrival, the same bytes are a new message: retention_days is how far
back the journal recognises a resend. Negative answers are not stored: a refused message that is sent again is judged
again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from hl7bridge.errors import JournalError, JournalRefusal


class State(StrEnum):
    RECEIVED = "received"
    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class DamagedPage(JournalError):
    """A page of the journal's file is not what was written; the transaction that met it was given up."""


class ControlIdReused(JournalRefusal):
    """The sender's control id is that of another message, and it may not be (Terms.refuse_reuse)."""


class OutOfSequence(JournalRefusal):
    """The message's sequence number is not the one its link expects next."""

    def __init__(self, expected: int) -> None:
        super().__init__("the sequence number is not the one expected")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a message: `pointer` (MSH-14) names the part before it, `continues` (DSC-1) the one behind; "": none.

    `until`: seconds since the epoch; a part that is still alone then is looked at by the worker.
    """

    pointer: str = field(repr=False)
    continues: str = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True)
class Owed:
    """An application acknowledgement that the message's fate will decide. `header`: its MSH segment."""

    channel: str
    condition: str  # MSH-16: AL, ER, SU
    after: str  # delivered or translated
    header: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What some messages ask of their commit besides being stored: held, and changed, in the same transaction.

    refuse_reuse: not taken when the sender's control id came before with other bytes (ControlIdReused).
    link, sequence_number: taken when the number is the one the link expects (OutOfSequence).
    owed: the application acknowledgement its sender waits for. fragment: stored as WAITING for its other parts.
    """

    refuse_reuse: bool = False
    link: str = ""
    sequence_number: int = 0
    owed: Owed | None = None
    fragment: Fragment | None = None


class Received(NamedTuple):
    """A message as intake hands it over. `lanes`: opaque keys of every patient it touches, hashed, never clear text.

    `ack` is what will be sent once the commit stands; a duplicate (same sender, control_id, sha256) gets the stored
    one.
    """

    raw: bytes
    sha256: bytes
    received_at: float  # seconds since the epoch
    listener: str
    peer: str  # address, or the certificate's name
    sender: str  # MSH-3 and MSH-4 as sent, joined by "|"
    control_id: str
    type: str  # ADT^A01
    lanes: tuple[str, ...]
    ack: bytes
    ack_code: str
    state: State = State.RECEIVED  # DEAD with a reason: parked on arrival
    reason: str = ""
    detail: str = ""
    terms: Terms | None = None

    def __repr__(self) -> str:
        return "<Received>"  # values are a message's


class Appended(NamedTuple):
    """What became of an append. For a duplicate, `id` and `ack` are those of the first arrival."""

    id: str
    ack: bytes
    duplicate: bool
    reused_control_id: bool  # same sender and control id, other bytes: taken as new, worth a warning
    seq: int = 0  # of the first arrival, for `answered`

    def __repr__(self) -> str:
        return "<Appended>"  # values are a message's


Then = Callable[[Appended | Exception], None]  # told what became of a message, in the event loop


class Entry(NamedTuple):
    """A stored message. `seq` is the order of arrival."""

    seq: int
    id: str  # uuid, time-ordered
    raw: bytes
    sha256: bytes
    received_at: float
    listener: str
    peer: str
    sender: str
    control_id: str
    type: str
    lanes: tuple[str, ...]
    state: State
    attempts: int
    next_attempt: float
    reason: str
    detail: str
    ack_code: str
    mapping_version: str
    delivered_at: float | None
    replays: int
    damaged: str = ""  # why `raw` is not what was stored; it must not be translated then

    def __repr__(self) -> str:
        return "<Entry>"  # values are a message's


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state, written in one transaction with others that came at the same time."""

    id: str
    state: State
    attempts: int
    next_attempt: float = 0.0
    reason: str = ""
    detail: str = ""
    mapping_version: str = ""
    at: float = 0.0
    proof: Mapping[str, Any] | None = field(default=None, repr=False)  # of what was sent and answered: plain values
    lineage: bytes = field(default=b"", repr=False)  # paths only, as JSON; kept in place of an earlier one


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages: every field that is set must match. `older_than` in seconds."""

    states: tuple[State, ...] = ()
    reason: str | None = None
    type: str | None = None
    listener: str | None = None
    control_id: str | None = None
    id: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    limit: int | None = None
    newest_first: bool = False  # the order of `find`: last arrival first


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a message's story: it came to be in `state` at `at`. `actor`: who asked for it, if a person did."""

    at: float
    state: State
    attempts: int
    reason: str = ""
    detail: str = ""
    actor: str = ""
    proof: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """For metrics and health."""

    undelivered: int
    dead: int
    oldest_undelivered_at: float | None


class Journal(Protocol):
    """See the module's text. All methods raise JournalError when the store fails."""

    async def append(self, message: Received) -> Appended:
        """Durable when it returns. JournalFull: past the high-water mark (a duplicate is answered all the same)."""
        ...

    def store(self, message: Received, then: Then) -> None:
        """`append` for those who do not wait: `then` is called, in this event loop, with what it would give or raise.

        What one commit has stored is told in one call of the loop, in the order of `store`. Raises only ValueError.
        """
        ...

    def answered(self, seq: int, written: bool, resend: bool = False) -> None:
        """Notes whether the answer to message `seq` was written to the socket. Durable with the next commit."""
        ...

    async def apply(self, change: Change) -> None:
        """RECEIVED or WAITING -> WAITING, DELIVERED or DEAD. JournalRefusal: no such message, or in another state."""
        ...

    async def claimable(self, now: float, after_seq: int, limit: int) -> Sequence[Entry]:
        """RECEIVED, or WAITING and due, with seq > after_seq, in order of arrival.

        Claims nothing: lanes are the worker's. May give fewer than `limit` where messages are large; only an empty
        answer means that there are no more. A replayed message comes back at its old place, so every round begins
        again with after_seq 0.
        """
        ...

    async def blocked_lanes(self, now: float, among: Collection[str] | None = None) -> frozenset[str]:
        """Lanes held by messages that wait for a later attempt: nothing behind them may overtake.

        `among`: answer for these lanes only, say those of the messages just claimed. That costs as many lookups as
        lanes, however many messages wait; without it the answer is as long as the lanes that are blocked.
        """
        ...

    async def get(self, id: str) -> Entry | None: ...
    def find(self, filter: Filter) -> AsyncIterator[Entry]: ...
    async def history(self, id: str) -> Sequence[Step]:
        """The message's story from its arrival on, oldest step first; empty when there is no such message."""
        ...

    async def replay(self, id: str, raw: bytes | None = None, *, by: str = "") -> None:
        """DEAD (or DELIVERED) -> RECEIVED, attempts 0; recorded. `raw`: an edited payload, stored beside the original.

        Without `raw`, a message that is RECEIVED or WAITING is on its way already and is left alone. JournalRefusal: no
        such message, or an edited payload for one that is on its way. `by`: who asked, for the history.
        """
        ...

    async def purge(self, filter: Filter) -> int:
        """Removes DEAD messages; returns how many. JournalRefusal: the filter names another state."""
        ...

    async def retain(self, now: float) -> int:
        """Removes DELIVERED messages past retention; never another state. Returns how many."""
        ...

    async def figures(self) -> Figures: ...
    async def audit(self, actor: str, action: str, subject: str, detail: str = "") -> None: ...
    async def close(self) -> None: ...
