"""/healthz, /readyz and /metrics, over a bridge that is told what to answer."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest

from hl7bridge.errors import EXIT_UNAVAILABLE, UnavailableError
from hl7bridge.observe.health import HEAD_MAX, MOST, Check, HealthServer
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
async def server(source: Told) -> AsyncIterator[HealthServer]:
    server = HealthServer(source, source.metrics, "127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def get(server: HealthServer) -> AsyncIterator[Getter]:
    async with aiohttp.ClientSession() as session:
        yield Getter(session, server.port)


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
    first = HealthServer(source, source.metrics, "127.0.0.1", 0)
    await first.start()
    second = HealthServer(source, source.metrics, "127.0.0.1", first.port)
    with pytest.raises(UnavailableError, match=f"observe.port: cannot bind 127.0.0.1:{first.port}: ") as caught:
        await second.start()
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    await first.stop()


async def said(server: HealthServer, *requests: bytes) -> bytes:
    """Everything that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for request in requests:
            writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_connection_serves_one_request_after_another(server: HealthServer) -> None:
    asked, last = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = await said(server, asked + asked[:9], asked[9:], last)
    assert [answers.count(b"HTTP/1.1 " + status) for status in (b"200 OK", b"404 Not Found")] == [2, 1]


async def test_no_byte_of_a_body_is_taken_for_a_request(server: HealthServer) -> None:
    hidden = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = await said(
        server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden
    )
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answers


async def test_a_head_without_end_is_refused(server: HealthServer) -> None:
    assert (await said(server, b"GET /" + b"x" * (HEAD_MAX + 10))).startswith(b"HTTP/1.1 431 ")


async def test_a_check_that_fails_to_answer_is_500_and_is_told(server: HealthServer, source: Told) -> None:
    told: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))

    async def alive() -> Sequence[Check]:
        raise ValueError("a bug")

    source.alive = alive  # type: ignore[method-assign]
    assert (await said(server, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
    gc.collect()
    assert [type(error) for error in told] == [ValueError]


async def test_who_says_nothing_cannot_keep_others_out_for_ever(server: HealthServer) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MOST)]
    assert await said(server, b"GET /healthz HTTP/1.0\r\n\r\n") == b""
    silent.pop()[1].close()
    await asyncio.sleep(0.05)
    assert (await said(server, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    for _, writer in silent:
        writer.close()


async def test_stopping_closes_connections_that_wait(source: Told) -> None:
    server = HealthServer(source, source.metrics, "127.0.0.1", 0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0.05)
    await server.stop()
    assert await reader.read() == b""
    writer.close()
