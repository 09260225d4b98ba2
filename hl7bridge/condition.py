"""How the bridge is: the answers behind /healthz and /readyz, and gauges that are asked for when they are scraped.

What holds: a probe of the journal's disk is a real write and fsync, at most every PROBE_EVERY seconds however often
we are asked, and never on the event loop. An open circuit does not make the bridge unready: senders are still answered.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hl7bridge.config import Config
from hl7bridge.errors import JournalError
from hl7bridge.journal.acknowledgements import Acknowledgements
from hl7bridge.journal.protocol import Figures, Journal
from hl7bridge.observe.health import Check
from hl7bridge.observe.metrics import Metrics
from hl7bridge.observe.watch import EndpointWatch, WorkerWatch
from hl7bridge.replies import channels_of
from hl7bridge.tls.rotation import Ending, Rotating

PROBE_EVERY = 5.0  # seconds
BEAT = 1.0  # seconds between heartbeats of the event loop
LATE = 10.0  # seconds the event loop may be late before it counts as stuck


class Condition:
    """A `health.Source`. `phase` is set by the bridge: starting, ready, draining."""

    def __init__(self, config: Config, metrics: Metrics, watch: WorkerWatch, endpoint: EndpointWatch) -> None:
        self.phase = "starting"
        self.ports: dict[str, int] = {}
        self.keys: dict[str, Rotating] = {}  # the TLS files of listeners
        self.journal: Journal | None = None
        self.replies: Acknowledgements | None = None
        self.events = 0
        self.tables = ""  # which tables are in service, and why these
        self.refused = ""  # the last attempt to bring in others, if it failed
        self._config, self._metrics, self._watch, self._endpoint = config, metrics, watch, endpoint
        self._lag = 0.0
        self._disk = Check("disk", True, "not looked at yet")
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def beat(self) -> None:
        """Notes how late the event loop wakes up; runs until cancelled."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(BEAT)
            self._lag = max(0.0, time.monotonic() - begun - BEAT)
            self._metrics.loop_lag().set(self._lag)

    # ---- health.Source ----

    async def alive(self) -> Sequence[Check]:
        loop = Check("event-loop", self._lag < LATE, f"woke up {self._lag:.1f} s late")
        return [loop, await self._disk_check(), await self._journal_check()]

    async def ready(self) -> Sequence[Check]:
        wanted = [listener.name for listener in self._config.listeners]
        missing = [name for name in wanted if name not in self.ports]
        bound = ", ".join(f"{name} on {port}" for name, port in self.ports.items()) or "none"
        return [
            Check("phase", self.phase == "ready", self.phase),
            Check("listeners", not missing, bound + (f"; not bound: {', '.join(missing)}" if missing else "")),
            Check("tables", self.events > 0, f"{self.events} events" + (f", {self.tables}" if self.tables else "")),
            *(_tls_check(name, keys.endings, keys.refused, time.time()) for name, keys in self.keys.items()),
            *([Check("tables-refused", False, self.refused, informational=True)] if self.refused else []),
            await self._disk_check(),
            await self._backlog_check(),
            *(
                _tls_check(name, endings, self._endpoint.unfit.get(name, ""), time.time())
                for name, endings in self._endpoint.endings.items()
                if endings
            ),
            *([self._token()] if self._config.fhir.smart is not None else []),
            Check("circuit", self._watch.circuit != "open", self._circuit(), informational=True),
        ]

    async def refresh(self) -> None:
        self._metrics.certificate_expiry.clear()
        for name, keys in self.keys.items():
            self._tell_endings(name, keys.endings)
        for name, endings in self._endpoint.endings.items():
            self._tell_endings(name, endings)
        figures = await self._figures()
        if figures is None:
            return
        metrics = self._metrics
        metrics.undelivered().set(figures.undelivered)
        metrics.dead_letters().set(figures.dead)
        for channel, pending in (await self._pending()).items():
            metrics.application_acks_pending(channel).set(pending)
        oldest = figures.oldest_undelivered_at
        metrics.oldest().set(0.0 if oldest is None else max(0.0, time.time() - oldest))

    def _tell_endings(self, name: str, endings: Sequence[Ending]) -> None:
        for ending in endings:
            self._metrics.certificate_expiry(name, ending.key, ending.path).set(ending.at - time.time())

    # ---- the checks ----

    def _token(self) -> Check:
        why = self._endpoint.why
        return Check(
            "token",
            not why,
            why or ("renewed as needed" if self._endpoint.asked else "not asked for yet"),
            informational=True,
        )

    def _circuit(self) -> str:
        return self._watch.circuit + (f": {self._watch.why}" if self._watch.why else "")

    async def _figures(self) -> Figures | None:
        if self.journal is None:
            return None
        with suppress(JournalError):
            return await self.journal.figures()
        return None

    async def _pending(self) -> dict[str, int]:
        """Of every channel: 0 where nothing is to be sent."""
        found = dict.fromkeys(channels_of(self._config), 0)
        if self.replies is not None:
            with suppress(JournalError):
                found |= await self.replies.pending()
        return found

    async def _journal_check(self) -> Check:
        if self.journal is None:
            return Check("journal", self.phase == "starting", "not open")
        figures = await self._figures()
        return Check("journal", figures is not None, "can be read" if figures else "cannot be read")

    async def _backlog_check(self) -> Check:
        figures = await self._figures()
        if figures is None:
            return Check("backlog", False, "the journal cannot be read")
        room = figures.undelivered < self._config.journal.max_backlog
        return Check("backlog", room, f"{figures.undelivered} undelivered, {figures.dead} dead letters")

    async def _disk_check(self) -> Check:
        async with self._looking:
            if time.monotonic() - self._looked >= PROBE_EVERY:
                self._disk = await asyncio.to_thread(_probe, Path(self._config.journal.path))
                self._looked = time.monotonic()
        return self._disk


def _tls_check(name: str, endings: Sequence[Ending], refused: str, now: float) -> Check:
    """Informational: a listener whose certificate has ended still serves senders that do not look at the date."""
    told = [ending.told(now) for ending in endings]
    if refused:
        told.insert(0, f"new files are unfit, the old serve on: {refused}")
    ok = not refused and all(ending.at > now for ending in endings)
    return Check(f"tls-{name}", ok, "; ".join(told), informational=True)


def _probe(folder: Path) -> Check:
    """Writes and syncs a file beside the journal."""
    trial = folder / f".probe-{os.getpid()}"
    begun = time.perf_counter()
    try:
        with trial.open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        trial.unlink()
    except OSError as error:
        return Check("disk", False, f"{folder} cannot be written: {error.strerror or type(error).__name__}")
    return Check("disk", True, f"written and synced in {(time.perf_counter() - begun) * 1000:.0f} ms")
