"""The daemon, put together: start -> run -> drain -> stop. Start reading here.

What holds and why:
- The order of the start is the order of trust: the journal is open before anything can arrive, the tables are loaded
  before anything is judged by them, the worker runs before new messages come, the ports are bound last. Whatever fails
  on the way ends the start, with everything that was opened closed again.
- The order of the drain is the other way round: ports take nothing more and answer what came whole, while the worker
  still runs because some answers wait for it; then the worker ends what is in flight; then the journal is closed. All
  of it within drain_timeout; what is not done by then is in the journal and is done after the next start.
- A part that ends by itself ends the daemon: half a bridge would take messages that go nowhere.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hl7bridge import __version__, zone
from hl7bridge.collecting import held, settle
from hl7bridge.condition import Condition
from hl7bridge.config import Config, Settings, changes, secret, with_headers
from hl7bridge.control import Control
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.delivery.disk import wider_than_private
from hl7bridge.delivery.endpoint import Endpoint, open_endpoint
from hl7bridge.errors import JournalError, UnavailableError
from hl7bridge.intake import Intake, control_ids
from hl7bridge.joining import Joining
from hl7bridge.joints import InThreads, Make, Translating, WakingJournal, owe, start_link, undelivered
from hl7bridge.journal.acknowledgements import Acknowledgements
from hl7bridge.journal.protocol import DamagedPage, Entry
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.server import MllpServer
from hl7bridge.observe.health import HealthServer
from hl7bridge.observe.log import Log, told
from hl7bridge.observe.metrics import Metrics
from hl7bridge.observe.strangers import Strangers
from hl7bridge.observe.watch import EndpointWatch, IntakeWatch, JournalWatch, ListenerWatch, WorkerWatch
from hl7bridge.observe.watch_replies import RepliesWatch
from hl7bridge.reloading import Reloading
from hl7bridge.replies import Replies, channels_of
from hl7bridge.sealing import open_keyring
from hl7bridge.service.activation import Wanted
from hl7bridge.service.tablesets import InService
from hl7bridge.translators import Pool, count
from hl7bridge.worker import Worker

RETAIN_EVERY = 600.0  # seconds between looks for delivered messages past their retention
LEAST_FOR_WORKER = 1.0  # seconds the worker gets to drain, however long the ports took


async def serve(settings: Settings, log: Log) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Raises Hl7BridgeError when it cannot start or a part fails."""
    bridge = Bridge(settings.config, log)
    log.info("hl7bridge starts", version=__version__, origin=str(settings.file or "the defaults and the environment"))
    with _Signals(bridge, log):
        try:
            with held():
                await bridge.start()
                settle()
            await bridge.note_configuration(changes.in_effect(settings))
            await bridge.run()
            await bridge.drain()
        finally:
            await bridge.stop()
    log.info("hl7bridge ended")


