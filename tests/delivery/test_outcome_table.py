"""Every answer of the outcome table over a real connection, and docs/behaviour.md's table against the code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from outcome_cases import SENT, SENTINEL, SPECIAL, Case, by_status, described, table
from scripted_server import ScriptedServer, opened

from hl7bridge.delivery.answer import RETRY_AFTER_MAX
from hl7bridge.delivery.endpoint import Shipment
from hl7bridge.delivery.outcome import Blame, Dead, Misconfigured, RetryAt

PAGE = Path(__file__).resolve().parents[2] / "docs" / "behaviour.md"
SHIPMENT = Shipment("0190b5a2-7a3c-7cc0-8000-000000000002", 1_700_000_000.0, b'{"resourceType": "Bundle"}', SENT)
CASES = [*SPECIAL, *by_status()]


@contextlib.asynccontextmanager
async def answering(case: Case) -> AsyncIterator[str]:
    """A server that answers with these bytes, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(SHIPMENT.bundle))
        if 100 <= case.status < 200 and case.status != 101:
            writer.write(f"HTTP/1.1 {case.status} Soon\r\n\r\n".encode())  # an interim answer, and then nothing
        else:
            length = "" if case.status == 204 else f"Content-Length: {len(case.body)}\r\n"
            head = f"HTTP/1.1 {case.status} X\r\nContent-Type: {case.media_type}\r\n{length}Connection: close\r\n\r\n"
            writer.write(head.encode() + case.body[: len(case.body) - case.cut])
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/fhir"


@pytest.mark.parametrize("case", CASES, ids=[f"{case.status}-{number}" for number, case in enumerate(CASES)])
async def test_an_answer_on_the_wire_has_the_outcome_of_the_table_and_tells_nothing_of_the_patient(case: Case) -> None:
    async with answering(case) as url, opened(url) as endpoint:
        outcome = await endpoint.deliver(SHIPMENT)
    if case.status < 200:
        assert isinstance(outcome, RetryAt) and outcome.blame is Blame.EITHER
    else:
        assert described(outcome) == described(case.outcome)
    told = repr(outcome) + getattr(outcome, "why", "") + getattr(outcome, "detail", "")
    assert SENTINEL not in told
    if isinstance(outcome, Dead) and outcome.operation_outcome:
        assert outcome.operation_outcome[0].diagnostics == SENTINEL  # the dead letter's, for whom it concerns


def test_the_page_s_table_is_the_code_s() -> None:
    section = PAGE.read_text("utf-8").partition("| answer | what follows |")[2].partition("\n\n")[0]
    told = [line for line in section.splitlines() if line.startswith("| ")]
    assert "\n".join(told) == "\n".join(table())


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_gets_neither_the_bundle_nor_the_credentials(
    server: ScriptedServer, status: int
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        asked: list[bytes] = []

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.read(100))
            writer.close()

        elsewhere = await stack.enter_async_context(await asyncio.start_server(other, "127.0.0.1", 0))
        location = f"http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/fhir"
        server.plays = [lambda _: web.Response(status=status, headers={"Location": location})]
        keys = {"bearer_token": "env:TOKEN"}
        endpoint = await stack.enter_async_context(opened(server.url, lambda _: SENTINEL, **keys))
        outcome = await endpoint.deliver(SHIPMENT)
        probe = await endpoint.probe()
    assert isinstance(outcome, Misconfigured) and outcome.why == f"HTTP {status}"
    assert not probe.ok and "redirects are not followed" in probe.text
    assert asked == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("17", 17.0),
        ("0", 0.0),
        ("31536000", RETRY_AFTER_MAX),
        ("99999999999999999999999", RETRY_AFTER_MAX),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX),
        ("-1", None),
        ("tomorrow", None),
    ],
)
async def test_retry_after_is_heard_within_reason(
    server: ScriptedServer, status: int, said: str, seconds: float | None
) -> None:
    server.plays = [lambda _: web.Response(status=status, headers={"Retry-After": said})]
    async with opened(server.url) as endpoint:
        outcome = await endpoint.deliver(SHIPMENT)
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT
    assert outcome.after == seconds
