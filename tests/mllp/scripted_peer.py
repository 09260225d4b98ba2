"""A peer that does what a test's script says, against a real server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from hl7bridge.config import Listener
from hl7bridge.mllp.framing import Frame, Framer
from hl7bridge.mllp.gate import Limits, Refusal
from hl7bridge.mllp.observer import Observer
from hl7bridge.mllp.peer import Peer
from hl7bridge.mllp.server import MllpServer

PATIENCE = 5.0  # a test that waits this long has failed; nothing that works comes near it


def listener(**keys: Any) -> Listener:
    return Listener(**{"host": "127.0.0.1", "port": 0, **keys})


async def eventually(condition: Callable[[], bool]) -> None:
    """Gives the loop its turns until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


class Recorder(Observer):
    """Writes down what the server says, and lets a test wait for it."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self._news = asyncio.Event()

    def _note(self, *facts: Any) -> None:
        self.said.append(facts)
        self._news.set()

    async def until(self, *facts: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while facts not in self.said:
                self._news.clear()
                await self._news.wait()

    def opened(self, peer: Peer) -> None:
        self._note("opened")

    def closed(self, peer: Peer) -> None:
        self._note("closed")

    def denied(self, peer: Peer, denial: Any) -> None:
        self._note("denied", str(denial))

    def probed(self, peer: Peer) -> None:
        self._note("probed")

    def starved(self, cause: str) -> None:
        self._note("starved", cause)

    def rotated(self, paths: Any) -> None:
        self._note("rotated")

    def not_rotated(self, why: str) -> None:
        self._note("not_rotated", why)

    def ending(self, ending: Any) -> None:
        self._note("ending", ending.key)

    def frame(self, peer: Peer, size: int) -> None:
        self._note("frame", size)

    def junk(self, peer: Peer, count: int) -> None:
        self._note("junk", count)

    def broken(self, peer: Peer, count: int, cause: Any) -> None:
        self._note("broken", count, str(cause))

    def too_large(self, peer: Peer) -> None:
        self._note("too_large")

    def dropped(self, peer: Peer, why: Any) -> None:
        self._note("dropped", str(why))

    def failed(self, peer: Peer, error: BaseException) -> None:
        self._note("failed", type(error).__name__)

    def unanswered(self, peer: Peer, count: int) -> None:
        self._note("unanswered", count)


class Echo:
    """A handler whose answer is ACK and the payload; a payload that begins with `hold` waits until it is let go."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.peers: list[Peer] = []
        self.go = asyncio.Event()
        self.answers: dict[bytes, bytes | None] = {}

    async def __call__(self, payload: bytes, peer: Peer) -> bytes | None:
        self.seen.append(payload)
        self.peers.append(peer)
        if payload.startswith(b"hold"):
            await self.go.wait()
        if payload.startswith(b"boom"):
            raise ValueError("SENTINEL " + payload.decode())
        return self.answers.get(payload, b"ACK " + payload)


def refuse(head: bytes, refusal: Refusal, peer: Peer) -> bytes:
    return b"NAK " + str(refusal).encode() + b" " + head[:3]


class Script:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._framer = Framer(1 << 26)
        self._answers: list[bytes] = []

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self) -> bytes:
        """The payload of the next answer; EOFError when the server closed instead."""
        async with asyncio.timeout(PATIENCE):
            while not self._answers:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._answers += [event.payload for event in self._framer.feed(data) if isinstance(event, Frame)]
        return self._answers.pop(0)

    async def closed(self) -> bool:
        """Waits until the server closes or resets; whether it did so without another byte."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b"" and not self._answers
            except ConnectionError:
                return True

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Closes with RST."""
        connected = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class Bench:
    """A running server, its handler and observer, and as many peers as a test opens."""

    def __init__(self, server: MllpServer, echo: Echo, recorder: Recorder) -> None:
        self.server = server
        self.echo = echo
        self.recorder = recorder
        self._scripts: list[Script] = []

    async def peer(self, tls: ssl.SSLContext | None = None) -> Script:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, ssl=tls, server_hostname=name)
        script = Script(reader, writer)
        self._scripts.append(script)
        return script

    async def close(self) -> None:
        self.echo.go.set()
        for script in self._scripts:
            await script.close()
        await self.server.drain(PATIENCE)


@contextlib.asynccontextmanager
async def bench(
    keys: dict[str, Any] | None = None,
    limits: Limits | None = None,
    refusing: Callable[[bytes, Refusal, Peer], bytes | None] = refuse,
) -> AsyncIterator[Bench]:
    echo, recorder = Echo(), Recorder()
    server = MllpServer(listener(**(keys or {})), echo, refusing, recorder, limits)
    await server.start()
    running = Bench(server, echo, recorder)
    try:
        yield running
    finally:
        await running.close()
