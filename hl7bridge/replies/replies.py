"""The application acknowledgements that are owed: decided, built, handed to their channels. Runs beside the worker.

What holds: a message's fate is read off the journal, so nothing has to be told here and a restart forgets nothing.
With `after: translated` the tables are asked here, whatever the endpoint does. What is owed on a channel that is no
longer configured is told at the start and stays in the journal until the channel is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hl7bridge.admission import channel_of
from hl7bridge.config import ApplicationAcks, Config
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.errors import JournalError, MessageError
from hl7bridge.hl7v2.ack import Stamp
from hl7bridge.journal.acknowledgements import Acknowledgement, Acknowledgements
from hl7bridge.journal.protocol import Entry
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.replies.channel import DAMAGED, LOOK, Channel
from hl7bridge.replies.judgement import built

FORGET_EVERY = 600.0  # seconds between looks for rows that were settled long ago

# None, or why the tables cannot translate a message
WhyNot = Callable[[Entry], Awaitable[MessageError | None]]


class Observer:
    """Is told what becomes of application acknowledgements; does nothing itself. Nothing given holds a value."""

    def settled(self, channel: str, code: str, state: str, message_id: str, detail: str) -> None:
        """`state`: sent, not-due or given-up."""

    def put_off(self, channel: str, code: str, why: str, attempts: int) -> None: ...
    def circuit(self, channel: str, state: str, why: str) -> None: ...
    def without_channel(self, channel: str) -> None:
        """Something is owed on a channel the configuration does not have."""

    def trouble(self, channel: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a stamp is made: seconds since the epoch, and ids."""

    clock: Callable[[], float]
    new_id: Callable[[], str]

    def stamp(self) -> Stamp:
        return Stamp(datetime.fromtimestamp(int(self.clock())).astimezone(), self.new_id())


def channels_of(config: Config) -> dict[str, ApplicationAcks]:
    """Every channel of the configuration by its name."""
    found: dict[str, ApplicationAcks] = {}
    for listener in config.listeners:
        for sender in (None, *listener.senders):
            keys = (sender and sender.application_acks) or listener.application_acks
            if keys is not None:
                found[channel_of(listener, sender)] = keys
    return found


class Replies:
    """`run` until cancelled. `why_not`: for `after: translated`; new_id: MSH-10 of the acknowledgements.

    tls_observer: told of the TLS files of channels, those that are in use and those that are unfit.
    """

    def __init__(
        self,
        journal: SqliteJournal,
        config: Config,
        why_not: WhyNot,
        new_id: Callable[[], str],
        observer: Observer | None = None,
        tls_observer: EndpointObserver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self.rows = Acknowledgements(journal)
        self._keys: Mapping[str, ApplicationAcks] = channels_of(config)
        self._why_not = why_not
        self._reading = _Reading(clock, new_id)
        self._observer = observer or Observer()
        self.channels = {
            name: Channel(name, keys, config.retry, self.rows, self._observer, tls_observer=tls_observer, clock=clock)
            for name, keys in self._keys.items()
        }

    async def run(self) -> None:
        """Raises only what a defect raises: half of this would leave senders waiting for ever."""
        async with asyncio.TaskGroup() as group:
            for channel in self.channels.values():
                group.create_task(channel.run())
            group.create_task(self._decide())

    async def _decide(self) -> None:
        forget_at = time.monotonic()
        told = False
        while True:
            try:
                if not told:
                    for name in await self.rows.channels() - set(self._keys):
                        self._observer.without_channel(name)
                    told = True
                busy = await self._translations() + await self._build()
                if time.monotonic() >= forget_at:
                    await self.rows.forget(self._reading.clock())
                    forget_at = time.monotonic() + FORGET_EVERY
            except JournalError as error:
                self._observer.trouble("", type(error).__name__)
                busy = 0
            if not busy:
                await asyncio.sleep(LOOK)

    async def _translations(self) -> int:
        """Asks the tables for those that wait for them only."""
        rows = await self.rows.awaiting_translation()
        for row in rows:
            entry = await self._journal.get(row.message_id) if row.message_id else None
            error = await self._why_not(entry) if entry is not None else None
            await self.rows.decide(row.number, error.reason.code if error else "")
        return len(rows)

    async def _build(self) -> int:
        rows = await self.rows.decided(self._keys)
        for row in rows:
            await self._built(row, self._keys[row.channel])
        return len(rows)

    async def _built(self, row: Acknowledgement, keys: ApplicationAcks) -> None:
        if row.damaged:
            await self.channels[row.channel].give_up(row, DAMAGED)
            return
        made = built(row, keys.after, keys.accept_ack, self._reading.stamp())
        await self.rows.build(row.number, made, self._reading.clock())
        if made is None:
            self._observer.settled(row.channel, "", "not-due", row.message_id, f"MSH-16 is {row.condition}")
        else:
            self.channels[row.channel].wake()
