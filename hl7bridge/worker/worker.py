"""The second half of the bridge: journal -> translate -> deliver -> outcome -> journal or dead letter.

What holds and why:

- A message is delivered first and marked DELIVERED after: what was in between when the process died is sent again, and
  the bundle's identities make that harmless. How an attempt ends is `ends`.
- One message's failure is that message's: any exception of the translator makes it a dead letter (internal-error), any
  exception of the journal or the disk makes it wait. Nothing ends the loop but `drain`.
- Translation runs beside the event loop, so that a slow message holds up no ACK: in threads, or where the Translator
  does it (hl7bridge.translators: in processes).
- Translating does not wait for sending: while `concurrency` messages are with the endpoint, further ones are
  translated, up to `AHEAD` and `AHEAD_BYTES`, and wait for a turn. With other tables in service by then, they are
  translated again; when the circuit opens or the worker drains, they go back to their lanes as if never started.
- No busy polling: `wake`, a finished message, the next due time, the circuit's next probe and a look once a second for
  what another process replayed end a rest.
- Order is `delivery.lanes`, pauses and the circuit are `delivery.retry`, answers are `delivery.outcome`, what comes
  next is `backlog`. Here they only meet.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor

from hl7bridge import reasons
from hl7bridge.config import Config
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.delivery.endpoint import Endpoint, Shipment
from hl7bridge.delivery.lanes import Item, Lanes
from hl7bridge.delivery.outcome import (
    Blame,
    Dead,
    Delivered,
    Misconfigured,
    Outcome,
    RetryAt,
    TransportFailure,
    Unauthorised,
    judge,
)
from hl7bridge.delivery.retry import Circuit, CircuitState, Permit, Schedule, Tries
from hl7bridge.errors import JournalError, MessageError, where
from hl7bridge.journal.protocol import Entry, Journal
from hl7bridge.worker.backlog import POLL, Backlog
from hl7bridge.worker.ends import Ends, lineage_of
from hl7bridge.worker.letterbox import Letterbox
from hl7bridge.worker.seams import (
    Clock,
    Observer,
    Settled,
    SystemClock,
    Telling,
    Threads,
    Translate,
    Translation,
    Translator,
)

AHEAD = 64  # messages that are translated, or waiting for their turn, while others are being sent
AHEAD_BYTES = 1024 * 1024  # none is started ahead while the started ones hold this many


class Worker:
    """Delivers what the journal holds until drained. One per journal, used in one event loop.

    `translate`: a Translator, or a function that is safe to call in `executor`'s workers.
    `chance` gives numbers in [0, 1) for the jitter.
    """

    def __init__(
        self,
        journal: Journal,
        translate: Translate | Translator,
        endpoint: Endpoint,
        letters: DeadLetters,
        config: Config,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        executor: Executor | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._translator = translate if isinstance(translate, Translator) else Threads(translate, executor)
        self._clock = clock or SystemClock()
        self._telling = Telling(observer or Observer())
        self._concurrency = config.fhir.concurrency
        self._drain_timeout = config.drain_timeout
        retry = config.retry
        schedule = Schedule(retry.first, retry.cap, retry.give_up_after)
        self.circuit = Circuit(
            retry.circuit_after,
            retry.circuit_probe,
            retry.cap,
            lambda state, why: self._telling.tell(lambda observer: observer.circuit_changed(state.value, why)),
        )
        self.letterbox = Letterbox(journal, letters, self._clock, self._telling.trouble)
        self._lanes = Lanes(enough=max(64, 2 * self._concurrency))
        hold = config.dead_letters.lane == "hold"
        self._backlog = Backlog(journal, self._clock, self._lanes, hold=hold, longest=retry.cap)
        self._ends = Ends(journal, letters, self.letterbox, self._backlog, schedule, self._clock, self._telling, chance)
        self._turns = asyncio.Semaphore(self._concurrency)  # to send
        self._started_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._clean = True
        self._running = False
        self._stir = asyncio.Event()
        self._ended = asyncio.Event()

    # --- from outside --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until `drain`. Raises JournalError only when the journal cannot be read at the start."""
        self._running = True
        keeping: asyncio.Task[None] | None = None
        try:
            await self._backlog.restore()
            await self.letterbox.begin()
            keeping = asyncio.create_task(self.letterbox.keep())
            while not self._draining:
                self._start_what_may()
                if not await self._read_more():
                    await self._rest()
        except asyncio.CancelledError:
            self._drain_timeout = 0.0
            raise
        finally:
            self.letterbox.stop()
            if keeping is not None:
                self._tasks.add(keeping)
            await self._finish()

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - waits for others, cancels them
        """Starts nothing more, waits for what is in flight (`timeout` seconds; None: the configured), ends `run`.

        True: everything in flight came to its end. What did not is still undelivered in the journal.
        """
        if timeout is not None:
            self._drain_timeout = timeout
        self._draining = True
        self._stir.set()
        if self._running:
            await self._ended.wait()
        return self._clean

    def wake(self) -> None:
        """A message was appended. Call it in the event loop."""
        self._backlog.appended()
        self._stir.set()

    def came(self, seq: int, size: int, make: Callable[[], Entry] | None) -> None:
        """A message was appended. As Backlog.came; call it in the event loop, in the order of the journal."""
        self._backlog.came(seq, size, make)
        # while nothing may start, what ends that (an answer, a pause, a probe) stirs, not each message that comes
        if self._may_start(self._clock.monotonic()):
            self._stir.set()

    def parked(self, id: str) -> None:
        """A message was appended as DEAD: its directory is to be written now rather than at the next look."""
        self.letterbox.parked(id)

    async def delivered(self, id: str, timeout: float) -> Settled | None:  # noqa: ASYNC109 - a bound is the point
        """Waits until a message is delivered or dead; None after `timeout` seconds. For `ack: delivered`."""
        return await self._ends.settled(id, timeout)

    @property
    def in_flight(self) -> int:
        return self._lanes.running

    # --- the loop ------------------------------------------------------------------------------------------------

    def _may_start(self, now: float) -> bool:
        """One that could be sent at once, or one to be translated ahead: only while the endpoint works."""
        if self._lanes.running < self._concurrency:
            return self.circuit.ready(now)
        ahead = self._lanes.running < self._concurrency + AHEAD and self._started_bytes < AHEAD_BYTES
        return ahead and self.circuit.state is CircuitState.CLOSED

    def _start_what_may(self) -> None:
        now = self._clock.monotonic()
        while self._may_start(now):
            probe = self.circuit.state is not CircuitState.CLOSED
            item = self._lanes.start(now, probe)
            if item is None:
                return
            permit = self.circuit.permit(now) if probe else None
            self._started_bytes += item.size
            task = asyncio.create_task(self._handle(item, permit))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read_more(self) -> bool:
        try:
            return await self._backlog.read_more()
        except JournalError as error:
            self._telling.trouble("journal", type(error).__name__)
            return False

    async def _rest(self) -> None:
        """Until something stirs, the next due time, the next probe or the next look; never less than a millisecond."""
        now = self._clock.monotonic()
        until = now + POLL
        if self._lanes.running < self._concurrency:
            if self.circuit.ready(now):
                until = min(until, self._lanes.next_due() or until)
            elif self.circuit.state is CircuitState.OPEN:
                until = min(until, self.circuit.probe_at(now))
        await self._clock.rest(self._stir, max(until - now, 0.001))
        self._stir.clear()

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_timeout)
            self._clean = not late
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._translator.close()
        self._ended.set()

    # --- one message ---------------------------------------------------------------------------------------------

    async def _handle(self, item: Item, probe: Permit | None) -> None:
        """One attempt at one message, whatever happens in it. `probe`: leave to find out whether the endpoint works."""
        try:
            await self._attempt(item, probe)
        except (JournalError, BrokenExecutor, OSError) as error:
            self._telling.trouble("message", f"{item.id}: {type(error).__name__}")
            self._ends.postpone(item.id)
        except Exception as error:
            self._telling.trouble("bridge", f"{item.id}: {where(error)}")
            self._ends.postpone(item.id)
        finally:
            self._started_bytes -= item.size
            if probe is not None:
                self.circuit.returned(probe)
            self._stir.set()

    async def _attempt(self, item: Item, probe: Permit | None) -> None:
        entry = await self._backlog.fetch(item.id)
        if entry is None:
            self._ends.end(item.id, None)
            return
        tries = self._ends.tries(entry)
        if entry.damaged:
            await self._ends.die(entry, tries, Dead(reasons.DAMAGED, entry.damaged), None)
            return
        tables = self._translator.tables
        translation = await self._translated(entry, tries)
        if translation is None:
            return
        waits = self._turns.locked()
        async with self._turns:
            if self._translator.tables is not tables:
                translation = await self._translated(entry, tries)
                if translation is None:
                    return
            permit = probe or self._permit()
            if permit is None or (waits and self._draining):
                self._lanes.put_back(entry.id)  # not an attempt
                return
            started = self._clock.monotonic()
            outcome = await self._sent(entry, tries, translation)
            self._tell_circuit(permit, outcome)
        if isinstance(outcome, Delivered):
            await self._ends.deliver(entry, tries, translation, outcome, self._clock.monotonic() - started)
        elif isinstance(outcome, Dead):
            await self._ends.die(entry, tries, outcome, translation)
        else:
            await self._ends.retry(entry, tries, outcome, translation)

    def _permit(self) -> Permit | None:
        """None: the circuit opened while the message was translated, or waited for its turn."""
        return self.circuit.permit(self._clock.monotonic()) if self.circuit.state is CircuitState.CLOSED else None

    async def _sent(self, entry: Entry, tries: Tries, translation: Translation) -> Outcome:
        tries.sent += 1
        shipment = Shipment(entry.id, entry.received_at, translation.bundle, translation.entries)
        try:
            return await self._endpoint.deliver(shipment)
        except Exception as error:  # an endpoint must not raise; if one does, it is not this message's fault
            return judge(TransportFailure("protocol", type(error).__name__), translation.entries, 0.0)

    async def _translated(self, entry: Entry, tries: Tries) -> Translation | None:
        """The bundle; None when the message became a dead letter instead."""
        started = self._clock.monotonic()
        try:
            translation = await self._translator.translate(entry)
        except MessageError as error:
            dead = Dead(error.reason, error.detail)
            await self._ends.die(entry, tries, dead, None, _version_of(error), lineage_of(error))
            return None
        except BrokenExecutor:
            raise
        except Exception as error:
            await self._ends.die(entry, tries, Dead(reasons.INTERNAL_ERROR, where(error)), None, _version_of(error))
            return None
        took = self._clock.monotonic() - started
        self._telling.tell(lambda observer: observer.translated(entry.id, entry.listener, entry.type, took))
        return translation

    def _tell_circuit(self, permit: Permit, outcome: Outcome) -> None:
        now = self._clock.monotonic()
        match outcome:
            case Delivered() | Dead() | RetryAt(blame=Blame.MESSAGE):
                self.circuit.passed(permit)
            case RetryAt(after=after, why=why, blame=blame):
                self.circuit.failed(permit, now, why, after=after if blame is Blame.ENDPOINT else None)
            case Unauthorised(why=why, at_once=at_once):
                self.circuit.failed(permit, now, why, at_once)
            case Misconfigured(why=why):
                self.circuit.failed(permit, now, why, at_once=True)


def _version_of(error: BaseException) -> str:
    """The tables that failed: a `Translate` may say so on what it raises."""
    return str(getattr(error, "mapping_version", ""))
