"""An MLLP sender: one connection, answers found by control id, no answer ever taken for another message's.

What holds here:
  - An answer belongs to a message only when its MSA-2 equals that message's MSH-10 byte for byte (both empty: a message
    without control id, and an answer that says so). Any other answer is an error of the peer: the oldest message in
    flight gets `Mismatched`, and the connection ends.
  - Answers nobody waits for, to a message already answered (enhanced mode sends two) or to one given to `post`, go to
    `on_extra`.
  - A message whose answer does not come in time ends the connection too, so that a late answer cannot arrive at all.
  - With MLLP Release 2 (`commit_bytes`) a message is out when its commit byte came: NAK is NotCommitted unless an HL7
    answer says why; one message is in flight at a time, and our own commit byte answers the HL7 answer.
  - Nothing is sent twice by itself: what became of a message without answer only its sender can decide.
  - The next `send` connects anew. Errors name host, port and control flow, never a value.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self, cast

from hl7bridge.config import MEBIBYTE
from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.framing import COMMITTED, NOT_COMMITTED, Event, Frame, Framer, frame

MAX_REPLY_BYTES: Final = MEBIBYTE
REMEMBERED: Final = 256  # control ids whose second answer is recognised
_BEFORE_MSH: Final = b" \t\r\n\xef\xbb\xbf"  # blanks, and the bytes of a byte order mark
WHY_NOT: Final = 1.0  # seconds an HL7 answer may come behind a NAK
POSITIVE: Final = (b"AA", b"CA")


class NoAnswer(UnavailableError):
    """The message may or may not have been taken: no answer to it came."""


class Mismatched(NoAnswer):
    """An answer came that belongs to no message in flight."""


class NotCommitted(NoAnswer):
    """MLLP Release 2: the peer says that it did not commit the message (NAK). It may be sent again."""


class NotSent(UnavailableError):
    """There is no connection: the message was not taken."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `ack_code`: MSA-1 as sent; `control_id`: MSA-2; `raw`: the whole answer."""

    ack_code: bytes
    control_id: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def accepted(self) -> bool:
        """AA or CA."""
        return self.ack_code in POSITIVE


def control_id_of(message: bytes) -> bytes:
    """MSH-10 byte for byte; b"" when there is none."""
    message = message.lstrip(_BEFORE_MSH)
    if not message.startswith(b"MSH"):
        return b""
    header = message.replace(b"\n", b"\r").split(b"\r", 1)[0]
    fields = header.split(header[3:4] or b"|")
    return fields[9] if len(fields) > 9 else b""  # MSH-1 is the separator itself, so MSH-10 is the tenth piece


def read_reply(payload: bytes) -> Reply | None:
    """MSA-1 and MSA-2 of an answer; None when it is none."""
    start = payload.find(b"MSH")
    if start < 0:
        return None
    separator = payload[start + 3 : start + 4]
    if not separator.strip():
        return None
    for line in payload[start:].replace(b"\n", b"\r").split(b"\r"):
        if line[:4] == b"MSA" + separator:
            fields = line.split(separator)
            return Reply(fields[1].strip(), fields[2] if len(fields) > 2 else b"", payload)
    return None


