"""SMART Backend Services with a real OAuth server (oidc-provider) in front of the real FHIR server."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from daemon import Daemon
from oauth_server import OAuthServer

from hl7bridge import load_mappings, translate
from hl7bridge.config import Fhir, secret
from hl7bridge.delivery.assertion import Kind, jwks, new_key, read_key
from hl7bridge.delivery.endpoint import HttpEndpoint, Shipment
from hl7bridge.delivery.outcome import Delivered, Outcome, RetryAt, Unauthorised
from hl7bridge.mapping.mappings import Mappings

pytestmark = pytest.mark.servers
OID = "1.2.40.0.10.1.4.3.1"


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


def admission(number: str) -> bytes:
    lines = (
        f"MSH|^~\\&|ADT|LAKESIDE|||20240602101500+0200||ADT^A28|{uuid.uuid4().hex[:12]}|P|2.5.1",
        "EVN|A28|20240602101500+0200",
        f"PID|1||{number}^^^LAKESIDE&{OID}&ISO^MR||Doe^Jo||19800203|F",
    )
    return "\r".join(lines).encode() + b"\r"


@pytest.fixture
def shipments(mappings: Mappings) -> Callable[[int], list[Shipment]]:
    """Bundles, each of a patient nobody knew; their ids are the record numbers."""

    def make(count: int) -> list[Shipment]:
        found = []
        for _ in range(count):
            number = uuid.uuid4().hex[:10]
            result = translate(admission(number), mappings, zone=ZoneInfo("Europe/Vienna"))
            found.append(Shipment(number, time.time(), result.bundle, len(result.resource["entry"])))
        return found

    return make


def stored(base_url: str, number: str) -> int:
    """How many patients the FHIR server itself has under this number."""
    search = urllib.parse.urlencode({"identifier": f"urn:oid:{OID}|{number}", "_elements": "identifier"})
    request = urllib.request.Request(f"{base_url}/Patient?{search}", headers={"Cache-Control": "no-cache"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.load(answer).get("entry", ()))


def key_file(folder: Path, name: str, kind: Kind = "ec") -> Path:
    file = folder / f"{name}.pem"
    file.write_bytes(new_key(kind))
    file.chmod(0o600)
    return file


def published(*files: Path) -> dict[str, Any]:
    return jwks([read_key(file.read_text(), "k") for file in files])


@asynccontextmanager
async def endpoint(server: OAuthServer, key: Path, **smart: Any) -> AsyncIterator[HttpEndpoint]:
    keys = {"client_id": "bridge", "keys": [f"file:{key}"]} | smart
    opened = HttpEndpoint(Fhir.model_validate({"base_url": server.fhir, "smart": keys}), secret)
    try:
        yield opened
    finally:
        await opened.close()


async def delivered(opened: HttpEndpoint, bundles: list[Shipment]) -> list[Outcome]:
    """Side by side; a conditional create that raced is tried again, as the worker does."""

    async def deliver(bundle: Shipment) -> Outcome:
        for _ in range(20):
            outcome = await opened.deliver(bundle)
            if not (isinstance(outcome, RetryAt) and outcome.quick):
                return outcome
        return outcome

    return list(await asyncio.gather(*map(deliver, bundles)))


@pytest.mark.parametrize("kind", ["ec", "rsa"])
async def test_many_bundles_go_with_one_token_and_are_in_the_fhir_server(
    oauth_server: OAuthServer, fhir_server: Any, shipments: Callable[[int], list[Shipment]], tmp_path: Path, kind: Kind
) -> None:
    key = key_file(tmp_path, "smart", kind)
    oauth_server.register(published(key))
    bundles = shipments(12)
    async with endpoint(oauth_server, key) as opened:
        probe = await opened.probe_token()
        assert probe is not None and probe.text == "a token for 300 s for system/*.cruds"
        assert (await opened.probe()).ok
        assert {type(outcome) for outcome in await delivered(opened, bundles)} == {Delivered}
    assert [stored(fhir_server.base_url, bundle.id) for bundle in bundles] == [1] * 12
    counts = oauth_server.change()
    assert (counts["tokens"], counts["refused"]) == (1, 0)
    assert counts["bundles"] >= 12


async def test_a_token_is_renewed_before_the_server_ends_it(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    key = key_file(tmp_path, "smart")
    oauth_server.register(published(key))
    oauth_server.change(ttl=3)
    bundles = shipments(1)
    async with endpoint(oauth_server, key) as opened:
        until = time.monotonic() + 60
        while oauth_server.change()["distinct"] < 3:
            assert time.monotonic() < until
            assert {type(outcome) for outcome in await delivered(opened, bundles)} == {Delivered}
            await asyncio.sleep(0.1)


async def test_a_token_revoked_by_the_server_is_renewed_once_and_nothing_is_lost(
    oauth_server: OAuthServer, fhir_server: Any, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    key = key_file(tmp_path, "smart")
    oauth_server.register(published(key))
    async with endpoint(oauth_server, key) as opened:
        await delivered(opened, shipments(1))
        oauth_server.change(revoke=True)
        bundles = shipments(6)
        assert {type(outcome) for outcome in await delivered(opened, bundles)} == {Delivered}
    counts = oauth_server.change()
    assert counts["tokens"] == 2
    assert 1 <= counts["refused"] <= 6
    assert [stored(fhir_server.base_url, bundle.id) for bundle in bundles] == [1] * 6


async def test_a_key_the_server_does_not_know_is_refused_in_clear_words_and_taken_once_registered(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    known, unknown = key_file(tmp_path, "known"), key_file(tmp_path, "unknown")
    oauth_server.register(published(known))
    bundles = shipments(1)
    async with endpoint(oauth_server, unknown) as opened:
        (outcome,) = await delivered(opened, bundles)
        assert isinstance(outcome, Unauthorised) and outcome.at_once
        assert outcome.why.startswith("no token (invalid_client: register the keys of `hl7bridge endpoint jwks`")
        oauth_server.register(published(unknown))
        assert {type(outcome) for outcome in await delivered(opened, bundles)} == {Delivered}


async def test_keys_are_rotated_without_a_gap(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    old, new = key_file(tmp_path, "old"), key_file(tmp_path, "new", "rsa")
    signing = tmp_path / "signing.pem"
    signing.write_text(old.read_text())
    oauth_server.register(published(old))
    async with endpoint(oauth_server, signing) as opened:
        for step in (
            lambda: None,
            lambda: oauth_server.register(published(old, new)),  # both are published
            lambda: signing.write_text(new.read_text()),  # the new one signs
            lambda: oauth_server.register(published(new)),  # the old one is gone
        ):
            step()
            oauth_server.change(revoke=True)  # so that each step needs a token
            assert {type(outcome) for outcome in await delivered(opened, shipments(1))} == {Delivered}
    assert oauth_server.change()["refusedTokens"] == 0


async def test_scopes_that_do_not_allow_a_bundle_are_a_403_and_no_dead_letter(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    key = key_file(tmp_path, "smart")
    oauth_server.register(published(key))
    async with endpoint(oauth_server, key, scopes=["system/*.rs"]) as opened:
        (outcome,) = await delivered(opened, shipments(1))
    assert isinstance(outcome, Unauthorised) and outcome.why == "HTTP 403 (insufficient_scope)"
    assert oauth_server.change()["tokens"] == 1


async def test_scopes_the_client_may_not_have_are_named(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    key = key_file(tmp_path, "smart")
    oauth_server.register(published(key))
    async with endpoint(oauth_server, key, scopes=["system/Patient.cruds", "system/Encounter.cruds"]) as opened:
        (outcome,) = await delivered(opened, shipments(1))
    assert isinstance(outcome, Unauthorised) and "fhir.smart.scopes" in outcome.why


async def test_an_oauth_server_that_is_down_is_waited_for(
    oauth_server: OAuthServer, shipments: Callable[[int], list[Shipment]], tmp_path: Path
) -> None:
    key = key_file(tmp_path, "smart")
    oauth_server.register(published(key))
    oauth_server.change(down=True)
    bundles = shipments(1)
    async with endpoint(oauth_server, key, token_url=oauth_server.token) as opened:
        (outcome,) = await delivered(opened, bundles)
        assert isinstance(outcome, RetryAt) and outcome.after == 1.0
        oauth_server.change(down=False)
        assert {type(outcome) for outcome in await delivered(opened, bundles)} == {Delivered}


def test_a_daemon_with_a_wrong_key_keeps_everything_and_delivers_it_once_the_key_is_known(
    oauth_server: OAuthServer, fhir_server: Any, tmp_path: Path, ports: tuple[int, int, int]
) -> None:
    key = key_file(tmp_path, "smart")
    smart = {"client_id": "bridge", "keys": [f"file:{key}"]}
    daemon = Daemon(
        tmp_path / "house", ports[0], ports[1], oauth_server.fhir, fhir={"smart": smart}, retry={"circuit_probe": 0.5}
    )
    daemon.start()
    try:
        numbers = [uuid.uuid4().hex[:10] for _ in range(20)]
        feed = tmp_path / "feed.hl7"
        feed.write_bytes(b"".join(admission(number) + b"\n" for number in numbers))
        sent = daemon.run("send", str(feed), "--port", str(daemon.port))
        assert sent.returncode == 0, sent.stderr
        until = time.monotonic() + 60
        while b"no token for the endpoint" not in daemon.log.read_bytes():
            assert time.monotonic() < until
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/readyz", timeout=10) as answer:
            checks = json.load(answer)["checks"]
        assert not checks["token"]["ok"] and "invalid_client" in checks["token"]["detail"]
        assert {message["state"] for message in daemon.messages()} <= {"received", "waiting"}
        told = daemon.run("endpoint", "check")
        assert told.returncode == 4 and "register the keys of `hl7bridge endpoint jwks`" in told.stdout

        oauth_server.register(json.loads(daemon.run("endpoint", "jwks").stdout))
        messages = daemon.settled(120)
        assert [message["state"] for message in messages] == ["delivered"] * 20
        assert [stored(fhir_server.base_url, number) for number in numbers] == [1] * 20
        assert oauth_server.change()["tokens"] == 1
        log = daemon.log.read_text()
        assert not any(line in log for line in key.read_text().splitlines() if "-" not in line)
        assert "Bearer" not in log and "eyJ" not in log  # how every JWT begins
    finally:
        daemon.kill()
