"""Who takes the application ACKs: an MLLP receiver in the driver's process that remembers them, and misbehaves on demand.

What holds:
- Whatever came whole is remembered, answered or not: what a hospital's system has read, it may have acted upon.
- An answer is a commit to the MSH-10 that came, or to another one, or half of one, or none: only the first settles
  anything, and everything else must bring the very same bytes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

# how it may answer, and how often while it is not told to be calm
MANNERS = {"ok": 14, "slow": 1, "error": 2, "cut": 2, "half": 1, "other": 1, "silent": 1}
SILENCE = 3.0  # seconds, longer than the daemon waits


@dataclass(frozen=True, slots=True)
class ApplicationAck:
    """One that came: whose it is (MSA-2), what it says (MSA-1), its own MSH-10, its bytes; was it answered as taken?"""

    answers: str
    code: str
    control_id: str
    digest: bytes
    taken: bool


class Receiver:
    """`start`, set `calm`, read `came`, `stop`."""

    def __init__(self, seed: str) -> None:
        self.calm = False
        self.came: list[ApplicationAck] = []
        self.broken: list[str] = []  # what came and is no application ACK
        self.manners: Counter[str] = Counter()
        self.port = 0
        self._choose = random.Random(f"{seed} receiver")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        if self._server is not None:
            return
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening)

    async def stop(self) -> None:
        """Hang up on everyone and stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._one(await reader.readuntil(b"\x1c\r"), writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the daemon was killed, or this receiver stopped
        finally:
            self._open.discard(writer)
            with suppress(OSError):
                writer.close()

    async def _one(self, block: bytes, writer: asyncio.StreamWriter) -> bool:
        """Remembers and answers it. False: the connection is over."""
        fields = {line[:3]: line.split(b"|") for line in block[1:-2].split(b"\r")}
        head, body = fields.get(b"MSH", []), fields.get(b"MSA", [])
        if block[:1] != b"\x0b" or len(head) < 12 or len(body) < 3:
            self.broken.append(f"{len(block)} bytes came that are no application ACK")
            return False
        manner = "ok" if self.calm else self._choose.choices(list(MANNERS), list(MANNERS.values()))[0]
        self.manners[manner] += 1
        text = [part.decode("utf-8", "replace") for part in (body[2], body[1], head[9])]
        self.came.append(ApplicationAck(*text, hashlib.sha256(block).digest(), manner in ("ok", "slow")))
        if manner == "silent":
            await asyncio.sleep(SILENCE)
        if manner in ("silent", "cut"):
            return False
        if manner == "slow":
            await asyncio.sleep(self._choose.uniform(0.05, 0.5))
        answer = _answer(b"CE" if manner == "error" else b"CA", head[9][:-1] if manner == "other" else head[9])
        writer.write(answer[: len(answer) // 2] if manner == "half" else answer)
        await writer.drain()
        return manner != "half"


def _answer(code: bytes, control_id: bytes) -> bytes:
    head = b"MSH|^~\\&|CHAOS|S|||20240305143012+0100||ACK|r1|P|2.5.1"
    return b"\x0b" + head + b"\rMSA|" + code + b"|" + control_id + b"\r\x1c\r"
