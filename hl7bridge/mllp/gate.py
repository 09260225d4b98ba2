"""Between a connection and its server: what the server lends, and the limits no configuration asks about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from hl7bridge.config import MEBIBYTE, Listener
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.peer import Peer

if TYPE_CHECKING:
    from hl7bridge.mllp.connection import Connection


class Refusal(StrEnum):
    """Why the listener itself answers a block negatively."""

    TOO_LARGE = "too-large"
    BROKEN = "broken"  # a byte of MLLP's own inside the payload
    FAILED = "failed"  # the handler raised


class HangUp(Exception):
    """Raised by a handler: no answer to this block nor to any behind it; the connection ends after those before it."""


class Reply(bytes):
    """An answer whose end somebody wants to know: `sent` is told whether it was written to the socket."""

    sent: Callable[[bool], None]

    def __new__(cls, answer: bytes, sent: Callable[[bool], None]) -> Reply:
        reply = super().__new__(cls, answer)
        reply.sent = sent
        return reply


class Unkept(bytes):
    """An answer, or b"" for none, to a block that is not durable: NAK where MLLP Release 2 is spoken."""


class Pending:
    """An answer that comes later, in the event loop, without a task that waits for it.

    Who owes it calls `settle` once: with the answer, None when none is due, or the exception that stands in its place.
    Who wants it calls `tell` once, before or after.
    """

    __slots__ = ("_came", "_outcome", "_then")

    def __init__(self) -> None:
        self._then: Callable[[bytes | Exception | None], None] | None = None
        self._came = False
        self._outcome: bytes | Exception | None = None

    def settle(self, outcome: bytes | Exception | None) -> None:
        if self._then is not None:
            self._then(outcome)
        else:
            self._came, self._outcome = True, outcome

    def tell(self, then: Callable[[bytes | Exception | None], None]) -> None:
        if self._came:
            then(self._outcome)
        else:
            self._then = then

    def __await__(self) -> Generator[Any, None, bytes | None]:
        future: asyncio.Future[bytes | Exception | None] = asyncio.get_running_loop().create_future()
        self.tell(future.set_result)
        outcome = yield from future.__await__()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


# payload -> answer, or None when none is due
Handle = Callable[[bytes, Peer], "Pending | Coroutine[Any, Any, bytes | None]"]
Refuse = Callable[[bytes, Refusal, Peer], bytes | None]  # the first bytes of a payload -> its negative answer
RequiresCr = Callable[[bytes, Peer], bool]  # the first bytes of a payload -> must a CR follow its FS?


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration does not ask about. Times in seconds."""

    in_flight: int = 512  # frames of one connection that wait for their answer, and can share a commit
    in_flight_bytes: int = 16 * MEBIBYTE  # the same in bytes; one message may always be in flight
    junk_bytes: int = MEBIBYTE // 4  # that many bytes without a block in between: not an MLLP sender
    end_pause: float = 0.05  # silence after an FS that closes the last segment: the sender leaves the CR out
    linger: float = 1.0  # how long the peer gets to read its last answer
    keepalive_interval: int = 10  # a peer that vanished is noticed after keepalive + interval x probes
    keepalive_probes: int = 6
    accept_pause: float = 1.0  # where the machine has no file descriptors left
    look_every: float = 60.0  # at the TLS files, though nobody connects
    bind_pause: float = 0.5  # between attempts to bind an address


class Gate(Protocol):
    """What a connection needs of its server."""

    listener: Listener
    limits: Limits
    handle: Handle
    refuse: Refuse
    requires_cr: RequiresCr | None  # None: as the listener says

    def admit(self, connection: Connection, denial: Denial | None) -> bool:
        """Whether the connection is taken. `denial`: why its certificate may not be here."""

    def left(self, connection: Connection) -> None:
        """A connection that was taken is gone."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` to its end, even when the connection is gone before."""

    def began(self) -> None:
        """Something is under way for which no task stands."""

    def ended(self) -> None:
        """It has come to its end."""

    def tell(self, method: Callable[..., None], *facts: Any) -> None:
        """Calls the observer's method of that name; whatever it raises stays there."""
