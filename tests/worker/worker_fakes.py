"""What the worker's tests stand on: a journal in memory, a clock that runs when everyone rests, a scripted endpoint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hl7bridge import reasons
from hl7bridge.config import Config, Fhir, Retry
from hl7bridge.config import DeadLetters as DeadLettersConfig
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.delivery.endpoint import Probe, Shipment
from hl7bridge.delivery.outcome import Blame, Dead, Delivered, Outcome, RetryAt, Unauthorised
from hl7bridge.errors import JournalError, JournalRefusal
from hl7bridge.journal.protocol import Appended, Change, Entry, Figures, Filter, Received, State, Step
from hl7bridge.worker import Observer, Translator, Worker

START = 1_700_000_000.0


class MemoryJournal:
    """Keeps the promises of hl7bridge.journal.protocol but one: nothing is durable. `broken`: calls that fail."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.changes: list[Change] = []
        self.audited: list[tuple[str, str, str, str]] = []
        self.claims = 0
        self.broken: dict[str, int] = {}
        self.now: Callable[[], float] = lambda: START

    async def _call(self, name: str) -> None:
        await asyncio.sleep(0)
        if self.broken.get(name, 0) > 0:
            self.broken[name] -= 1
            raise JournalError("the disk is full")

    def add(self, *lanes: str, state: State = State.RECEIVED, **values: Any) -> str:
        seq = len(self.entries) + 1
        entry = Entry(
            seq=seq, id=f"m{seq}", raw=b"MSH|^~\\&|%d" % seq, sha256=b"", received_at=START + seq, listener="default",
            peer="192.0.2.1", sender="A|B", control_id=f"C{seq}", type="ADT^A08", lanes=lanes, state=state, attempts=0,
            next_attempt=0.0, reason="", detail="", ack_code="AA", mapping_version="", delivered_at=None, replays=0,
        )  # fmt: skip
        self.entries[entry.id] = entry._replace(**values)
        return entry.id

    async def append(self, message: Received) -> Appended:
        id = self.add(*message.lanes, raw=message.raw, type=message.type, state=message.state, reason=message.reason)
        return Appended(id, message.ack, False, False)

    async def apply(self, change: Change) -> None:
        await self._call("apply")
        entry = self.entries.get(change.id)
        if entry is None or entry.state not in (State.RECEIVED, State.WAITING):
            raise JournalRefusal("it is not on its way")
        self.changes.append(change)
        self.entries[change.id] = entry._replace(
            state=change.state,
            attempts=change.attempts,
            next_attempt=change.next_attempt,
            reason=change.reason,
            detail=change.detail,
            mapping_version=change.mapping_version or entry.mapping_version,
            delivered_at=change.at if change.state is State.DELIVERED else None,
        )

    async def claimable(self, now: float, after_seq: int, limit: int) -> Sequence[Entry]:
        self.claims += 1
        found = [
            entry
            for entry in self.entries.values()
            if entry.seq > after_seq
            and (entry.state is State.RECEIVED or (entry.state is State.WAITING and entry.next_attempt <= now))
        ]
        await self._call("claimable")
        return sorted(found, key=lambda entry: entry.seq)[: min(limit, 7)]  # a page may be short

    async def blocked_lanes(self, now: float, among: Collection[str] | None = None) -> frozenset[str]:
        waiting = [entry for entry in self.entries.values() if entry.state is State.WAITING]
        return frozenset(lane for entry in waiting if entry.next_attempt > now for lane in entry.lanes)

    async def get(self, id: str) -> Entry | None:
        await self._call("get")
        return self.entries.get(id)

    async def find(self, filter: Filter) -> AsyncIterator[Entry]:
        await self._call("find")
        for entry in sorted(self.entries.values(), key=lambda entry: entry.seq):
            if self._matches(entry, filter):
                yield entry

    def _matches(self, entry: Entry, filter: Filter) -> bool:
        age = self.now() - entry.received_at
        return (
            (not filter.states or entry.state in filter.states)
            and filter.reason in (None, entry.reason)
            and filter.type in (None, entry.type)
            and filter.listener in (None, entry.listener)
            and filter.id in (None, entry.id)
            and (filter.older_than is None or age > filter.older_than)
            and (filter.newer_than is None or age < filter.newer_than)
        )

    async def history(self, id: str) -> Sequence[Step]:
        return ()

    async def replay(self, id: str, raw: bytes | None = None, *, by: str = "") -> None:
        entry = self.entries[id]
        if entry.state in (State.DEAD, State.DELIVERED):
            self.entries[id] = entry._replace(
                state=State.RECEIVED, attempts=0, reason="", replays=entry.replays + 1, raw=raw or entry.raw
            )

    async def purge(self, filter: Filter) -> int:
        gone = [id for id, entry in self.entries.items() if self._matches(entry, filter)]
        for id in gone:
            del self.entries[id]
        return len(gone)

    async def retain(self, now: float) -> int:
        return 0

    async def figures(self) -> Figures:
        return Figures(0, 0, None)

    async def audit(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        self.audited.append((actor, action, subject, detail))

    async def close(self) -> None:
        return None

    def state(self, id: str) -> State:
        return self.entries[id].state


class TestClock:
    """Runs ahead when somebody rests and nothing stirs: waiting for an hour takes a millisecond."""

    __test__ = False

    def __init__(self) -> None:
        self.now = 0.0
        self.jump = 0.0  # of the wall clock
        self.naps = 0  # rests of next to nothing: a hot loop has thousands

    def time(self) -> float:
        return START + self.now + self.jump

    def monotonic(self) -> float:
        return self.now

    async def rest(self, event: asyncio.Event, seconds: float) -> None:
        until = self.now + seconds
        self.naps += seconds < 0.01
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await event.wait()
        if not event.is_set():
            self.now = max(self.now, until)


@dataclass(frozen=True)
class Bundle:
    bundle: bytes = b'{"resourceType": "Bundle"}'
    entries: int = 1
    mapping_version: str = "v1"


OK = Delivered(200)
BROKEN = RetryAt(None, "HTTP 500", Blame.EITHER, status=500)
REFUSED = RetryAt(None, "connection refused", Blame.ENDPOINT)
CONFLICT = RetryAt(None, "HTTP 409", Blame.MESSAGE, quick=True, status=409)
WRONG_PASSWORD = Unauthorised("HTTP 401", status=401)
INVALID = Dead(reasons.ENDPOINT_REJECTED, "HTTP 422", status=422)

Answer = Outcome | Exception | Callable[[Shipment], Outcome]


@dataclass
class ScriptedEndpoint:
    """Answers a message's attempts one after the other from `script`, then `otherwise`. Records what came."""

    script: dict[str, list[Answer]] = field(default_factory=dict)
    otherwise: Answer = OK
    sent: list[str] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    most: int = 0
    gate: asyncio.Event | None = None

    async def deliver(self, shipment: Shipment) -> Outcome:
        assert shipment.id not in self.running, "a message is sent twice at once"
        self.sent.append(shipment.id)
        self.running.add(shipment.id)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            answers = self.script.get(shipment.id, [])
            answer = answers.pop(0) if answers else self.otherwise
            if isinstance(answer, Exception):
                raise answer
            outcome = answer(shipment) if callable(answer) else answer
            if isinstance(outcome, Delivered):
                self.delivered.append(shipment.id)
            return outcome
        finally:
            self.running.discard(shipment.id)

    async def probe(self) -> Probe:
        return Probe(True, "scripted")

    async def close(self) -> None:
        return None


class Recorder(Observer):
    """Everything the worker tells."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def translated(self, *values: object) -> None:
        self.told.append(("translated", *values))

    def delivered(self, *values: object) -> None:
        self.told.append(("delivered", *values))

    def retried(self, *values: object) -> None:
        self.told.append(("retried", *values))

    def dead(self, *values: object) -> None:
        self.told.append(("dead", *values))

    def circuit_changed(self, *values: object) -> None:
        self.told.append(("circuit", *values))

    def trouble(self, *values: object) -> None:
        self.told.append(("trouble", *values))

    def named(self, name: str) -> list[tuple[object, ...]]:
        return [told[1:] for told in self.told if told[0] == name]


class Bench:
    """A worker with everything around it; `async with bench:` runs and drains it."""

    def __init__(self, folder: Path, *, lane: str = "free", concurrency: int = 4, **retry: float) -> None:
        self.journal = MemoryJournal()
        self.clock = TestClock()
        self.journal.now = self.clock.time
        self.endpoint = ScriptedEndpoint()
        self.letters = DeadLetters(folder / "dlq")
        self.observer = Recorder()
        self.translate: Callable[[Entry], Bundle] = lambda entry: Bundle()
        self.config = Config(
            fhir=Fhir(concurrency=concurrency),
            retry=Retry.model_validate({"first": 1.0, "cap": 60.0, "give_up_after": 600.0} | retry),
            dead_letters=DeadLettersConfig.model_validate({"lane": lane}),
            drain_timeout=5.0,
        )
        self.worker = self.renewed()
        self._task: asyncio.Task[None] | None = None

    def renewed(self, translator: Translator | None = None) -> Worker:
        """The worker of another run of the daemon; `translator` in place of `translate`."""
        self.worker = Worker(
            self.journal,
            translator or (lambda entry: self.translate(entry)),
            self.endpoint,
            self.letters,
            self.config,
            clock=self.clock,
            observer=self.observer,
            chance=lambda: 0.5,
        )
        return self.worker

    async def __aenter__(self) -> Bench:
        self._task = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.drain()
        assert self._task is not None
        await self._task
        told = getattr(self.observer, "told", None) or ()
        failed = [what for what in told if what[:2] == ("trouble", "bridge")]
        assert not failed, failed

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Waits until something holds; a real-time bound only so that a failing test ends."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
                await asyncio.sleep(0.001)

    async def settled(self, *ids: str) -> None:
        ends = (State.DELIVERED, State.DEAD)
        wanted = ids or tuple(self.journal.entries)
        await self.until(lambda: all(self.journal.state(id) in ends for id in wanted))

    async def work(self, *ids: str) -> None:
        """Runs until these messages (or all) are delivered or dead."""
        async with self:
            await self.settled(*ids)
