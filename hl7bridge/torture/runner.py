"""Runs cases against a receiver, one after another, and behind each sends an ordinary message on a new connection.

What holds here:
  - Nothing is sent but what a plan says, and that ordinary message; never more connections than the plan opens.
  - Answers are read up to a limit; a receiver that says more is cut off.
  - Every wait ends: connecting and answers after `timeout`, silence after `quiet`.
  - A case only fails for what it did: when the ordinary message got no answer before, its absence behind is no fault.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.framing import Broken, Frame, Framer, TooLarge, frame
from hl7bridge.torture import case as c
from hl7bridge.torture.case import Ack, Came, Case, Judgement, Plan, Verdict
from hl7bridge.torture.judge import said, taken
from hl7bridge.torture.maker import Maker, Speaker

MAX_ANSWER_BYTES: Final = 1024 * 1024  # of one answer, and of all that one connection may say
COMMITS: Final = (b"\x06", b"\x15")  # MLLP Release 2 says these before the answer; a Release 1 sender passes over them


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to send to, and how long to wait, in seconds.

    pause: where a case waits between two pieces; quiet: how long silence is listened to; settle: how long for an answer
    too many at the end of a case.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    timeout: float = 5.0
    quiet: float = 1.0
    pause: float = 0.2
    settle: float = 0.2

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case. `came`: in words; `seconds` it took."""

    case: Case
    judgement: Judgement
    came: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a run will send at most."""

    cases: int
    messages: int
    bytes: int
    connections: int  # open at once


def load_of(cases: Sequence[Case], speaker: Speaker) -> Load:
    """Counted from the plans, with the ordinary message behind each and the one before all."""
    extra = len(frame(Maker(speaker).message(b"0" * 20)))
    messages, size, most = 1, extra, 1
    for one in cases:
        sends = [step for step in one.build(Maker(speaker)).steps if isinstance(step, c.Send)]
        messages += sum(step.data.count(b"\x0b") for step in sends) + 1
        size += sum(len(step.data) for step in sends) + extra
        plan = one.build(Maker(speaker))
        most = max(most, _open_at_once(plan))
    return Load(len(cases), messages, size, most)


def _open_at_once(plan: Plan) -> int:
    open_now: set[int] = set()
    most = 0
    for step in plan.steps:
        if isinstance(step, c.Open | c.Send):
            open_now.add(step.connection)
        elif isinstance(step, c.Close):
            open_now.discard(step.connection)
        most = max(most, len(open_now))
    return most


class Torture:
    """One run. `maker` makes the messages; use `run` once."""

    def __init__(self, target: Target, maker: Maker) -> None:
        self._target = target
        self._maker = maker
        self._alive = False  # an ordinary message was answered before all cases
        self._lost = ""  # the case behind which it was answered no more
        self._takes = False  # and positively

    async def run(self, cases: Sequence[Case], done: Callable[[Outcome], None]) -> None:
        """Tells `done` each outcome as it comes. Raises UnavailableError when nobody listens there."""
        came = await self._ordinary(first=True)
        self._alive = came is not None
        self._takes = came is not None and came.acks[0].code in c.POSITIVE
        for one in cases:
            began = time.monotonic()
            judgement, words = await self._case(one)
            done(Outcome(one, judgement, words, time.monotonic() - began))

    async def _case(self, one: Case) -> tuple[Judgement, str]:
        plan = one.build(self._maker)
        if plan.clear_only and self._target.tls is not None:
            return Judgement(Verdict.NOT_APPLICABLE, "not over TLS"), "not run"
        if self._lost and await self._ordinary() is None:
            return Judgement(Verdict.NOT_APPLICABLE, f"no ordinary message is answered since {self._lost}"), "not run"
        self._lost = ""
        came = replace(await self._play(plan.steps), takes=self._takes)
        judgement = plan.judge(came)
        if self._alive and await self._ordinary() is None:
            self._lost = one.name
            after = "an ordinary message on a new connection got no answer afterwards"
            judgement = Judgement(Verdict.FAIL, f"{judgement.text}; {after}")
        return judgement, said(came)

    async def _ordinary(self, first: bool = False) -> Came | None:
        """Sends one; None when it gets no answer, or a wrong one."""
        control_id = self._maker.id()
        came = await self._play((c.Send(frame(self._maker.message(control_id))), c.Await()), settle=False)
        if came.refused and first:
            raise UnavailableError(f"no connection to {self._target.where}")
        answered = taken(control_id, negative=Verdict.PASS)(came).verdict is Verdict.PASS
        return came if answered else None

    async def _play(self, steps: Sequence[c.Step], settle: bool = True) -> Came:
        play = _Play(self._target)
        try:
            for step in steps:
                await play.take(step)
            if settle:
                await asyncio.sleep(self._target.settle)
            return play.came()
        finally:
            await play.end()


class _Play:
    """The connections of one case."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wires: dict[int, _Wire] = {}
        self._refused: set[int] = set()
        self._order: list[Ack] = []
        self._step = 0

    async def take(self, step: c.Step) -> None:
        target = self._target
        self._step += 1
        if isinstance(step, c.Pause):
            await asyncio.sleep(step.times * target.pause)
            return
        if isinstance(step, c.Open | c.Send):
            await self._connect(step.connection)
        wire = self._wires.get(step.connection)
        if wire is None:
            return
        if isinstance(step, c.Send):
            await wire.send(step.data, target.timeout)
        elif isinstance(step, c.Await):
            await wire.wait(lambda: wire.blocks >= step.answers, target.timeout)
        elif isinstance(step, c.Listen):
            before = wire.blocks
            await wire.wait(lambda: wire.blocks > before, target.quiet)
        elif isinstance(step, c.Deaf):
            wire.deaf(step.deaf)
        elif isinstance(step, c.Finish):
            wire.finish()
        elif isinstance(step, c.Close):
            wire.close(step.reset)

    async def _connect(self, number: int) -> None:
        if number in self._wires or number in self._refused:
            return
        target = self._target
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(target.timeout):
                _, wire = await loop.create_connection(
                    lambda: _Wire(number, self._order, lambda: self._step), target.host, target.port, ssl=target.tls
                )
        except OSError:  # TimeoutError and ssl.SSLError are of this kind
            self._refused.add(number)
            return
        self._wires[number] = wire

    def came(self) -> Came:
        wires = self._wires.items()
        return Came(
            acks=tuple(self._order),
            unreadable=sum(wire.unreadable for _, wire in wires),
            ended=frozenset(number for number, wire in wires if wire.ended),
            refused=frozenset(self._refused),
            markers=sum(wire.markers for _, wire in wires),
        )

    async def end(self) -> None:
        for wire in self._wires.values():
            wire.close(reset=False)
        for wire in self._wires.values():
            await wire.wait(lambda wire=wire: wire.gone, self._target.timeout)  # type: ignore[misc]
            wire.close(reset=True)


