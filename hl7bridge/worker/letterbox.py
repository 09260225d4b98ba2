"""Keeps the dead-letter directories in step with the journal, which is the truth.

What holds: every DEAD message has a directory (written again where it is missing: after a crash, for messages parked on
arrival, after someone deleted it), and a message that was delivered has none. A directory the journal knows nothing of
is left alone: it may be the only copy of a message.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable

from hl7bridge import reasons
from hl7bridge.delivery.deadletter import DeadLetters, Letter
from hl7bridge.errors import JournalError
from hl7bridge.journal.protocol import Entry, Filter, Journal, State
from hl7bridge.reasons import Reason
from hl7bridge.worker.seams import Clock

LOOK = 5.0  # seconds between looks for messages parked on arrival
RECENT = 60.0  # how far back such a look goes; everything older was seen at the start
_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Letterbox:
    """`trouble(what, detail)` is told of disk and journal failures; they are tried again at the next look or start."""

    def __init__(
        self, journal: Journal, letters: DeadLetters, clock: Clock, trouble: Callable[[str, str], None]
    ) -> None:
        self._journal, self._letters, self._clock, self._trouble = journal, letters, clock, trouble
        self._parked: set[str] = set()
        self._stir = asyncio.Event()
        self._stopping = False

    def parked(self, id: str) -> None:
        """A message was stored as DEAD: it wants its directory."""
        self._parked.add(id)
        self._stir.set()

    async def keep(self) -> None:
        """Runs until `stop`: everything at the start, then what was parked."""
        await self._guarded(self.reconcile)
        while not self._stopping:
            await self._clock.rest(self._stir, LOOK)
            self._stir.clear()
            await self._guarded(self._look)

    def stop(self) -> None:
        """Ends `keep` after the message it is at: a directory is written and looked at again, or not begun."""
        self._stopping = True
        self._stir.set()

    async def begin(self) -> None:
        """Before anything is written: makes the folder, clears what a crash left beside."""
        await self._guarded(lambda: asyncio.to_thread(self._letters.begin))

    async def reconcile(self) -> None:
        """Writes what is missing, removes what was delivered."""
        async for entry in self._journal.find(Filter(states=(State.DEAD,))):
            if self._stopping:
                return
            await self._write_missing(entry)
        for id in await asyncio.to_thread(self._letters.ids):
            if self._stopping:
                return
            found = await self._journal.get(id)
            if found is not None and found.state is State.DELIVERED:
                await self.remove(id, found.received_at)

    async def remove(self, id: str, received_at: float) -> None:
        """Removes a delivered message's directory; what cannot be removed now is removed at the next start."""
        try:
            await asyncio.to_thread(self._letters.remove, id, received_at)
        except (OSError, ValueError) as error:
            self._trouble("dead-letters", type(error).__name__)

    async def _look(self) -> None:
        for id in tuple(self._parked):
            entry = await self._journal.get(id)
            if entry is not None and entry.state is State.DEAD:
                await self._write_missing(entry)
            self._parked.discard(id)
        async for entry in self._journal.find(Filter(states=(State.DEAD,), newer_than=RECENT)):
            if self._stopping:
                return
            await self._write_missing(entry)

    async def _write_missing(self, entry: Entry) -> None:
        """Never over one that is there: the worker's has the bundle and the server's answer, the journal has not.

        Somebody may purge or replay the message at this very moment: who was asked to forget it must not be left with
        a copy, so the journal is asked again afterwards (`dlq purge` removes a directory after the message, too).
        """
        if not await asyncio.to_thread(self._write_if_missing, entry):
            return
        now = await self._journal.get(entry.id)
        if now is None or now.state is State.DELIVERED:
            await self.remove(entry.id, entry.received_at)

    def _write_if_missing(self, entry: Entry) -> bool:
        letter = letter_of(entry)
        if self._letters.has(entry.id, letter.reason.code, entry.received_at):
            return False
        self._letters.write(letter)
        return True

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (JournalError, OSError, ValueError) as error:
            self._trouble("dead-letters", type(error).__name__)


def letter_of(entry: Entry) -> Letter:
    """A dead letter from what the journal keeps: without the bundle and the server's answer, which it does not keep."""
    return Letter(
        id=entry.id,
        reason=reason_of(entry.reason),
        detail=entry.detail,
        raw=entry.raw,
        received_at=entry.received_at,
        died_at=None,
        attempts=entry.attempts,
        listener=entry.listener,
        type=entry.type,
        control_id=entry.control_id,
        mapping_version=entry.mapping_version,
        replays=entry.replays,
    )


def reason_of(code: str) -> Reason:
    """The catalogue's reason; for a code of another version of the bridge, one that says so."""
    known = reasons.CATALOGUE.get(code)
    if known is not None:
        return known
    return dataclasses.replace(
        reasons.INTERNAL_ERROR,
        code=code if _CODE.fullmatch(code) else reasons.INTERNAL_ERROR.code,
        sentence="this version of the bridge does not know the reason",
        remedy="replay it",
    )
