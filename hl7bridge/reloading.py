"""New tables for a running daemon: on SIGHUP, `mappings activate` and `rollback`. One after another, never two at once.

Order: the new version is read, checked and tried in a thread while the old one serves; then it is made the active one
on disk; then, in one step of the event loop, it takes the place of the old one. Whatever fails before that step leaves
everything as it was. A missing entry of history or audit is told, but ends nothing: the tables are good and serve.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from hl7bridge.collecting import resettle
from hl7bridge.condition import Condition
from hl7bridge.config import Config
from hl7bridge.errors import Hl7BridgeError, JournalError, UnavailableError
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.observe.log import Log, told
from hl7bridge.observe.metrics import Metrics
from hl7bridge.service import activation
from hl7bridge.service.activation import Ready, Refused, Wanted
from hl7bridge.service.tablesets import InService, TableSets
from hl7bridge.service.versions import Active, Event, Versions

LOGGED_MISTAKES = 100  # lines; the command that asked gets all


class Reloading:
    """Which tables are in service, from the start on. `service` is there once `start` has returned."""

    service: InService

    def __init__(self, config: Config, metrics: Metrics, condition: Condition, log: Log) -> None:
        self._config, self._metrics, self._condition, self._log = config, metrics, condition, log
        self.store = Versions(config.journal.path)
        self.version = ""
        self._unkept = False
        self._one = asyncio.Lock()

    async def start(self) -> InService:
        """The active version, else the configuration's folders. Raises Refused, TablesError, UnavailableError."""
        active = self.store.active()
        if active is not None:
            ready = await asyncio.to_thread(activation.served, self._config, self.store, active)
            tables, self.version = ready.tables, ready.version.id
        else:
            tables, self.version = await asyncio.to_thread(activation.from_folders, self._config)
            self._unkept = True
        self.service = InService(tables)
        self._tell(tables, active)
        return self.service

    async def keep(self) -> None:
        """Keeps what a start took from the folders as a version too, so that a first activation can be rolled back.

        A full disk, or folders that were changed meanwhile, do not stop a start.
        """
        if self._unkept:
            try:
                await asyncio.to_thread(self._keep)
            except (UnavailableError, Refused) as error:
                self._log.warning("the tables could not be kept as a version", **told(error))

    def _keep(self) -> None:
        ready = activation.keep(self._config, self.store, self.service.tables, self.version)
        history = self.store.history()
        if not history or history[-1].version != ready.version.id:
            self.store.note(activation.event("start", ready, "", None, ""))

    def _tell(self, tables: TableSets, active: Active | None) -> None:
        """Metrics, health and log know which tables serve."""
        self._metrics.know(tables.types, tables.version)
        self._metrics.tables.clear()
        source = "active" if active is not None else "folders"
        for listener in self._config.listeners:
            for version in tables.versions(listener):
                self._metrics.tables(self.version, listener.name, version, source).set(1)
        self._metrics.tables_since().set(time.time())
        self._condition.events = len(tables.types)
        self._condition.tables = activation.told(self.version, active)
        for folders, mappings in tables.sets.items():
            self._log.info(
                "tables loaded",
                path=", ".join(folders) or self._config.mappings.path or "as shipped",
                origin=self._condition.tables,
                mapping_version=mappings.version,
                events=sorted(f"{code}^{event}" for code, event in mappings.events),
            )

    async def answer(self, request: Mapping[str, Any], who: str, journal: SqliteJournal) -> Mapping[str, Any]:
        """For `control`: what the command is told."""
        folders = request.get("folders")
        what = Wanted(
            str(request.get("version", "")),
            tuple(map(str, folders)) if isinstance(folders, list) else None,
            request.get("do") == "rollback",
        )
        if request.get("do") not in ("activate", "rollback"):
            return {"ok": False, "mistakes": ["hl7bridge does not know this command: is it of another version?"]}
        return await self.activate(what, str(request["do"]), who or str(request.get("by", "")), journal)

    async def activate(self, what: Wanted, how: str, by: str, journal: SqliteJournal) -> Mapping[str, Any]:
        """Brings other tables into service, or says why not. Never raises for what the tables or the disk do."""
        async with self._one:
            try:
                ready = await asyncio.to_thread(activation.ready, self._config, self.store, what)
            except Hl7BridgeError as error:
                return await self._refused(error, how, by, journal)
            except Exception as error:  # a defect of ours is no reason to serve half of something
                self._log.error("a defect of hl7bridge, please report it", **told(error))
                return await self._refused(Refused([f"internal error: {type(error).__name__}"]), how, by, journal)
            event = activation.event(
                "rollback" if what.back else "activate",
                ready,
                self.version,
                self.service.tables.general.mappings.tables,
                by,
            )
            try:
                await asyncio.to_thread(self.store.activate, event)
            except UnavailableError as error:  # a restart would serve something else: better not begun
                return await self._refused(error, how, by, journal)
            self._take_over(ready, event)
            self._metrics.activations(how, "done").inc()
            await self._audit(journal, by, f"{event.action} mappings", event.version, _detail(event))
            return activation.answer_of(event)

    def _take_over(self, ready: Ready, event: Event) -> None:
        self.service.swap(ready.tables)
        resettle()
        self.version = ready.version.id
        self._condition.refused = ""
        self._log.info(
            "tables activated", mapping_version=event.version, detail=_detail(event), actor=event.by, check=event.action
        )
        self._tell(ready.tables, Active(event.version, event.at, event.by))

    async def _refused(self, error: Hl7BridgeError, how: str, by: str, journal: SqliteJournal) -> Mapping[str, Any]:
        mistakes = list(error.mistakes) if isinstance(error, Refused) else [str(error)]
        self._metrics.activations(how, "refused").inc()
        self._condition.refused = f"other tables were refused ({len(mistakes)} mistakes); {self.version} serves on"
        for mistake in mistakes[:LOGGED_MISTAKES]:
            self._log.error("tables refused", detail=mistake, check=how)
        self._log.error("the tables in service serve on", mapping_version=self.version, count=len(mistakes), actor=by)
        event = Event(time.time(), "refuse", "", by, self.version, "", len(mistakes))
        try:
            await asyncio.to_thread(self.store.note, event)
        except UnavailableError as trouble:
            self._log.error("trouble, tried again later", check="versions", **told(trouble))
        await self._audit(journal, by, "refuse mappings", self.version, f"{len(mistakes)} mistakes, by {how}")
        return {"ok": False, "mistakes": mistakes, "version": self.version, "exit_code": error.exit_code}

    async def _audit(self, journal: SqliteJournal, by: str, action: str, subject: str, detail: str) -> None:
        try:
            await journal.audit(by, action, subject, detail)
        except JournalError as error:
            self._log.error("an entry of the audit is missing", **told(error))


def _detail(event: Event) -> str:
    return f"before: {event.previous or 'none'}" + (f"; {event.changes}" if event.changes else "; nothing changed")
