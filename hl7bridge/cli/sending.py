"""The work of `hl7bridge send`: messages over several connections, and what became of each.

What holds: a message goes out after the one before it on its connection; nothing is counted as accepted but an answer
AA or CA to its own control id; what is reported of an answer is codes and table 0357's own words, never what it quotes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from hl7bridge.cli.inputs import Input, Unusable
from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.ack import ASKED, CONDITIONS, Stamp, commit, is_acknowledgement, later, mode
from hl7bridge.hl7v2.header import read_header
from hl7bridge.mllp.client import (
    MAX_REPLY_BYTES,
    Mismatched,
    MllpClient,
    NoAnswer,
    NotCommitted,
    NotSent,
    Reply,
    read_reply,
)
from hl7bridge.mllp.framing import Frame, Framer, frame

RETRY_PAUSE = 0.2  # seconds between attempts of --retry-for
LAST_WORD = 0.5  # seconds an objection to a message that wants no answer may take at the end
CODES = ("AA", "CA", "AE", "AR", "CE", "CR")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. timeout and retry_for in seconds."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    rate: float | None
    repeat: int
    connections: int
    window: int
    timeout: float
    retry_for: float
    mllp2: bool = False
    ack_port: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that was not accepted. code: MSA-1, or `no answer`, `mismatched` …; number 0: a whole file."""

    file: str
    number: int
    code: str
    condition: str = ""
    text: str = ""

    def line(self) -> str:
        """`feed.hl7: message 7: AR 201 Unsupported event code`."""
        where = f"{self.file}: message {self.number}" if self.number else self.file
        return f"{where}: {' '.join(filter(None, (self.code, self.condition, self.text)))}"


@dataclass(slots=True)
class Tally:
    """What became of everything."""

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    not_asked: int = 0
    later: Counter[str] = field(default_factory=Counter)  # application ACKs that came behind an accept ACK
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def unusable(self, item: Unusable) -> None:
        self.failures.append(Failure(item.name, 0, item.why))

    def answered(self, item: Input, reply: Reply) -> None:
        self._count(self.codes, item, reply)

    def unanswered(self, item: Input, error: Exception) -> None:
        what = "no answer"
        if isinstance(error, Mismatched):
            what = "mismatched"
        elif isinstance(error, NotSent):
            what = "not sent"
        elif isinstance(error, NotCommitted):
            what = "not committed"
        self.codes[what] += 1
        self.failures.append(Failure(item.name, item.number, what, "", f"({error})"))

    def answered_later(self, item: Input, reply: Reply) -> None:
        """The application ACK of a message that was accepted before."""
        self._count(self.later, item, reply)

    def _count(self, codes: Counter[str], item: Input, reply: Reply) -> None:
        code = reply.ack_code.decode("ascii", "replace")
        code = code if code in CODES else "unknown code"
        codes[code] += 1
        if not reply.accepted:
            condition = error_condition(reply.raw)
            self.failures.append(Failure(item.name, item.number, code, condition, CONDITIONS.get(condition, "")))

    def never_answered_later(self, item: Input) -> None:
        self.later["did not come"] += 1
        self.failures.append(Failure(item.name, item.number, "no application ACK"))

    @property
    def per_second(self) -> float:
        return self.sent / self.seconds if self.seconds else 0.0

    def summary(self) -> str:
        """`sent 3: 2 AA, 1 AR; 3 messages in 0.1 s, 30 a second`."""
        parts = [f"{count} {code}" for code, count in sorted(self.codes.items(), key=lambda pair: -pair[1])]
        if self.not_asked:
            parts.append(f"{self.not_asked} that ask for no answer")
        later = ", ".join(f"{count} {code}" for code, count in sorted(self.later.items(), key=lambda pair: -pair[1]))
        return (
            f"sent {self.sent}: {', '.join(parts) or 'nothing'}; {self.seconds:.1f} s, {self.per_second:.0f} a second"
            + (f"; application ACKs: {later}" if later else "")
        )

    def facts(self) -> dict[str, Any]:
        """For --json."""
        return {
            "sent": self.sent,
            "answers": dict(sorted(self.codes.items())),
            "no_answer_asked": self.not_asked,
            "application_acks": dict(sorted(self.later.items())),
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "failures": [asdict(failure) for failure in self.failures],
        }


def error_condition(answer: bytes) -> str:
    """The table 0357 code of an answer's first ERR: ERR-3.1, or ERR-1.4.1 as before 2.5; "" when there is none."""
    try:
        separators = read_header(answer).separators
    except PeerError:
        return ""
    for line in answer.replace(b"\n", b"\r").split(b"\r"):
        fields = line.decode("latin-1").split(separators.field)
        if fields[0] != "ERR":
            continue
        new = separators.components(fields[3])[0] if len(fields) > 3 else ""
        old = (separators.components(fields[1]) if len(fields) > 1 else []) + [""] * 4
        code = new or separators.subcomponents(old[3])[0]
        return code if code.isascii() and code.isdigit() and len(code) <= 3 else ""
    return ""


def asks_for_answer(raw: bytes) -> bool:
    """Will every receiver answer this message, whether it takes it or not?"""
    try:
        header = read_header(raw)
    except PeerError:
        return True
    return not is_acknowledgement(header) and mode(header).condition == "AL"


