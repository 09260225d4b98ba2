"""/healthz, /readyz and /metrics, over a bridge that is told what to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest

from hl7bridge.errors import EXIT_UNAVAILABLE, UnavailableError
from hl7bridge.observe.health import Check, HealthServer, create_app
from hl7bridge.observe.metrics import Metrics


class Told:
    """A source that answers what the test says."""

    def __init__(self) -> None:
        self.checks: Sequence[Check] = (Check("journal", True, "written"),)
        self.metrics = Metrics()

    async def alive(self) -> Sequence[Check]:
        return self.checks

    async def ready(self) -> Sequence[Check]:
        return self.checks

    async def refresh(self) -> None:
        self.metrics.undelivered().set(42)


@pytest.fixture
def source() -> Told:
    return Told()


@pytest.fixture
async def get(source: Told) -> AsyncIterator[Getter]:
    server = HealthServer(create_app(source, source.metrics), "127.0.0.1", 0)
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Getter(session, server.port)
    await server.stop()


class Getter:
    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session, self._port = session, port

    async def __call__(self, path: str) -> tuple[int, str]:
        async with self._session.get(f"http://127.0.0.1:{self._port}{path}") as answer:
            return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_all_is_well_is_200(get: Getter, path: str) -> None:
    assert await get(path) == (
        200,
        '{"status":"ok","failing":[],"checks":{"journal":{"ok":true,"detail":"written"}}}\n',
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_one_failing_check_is_503_with_its_reason(get: Getter, source: Told, path: str) -> None:
    source.checks = (Check("journal", False, "the disk is full"), Check("circuit", False, "open", informational=True))
    assert await get(path) == (
        503,
        '{"status":"failing","failing":["journal"],"checks":{"journal":{"ok":false,"detail":"the disk is full"},'
        '"circuit":{"ok":false,"detail":"open"}}}\n',
    )


async def test_an_informational_check_makes_nothing_fail(get: Getter, source: Told) -> None:
    source.checks = (Check("circuit", False, "open", informational=True),)
    assert (await get("/readyz"))[0] == 200


async def test_gauges_are_fresh_when_they_are_scraped(get: Getter) -> None:
    status, text = await get("/metrics")
    assert status == 200
    assert "hl7bridge_undelivered 42.0" in text


async def test_anything_else_is_not_found(get: Getter) -> None:
    assert (await get("/"))[0] == 404


async def test_a_port_that_is_taken_is_an_error_the_operator_understands(source: Told) -> None:
    first = HealthServer(create_app(source, source.metrics), "127.0.0.1", 0)
    await first.start()
    second = HealthServer(create_app(source, source.metrics), "127.0.0.1", first.port)
    with pytest.raises(UnavailableError, match=f"observe.port: cannot bind 127.0.0.1:{first.port}: ") as caught:
        await second.start()
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    await first.stop()
