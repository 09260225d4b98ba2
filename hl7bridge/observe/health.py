"""/healthz, /readyz, /metrics: what an orchestrator and a monitor ask.

What holds: no answer carries anything from a message; checks name folders, ports and reasons. `/healthz` fails when a
restart may help or a person must look (the journal cannot be written); `/readyz` while messages should go elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from hl7bridge.errors import UnavailableError
from hl7bridge.observe import probes
from hl7bridge.observe.metrics import CONTENT_TYPE, Metrics
from hl7bridge.observe.probes import Answer, Request

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
HEAD_MAX = 16 * 1024  # bytes of a request
IDLE = 75.0  # seconds; a monitor that scrapes once a minute keeps its connection
MOST = 100  # connections at once
LAST = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `informational`: told, but no reason to be unready."""

    name: str
    ok: bool
    detail: str = ""
    informational: bool = False


class Source(Protocol):
    """What answers for the bridge."""

    async def alive(self) -> Sequence[Check]: ...
    async def ready(self) -> Sequence[Check]: ...
    async def refresh(self) -> None:
        """Brings the gauges up to date, before they are scraped."""
        ...


class HealthServer:
    """The three paths on their port. `port` is the bound one after `start`.

    No framework: the port is bound before anything else of the daemon is there, and whoever asks may be anybody.
    More than MOST connections are closed at once, and no connection waits longer than IDLE seconds for a request.
    """

    def __init__(self, source: Source, metrics: Metrics, host: str, port: int) -> None:
        self._source, self._metrics, self._host = source, metrics, host
        self.port = port
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Raises UnavailableError when the port cannot be bound."""
        try:
            self._server = await asyncio.start_server(self._talk, self._host, self.port, limit=HEAD_MAX)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise UnavailableError(f"observe.port: cannot bind {self._host}:{self.port}: {why}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes everything; an answer that is being made is not waited for longer than LAST seconds."""
        if self._server is not None:
            self._server.close()
        for writer in self._talks.values():
            writer.close()
        if self._talks:
            await asyncio.wait(self._talks, timeout=LAST)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. What a check raises goes on, to be told as an exception nobody waited for."""
        task = asyncio.current_task()
        assert task is not None
        self._talks[task] = writer
        try:
            if len(self._talks) <= MOST:
                while await self._exchange(reader, writer):
                    pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # who asked went away, or never came to the point
        finally:
            del self._talks[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. May there be another on this connection?"""
        try:
            async with asyncio.timeout(IDLE):
                request = probes.read(await reader.readuntil(probes.END))
        except asyncio.LimitOverrunError:
            request = Request("", "", False, 431)
        try:
            answer = await self._answer(request)
        except Exception:
            writer.write(probes.written(probes.refusal(500), request.method, stays=False, now=time.time()))
            raise
        writer.write(probes.written(answer, request.method, request.stays, time.time()))
        async with asyncio.timeout(IDLE):
            await writer.drain()
        return request.stays

    async def _answer(self, request: Request) -> Answer:
        if request.refused:
            return probes.refusal(request.refused)
        if request.path not in PATHS:
            return probes.refusal(404)
        if request.method not in probes.METHODS:
            return probes.refusal(405)
        if request.path == "/metrics":
            await self._source.refresh()
            return Answer(200, self._metrics.text(), CONTENT_TYPE)
        return _verdict(await (self._source.alive() if request.path == "/healthz" else self._source.ready()))


def _verdict(checks: Sequence[Check]) -> Answer:
    """200 when all is well, else 503; either way every check with its reason."""
    failing = [check.name for check in checks if not check.ok and not check.informational]
    body = {
        "status": "failing" if failing else "ok",
        "failing": failing,
        "checks": {check.name: {"ok": check.ok, "detail": check.detail} for check in checks},
    }
    return Answer(503 if failing else 200, orjson.dumps(body) + b"\n", "application/json")
