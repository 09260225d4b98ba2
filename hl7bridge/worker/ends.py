"""How an attempt at a message ends: delivered, waiting for another, or dead; and who waits for that end.

What holds and why:

- What ends a message is written down before its lanes go on, for as long as the journal needs: a message sent again
  after a crash never comes behind a later one of the same patient.
- A dead letter's directory is written before the journal says DEAD: a crash in between leaves the message undelivered,
  never out of sight. When somebody settled the message meanwhile, the directory goes again.
- A pause that cannot be written down is kept in memory; a journal that fails must not stop the lanes of others.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from hl7bridge import reasons
from hl7bridge.delivery.deadletter import DeadLetters, Letter
from hl7bridge.delivery.outcome import Dead, Delivered, Misconfigured, RetryAt, Unauthorised
from hl7bridge.delivery.retry import Schedule, Tries
from hl7bridge.errors import JournalError, JournalRefusal
from hl7bridge.journal.protocol import Change, Entry, Journal, State
from hl7bridge.worker.backlog import Backlog
from hl7bridge.worker.letterbox import Letterbox
from hl7bridge.worker.seams import Clock, Settled, Telling, Translation

JOURNAL_PAUSE = (0.1, 5.0)  # seconds between tries to write a change the journal refused: from, to


class Ends:
    """Writes down what became of each attempt. `chance` gives numbers in [0, 1) for the jitter."""

    def __init__(
        self,
        journal: Journal,
        letters: DeadLetters,
        letterbox: Letterbox,
        backlog: Backlog,
        schedule: Schedule,
        clock: Clock,
        telling: Telling,
        chance: Callable[[], float],
    ) -> None:
        self._journal, self._letters, self._letterbox, self._backlog = journal, letters, letterbox, backlog
        self._schedule, self._clock, self._telling, self._chance = schedule, clock, telling, chance
        self._tries: dict[str, Tries] = {}
        self._passed = 0  # messages the endpoint took: the evidence that it works
        self._waiters: dict[str, list[asyncio.Future[Settled]]] = {}

    def tries(self, entry: Entry) -> Tries:
        """The failures of a message, those of earlier runs too."""
        return self._tries.setdefault(entry.id, Tries(entry.attempts, self._passed, pace=entry.attempts))

    async def deliver(
        self, entry: Entry, tries: Tries, translation: Translation, outcome: Delivered, took: float
    ) -> None:
        self._passed += 1
        now = self._clock.time()
        version = translation.mapping_version
        proof, lineage = _proof(translation, outcome), lineage_of(translation)
        await self._write_down(
            Change(entry.id, State.DELIVERED, tries.attempts, 0.0, "", "", version, now, proof, lineage)
        )
        if entry.replays:
            await self._letterbox.remove(entry.id, entry.received_at)
        waited = max(now - entry.received_at, 0.0)
        self._telling.tell(lambda observer: observer.delivered(entry.id, entry.listener, entry.type, waited, took))
        self.end(entry.id, Settled(State.DELIVERED, ""))

    async def retry(
        self, entry: Entry, tries: Tries, outcome: RetryAt | Unauthorised | Misconfigured, translation: Translation
    ) -> None:
        after, quick, blame = None, False, None
        if isinstance(outcome, RetryAt):
            after, quick, blame = outcome.after, outcome.quick, outcome.blame
        counted = tries.failed(blame, self._passed)
        detail = f"{outcome.why}; sent {tries.sent} times" if tries.sent > 1 else outcome.why
        if isinstance(outcome, RetryAt):
            if outcome.instead is not None and tries.lost_patience(outcome.blame, counted):
                await self.die(entry, tries, outcome.instead, translation)
                return
            if counted and self._schedule.exhausted(tries.attempts):
                given_up = Dead(reasons.RETRIES_EXHAUSTED, detail, outcome.issues, outcome.status)
                await self.die(entry, tries, given_up, translation)
                return
        pause = self._schedule.pause(max(tries.pace, 1), self._chance(), after, quick)
        due, now = self._clock.monotonic() + pause, self._clock.time()
        version = translation.mapping_version
        try:
            await self._journal.apply(
                Change(entry.id, State.WAITING, tries.attempts, now + pause, "", detail, version, now)
            )
        except (JournalError, JournalRefusal) as error:  # the pause is in memory, and the next look sees what it is
            self._telling.trouble("journal", type(error).__name__)
        self._telling.tell(
            lambda observer: observer.retried(
                entry.id, entry.listener, entry.type, outcome.status, outcome.why, tries.attempts, pause
            )
        )
        self._backlog.lanes.wait(entry.id, due)

    async def die(
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
        died = Change(
            entry.id,
            State.DEAD,
            tries.attempts,
            0.0,
            dead.reason.code,
            dead.detail,
            version,
            now,
            _proof(translation, dead),
            lineage or lineage_of(translation),
        )
        if not await self._write_down(died) and await self._overtaken(entry):
            return
        self._telling.tell(lambda observer: observer.dead(entry.id, entry.listener, entry.type, dead.reason.code))
        settled = Settled(State.DEAD, dead.reason.code)
        if self._backlog.holds(entry, dead.reason.code):
            self._forget(entry.id, settled)
            self._backlog.hold(entry.id)
        else:
            self.end(entry.id, settled)

    async def _overtaken(self, entry: Entry) -> bool:
        """Is the message gone, or delivered after all (joined with its other parts)? Then it leaves no directory."""
        try:
            now = await self._journal.get(entry.id)
        except JournalError as error:  # the next start removes the directory of what was delivered
            self._telling.trouble("journal", type(error).__name__)
            return False
        if now is not None and now.state is not State.DELIVERED:
            return False
        await self._letterbox.remove(entry.id, entry.received_at)
        self.end(entry.id, Settled(State.DELIVERED, "") if now is not None else None)
        return True

    async def _write_down(self, change: Change) -> bool:
        """Applies a change that must not be lost, for as long as the journal needs; its lanes wait meanwhile.

        False: somebody settled the message behind our back, and what the journal says stands.
        """
        pause, most = JOURNAL_PAUSE
        while True:
            try:
                await self._journal.apply(change)
                return True
            except JournalRefusal:
                self._telling.trouble("journal", "JournalRefusal")
                return False
            except JournalError as error:
                self._telling.trouble("journal", type(error).__name__)
                await self._clock.rest(asyncio.Event(), pause)
                pause = min(pause * 2, most)

    def postpone(self, id: str) -> None:
        """The bridge's own trouble: tried again later, nothing counted against the message."""
        tries = self._tries.get(id)
        if tries is not None:
            tries.pace += 1
        if self._backlog.lanes.is_running(id):
            pause = self._schedule.ceiling(tries.pace if tries is not None else 1)
            self._backlog.lanes.wait(id, self._clock.monotonic() + pause)

    def end(self, id: str, settled: Settled | None) -> None:
        self._forget(id, settled)
        self._backlog.done(id)

    def _forget(self, id: str, settled: Settled | None) -> None:
        self._tries.pop(id, None)
        if settled is None:
            return
        for future in self._waiters.get(id, ()):
            if not future.done():
                future.set_result(settled)

    async def settled(self, id: str, timeout: float) -> Settled | None:  # noqa: ASYNC109 - a bound is the point
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


def _proof(translation: Translation | None, outcome: Delivered | Dead) -> dict[str, object]:
    """For the receipts: what was sent, and what came back. Empty where nothing was sent."""
    if translation is None:
        return {}
    digest = hashlib.sha256(translation.bundle).hexdigest()
    sent = {"bundle_sha256": digest, "entries": translation.entries, "status": outcome.status}
    return {**sent, **outcome.proof}


def lineage_of(made: object) -> bytes:
    """The lineage that is to be stored, where `translate.lineage` asks for it."""
    return bytes(getattr(made, "lineage_document", b""))
