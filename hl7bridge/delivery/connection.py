"""One connection to a server: a request at a time, its answer or why there is none.

What holds and why:

- The future of an exchange gets a Response or a TransportFailure, never an exception; a text of the other side is
  dropped.
- One timer a connection, set anew when it rings and not for each request: for the answer's deadline, and for closing
  what nobody uses.
- Whatever was not asked for (bytes while nothing is awaited) ends the connection.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import cast

from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.http1 import AnswerReader, NotHttp
from hl7bridge.delivery.outcome import TransportFailure

KEEP = 15.0  # seconds a connection is kept that nobody uses
AT_ONCE = 64 * 1024  # bytes of a body that go out in one piece with the head

Answer = Response | TransportFailure


class Connection(asyncio.Protocol):
    """Made by loop.create_connection. `gone` is called once, when it has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gone: Callable[[Connection], None]) -> None:
        self._loop, self._gone = loop, gone
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._awaited: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0  # the answer's deadline, or when it is closed unused
        self.fresh = True  # no request went over it yet

    # ---- for who sends ----

    async def exchange(self, head: bytes, body: bytes, most: int, deadline: float) -> Answer:
        """Sends a request; its answer. `most`: bytes of it; `deadline`: in the loop's time."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return TransportFailure("disconnected")
        self._reader = AnswerReader(most)
        awaited = self._awaited = self._loop.create_future()
        if len(body) <= AT_ONCE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        self._watch(deadline)
        try:
            answer: Answer = await awaited
        except asyncio.CancelledError:
            self.abort()
            raise
        self.fresh = False
        return answer

    def usable(self) -> bool:
        """May another request go over it?"""
        transport = self._transport
        return (
            self._awaited is None
            and transport is not None
            and not transport.is_closing()
            and (self.fresh or self._loop.time() < self._until)
        )

    def abort(self) -> None:
        """Ends it now."""
        if self._transport is not None:
            self._transport.abort()

    # ---- for the loop ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # other loops' transports are no subclass of it

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self.abort()
            return
        try:
            if reader.feed(data):
                self._settle(reader)
        except NotHttp:
            self._end(TransportFailure("protocol", "NotHttp"))

    def connection_lost(self, exc: Exception | None) -> None:
        reader = self._reader
        if reader is not None:
            if exc is None and reader.ended():
                self._settle(reader)
            else:
                self._end(reader.response() if reader.begun else _lost(exc))
        if self._timer is not None:
            self._timer.cancel()
        self._transport = self._timer = None
        self._gone(self)

    # ---- inside ----

    def _settle(self, reader: AnswerReader) -> None:
        """The answer is whole. What of the request was not taken yet is of no use any more."""
        transport = self._transport
        if reader.reusable and transport is not None and not transport.get_write_buffer_size():
            self._until = self._loop.time() + KEEP
        else:
            self.abort()
        self._answer(reader.response())

    def _end(self, answer: Answer) -> None:
        self.abort()
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        awaited, self._awaited, self._reader = self._awaited, None, None
        if awaited is not None and not awaited.done():
            awaited.set_result(answer)

    def _watch(self, deadline: float) -> None:
        self._until = deadline
        if self._timer is not None and self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        now = self._loop.time()
        if now < self._until:
            self._timer = self._loop.call_at(min(self._until, now + KEEP), self._look)
            return
        self._timer = None
        reader = self._reader
        if reader is None:
            self.abort()
        else:
            self._end(reader.response() if reader.begun else TransportFailure("timeout"))


def _lost(error: Exception | None) -> TransportFailure:
    """The connection ended before an answer had begun."""
    if isinstance(error, ssl.SSLError):
        return TransportFailure("disconnected", tls_note(error))
    return TransportFailure("disconnected", errno_name(error) if isinstance(error, OSError) else "")


def tls_note(error: ssl.SSLError) -> str:
    """OpenSSL's words for what went wrong."""
    return str(getattr(error, "verify_message", "") or error.reason or type(error).__name__)


def errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
