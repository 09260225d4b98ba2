"""A FHIR server that plays what it is told, for the tests of what goes toward the endpoint."""

from __future__ import annotations

import contextlib
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from hl7bridge.config import Fhir
from hl7bridge.delivery.endpoint import HttpEndpoint, Shipment
from hl7bridge.delivery.outcome import Outcome
from hl7bridge.errors import ConfigError

SHIPMENT = Shipment("0190b5a2-7a3c-7cc0-8000-000000000001", 1_700_000_000.0, b'{"resourceType": "Bundle"}', 1)
CREATED = {
    "resourceType": "Bundle",
    "type": "transaction-response",
    "entry": [{"response": {"status": "201 Created"}}],
}

Answer = web.StreamResponse | None
Play = Callable[[web.Request], Answer | Awaitable[Answer]]


class ScriptedServer:
    """Plays one answer a request, the last one for ever; keeps what it was sent."""

    def __init__(self) -> None:
        self.plays: list[Play] = [lambda _: web.json_response(CREATED)]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers), await request.read()))
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        played = play(request)
        response = await played if inspect.isawaitable(played) else played
        if response is None:  # the connection breaks
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return response


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """A running server; `localhost` with TLS, so that a certificate can name it."""
    scripted = ScriptedServer()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", scripted.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    scripted.url = f"https://localhost:{port}/fhir" if tls else f"http://127.0.0.1:{port}/fhir"
    yield scripted
    await runner.cleanup()


def no_secret(reference: str) -> str:
    raise ConfigError([f"secret {reference}: is not set"])


@contextlib.asynccontextmanager
async def opened(url: str, secret: Callable[[str], str] = no_secret, **keys: object) -> AsyncIterator[HttpEndpoint]:
    endpoint = HttpEndpoint(Fhir.model_validate({"base_url": url, "timeout": 5.0} | keys), secret)
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def delivered_to(
    server: ScriptedServer, *plays: Play, secret: Callable[[str], str] = no_secret, **keys: object
) -> Outcome:
    server.plays = list(plays)
    async with opened(server.url, secret, **keys) as endpoint:
        return await endpoint.deliver(SHIPMENT)
