"""The HTTP endpoint against a server that plays what it is told, and the directory endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr
from scripted_server import CREATED, SHIPMENT, ScriptedServer, delivered_to, no_secret, opened

from hl7bridge.config import Fhir, Tls
from hl7bridge.delivery import http
from hl7bridge.delivery.endpoint import FileEndpoint, HttpEndpoint, open_endpoint
from hl7bridge.delivery.outcome import Blame, Dead, Delivered, Misconfigured, RetryAt, Unauthorised
from hl7bridge.delivery.tls import made
from hl7bridge.errors import UnavailableError


async def test_a_bundle_is_posted_to_the_base_with_the_headers_of_fhir(server: ScriptedServer) -> None:
    assert await delivered_to(server, *server.plays, headers={"X-Tenant": "north"}) == Delivered(200)
    ((method, path, headers, body),) = server.requests
    assert (method, path, body) == ("POST", "/fhir", SHIPMENT.bundle)
    assert headers["Content-Type"] == "application/fhir+json; charset=utf-8"
    assert headers["Accept"] == "application/fhir+json"
    assert headers["Prefer"] == "return=minimal"
    assert headers["X-Request-ID"] == SHIPMENT.id
    assert headers["X-Tenant"] == "north"
    assert headers["User-Agent"].startswith("hl7bridge/")
    assert "Authorization" not in headers


async def test_a_refusal_brings_its_operation_outcome(server: ScriptedServer) -> None:
    body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]}
    outcome = await delivered_to(server, lambda _: web.json_response(body, status=422))
    assert isinstance(outcome, Dead)
    assert outcome.operation_outcome[0].code == "invalid"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(server: ScriptedServer, status: int) -> None:
    outcome = await delivered_to(server, lambda _: web.Response(status=status, headers={"Location": "/elsewhere"}))
    assert isinstance(outcome, Misconfigured)
    assert len(server.requests) == 1


async def test_a_server_that_asks_for_a_pause_is_heard(server: ScriptedServer) -> None:
    outcome = await delivered_to(server, lambda _: web.Response(status=503, headers={"Retry-After": "30"}))
    assert isinstance(outcome, RetryAt) and outcome.after == 30.0


async def test_a_connection_that_breaks_is_retried(server: ScriptedServer) -> None:
    outcome = await delivered_to(server, lambda _: None)
    assert isinstance(outcome, RetryAt) and outcome.quick and outcome.blame is Blame.EITHER


@contextlib.asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Answers with these bytes and closes, whatever was asked."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(SHIPMENT.bundle))
        writer.write(answer)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/fhir"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + json.dumps(CREATED).encode(), "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "broke off"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"res', "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", "not FHIR JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
        (b"", "connection lost"),
    ],
)
async def test_an_answer_that_proves_nothing_is_retried(answer: bytes, why: str) -> None:
    async with raw_server(answer) as url, opened(url) as endpoint:
        outcome = await endpoint.deliver(SHIPMENT)
    assert isinstance(outcome, RetryAt)
    assert why in outcome.why


async def test_an_answer_without_end_is_cut_off(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_MAX", 100_000)
    outcome = await delivered_to(server, lambda _: web.Response(body=b" " * 1_000_000))
    assert isinstance(outcome, RetryAt) and "broke off" in outcome.why


async def test_a_refused_connection_a_wrong_name_and_a_wrong_address_are_told_apart() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{taken.getsockname()[1]}/fhir") as endpoint:
            refused = await endpoint.deliver(SHIPMENT)
    async with opened("http://nowhere.invalid/fhir") as endpoint:
        unknown = await endpoint.deliver(SHIPMENT)
    async with opened("http://") as endpoint:
        wrong = await endpoint.deliver(SHIPMENT)
    assert isinstance(refused, RetryAt) and refused.blame is Blame.ENDPOINT
    assert refused.why == "connection refused (ECONNREFUSED)"
    assert isinstance(unknown, RetryAt) and unknown.why == "the host name does not resolve"
    assert isinstance(wrong, Misconfigured)


async def test_a_server_that_does_not_answer_in_time_is_retried(server: ScriptedServer) -> None:
    release = asyncio.Event()

    class Slow(web.StreamResponse):
        async def prepare(self, request: web.BaseRequest) -> None:
            await release.wait()

    outcome = await delivered_to(server, lambda _: Slow(), timeout=0.05)
    release.set()
    assert isinstance(outcome, RetryAt) and outcome.why == "no answer in time"
    assert outcome.blame is Blame.EITHER


async def test_tls_toward_a_server_without_it_is_the_endpoint_s_failure(server: ScriptedServer) -> None:
    async with opened(server.url.replace("http:", "https:")) as endpoint:
        outcome = await endpoint.deliver(SHIPMENT)
    assert isinstance(outcome, RetryAt)
    assert outcome.blame is Blame.ENDPOINT and outcome.why.startswith("TLS failed")


def test_tls_files_that_cannot_be_read_are_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"fhir\.tls"):
        HttpEndpoint(Fhir(base_url="https://localhost/", tls=Tls(ca=str(tmp_path / "none.pem"))), no_secret)


def test_tls_verifies_and_takes_the_configured_minimum() -> None:
    context = made(Tls(minimum="1.3"), "fhir.tls")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


async def test_a_token_is_read_when_used_and_read_again_when_refused(server: ScriptedServer) -> None:
    tokens = ["old", "new"]
    server.plays = [
        lambda request: (
            web.json_response(CREATED)
            if request.headers.get("Authorization") == "Bearer new"
            else web.Response(status=401)
        )
    ]
    asked: list[str] = []

    def secret(reference: str) -> str:
        asked.append(reference)
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    async with opened(server.url, secret, bearer_token=SecretStr("env:TOKEN")) as endpoint:
        assert await endpoint.deliver(SHIPMENT) == Delivered(200)
        assert await endpoint.deliver(SHIPMENT) == Delivered(200)
    assert asked == ["env:TOKEN", "env:TOKEN"]
    assert len(server.requests) == 3


async def test_a_wrong_token_is_sent_once_an_attempt(server: ScriptedServer) -> None:
    outcome = await delivered_to(
        server, lambda _: web.Response(status=401), secret=lambda _: "wrong", bearer_token=SecretStr("env:TOKEN")
    )
    assert isinstance(outcome, Unauthorised)
    assert len(server.requests) == 1


@pytest.mark.parametrize("token", ["two\nlines", "t\u00f6ken"])
async def test_a_token_that_no_header_can_carry_is_not_sent(server: ScriptedServer, token: str) -> None:
    keys = {"bearer_token": SecretStr("env:TOKEN")}
    assert isinstance(await delivered_to(server, *server.plays, secret=lambda _: token, **keys), Unauthorised)
    assert server.requests == []


async def test_a_secret_that_is_not_there_lets_everything_wait_and_sends_nothing(server: ScriptedServer) -> None:
    outcome = await delivered_to(server, *server.plays, bearer_token=SecretStr("env:TOKEN"))
    assert isinstance(outcome, Unauthorised)
    assert server.requests == []


async def test_basic_credentials_go_as_utf_8(server: ScriptedServer) -> None:
    keys = {"basic_user": "käthe", "basic_password": SecretStr("env:PASSWORD")}
    await delivered_to(server, *server.plays, secret=lambda _: "süß", **keys)
    assert server.requests[0][2]["Authorization"] == "Basic a8OkdGhlOnPDvMOf"


async def test_connections_are_kept_and_never_more_than_allowed(server: ScriptedServer) -> None:
    peers: set[object] = set()

    def play(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response(CREATED)

    server.plays = [play]
    async with opened(server.url, concurrency=3) as endpoint:
        outcomes = await asyncio.gather(*(endpoint.deliver(SHIPMENT) for _ in range(30)))
    assert set(outcomes) == {Delivered(200)}
    assert len(peers) <= 3


@pytest.mark.parametrize(
    ("response", "ok", "said"),
    [
        (lambda: web.json_response({"resourceType": "CapabilityStatement"}), True, "a FHIR server answers"),
        (lambda: web.json_response({"resourceType": "Patient"}), False, "no CapabilityStatement"),
        (lambda: web.Response(text="<html>"), False, "no CapabilityStatement"),
        (lambda: web.Response(status=401), False, "bearer_token"),
        (lambda: web.Response(status=302, headers={"Location": "/"}), False, "redirects are not followed"),
        (lambda: web.Response(status=404), False, "HTTP 404"),
        (lambda: None, False, "connection lost"),
    ],
)
async def test_the_probe_says_what_is_wrong(
    server: ScriptedServer, response: Callable[[], web.StreamResponse | None], ok: bool, said: str
) -> None:
    server.plays = [lambda _: response()]
    async with opened(server.url) as endpoint:
        probe = await endpoint.probe()
    assert probe.ok is ok and said in probe.text
    assert server.requests[0][:2] == ("GET", "/fhir/metadata")


async def test_without_a_server_bundles_are_files_one_a_message_private_and_whole(tmp_path: Path) -> None:
    endpoint = open_endpoint(Fhir(base_url=f"file:{tmp_path}/out"), no_secret)
    assert isinstance(endpoint, FileEndpoint)
    assert (await endpoint.probe()).ok
    for _ in range(2):
        assert isinstance(await endpoint.deliver(SHIPMENT), Delivered)
    path = tmp_path / "out" / "2023-11-14" / f"{SHIPMENT.id}.json"
    assert path.read_bytes() == SHIPMENT.bundle
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await endpoint.close()
    assert [file for file in (tmp_path / "out").rglob("*") if file.is_file()] == [path]


async def test_a_directory_that_cannot_be_written_lets_everything_wait(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    endpoint = FileEndpoint(tmp_path / "out")
    outcome = await endpoint.deliver(SHIPMENT)
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT
    probe = await endpoint.probe()
    assert not probe.ok and "cannot be written" in probe.text
