"""The real FHIR server takes a bundle and the answer never comes: sent again, and nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from aiohttp import web

from hl7bridge import load_mappings, translate
from hl7bridge.config import Fhir, secret
from hl7bridge.delivery.endpoint import HttpEndpoint, Shipment
from hl7bridge.delivery.outcome import Delivered, RetryAt
from hl7bridge.mapping.mappings import Mappings

pytestmark = pytest.mark.servers
OID = "1.2.40.0.10.1.4.3.1"
TIMEOUT = 20.0  # seconds the bridge waits; the server needs a moment for its first transaction


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


class Between:
    """A line to the server that loses what it is told to: `before` the request, or the answer `after` it."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.url, self.lose = upstream, "", [""]
        self.forwarded = 0
        self.hang = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        how = self.lose.pop(0) if self.lose else ""
        body = await request.read()
        assert request.transport is not None
        if how == "cut before":
            request.transport.abort()
            return web.Response()
        headers = {name: request.headers[name] for name in ("Content-Type", "Accept", "Prefer")}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.upstream, data=body, headers=headers) as answer,
        ):
            content = await answer.read()
            self.forwarded += 1
        if how == "cut after":
            request.transport.abort()
        elif how == "silent after":
            await self.hang.wait()
        elif how == "gateway after":
            return web.Response(status=504, text="<html>", content_type="text/html")
        elif how == "half after":
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            request.transport.abort()
            return response
        return web.Response(body=content, status=answer.status, content_type="application/fhir+json")


@pytest.fixture
async def between(fhir_server: Any) -> AsyncIterator[Between]:
    line = Between(fhir_server.base_url)
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/fhir", line.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    line.url = f"http://127.0.0.1:{runner.addresses[0][1]}/fhir"
    yield line
    line.hang.set()
    await runner.cleanup()


def message(event: str) -> bytes:
    number, visit, order = (uuid.uuid4().hex[:10] for _ in range(3))
    kind = "ORU^R01" if event == "R01" else f"ADT^{event}"
    pid = f"PID|1||{number}^^^LAKESIDE&{OID}&ISO^MR||Doe^Jo||19800203|F"
    pv1 = f"PV1|1|I|WARD^1^2||||77^House^Gregory^^^^^^LAKESIDE||||||||||||{visit}^^^LAKESIDE&{OID}&ISO^VN"
    more = {
        "A28": (),
        "A01": (pv1,),
        "A40": (f"MRG|{uuid.uuid4().hex[:10]}^^^LAKESIDE&{OID}&ISO^MR",),
        "R01": (
            f"OBR|1|{order}^LAKESIDE|{order}F^LAB|718-7^Hemoglobin^LN|||20240602101500+0200|||||||||||||||20240602||HM|F",
            "OBX|1|NM|718-7^Hemoglobin^LN||13.2|g/dL|||||F|||20240602101500+0200",
            "OBX|2|NM|4544-3^Hematocrit^LN||39|%|||||F|||20240602101500+0200",
        ),
    }[event]
    head = f"MSH|^~\\&|ADT|LAKESIDE|||20240602101500+0200||{kind}|{uuid.uuid4().hex[:12]}|P|2.5.1"
    evn = ("EVN|A28|20240602101500+0200",) if event != "R01" else ()
    return "\r".join((head, *evn, pid, *more)).encode()


def count(base_url: str, type_: str, identifier: dict[str, str]) -> int:
    token = f"{identifier['system']}|{identifier['value']}"
    query = urllib.parse.urlencode({"identifier": token, "_elements": "identifier", "_count": "10"})
    request = urllib.request.Request(f"{base_url}/{type_}?{query}", headers={"Cache-Control": "no-cache"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.load(answer).get("entry", ()))


@pytest.mark.parametrize("event", ["A28", "A01", "A40", "R01"])
@pytest.mark.parametrize("how", ["cut before", "cut after", "half after", "gateway after"])
async def test_an_answer_that_is_lost_before_or_after_the_commit_has_no_second_effect(
    between: Between, fhir_server: Any, mappings: Mappings, event: str, how: str
) -> None:
    await effect_once(between, fhir_server.base_url, mappings, event, [how, how], TIMEOUT)


async def test_a_server_that_commits_and_then_says_nothing_in_time_has_no_second_effect(
    between: Between, fhir_server: Any, mappings: Mappings
) -> None:
    await effect_once(between, fhir_server.base_url, mappings, "R01", ["silent after"], 5.0)


async def effect_once(
    between: Between,
    base_url: str,
    mappings: Mappings,
    event: str,
    lose: list[str],
    timeout: float,  # noqa: ASYNC109
) -> None:
    result = translate(message(event), mappings, zone=ZoneInfo("Europe/Vienna"))
    entries = result.resource["entry"]
    shipment = Shipment(str(uuid.uuid4()), time.time(), result.bundle, len(entries))
    between.lose = list(lose)
    endpoint = HttpEndpoint(Fhir.model_validate({"base_url": between.url, "timeout": timeout}), secret)
    try:
        for _ in lose:
            outcome = await endpoint.deliver(shipment)
            assert isinstance(outcome, RetryAt), outcome  # never a dead letter, never a success
        for _ in range(10):  # a create that raced with the one that is still running
            outcome = await endpoint.deliver(shipment)
            if isinstance(outcome, Delivered):
                break
    finally:
        await endpoint.close()
    assert isinstance(outcome, Delivered), outcome
    assert between.forwarded >= (1 if "before" in lose[0] else len(lose) + 1)
    written = {
        (entry["resource"]["resourceType"], identifier["system"], identifier["value"])
        for entry in entries
        if "resource" in entry
        for identifier in _listed(entry["resource"].get("identifier"))
        if "system" in identifier and "value" in identifier
    }
    assert any(type_ == "Patient" for type_, _, _ in written)
    for type_, system, value in written:
        assert count(base_url, type_, {"system": system, "value": value}) == 1, type_


def _listed(value: Any) -> list[dict[str, str]]:
    return value if isinstance(value, list) else [value] if value else []
