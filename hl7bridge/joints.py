"""Where the rooms meet: small adapters the composition root puts between intake, journal, tables and worker.

What holds: the worker is woken only after the commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from hl7bridge import reasons
from hl7bridge.errors import MessageError, PeerError
from hl7bridge.hl7v2.ack import Stamp
from hl7bridge.journal import terms
from hl7bridge.journal.acknowledgements import Acknowledgements, Built
from hl7bridge.journal.protocol import Appended, Entry, Owed, Received, State, Then
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.observe.metrics import OTHER, Metrics
from hl7bridge.reasons import Reason
from hl7bridge.service.tablesets import InService
from hl7bridge.translators.answer import answer, error_of
from hl7bridge.translators.wire import Done, Work
from hl7bridge.worker import Translation as Delivered
from hl7bridge.worker import Translator, Worker
from hl7bridge.worker.seams import TRANSLATORS


class WakingJournal:
    """What intake appends to: the journal, and the worker is told."""

    def __init__(self, journal: SqliteJournal, worker: Worker, part_came: Callable[[], None] = lambda: None) -> None:
        self._journal, self._worker, self._part_came = journal, worker, part_came

    def store(self, message: Received, then: Then) -> None:
        self._journal.store(message, partial(self._stored, message, then))

    def _stored(self, message: Received, then: Then, outcome: Appended | Exception) -> None:
        if isinstance(outcome, Appended) and not outcome.duplicate:
            part = message.terms is not None and message.terms.fragment is not None
            make = None
            if part:
                self._part_came()
            elif message.state is State.DEAD:
                self._worker.parked(outcome.id)
            else:
                make = partial(self._journal.entry, message, outcome)
            self._worker.came(outcome.seq, len(message.raw), make)
        then(outcome)

    def answered(self, seq: int, written: bool, resend: bool = False) -> None:
        self._journal.answered(seq, written, resend)


class Made(Delivered, Protocol):
    """What counts of a translation, wherever it was made. `issues`: how often, by kind, table and field."""

    @property
    def issues(self) -> Mapping[Any, int]: ...


class Make(Protocol):
    """Translates a message that came in by a listener; raises as Translating.translate."""

    def __call__(self, raw: bytes, listener: str, peer: str, *, urgent: bool = False) -> Awaitable[Made]: ...


class Translating(Translator):
    """Translates for the worker and for `ack: translated`, and counts what the tables could not carry."""

    def __init__(
        self, make: Make, service: InService, metrics: Metrics, is_part: Callable[[Entry], bool] = lambda _: False
    ) -> None:
        self._make, self._service, self._metrics, self._is_part = make, service, metrics, is_part

    @property
    def tables(self) -> object:
        return self._service.tables

    async def translate(self, entry: Entry) -> Made:
        """For the worker. Raises MessageError; whatever it raises carries the `mapping_version` that failed.

        A part of a message comes here only when its other parts did not come in time, or when it is replayed alone.
        """
        if self._is_part(entry):
            raise PeerError(reasons.INCOMPLETE)
        try:
            made = await self._make(entry.raw, entry.listener, entry.peer)
        except Exception as error:
            outcome = error.reason.code if isinstance(error, MessageError) else OTHER
            self._metrics.translations(getattr(error, "mapping_version", ""), outcome).inc()
            raise
        self._metrics.translations(made.mapping_version, "ok").inc()
        for (kind, table, source), count in made.issues.items():
            self._metrics.issues(kind, table, source).inc(count)
        return made

    async def why_not_of(self, entry: Entry) -> MessageError | None:
        """The same of a stored message."""
        return await self.why_not(entry.raw, entry.peer, entry.listener)

    async def why_not(self, raw: bytes, peer: str, listener: str) -> MessageError | None:
        """For `ack: translated`: why the tables do not lead from these bytes to a bundle."""
        try:
            await self._make(raw, listener, peer, urgent=True)
        except MessageError as error:
            return error
        return None


class InThreads:
    """A Make in threads of the daemon itself, for `translate.workers: 0`.

    The tables in service are asked for once a message: what takes their place meanwhile is for the next.
    """

    def __init__(self, service: InService) -> None:
        self._service = service
        self._executor = ThreadPoolExecutor(TRANSLATORS, thread_name_prefix="translate")

    def __call__(self, raw: bytes, listener: str, peer: str, *, urgent: bool = False) -> asyncio.Future[Made]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self._translate, raw, listener, peer)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _translate(self, raw: bytes, listener: str, peer: str) -> Made:
        said = answer(Work(raw, listener, peer), self._service.tables)
        if isinstance(said, Done):
            return said
        raise error_of(said)


async def undelivered(worker: Worker, id: str, within: float) -> Reason | None:
    """For `ack: delivered`: why the message of this id cannot be called delivered, after at most `within` seconds."""
    settled = await worker.delivered(id, within)
    if settled is None:
        return reasons.DELIVERY_PENDING
    if settled.state is State.DELIVERED:
        return None
    return reasons.CATALOGUE.get(settled.reason, reasons.INTERNAL_ERROR)


async def start_link(journal: SqliteJournal, link: str, number: int) -> int:
    """A sender starts (0) or resynchronises (-1) its link: the number it is told to send next, -1 for any."""
    expected: int = await journal.write(partial(terms.start, link=link, number=number))
    return expected


async def owe(rows: Acknowledgements, owed: Owed, stamp: Stamp, raw: bytes, code: str) -> None:
    """An application ACK of a message that was refused, to be sent on its channel."""
    await rows.owe(owed, Built(code, stamp.control_id, raw), time.time())
