"""The second half of the bridge: journal -> translate -> deliver -> outcome -> journal or dead letter.

What holds and why:

- A message is delivered first and marked DELIVERED after: what was in between when the process died is sent again, and
  the bundle's identities make that harmless. Its lane goes on only once the journal says so, so that a message sent
  again after a crash never comes behind a later one of the same patient.
- A dead letter's directory is written before the journal says DEAD. Where it cannot be written (disk full) the message
  stays undelivered and is tried again.
- One message's failure is that message's: any exception of the translator makes it a dead letter (internal-error), any
  exception of the journal or the disk makes it wait. Nothing ends the loop but `drain`.
- Translation runs beside the event loop, so that a slow message holds up no ACK: in threads, or where the Translator
  does it (hl7bridge.translators: in processes).
- No busy polling: `wake`, a finished message, the next due time, the circuit's next probe and a look once a second for
  what another process replayed end a rest.
- Order is `delivery.lanes`, pauses and the circuit are `delivery.retry`, answers are `delivery.outcome`, what comes
  next is `backlog`. Here they only meet.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from pathlib import PurePath

from hl7bridge import reasons
from hl7bridge.config import Config
from hl7bridge.delivery.deadletter import DeadLetters, Letter
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
from hl7bridge.errors import JournalError, JournalRefusal, MessageError
from hl7bridge.journal.protocol import Change, Entry, Journal, State
from hl7bridge.worker.backlog import POLL, Backlog
from hl7bridge.worker.letterbox import Letterbox
from hl7bridge.worker.seams import Clock, Observer, Settled, SystemClock, Threads, Translate, Translation, Translator

JOURNAL_PAUSE = (0.1, 5.0)  # seconds between tries to write a change the journal refused: from, to


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
        self._journal, self._endpoint, self._letters = journal, endpoint, letters
        self._translator = translate if isinstance(translate, Translator) else Threads(translate, executor)
        self._clock = clock or SystemClock()
        self._observer = observer or Observer()
        self._chance = chance
        self._concurrency = config.fhir.concurrency
        self._drain_timeout = config.drain_timeout
        retry = config.retry
        self._schedule = Schedule(retry.first, retry.cap, retry.give_up_after)
        self.circuit = Circuit(retry.circuit_after, retry.circuit_probe, retry.cap, self._circuit_changed)
        self.letterbox = Letterbox(journal, letters, self._clock, self._trouble)
        self._lanes = Lanes(enough=max(64, 2 * self._concurrency))
        hold = config.dead_letters.lane == "hold"
        self._backlog = Backlog(journal, self._clock, self._lanes, hold=hold, longest=retry.cap)
        self._tries: dict[str, Tries] = {}
        self._passed = 0  # messages the endpoint took: the evidence that it works
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, list[asyncio.Future[Settled]]] = {}
        self._draining = False
        self._clean = True
        self._running = False
        self._untold = 0  # times the observer failed
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

    def parked(self, id: str) -> None:
        """A message was appended as DEAD: its directory is to be written now rather than at the next look."""
        self.letterbox.parked(id)

    async def delivered(self, id: str, timeout: float) -> Settled | None:  # noqa: ASYNC109 - a bound is the point
        """Waits until a message is delivered or dead; None after `timeout` seconds. For `ack: delivered`."""
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(id, []).append(future)
        try:
            async with asyncio.timeout(timeout):
                entry = await self._journal.get(id)
                if entry is None:
                    return None
                if entry.state in (State.DELIVERED, State.DEAD):
                    return Settled(entry.state, entry.reason)
                return await future
        except TimeoutError:
            return None
        finally:
            waiting = self._waiters[id]
            waiting.remove(future)
            if not waiting:
                del self._waiters[id]

    @property
    def in_flight(self) -> int:
        return self._lanes.running

    # --- the loop ------------------------------------------------------------------------------------------------

    def _start_what_may(self) -> None:
        now = self._clock.monotonic()
        while self._lanes.running < self._concurrency and self.circuit.ready(now):
            item = self._lanes.start(now, probe=self.circuit.state is not CircuitState.CLOSED)
            if item is None:
                return
            permit = self.circuit.permit(now)
            assert permit is not None  # it was ready
            task = asyncio.create_task(self._handle(item, permit))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read_more(self) -> bool:
        try:
            return await self._backlog.read_more()
        except JournalError as error:
            self._trouble("journal", type(error).__name__)
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

    async def _handle(self, item: Item, permit: Permit) -> None:
        """One attempt at one message, whatever happens in it."""
        try:
            await self._attempt(item, permit)
        except (JournalError, BrokenExecutor, OSError) as error:
            self._trouble("message", f"{item.id}: {type(error).__name__}")
            self._postpone(item.id)
        except Exception as error:
            self._trouble("bridge", f"{item.id}: {_where(error)}")
            self._postpone(item.id)
        finally:
            self.circuit.returned(permit)
            self._stir.set()

    async def _attempt(self, item: Item, permit: Permit) -> None:
        entry = await self._backlog.fetch(item.id)
        if entry is None:
            self._end(item.id, None)
            return
        tries = self._tries.setdefault(entry.id, Tries(entry.attempts, self._passed, pace=entry.attempts))
        if entry.damaged:
            await self._die(entry, tries, Dead(reasons.DAMAGED, entry.damaged), None)
            return
        translation = await self._translated(entry, tries)
        if translation is None:
            return
        if not permit.probe and self.circuit.state is not CircuitState.CLOSED:
            self._lanes.put_back(entry.id)  # the circuit opened meanwhile: not an attempt
            return
        started = self._clock.monotonic()
        tries.sent += 1
        shipment = Shipment(entry.id, entry.received_at, translation.bundle, translation.entries)
        try:
            outcome = await self._endpoint.deliver(shipment)
        except Exception as error:  # an endpoint must not raise; if one does, it is not this message's fault
            outcome = judge(TransportFailure("protocol", type(error).__name__), translation.entries, 0.0)
        self._tell_circuit(permit, outcome)
        if isinstance(outcome, Delivered):
            await self._deliver(entry, tries, translation, outcome, self._clock.monotonic() - started)
        elif isinstance(outcome, Dead):
            await self._die(entry, tries, outcome, translation)
        else:
            await self._retry(entry, tries, outcome, translation)

    async def _translated(self, entry: Entry, tries: Tries) -> Translation | None:
        """The bundle; None when the message became a dead letter instead."""
        started = self._clock.monotonic()
        try:
            translation = await self._translator.translate(entry)
        except MessageError as error:
            await self._die(
                entry, tries, Dead(error.reason, error.detail), None, _version_of(error), _lineage_of(error)
            )
            return None
        except BrokenExecutor:
            raise
        except Exception as error:
            await self._die(entry, tries, Dead(reasons.INTERNAL_ERROR, _where(error)), None, _version_of(error))
            return None
        took = self._clock.monotonic() - started
        self._tell(lambda: self._observer.translated(entry.id, entry.listener, entry.type, took))
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

    async def _deliver(
        self, entry: Entry, tries: Tries, translation: Translation, outcome: Delivered, took: float
    ) -> None:
        self._passed += 1
        now = self._clock.time()
        version = translation.mapping_version
        proof, lineage = _proof(translation, outcome), _lineage_of(translation)
        await self._write_down(
            Change(entry.id, State.DELIVERED, tries.attempts, 0.0, "", "", version, now, proof, lineage)
        )
        if entry.replays:
            await self.letterbox.remove(entry.id, entry.received_at)
        waited = max(now - entry.received_at, 0.0)
        self._tell(lambda: self._observer.delivered(entry.id, entry.listener, entry.type, waited, took))
        self._end(entry.id, Settled(State.DELIVERED, ""))

    async def _retry(
        self, entry: Entry, tries: Tries, outcome: RetryAt | Unauthorised | Misconfigured, translation: Translation
    ) -> None:
        after, quick, blame = None, False, None
        if isinstance(outcome, RetryAt):
            after, quick, blame = outcome.after, outcome.quick, outcome.blame
        counted = tries.failed(blame, self._passed)
        detail = f"{outcome.why}; sent {tries.sent} times" if tries.sent > 1 else outcome.why
        if isinstance(outcome, RetryAt):
            if outcome.instead is not None and tries.lost_patience(outcome.blame, counted):
                await self._die(entry, tries, outcome.instead, translation)
                return
            if counted and self._schedule.exhausted(tries.attempts):
                given_up = Dead(reasons.RETRIES_EXHAUSTED, detail, outcome.issues, outcome.status)
                await self._die(entry, tries, given_up, translation)
                return
        pause = self._schedule.pause(max(tries.pace, 1), self._chance(), after, quick)
        due, now = self._clock.monotonic() + pause, self._clock.time()
        version = translation.mapping_version
        try:
            await self._journal.apply(
                Change(entry.id, State.WAITING, tries.attempts, now + pause, "", detail, version, now)
            )
        except (JournalError, JournalRefusal) as error:  # the pause is in memory, and the next look sees what it is
            self._trouble("journal", type(error).__name__)
        self._tell(
            lambda: self._observer.retried(
                entry.id, entry.listener, entry.type, outcome.status, outcome.why, tries.attempts, pause
            )
        )
        self._lanes.wait(entry.id, due)

    async def _die(
        self,
        entry: Entry,
        tries: Tries,
        dead: Dead,
        translation: Translation | None,
        version: str = "",
        lineage: bytes = b"",
    ) -> None:
        """Directory first, journal second: a crash in between leaves the message undelivered, never out of sight."""
        now = self._clock.time()
        version = translation.mapping_version if translation is not None else version
        letter = Letter(
            id=entry.id,
            reason=dead.reason,
            detail=dead.detail,
            raw=entry.raw,
            received_at=entry.received_at,
            died_at=now,
            attempts=max(tries.attempts, tries.sent),
            listener=entry.listener,
            type=entry.type,
            control_id=entry.control_id,
            mapping_version=version,
            replays=entry.replays,
            bundle=translation.bundle if translation is not None else None,
            status=dead.status,
            issues=dead.operation_outcome,
        )
        await asyncio.to_thread(self._letters.write, letter)  # OSError: _handle postpones
        await self._write_down(
            Change(
                entry.id,
                State.DEAD,
                tries.attempts,
                0.0,
                dead.reason.code,
                dead.detail,
                version,
                now,
                _proof(translation, dead),
                lineage or _lineage_of(translation),
            )
        )
        self._tell(lambda: self._observer.dead(entry.id, entry.listener, entry.type, dead.reason.code))
        settled = Settled(State.DEAD, dead.reason.code)
        if self._backlog.holds(entry, dead.reason.code):
            self._forget(entry.id, settled)
            self._backlog.hold(entry.id)
        else:
            self._end(entry.id, settled)

    async def _write_down(self, change: Change) -> None:
        """Applies a change that must not be lost, for as long as the journal needs; its lanes wait meanwhile.

        Refused: somebody settled the message behind our back, and what the journal says stands.
        """
        pause, most = JOURNAL_PAUSE
        while True:
            try:
                await self._journal.apply(change)
                return
            except JournalRefusal:
                self._trouble("journal", "JournalRefusal")
                return
            except JournalError as error:
                self._trouble("journal", type(error).__name__)
                await self._clock.rest(asyncio.Event(), pause)
                pause = min(pause * 2, most)

    def _postpone(self, id: str) -> None:
        """The bridge's own trouble: tried again later, nothing counted against the message."""
        tries = self._tries.get(id)
        if tries is not None:
            tries.pace += 1
        if self._lanes.is_running(id):
            pause = self._schedule.ceiling(tries.pace if tries is not None else 1)
            self._lanes.wait(id, self._clock.monotonic() + pause)

    def _end(self, id: str, settled: Settled | None) -> None:
        self._forget(id, settled)
        self._backlog.done(id)

    def _forget(self, id: str, settled: Settled | None) -> None:
        self._tries.pop(id, None)
        if settled is None:
            return
        for future in self._waiters.get(id, ()):
            if not future.done():
                future.set_result(settled)

    # --- telling -------------------------------------------------------------------------------------------------

    def _circuit_changed(self, state: CircuitState, why: str) -> None:
        self._tell(lambda: self._observer.circuit_changed(state.value, why))

    def _trouble(self, what: str, detail: str) -> None:
        self._tell(lambda: self._observer.trouble(what, detail))

    def _tell(self, telling: Callable[[], None]) -> None:
        """An observer that fails must not stop a delivery."""
        try:
            telling()
        except Exception:
            self._untold += 1


def _proof(translation: Translation | None, outcome: Delivered | Dead) -> dict[str, object]:
    """For the receipts: what was sent, and what came back. Empty where nothing was sent."""
    if translation is None:
        return {}
    digest = hashlib.sha256(translation.bundle).hexdigest()
    sent = {"bundle_sha256": digest, "entries": translation.entries, "status": outcome.status}
    return {**sent, **outcome.proof}


def _lineage_of(made: object) -> bytes:
    """The lineage that is to be stored, where `translate.lineage` asks for it."""
    return bytes(getattr(made, "lineage_document", b""))


def _version_of(error: BaseException) -> str:
    """The tables that failed: a `Translate` may say so on what it raises."""
    return str(getattr(error, "mapping_version", ""))


def _where(error: BaseException) -> str:
    """An exception's class and place. Never its text: it may quote the message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
