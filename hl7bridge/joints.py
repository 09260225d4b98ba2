"""Where the rooms meet: small adapters the composition root puts between intake, journal, tables and worker.

What holds: the worker is woken only after the commit. `append` reaches the journal before it first suspends, so the
order in which intake called it is the order of the journal.
"""

from __future__ import annotations

import asyncio

from hl7bridge import reasons
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.header import read_header
from hl7bridge.journal.protocol import Appended, Entry, Received, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.observe.metrics import OTHER, Metrics
from hl7bridge.reasons import Reason
from hl7bridge.tablesets import InService, Setting
from hl7bridge.translation import Translation, translate
from hl7bridge.worker import Worker


class WakingJournal:
    """What intake appends to: the journal, and the worker is told."""

    def __init__(self, journal: SqliteJournal, worker: Worker) -> None:
        self._journal, self._worker = journal, worker

    async def append(self, message: Received) -> Appended:
        appended = await self._journal.append(message)
        if appended.duplicate:
            return appended
        if message.state is State.DEAD:
            self._worker.parked(appended.id)
        else:
            self._worker.wake()
        return appended


class Translating:
    """Which tables, zone and character set a message gets, and counting what they could not carry. Safe in threads.

    The tables in service are asked for once a message: what takes their place meanwhile is for the next.
    """

    def __init__(self, service: InService, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics

    def __call__(self, entry: Entry) -> Translation:
        """For the worker. Raises MessageError; whatever it raises carries the `mapping_version` that failed."""
        setting = self._setting(entry.raw, entry.listener)
        version = setting.mappings.version
        try:
            translation = _translated(entry.raw, setting)
        except Exception as error:
            error.mapping_version = version  # type: ignore[attr-defined]
            self._metrics.translations(version, error.reason.code if isinstance(error, MessageError) else OTHER).inc()
            raise
        self._metrics.translations(version, "ok").inc()
        for issue, count in translation.issues.items():
            self._metrics.issues(issue.kind, issue.table, issue.source).inc(count)
        return translation

    async def why_not(self, raw: bytes, listener: str) -> MessageError | None:
        """For `ack: translated`: why the tables do not lead from these bytes to a bundle."""
        try:
            await asyncio.to_thread(lambda: _translated(raw, self._setting(raw, listener)))
        except MessageError as error:
            return error
        return None

    def _setting(self, raw: bytes, listener: str) -> Setting:
        return self._service.tables.setting(listener, read_header(raw))


def _translated(raw: bytes, setting: Setting) -> Translation:
    return translate(raw, setting.mappings, zone=setting.zone, charset_fallback=setting.charset_fallback)


async def undelivered(worker: Worker, id: str, within: float) -> Reason | None:
    """For `ack: delivered`: why the message of this id cannot be called delivered, after at most `within` seconds."""
    settled = await worker.delivered(id, within)
    if settled is None:
        return reasons.DELIVERY_PENDING
    if settled.state is State.DELIVERED:
        return None
    return reasons.CATALOGUE.get(settled.reason, reasons.INTERNAL_ERROR)
