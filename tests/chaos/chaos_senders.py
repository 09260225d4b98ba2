"""Senders that behave badly on the wire and remember exactly what they were told.

What holds:
- Of one patient at most one message is on its way: the next begins when the one before has its positive answer. So the
  sender's order is the order that has to come out.
- What was not answered positively is sent again, the same bytes, until it is.
- What an answer must be is judged here, where the connection is known: the answers of one connection come in the order
  of its whole frames, each with its MSA-2; a frame that was cut off has none.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from chaos_feed import Message

WINDOW = 6  # messages on one connection at once
PATIENCE = 8.0  # seconds without an answer, then the connection is given up
STYLES = {
    "whole": 6,
    "together": 6,
    "bytes": 1,
    "junk": 2,
    "halfclose": 3,
    "cut": 3,
    "cut_reset": 2,
    "reset": 2,
    "probe": 1,
    "again": 3,
    "twin": 2,
}


@dataclass
class Sender:
    """One sender. `run` until `stop` is set; then `finish` sends what is left without mischief."""

    name: str
    port: int
    feed: Iterator[Message]
    seed: str
    pause: Callable[[], float]
    sent: list[Message] = field(default_factory=list)
    positive: dict[str, set[bytes]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._choose = random.Random(f"{self.seed} sender {self.name}")
        self._pending: deque[Message] = deque()  # begun and not answered positively
        self._next: Message | None = None
        self._refused = False
        self.exhausted = False

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            pause = self.pause()  # slower, never silent: a kill must always find answers under way
            await asyncio.sleep(pause)
            style = self._choose.choices(list(STYLES), list(STYLES.values()))[0]
            if not await self._connection(style, rounds=self._choose.randrange(1, 6) if not pause else 1):
                await asyncio.sleep(self._choose.uniform(0, 0.2))
            if self._refused:  # told to send again: not at once
                self._refused = False
                await asyncio.sleep(0.2)
            if self.exhausted and not self._pending:
                return

    async def finish(self) -> None:
        """Without mischief until everything is answered, and then a last round whose answers must all come at once."""
        while self._pending:
            self._next = None
            if not await self._connection("whole", rounds=1, new=False):
                await asyncio.sleep(0.1)
        before = self.counts["unanswered"]
        await self._connection("halfclose", rounds=1)
        if self.counts["unanswered"] != before or self._pending:
            self.wrong.append(f"{self.name}: not every message of the last, calm round was answered")

    # ---- one connection ----

    async def _connection(self, style: str, rounds: int, new: bool = True) -> bool:
        """False: it ended before everything was answered, or there was nothing to send."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.counts["refused"] += 1
            return False
        self.counts[style] += 1
        try:
            if style == "probe":
                if self._choose.random() < 0.5:
                    _reset(writer)
                return True
            for _ in range(rounds):
                batch = self._batch(new)
                if not batch:
                    return False
                if not await self._round(style, batch, reader, writer):
                    return style in ("halfclose", "cut", "cut_reset", "reset")
            return True
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.counts["unanswered"] += 1
            return False
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _batch(self, new: bool) -> list[Message]:
        """What has no answer yet, in order, and then new messages, as long as no two share a patient."""
        batch: list[Message] = []
        lanes: set[str] = set()
        held: set[str] = set()
        for message in self._pending:
            if len(batch) < WINDOW and not (message.lanes & (lanes | held)):
                batch.append(message)
                lanes |= message.lanes
            else:
                held |= message.lanes
        while new and len(batch) < WINDOW and not self.exhausted:
            if self._next is None:
                self._next = next(self.feed, None)
            if self._next is None:
                self.exhausted = True
            elif self._next.lanes & (lanes | held):
                break
            else:
                message, self._next = self._next, None
                self.sent.append(message)
                self._pending.append(message)
                batch.append(message)
                lanes |= message.lanes
        return batch

    async def _round(
        self, style: str, batch: list[Message], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Sends the batch in its style and reads the answers. False: the connection is over."""
        frames = [b"\x0b" + message.raw + b"\x1c\r" for message in batch]
        if style == "whole":
            for message, frame in zip(batch, frames, strict=True):
                writer.write(frame)
                await self._answers([message], reader)
            return True
        if style == "bytes":
            for frame in frames:
                for start in range(0, len(frame), 97):
                    writer.write(frame[start : start + 97])
                    await asyncio.sleep(0)
        elif style == "junk":
            for frame in frames:
                writer.write(b"j\r\nunk\x1cx\r" + frame + b"\n\x1c\r")
        elif style in ("cut", "cut_reset"):
            cut = self._choose.randrange(1, len(frames[-1]) - 2)
            writer.write(b"".join(frames[:-1]) + frames[-1][:cut])
            await writer.drain()
            if style == "cut_reset":
                await self._answers(batch[:-1], reader)
                _reset(writer)
            else:
                writer.write_eof()
                await self._answers(batch[:-1], reader, to_the_end=True)
            return False
        elif style == "twin":
            await asyncio.gather(self._elsewhere(batch[0]), self._sent_here(frames, writer))
        else:
            writer.write(b"".join(frames))
        await writer.drain()
        if style == "reset":
            await asyncio.sleep(self._choose.choice([0, 0.001, 0.02]))
            _reset(writer)
            return False
        if style == "halfclose":
            writer.write_eof()
            await self._answers(batch, reader, to_the_end=True)
            return False
        await self._answers(batch, reader)
        if style == "again":
            writer.write(b"".join(frames))
            await self._answers(batch, reader)
        return True

    async def _sent_here(self, frames: list[bytes], writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(frames))
        await writer.drain()

    async def _elsewhere(self, message: Message) -> None:
        """The same message at the same time on a second connection."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        try:
            writer.write(b"\x0b" + message.raw + b"\x1c\r")
            await self._answers([message], reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.counts["unanswered"] += 1
        finally:
            writer.close()

    # ---- answers ----

    async def _answers(self, batch: list[Message], reader: asyncio.StreamReader, to_the_end: bool = False) -> None:
        for message in batch:
            async with asyncio.timeout(PATIENCE):
                answer = await reader.readuntil(b"\x1c\r")
            self._judge(message, answer)
        if to_the_end:
            async with asyncio.timeout(PATIENCE):
                rest = await reader.read()
            if rest:
                self.wrong.append(f"{self.name}: {len(rest)} bytes behind the last answer")

    def _judge(self, message: Message, answer: bytes) -> None:
        self.counts["answers"] += 1
        segments = {line[:3]: line.split(b"|") for line in answer[1:-2].split(b"\r")}
        msa = segments.get(b"MSA", [])
        if answer[:1] != b"\x0b" or len(msa) < 3:
            self.wrong.append(f"{message.control_id}: an answer that is none")
        elif msa[2] != message.raw.split(b"|", 10)[9]:
            self.wrong.append(f"{message.control_id}: answered with another MSA-2")
        elif msa[1] in (b"AA", b"CA"):
            answers = self.positive.setdefault(message.control_id, set())
            if answers:
                self.counts["answered again"] += 1
            answers.add(answer)
            with suppress(ValueError):
                self._pending.remove(message)
        elif re.search(rb"[|&^]207[&^]", answer):  # table 0357, in ERR-3 from version 2.5 on, in ERR-1 before
            self.counts["not stored"] += 1
            self._refused = True
        elif message.fate == "either":  # a real feed holds what is refused: that is an answer, and nothing is kept
            self.counts["refused messages"] += 1
            with suppress(ValueError):
                self._pending.remove(message)
        else:
            self.wrong.append(f"{message.control_id}: refused although nothing is wrong with it")
            with suppress(ValueError):
                self._pending.remove(message)


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN, with whatever is unread or unsent thrown away."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