class Bridge:
    """One daemon. `start`, `run`, `drain`, `stop`, each once, in this order; `stop` also after a failed start."""

    def __init__(self, config: Config, log: Log) -> None:
        self.config = config
        self.metrics = Metrics()
        self._keyring = open_keyring(config.encryption)
        self._log = log
        self._worker_watch = WorkerWatch(self.metrics, log)
        self._endpoint_watch = EndpointWatch(self.metrics, log)
        self.condition = Condition(config, self.metrics, self._worker_watch, self._endpoint_watch)
        self.reloading = Reloading(config, self.metrics, self.condition, log)
        self.strangers = Strangers(log)
        self.health = HealthServer(self.condition, self.metrics, config.observe.host, config.observe.port)
        self.servers: list[MllpServer] = []
        self._journal: SqliteJournal | None = None
        self._endpoint: Endpoint | None = None
        self._worker: Worker | None = None
        self._control: Control | None = None
        self._close_translators = AsyncExitStack()
        self._pool: Pool | None = None
        self._reloads: set[asyncio.Task[Any]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked_to_end = asyncio.Event()

    # ---- the story ----

    async def start(self) -> None:
        """Returns when the bridge is ready. Raises Hl7BridgeError."""
        await self.health.start()
        self._log.info("health and metrics", host=self.config.observe.host, port=self.health.port)
        self._begin("heartbeat", self.condition.beat())
        journal = await self._open_journal()
        self.strangers.audit = journal.audit
        self._begin("strangers", self.strangers.run())
        service = await self.reloading.start()
        joining = Joining(journal, self.config, self._joined, self._worker_watch.trouble)
        translating = Translating(self._start_translators(service), service, self.metrics, joining.is_part)
        worker = self._start_worker(journal, translating)
        self._begin("joining", joining.run())
        self._start_replies(journal, translating)
        await self._listen(journal, service, worker, translating, joining)
        if self._pool is not None:  # after the ports: what comes meanwhile is safe in the journal, and waits
            self._pool.start()
        await self.reloading.keep()
        await self._hear(journal)
        self._begin("retention", self._retain(journal))
        self.condition.phase = "ready"
        self._log.info("ready")

    async def note_configuration(self, now: dict[str, str]) -> None:
        """Puts into the audit what changed in the configuration since the last start."""
        folder = Path(self.config.journal.path)
        changed = changes.changes(now, folder)
        if not changed or self._journal is None:
            return
        try:
            await self._journal.audit("hl7bridge", "change configuration", f"{len(changed)} keys", "; ".join(changed))
            await asyncio.to_thread(changes.keep, now, folder)
        except (JournalError, OSError) as error:
            self._log.error("the change of configuration is not in the audit", **told(error))

    async def run(self) -> None:
        """Until `end`, or until a part ends by itself: then raises what ended it."""
        ended = asyncio.create_task(self._asked_to_end.wait())
        try:
            done, _ = await asyncio.wait([ended, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        for name, task in self._tasks.items():
            if task in done and not self._asked_to_end.is_set():
                task.result()
                raise UnavailableError(f"the {name} ended by itself")

    def end(self) -> None:
        """Asks `run` to return."""
        self._asked_to_end.set()

    async def drain(self) -> None:
        """Answers what came whole, ends what is in flight, within drain_timeout."""
        self.condition.phase = "draining"
        until = time.monotonic() + self.config.drain_timeout
        self._log.info("draining", seconds=self.config.drain_timeout, connections=self._connections())
        cut = sum(await asyncio.gather(*(server.drain(self.config.drain_timeout) for server in self.servers)))
        clean = True
        if self._worker is not None:
            clean = await self._worker.drain(max(until - time.monotonic(), LEAST_FOR_WORKER))
        if cut or not clean:
            self._log.warning("drained, not all in time; the rest is in the journal", count=cut)
        else:
            self._log.info("drained")

    async def stop(self) -> None:
        """Closes everything that is open, in the reverse order; harmless when little or nothing is."""
        if self._control is not None:
            await self._control.stop()
        for server in self.servers:
            await server.drain(0)
        if self._worker is not None and (running := self._tasks.get("worker")) is not None and not running.done():
            await self._worker.drain(0)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._reloads, return_exceptions=True)  # each ends whole: done, or refused
        outcomes = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for name, outcome in zip(self._tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._log.error("a part had failed", check=name, **told(outcome))
        await self._close_translators.aclose()
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._journal is not None:
            await self.strangers.close()
            with suppress(JournalError):
                await self._journal.close()
        await self.health.stop()

    # ---- the parts ----

    async def _open_journal(self) -> SqliteJournal:
        keys = self.config.journal
        self._journal = self.condition.journal = await SqliteJournal.open(
            keys.path,
            retention_days=keys.retention_days,
            max_backlog=keys.max_backlog,
            min_free_bytes=keys.min_free_bytes,
            on_commit=JournalWatch(self.metrics),
            keyring=self._keyring,
        )
        for path in wider_than_private(Path(keys.path), Path(self.config.dead_letters.path)):
            self._log.warning("others than this user may read what is patient data: chmod go-rwx", path=str(path))
        figures = await self._journal.figures()
        self._log.info("journal open", path=_absolute(keys.path), undelivered=figures.undelivered)
        self._log.info("dead letters", path=_absolute(self.config.dead_letters.path), count=figures.dead)
        return self._journal

    async def _hear(self, journal: SqliteJournal) -> None:
        """`mappings activate` and `rollback` of other processes."""

        async def answer(request: Mapping[str, Any], who: str) -> Mapping[str, Any]:
            return await self.reloading.answer(request, who, journal)

        self._control = Control(Path(self.config.journal.path), answer)
        await self._control.start()

    def reload(self) -> None:
        """On SIGHUP: the configuration's folders and TLS files as they are now, if they are fit."""
        for server in self.servers:
            server.look()
        if self._journal is None or self.condition.phase != "ready":
            self._log.info("not ready: the tables are not read again")
            return
        work = self.reloading.activate(Wanted(), "SIGHUP", "SIGHUP", self._journal)
        task = asyncio.create_task(work, name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _start_translators(self, service: InService) -> Make:
        """Processes that get the tables in service now and with every swap; or threads: `workers: 0`."""
        keys = self.config.translate
        number = count(keys.workers)
        if not number:
            threads = InThreads(service)
            self._close_translators.callback(threads.close)
            return threads
        pool = Pool(number, service.tables, keys.timeout, self._worker_watch.trouble)
        self._close_translators.push_async_callback(pool.close)
        service.followers.append(pool.swap)
        self._pool = pool
        self._log.info("translating in processes of their own", count=number)
        return pool.translate

    def _start_worker(self, journal: SqliteJournal, translating: Translating) -> Worker:
        keys = self.config
        self._endpoint = open_endpoint(with_headers(keys.fhir), secret, self._endpoint_watch)
        letters = DeadLetters(Path(keys.dead_letters.path), self._keyring)
        self._worker = Worker(journal, translating, self._endpoint, letters, keys, observer=self._worker_watch)
        self._begin("worker", self._worker.run())
        self._log.info("delivering", base_url=keys.fhir.base_url)
        return self._worker

    def _start_replies(self, journal: SqliteJournal, translating: Translating) -> None:
        """Application ACKs that are exchanges of their own; what is owed from before is told even without a channel."""
        watch = RepliesWatch(self.metrics, self._log)
        replies = Replies(journal, self.config, translating.why_not_of, control_ids(), watch, self._endpoint_watch)
        self.condition.replies = replies.rows
        self._begin("application-acks", replies.run())
        for name, keys in channels_of(self.config).items():
            self._log.info("application ACKs as exchanges of their own", channel=name, host=keys.host, port=keys.port)

    async def _joined(self, parts: Sequence[Entry]) -> None:
        """A message was joined from its parts: it is to be delivered, and no part is a dead letter any more."""
        if self._worker is not None:
            self._worker.wake()
            for part in parts:
                await self._worker.letterbox.remove(part.id, part.received_at)

    async def _listen(
        self,
        journal: SqliteJournal,
        service: InService,
        worker: Worker,
        translating: Translating,
        joining: Joining,
    ) -> None:
        for listener in self.config.listeners:
            name = listener.name
            intake = Intake(
                listener,
                WakingJournal(journal, worker, joining.came),
                service.events(listener),
                observer=IntakeWatch(name, self.metrics, self._log, self.strangers),
                zone=zone.named(listener.timezone) if listener.timezone else None,
                translated=partial(translating.why_not, listener=name),
                delivered=partial(undelivered, worker, within=listener.ack_timeout),
                start=partial(start_link, journal),
                owe=partial(owe, Acknowledgements(journal)),
            )
            server = MllpServer(
                listener,
                intake.handle,
                intake.refuse,
                ListenerWatch(name, self.metrics, self._log, self.strangers),
                requires_cr=intake.requires_cr,
            )
            self.servers.append(server)
            await server.start()
            self.condition.ports[name] = server.port
            if server.keys is not None:
                self.condition.keys[name] = server.keys
            how = "listening with TLS" if listener.tls else "listening in clear text"
            self._log.info(how, listener=name, host=listener.host, port=server.port)

    async def _retain(self, journal: SqliteJournal) -> None:
        """Removes what is delivered and past its retention, now and then."""
        while True:
            try:
                before = len(journal.stuck)
                if removed := await journal.retain(time.time()):
                    self._log.info("removed delivered messages past their retention", count=removed)
                if stuck := len(journal.stuck) - before:
                    self.metrics.damage("retention").inc(stuck)
                    self._log.error("messages past their retention stand on damaged pages and stay", count=stuck)
                number, hash = await journal.head()
                self._log.info("receipts sealed", anchor=f"{number}:{hash}")
            except JournalError as error:
                if isinstance(error, DamagedPage):
                    self.metrics.damage("retention").inc()
                self._log.error("retention failed, tried again later", **told(error))
            await asyncio.sleep(RETAIN_EVERY)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _connections(self) -> int:
        return sum(server.connections for server in self.servers)


class _Signals:
    """SIGTERM and SIGINT end the bridge in order; the second one is the default again and ends it at once.

    SIGHUP reads the tables again, as often as it comes.
    """

    def __init__(self, bridge: Bridge, log: Log) -> None:
        self._bridge, self._log = bridge, log
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._received, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._bridge.reload)
        self._loop.set_exception_handler(self._unhandled)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        self._log.info("asked to end", signal=number.name)
        self._bridge.end()
        self._loop.remove_signal_handler(number)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio's own handler prints arguments and reprs, which may quote a message."""
        error = context.get("exception")
        fields = told(error) if isinstance(error, BaseException) else {}
        self._log.error("an exception nobody waited for", **fields)


def _absolute(path: str | Path) -> str:
    return str(Path(path).absolute())