class MllpClient:
    """Sends over one connection, up to `window` messages in flight (1: each waits for the answer before it).

    timeout: seconds a message may wait for its answer; connect_timeout: seconds for connection and TLS handshake;
    on_extra: called with answers nobody waits for; commit_bytes: MLLP Release 2. Use as `async with`, or call `close`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        window: int = 1,
        on_extra: Callable[[Reply], None] | None = None,
        commit_bytes: bool = False,
    ) -> None:
        self.commit_bytes = commit_bytes
        self.host = host
        self.port = port
        self.connected_times = 0
        self.extra_replies = 0
        self._on_extra = on_extra
        self._tls = tls
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._room = asyncio.Semaphore(1 if commit_bytes else window)
        self._connecting = asyncio.Lock()
        self._wire: _Wire | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connects unless connected. `send` does it by itself. NotSent says why not."""
        await self._connected()

    async def send(self, message: bytes) -> Reply:
        """Sends one message and waits for its answer. Raises NotSent, NoAnswer, NotCommitted or Mismatched."""
        refused = False
        async with self._room:
            wire = await self._connected()
            answer = wire.send(message, control_id_of(message))
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    await wire.drained()
                    if not await wire.committed():
                        limit.reschedule(asyncio.get_running_loop().time() + min(WHY_NOT, self._timeout))
                        refused = True
                    return await answer
            except TimeoutError:
                if refused:
                    error = NotCommitted(f"{self.where} did not commit the message (NAK)")
                    wire.end(error)
                    raise error from None
                wire.end(NoAnswer(f"{self.where} did not answer within {self._timeout:g} s"))
                raise NoAnswer(f"{self.where} did not answer within {self._timeout:g} s") from None
            finally:
                # whoever stopped waiting leaves an answer behind that nobody may take for another's
                if not answer.done() or answer.cancelled():
                    wire.end(NoAnswer("the sender stopped waiting"))
                if not answer.cancelled():
                    answer.exception()  # seen: no warning about an error nobody fetched

    async def post(self, message: bytes) -> None:
        """Sends one message that asks for no answer, or for one in some cases only. Raises NotSent or NoAnswer."""
        async with self._room:
            wire = await self._connected()
            wire.post(message, control_id_of(message))
            try:
                async with asyncio.timeout(self._timeout):
                    await wire.drained()
                    if not await wire.committed():
                        raise NotCommitted(f"{self.where} did not commit the message (NAK)")
            except TimeoutError:
                error = NoAnswer(f"{self.where} did not take the message within {self._timeout:g} s")
                wire.end(error)
                raise error from None

    def extra(self, reply: Reply) -> None:
        """An answer nobody waits for came."""
        self.extra_replies += 1
        if self._on_extra is not None:
            self._on_extra(reply)

    async def close(self) -> None:
        """Ends the connection; messages in flight get NoAnswer."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end(NoAnswer("the connection was closed here"))
            await wire.gone()

    @property
    def where(self) -> str:
        """host:port"""
        return f"{self.host}:{self.port}"

    async def _connected(self) -> _Wire:
        async with self._connecting:  # however many send at once, one socket opens
            if self._wire is None or self._wire.ended:
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        _, self._wire = await loop.create_connection(
                            lambda: _Wire(self), self.host, self.port, ssl=self._tls
                        )
                except TimeoutError:
                    raise NotSent(f"{self.where} did not take the connection in {self._connect_timeout:g} s") from None
                except ssl.SSLError as error:
                    raise NotSent(f"no TLS with {self.where}: {error.reason or type(error).__name__}") from None
                except OSError as error:
                    raise NotSent(f"no connection to {self.where}: {error.strerror or type(error).__name__}") from None
                self.connected_times += 1
            return self._wire


class _Wire(asyncio.Protocol):
    """One connection's life."""

    def __init__(self, client: MllpClient) -> None:
        self.ended = False
        self._client = client
        self._where = client.where
        self._framer = Framer(MAX_REPLY_BYTES)
        self._in_flight: deque[tuple[bytes, asyncio.Future[Reply]]] = deque()
        self._answered: deque[bytes] = deque(maxlen=REMEMBERED)
        self._commits: deque[asyncio.Future[bool]] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def send(self, message: bytes, control_id: bytes) -> asyncio.Future[Reply]:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._in_flight.append((control_id, answer))
        self._expect_commit()
        assert self._transport is not None
        self._transport.write(frame(message))
        return answer

    def post(self, message: bytes, control_id: bytes) -> None:
        self._answered.append(control_id)
        self._expect_commit()
        assert self._transport is not None
        self._transport.write(frame(message))

    def _expect_commit(self) -> None:
        if self._client.commit_bytes:
            self._commits.append(asyncio.get_running_loop().create_future())

    async def committed(self) -> bool:
        """Waits for the commit byte of the message in flight; True at once without MLLP Release 2."""
        if not self._commits:
            return True
        try:
            return await self._commits[0]
        finally:
            self._commits.popleft()

    async def drained(self) -> None:
        await self._writable.wait()

    async def gone(self) -> None:
        await self._gone.wait()

    def end(self, error: NoAnswer) -> None:
        """Every message in flight gets `error`; the connection is cut, so that no answer can come late."""
        self.ended = True
        self._fail(error)
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: NoAnswer) -> None:
        for _, answer in self._in_flight:
            if not answer.done():
                answer.set_exception(type(error)(str(error)))
        for commit in self._commits:
            if not commit.done():
                commit.set_exception(type(error)(str(error)))
                commit.exception()  # seen, also when nobody waits for it
        self._in_flight.clear()

    def data_received(self, data: bytes) -> None:
        self._take(self._framer.feed(data))

    def eof_received(self) -> None:
        self._take(self._framer.eof())
        self.ended = True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._writable.set()
        self._gone.set()
        how = "broke" if exc else "closed"
        if isinstance(exc, ssl.SSLError) and "_ALERT_" in (exc.reason or ""):
            how = f"refused our certificate or TLS ({exc.reason}) and closed"
        self._fail(NoAnswer(f"{self._where} {how} the connection before it answered"))

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Frame) and not self.ended:
                self._answer(event.payload)

    def _answer(self, payload: bytes) -> None:
        if self._client.commit_bytes:
            if payload in (COMMITTED, NOT_COMMITTED):
                self._commit(payload == COMMITTED)
                return
            assert self._transport is not None
            self._transport.write(frame(COMMITTED))
        reply = read_reply(payload)
        if reply is not None:
            for place, (control_id, answer) in enumerate(self._in_flight):
                if control_id == reply.control_id:
                    del self._in_flight[place]
                    self._answered.append(control_id)
                    if not answer.done():
                        answer.set_result(reply)
                    return
            if reply.control_id in self._answered:
                self._client.extra(reply)
                return
        if self._in_flight:
            _, oldest = self._in_flight.popleft()
            if not oldest.done():
                what = "is no HL7 acknowledgement" if reply is None else "is for another control id"
                oldest.set_exception(Mismatched(f"the answer of {self._where} {what}"))
        self.end(NoAnswer(f"{self._where} gave an answer that belongs to no message"))

    def _commit(self, committed: bool) -> None:
        """The commit byte of the message in flight; one that nobody waits for ends the connection."""
        waiting = next((commit for commit in self._commits if not commit.done()), None)
        if waiting is None:
            self.end(NoAnswer(f"{self._where} gave a commit byte that belongs to no message"))
        else:
            waiting.set_result(committed)