@dataclass
class _Wire(asyncio.Protocol):
    """One connection: what came on it. `ended`: the receiver ended it, before we did."""

    number: int
    order: list[Ack] = field(repr=False)
    step: Callable[[], int]
    blocks: int = 0
    unreadable: int = 0
    markers: int = 0
    ended: bool = False
    gone: bool = False

    def __post_init__(self) -> None:
        self._framer = Framer(MAX_ANSWER_BYTES)
        self._heard = 0
        self._closing = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def send(self, data: bytes, seconds: float) -> None:
        if self.ended or self._closing:
            return
        self._transport.write(data)
        try:
            async with asyncio.timeout(seconds):
                await self._writable.wait()
                await asyncio.sleep(0)
        except TimeoutError:
            return  # the receiver reads no more: what it says next is the case's to judge

    async def wait(self, enough: Callable[[], bool], seconds: float) -> None:
        """Until `enough`, or the connection's end, or the timeout."""
        try:
            async with asyncio.timeout(seconds):
                while not enough() and not self.gone and not (self.ended and not self._closing):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def deaf(self, deaf: bool) -> None:
        if not self.gone:
            (self._transport.pause_reading if deaf else self._transport.resume_reading)()

    def finish(self) -> None:
        if not self.gone and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self, reset: bool) -> None:
        self._closing = True
        if self.gone:
            return
        if reset:
            _linger_not(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

    # -- what asyncio calls

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > MAX_ANSWER_BYTES:
            self._transport.abort()
            return
        for event in self._framer.feed(data):
            if isinstance(event, Frame) and event.payload not in COMMITS:
                self._answer(event.payload)
            elif isinstance(event, Broken | TooLarge):
                self.unreadable += 1
        self._changed.set()

    def _answer(self, payload: bytes) -> None:
        acks = acks_of(payload, self.number, self.step())
        self.blocks += 1
        self.order += acks
        self.unreadable += not acks
        self.markers += Maker.MARKER in payload

    def eof_received(self) -> None:
        self.ended = self.ended or not self._closing
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or not self._closing
        self.gone = True
        self._writable.set()
        self._changed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()


def _linger_not(transport: asyncio.Transport) -> None:
    """Makes the close that follows a RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def acks_of(payload: bytes, connection: int = 0, step: int = 0) -> list[Ack]:
    """Every MSA of one answer, which may be a batch of them; none when it is no acknowledgement."""
    found: list[Ack] = []
    separator = b""
    for line in re.split(rb"[\r\n]+", payload):
        if line[:3] == b"MSH":
            separator = line[3:4]
        elif separator and line[:4] == b"MSA" + separator:
            fields = line.split(separator)
            found.append(Ack(fields[1], fields[2] if len(fields) > 2 else b"", connection, step))
    return found