class Job:
    """Sends `inputs` and fills `tally`; `tick` is called for each message that is done with."""

    def __init__(self, options: Options, inputs: Sequence[Input], tally: Tally, tick: Callable[[], object]) -> None:
        self._options = options
        self._inputs = inputs
        self._tally = tally
        self._tick = tick
        self._next_at = 0.0
        self._posted: dict[bytes, Input] = {}
        self._owed: dict[bytes, Input] = {}  # by MSH-10: accepted, and the application ACK is to come
        self._all_came = asyncio.Event()

    async def run(self) -> None:
        """Raises NotSent when nobody listens there at all."""
        options = self._options
        clients = [
            MllpClient(
                options.host,
                options.port,
                options.tls,
                timeout=options.timeout,
                window=options.window,
                on_extra=self._extra,
                commit_bytes=options.mllp2,
            )
            for _ in range(min(options.connections, max(1, len(self._inputs) * options.repeat)))
        ]
        started = time.perf_counter()
        later = await listen(options.ack_port, self._extra) if options.ack_port is not None else None
        try:
            await self._first_contact(clients[0])
            async with asyncio.TaskGroup() as group:
                for place, client in enumerate(clients):
                    group.create_task(self._line(client, place, len(clients)))
            if self._posted and self._tally.not_asked:
                await asyncio.sleep(min(LAST_WORD, options.timeout))
            await self._wait_for_owed()
        finally:
            self._tally.seconds = time.perf_counter() - started
            if later is not None:
                later.close()
            for client in clients:
                await client.close()

    async def _first_contact(self, client: MllpClient) -> None:
        if not self._inputs:
            return
        until = time.perf_counter() + self._options.retry_for
        while True:
            try:
                await client.connect()
                return
            except NotSent:
                if time.perf_counter() >= until:
                    raise
                await asyncio.sleep(RETRY_PAUSE)

    async def _line(self, client: MllpClient, place: int, lines: int) -> None:
        """One connection's share: every `lines`-th message, in order."""
        total = len(self._inputs) * self._options.repeat
        room = asyncio.Semaphore(self._options.window)
        async with asyncio.TaskGroup() as group:
            for index in range(place, total, lines):
                await room.acquire()
                await self._turn()
                group.create_task(self._one(client, self._inputs[index % len(self._inputs)], room))

    async def _turn(self) -> None:
        """Waits until --rate allows the next message."""
        if self._options.rate is None:
            return
        now = time.perf_counter()
        at = max(self._next_at, now)
        self._next_at = at + 1 / self._options.rate
        if at > now:
            await asyncio.sleep(at - now)

    async def _one(self, client: MllpClient, item: Input, room: asyncio.Semaphore) -> None:
        until = time.perf_counter() + self._options.retry_for
        self._tally.sent += 1
        try:
            while True:
                try:
                    await self._exchange(client, item)
                    return
                except (NotSent, NoAnswer) as error:
                    if time.perf_counter() >= until or isinstance(error, Mismatched):
                        self._tally.unanswered(item, error)
                        return
                await asyncio.sleep(RETRY_PAUSE)
        finally:
            room.release()
            self._tick()

    async def _exchange(self, client: MllpClient, item: Input) -> None:
        control_id = _control_id(item.raw)
        if self._options.ack_port is not None and asks_for_application_ack(item.raw):
            self._owed[control_id] = item  # before the message is out: its answer may be faster than the accept ACK
            self._all_came.clear()
        if asks_for_answer(item.raw):
            reply = await client.send(item.raw)
            self._tally.answered(item, reply)
            if not reply.accepted:
                self._no_longer_owed(control_id)
            return
        # before the message is out, so that an objection finds it
        self._posted[control_id] = item
        await client.post(item.raw)
        self._tally.not_asked += 1

    def _extra(self, reply: Reply) -> None:
        """An answer nobody waits for: the application ACK behind an accept ACK, or an objection."""
        owed = self._owed.get(reply.control_id)
        if owed is not None and reply.ack_code[:1] == b"A":
            self._no_longer_owed(reply.control_id)
            self._tally.answered_later(owed, reply)
        else:
            self._objection(reply)

    def _no_longer_owed(self, control_id: bytes) -> None:
        self._owed.pop(control_id, None)
        if not self._owed:
            self._all_came.set()

    async def _wait_for_owed(self) -> None:
        """At most --timeout; what did not come by then is told."""
        if not self._owed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.timeout):
                await self._all_came.wait()
        for item in self._owed.values():
            self._tally.never_answered_later(item)

    def _objection(self, reply: Reply) -> None:
        """An answer to a message that asks for one only when it is refused (MSH-15 ER), or never."""
        item = self._posted.get(reply.control_id)
        if item is not None and not reply.accepted:
            self._tally.not_asked -= 1
            self._tally.answered(item, reply)


def _control_id(raw: bytes) -> bytes:
    try:
        return read_header(raw).control_id
    except PeerError:
        return b""


def asks_for_application_ack(raw: bytes) -> bool:
    """Is it owed an application ACK as an exchange of its own, whatever becomes of it (MSH-16 AL)?"""
    try:
        return later(read_header(raw)) == "AL"
    except PeerError:
        return False


async def listen(port: int, came: Callable[[Reply], None]) -> asyncio.Server:
    """Takes application ACKs on this machine's `port` and answers those that ask for it. NotSent: the port is taken."""
    numbers = itertools.count(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(MAX_REPLY_BYTES)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in framer.feed(data):
                    if isinstance(event, Frame):
                        answer = _taken(event.payload, f"SEND{next(numbers)}", came)
                        writer.write(frame(answer) if answer else b"")
        writer.close()

    try:
        return await asyncio.start_server(serve, "0.0.0.0", port)
    except OSError as error:
        raise NotSent(f"cannot listen for application ACKs on port {port}: {error.strerror}") from None


def _taken(payload: bytes, own_id: str, came: Callable[[Reply], None]) -> bytes | None:
    """Hands on an application ACK; its own accept ACK where MSH-15 asks for one."""
    reply = read_reply(payload)
    if reply is None:
        return None
    came(reply)
    header = read_header(payload)
    return commit(header, Stamp(datetime.now().astimezone(), own_id)) if header.accept_ack in ASKED else None
