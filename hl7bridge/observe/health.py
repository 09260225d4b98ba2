"""/healthz, /readyz, /metrics: what an orchestrator and a monitor ask.

What holds: no answer carries anything from a message; checks name folders, ports and reasons. `/healthz` fails when a
restart may help or a person must look (the journal cannot be written); `/readyz` while messages should go elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
from aiohttp import web

from hl7bridge.errors import UnavailableError
from hl7bridge.observe.metrics import CONTENT_TYPE, Metrics


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


def create_app(source: Source, metrics: Metrics) -> web.Application:
    """The application; `serve` binds it, tests call it."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(await source.alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(await source.ready())

    async def scrape(_: web.Request) -> web.Response:
        await source.refresh()
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app


def _answer(checks: Sequence[Check]) -> web.Response:
    """200 when all is well, else 503; either way every check with its reason."""
    failing = [check.name for check in checks if not check.ok and not check.informational]
    body = {
        "status": "failing" if failing else "ok",
        "failing": failing,
        "checks": {check.name: {"ok": check.ok, "detail": check.detail} for check in checks},
    }
    return web.Response(
        status=503 if failing else 200, body=orjson.dumps(body) + b"\n", content_type="application/json"
    )


class HealthServer:
    """The application on its port. `port` is the bound one after `start`."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._host = host
        self.port = port

    async def start(self) -> None:
        """Raises UnavailableError when the port cannot be bound."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            why = error.strerror or type(error).__name__
            raise UnavailableError(f"observe.port: cannot bind {self._host}:{self.port}: {why}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()
