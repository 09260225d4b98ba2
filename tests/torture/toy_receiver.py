"""A small MLLP receiver that does everything as the battery expects, but for the defects a test gives it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from hl7bridge.mllp.framing import Broken, Cause, Event, Frame, Framer, Junk, frame

TYPES = (b"ADT",)
VERSIONS = (b"2.5.1",)


class Toy(asyncio.Protocol):
    """One connection. A defect is a method of a subclass that does it wrong."""

    def __init__(self, server: list[asyncio.Server]) -> None:
        self.server = server
        self.framer = Framer(1 << 22)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.take(self.events(data))
        asyncio.get_running_loop().call_later(0.02, lambda: self.take(self.framer.pause()))

    def eof_received(self) -> None:
        self.take(self.framer.eof())

    def events(self, data: bytes) -> list[Event]:
        return self.framer.feed(data)

    def take(self, events: list[Event]) -> None:
        answers = [self.event(event) for event in events]
        for answer in self.arrange([answer for answer in answers if answer is not None]):
            self.transport.write(frame(answer))

    def arrange(self, answers: list[bytes]) -> list[bytes]:
        return answers

    def event(self, event: Event) -> bytes | None:
        if isinstance(event, Frame):
            return self.message(event.payload)
        if isinstance(event, Broken) and event.cause is Cause.EMBEDDED_FS:
            return self.broken(event.head)
        if isinstance(event, Junk):
            self.junk()
        return None

    def junk(self) -> None:
        """Thrown away."""

    def broken(self, head: bytes) -> bytes | None:
        return self.reply(b"AE", self.fields(head)[9])

    def message(self, payload: bytes) -> bytes | None:
        payload = payload.removeprefix(b"\xef\xbb\xbf")
        if payload.startswith(b"BHS"):
            inner = re.split(rb"(?<=\r)(?=MSH)", payload)[1:]
            return b"BHS|^~\\&\r" + b"".join(self.message(one) or b"" for one in inner) + b"BTS|2\r"
        if not payload.startswith(b"MSH"):
            return self.garbage()
        fields = self.fields(payload)
        if fields[8][:3] == b"ACK":
            return self.acknowledgement(fields)
        return self.judged(payload, fields)

    def judged(self, payload: bytes, fields: list[bytes]) -> bytes | None:
        code = b"AA"
        if not fields[9] or payload.count(b"\rMSH") or b"\x00" in payload:
            code = b"AE"
        elif fields[8][:3] not in TYPES or fields[11] not in VERSIONS or fields[10] not in (b"P", b"T"):
            code = b"AR"
        asks = fields[14]
        if asks:
            code = b"C" + code[1:]
        if asks == b"NE" or (asks == b"ER" and code == b"CA"):
            return None
        return self.reply(code, fields[9])

    def acknowledgement(self, fields: list[bytes]) -> bytes | None:
        return None

    def garbage(self) -> bytes | None:
        return self.reply(b"AE", b"")

    def fields(self, payload: bytes) -> list[bytes]:
        line = re.split(rb"[\r\n]", payload, maxsplit=1)[0]
        return [*line.split(line[3:4] or b"|"), *[b""] * 20]

    def reply(self, code: bytes, control_id: bytes) -> bytes:
        return b"MSH|^~\\&|TOY|||||20260101||ACK|1|P|2.5.1\rMSA|" + code + b"|" + control_id + b"\r"


@contextlib.asynccontextmanager
async def toy(kind: type[Toy] = Toy) -> AsyncIterator[int]:
    """The port of a receiver of that kind."""
    servers: list[asyncio.Server] = []
    server = await asyncio.get_running_loop().create_server(lambda: kind(servers), "127.0.0.1", 0)
    servers.append(server)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
