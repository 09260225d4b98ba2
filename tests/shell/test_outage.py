"""An endpoint that is gone while senders go on: answered from disk, told when it is full, and everything comes after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from hl7bridge.bridge import Bridge
from hl7bridge.config import Config

MESSAGE = (
    "MSH|^~\\&|ADT|LAKESIDE|||20240501120000||ADT^A28|{0}|P|2.5\rEVN|A28|20240501120000\r"
    "PID|1||{0}^^^LAKESIDE&1.2.3&ISO^MR||EVERYWOMAN^EVE\r"
)
BACKLOG = 12
PROBE = 0.2  # seconds between probes


class Server:
    """A FHIR server that is down until `up`; counts requests, and how many were there at once."""

    def __init__(self) -> None:
        self.up = False
        self.requests = self.most = self.now = self.taken = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            bundle = json.loads(await request.read())
            await asyncio.sleep(0.01)
        finally:
            self.now -= 1
        if not self.up:
            return web.Response(status=503)
        self.taken += 1
        entries = [{"response": {"status": "201"}} for _ in bundle["entry"]]
        return web.json_response({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_post("/fhir", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/fhir"
    yield server
    await runner.cleanup()


@pytest.fixture
async def bridge(server: Server, tmp_path: Path) -> AsyncIterator[Bridge]:
    config = Config.model_validate(
        {
            "listeners": [{"host": "127.0.0.1", "port": 0, "timezone": "Europe/Vienna"}],
            "observe": {"host": "127.0.0.1", "port": 0},
            "journal": {"path": str(tmp_path / "journal"), "min_free_bytes": 0, "max_backlog": BACKLOG},
            "fhir": {"base_url": server.url, "concurrency": 4},
            "retry": {"first": 0.05, "cap": 0.5, "circuit_after": 3, "circuit_probe": PROBE},
            "dead_letters": {"path": str(tmp_path / "dlq")},
            "translate": {"workers": 0},
            "drain_timeout": 5,
        }
    )
    running = Bridge(config, structlog.stdlib.get_logger("hl7bridge"))
    await running.start()
    yield running
    await running.stop()


async def answers(port: int, *control_ids: str) -> list[str]:
    """MSA-1 and ERR-3.1 of each, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    for control_id in control_ids:
        writer.write(b"\x0b" + MESSAGE.format(control_id).encode() + b"\x1c\r")
        answer = (await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 20.0)).decode()
        code = answer.partition("MSA|")[2][:2]
        found.append(code + (" 207" if "|207^" in answer else ""))
    writer.close()
    await writer.wait_closed()
    return found


async def test_senders_are_answered_until_the_backlog_is_full_the_endpoint_is_probed_gently_and_all_is_delivered_later(
    bridge: Bridge, server: Server
) -> None:
    port, ids = bridge.servers[0].port, [f"M{number}" for number in range(BACKLOG + 5)]
    told = await answers(port, *ids)
    assert told == ["AA"] * BACKLOG + ["AR 207"] * 5

    async with asyncio.timeout(20):
        while bridge.condition._watch.circuit != "open":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    begun, before, server.most = loop.time(), server.requests, 0
    while loop.time() - begun < 2.0:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert 1 <= server.requests - before <= (loop.time() - begun) / PROBE + 2
    assert server.most == 1
    assert [check.ok for check in await bridge.condition.ready() if check.name == "backlog"] == [False]
    assert await answers(port, ids[0]) == ["AA"]  # a resend of what is stored is no new message

    server.up = True
    async with asyncio.timeout(30):
        while server.taken < BACKLOG:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    async with asyncio.timeout(30):  # the last one is written down a moment after it was taken
        while (await answers(port, *ids[BACKLOG:]))[-1] != "AA":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        while server.taken < len(ids):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert server.taken == len(ids)
