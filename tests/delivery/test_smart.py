"""SMART Backend Services against a scripted token endpoint and FHIR server: when a token is asked for, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from joserfc import jwt
from pydantic import SecretStr
from scripted_server import CREATED, SHIPMENT, ScriptedServer, serving

from hl7bridge.config import Fhir, secret
from hl7bridge.delivery.assertion import new_key, read_key
from hl7bridge.delivery.endpoint import EndpointObserver, HttpEndpoint
from hl7bridge.delivery.outcome import Blame, Delivered, RetryAt, Unauthorised
from hl7bridge.delivery.smart import AGAIN, SmartTokens

SENTINEL = "ZZSENTINELZZ"
KEY = new_key("ec").decode()
OTHER_KEY = new_key("ec").decode()


class Clock:
    """Both clocks; `ahead`: what the token endpoint's is ahead of ours."""

    def __init__(self) -> None:
        self.monotonic, self.wall, self.ahead = 1_000.0, 1_700_000_000.0, 0.0

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


class Told(EndpointObserver):
    def __init__(self) -> None:
        self.said: list[str] = []

    def token(self, lasts: float) -> None:
        self.said.append(f"token {lasts:g}")

    def no_token(self, why: str) -> None:
        self.said.append(why)


class House:
    """A token endpoint and a FHIR server that takes its newest token only, and us before them."""

    def __init__(self, fhir: ScriptedServer, tokens: ScriptedServer, folder: Path, **smart: Any) -> None:
        self.fhir, self.tokens, self.clock, self.told = fhir, tokens, Clock(), Told()
        self.numbers = itertools.count(1)
        self.good: set[str] = set()
        self.lasts: object = 300
        self.key = folder / "key.pem"
        self.key.write_text(KEY)
        fhir.plays = [self.guard]
        tokens.plays = [self.give]
        keys = {"client_id": "bridge", "keys": (SecretStr(f"file:{self.key}"),), "token_url": f"{tokens.url}/token"}
        self.config = Fhir.model_validate(
            {"base_url": fhir.url, "timeout": 5.0, "headers": {"X-Tenant": "north"}, "smart": keys | smart}
        )
        self.endpoint = HttpEndpoint(self.config, secret, lambda: self.clock.wall, self.told)
        held = self.endpoint._credentials
        assert isinstance(held, SmartTokens)
        held._now, held._monotonic = lambda: self.clock.wall, lambda: self.clock.monotonic

    def give(self, _: web.Request) -> web.StreamResponse:
        token = f"{SENTINEL}-{next(self.numbers)}"
        self.good = {token}
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.lasts})

    def guard(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.good:
            return web.json_response(CREATED)
        return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    async def deliver(self, times: int = 1) -> list[object]:
        return list(await asyncio.gather(*(self.endpoint.deliver(SHIPMENT) for _ in range(times))))


MakeHouse = Callable[..., House]


@pytest.fixture
async def make_house(tmp_path: Path) -> AsyncIterator[MakeHouse]:
    async with contextlib.AsyncExitStack() as stack:
        fhir, tokens = await stack.enter_async_context(serving()), await stack.enter_async_context(serving())

        def make(**smart: Any) -> House:
            house = House(fhir, tokens, tmp_path, **smart)
            stack.push_async_callback(house.endpoint.close)
            return house

        yield make


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house()


def form(house: House, number: int = -1) -> dict[str, str]:
    return dict(parse_qsl(house.tokens.requests[number][3].decode(), strict_parsing=True))


def claims(house: House, number: int = -1) -> dict[str, Any]:
    key = read_key(KEY, "k")
    return dict(jwt.decode(form(house, number)["client_assertion"], key.private, algorithms=["ES384"]).claims)


async def test_one_token_serves_many_bundles(house: House) -> None:
    assert set(await house.deliver(40)) == {Delivered(200)}
    assert len(house.tokens.requests) == 1
    assert len(house.fhir.requests) == 40
    assert all(headers["X-Tenant"] == "north" for _, _, headers, _ in house.fhir.requests)


async def test_a_token_is_asked_for_as_smart_says_and_without_the_endpoint_s_own_headers(make_house: MakeHouse) -> None:
    house = make_house(scopes=("system/Patient.cruds", "system/Encounter.cruds"), parameters={"resource": "urn:fhir"})
    await house.deliver()
    ((method, path, headers, _),) = house.tokens.requests
    assert (method, path) == ("POST", "/fhir/token")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "X-Tenant" not in headers and "Authorization" not in headers
    sent = form(house)
    assert sent.pop("client_assertion")
    assert sent == {
        "resource": "urn:fhir",
        "grant_type": "client_credentials",
        "scope": "system/Patient.cruds system/Encounter.cruds",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert claims(house)["aud"] == house.config.smart.token_url  # type: ignore[union-attr]
    assert claims(house)["exp"] - house.clock.wall <= 300


async def test_every_statement_has_a_jti_of_its_own(house: House) -> None:
    for _ in range(3):
        await house.deliver()
        house.clock.passes(301)
    assert len({claims(house, number)["jti"] for number in range(3)}) == 3


async def test_a_server_that_wants_another_audience_gets_it(make_house: MakeHouse) -> None:
    house = make_house(audience="https://issuer.example")
    await house.deliver()
    assert claims(house)["aud"] == "https://issuer.example"


async def test_a_token_is_renewed_before_it_ends_and_nobody_waits_for_it(house: House) -> None:
    await house.deliver()
    house.clock.passes(239)
    await house.deliver()
    assert len(house.tokens.requests) == 1
    house.clock.passes(2)  # 59 s before its end
    gate = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return house.give(request)

    house.tokens.plays = [slow]
    assert await house.deliver(5) == [Delivered(200)] * 5  # by the old one
    gate.set()
    async with asyncio.timeout(5):
        while house.told.said.count("token 300") < 2:  # noqa: ASYNC110 - the renewal runs beside
            await asyncio.sleep(0.01)
    await house.deliver()
    assert len(house.tokens.requests) == 2
    assert house.fhir.requests[-1][2]["Authorization"] == f"Bearer {SENTINEL}-2"


async def test_a_token_that_ended_while_nothing_was_sent_is_not_sent(house: House) -> None:
    await house.deliver()
    house.clock.passes(3_600)
    assert await house.deliver() == [Delivered(200)]
    assert len(house.fhir.requests) == 2 and len(house.tokens.requests) == 2


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
async def test_a_wall_clock_that_jumps_neither_ends_a_token_nor_lengthens_it(house: House, jump: float) -> None:
    await house.deliver()
    house.clock.wall += jump
    await house.deliver()
    assert len(house.tokens.requests) == 1
    house.clock.monotonic += 301
    await house.deliver()
    assert len(house.tokens.requests) == 2


async def test_a_revoked_token_is_renewed_once_for_all_that_were_refused_and_each_is_sent_once_more(
    house: House,
) -> None:
    await house.deliver()
    house.good = set()  # revoked
    assert await house.deliver(8) == [Delivered(200)] * 8
    assert len(house.tokens.requests) == 2
    assert len(house.fhir.requests) == 1 + 16


async def test_a_refusal_that_comes_late_does_not_cost_the_token_that_somebody_renewed_meanwhile(house: House) -> None:
    await house.deliver()
    house.good = set()
    late = asyncio.Event()

    async def slowly(request: web.Request) -> web.StreamResponse:
        house.fhir.plays = [house.guard]
        await late.wait()
        return web.Response(status=401)

    house.fhir.plays = [slowly]
    first = asyncio.create_task(house.endpoint.deliver(SHIPMENT))
    async with asyncio.timeout(5):
        while len(house.fhir.requests) < 2:  # noqa: ASYNC110 - until the server has it
            await asyncio.sleep(0.01)
    assert await house.deliver() == [Delivered(200)]
    late.set()
    house.good = {f"{SENTINEL}-2"}
    assert await first == Delivered(200)
    assert len(house.tokens.requests) == 2


async def test_a_server_that_refuses_every_token_costs_one_renewal_a_request_and_opens_the_circuit(
    house: House,
) -> None:
    house.fhir.plays = [lambda _: web.Response(status=401)]
    (outcome,) = await house.deliver()
    assert isinstance(outcome, Unauthorised) and outcome.at_once and outcome.status == 401
    assert (len(house.fhir.requests), len(house.tokens.requests)) == (2, 2)


async def test_missing_scopes_are_no_reason_for_another_token(house: House) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="x", error="insufficient_scope", scope="system/Patient.c"'}
    house.fhir.plays = [lambda _: web.Response(status=403, headers=challenge)]
    (outcome,) = await house.deliver()
    assert isinstance(outcome, Unauthorised) and outcome.why == "HTTP 403 (insufficient_scope)"
    assert (len(house.fhir.requests), len(house.tokens.requests)) == (1, 1)


async def test_a_token_endpoint_that_is_down_is_an_outage_and_asked_once_for_all_that_wait(house: House) -> None:
    house.tokens.plays = [lambda _: web.Response(status=503, headers={"Retry-After": "20"})]
    outcomes = await house.deliver(8)
    assert len(house.tokens.requests) == 1 and house.fhir.requests == []
    for outcome in outcomes:
        assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT and outcome.after == 20.0
        assert outcome.why == "no token (HTTP 503 of the token endpoint)"
    house.tokens.plays = [house.give]
    assert await house.deliver() == [Delivered(200)]
    assert house.told.said == ["no token: HTTP 503 of the token endpoint", "token 300"]


async def test_a_token_endpoint_that_cannot_be_reached_is_told_from_the_fhir_server(
    make_house: MakeHouse, free_port: int
) -> None:
    house = make_house(token_url=f"http://127.0.0.1:{free_port}/token")
    (outcome,) = await house.deliver()
    assert isinstance(outcome, RetryAt)
    assert outcome.why == "no token (token endpoint: connection refused, ECONNREFUSED)"


async def test_while_the_old_token_is_good_a_token_endpoint_that_is_down_stops_nothing_and_is_not_asked_all_the_time(
    house: House,
) -> None:
    await house.deliver()
    house.tokens.plays = [lambda _: web.Response(status=500)]
    house.clock.passes(250)
    for _ in range(20):
        assert await house.deliver() == [Delivered(200)]
    assert len(house.tokens.requests) == 2
    house.clock.passes(AGAIN + 0.1)
    await house.deliver(10)
    assert len(house.tokens.requests) == 3
    house.clock.passes(60)
    (outcome,) = await house.deliver()
    assert isinstance(outcome, RetryAt)


async def test_a_client_the_server_does_not_know_lets_everything_wait_and_says_what_to_register(house: House) -> None:
    refusal = {"error": "invalid_client", "error_description": f"{SENTINEL} is unknown"}
    house.tokens.plays = [lambda _: web.json_response(refusal, status=401)]
    (outcome,) = await house.deliver()
    assert isinstance(outcome, Unauthorised) and outcome.at_once
    assert "invalid_client" in outcome.why and "hl7bridge endpoint jwks" in outcome.why
    assert house.told.said == [outcome.why.replace("no token (", "no token: ").removesuffix(")")]
    assert SENTINEL not in repr(outcome) + repr(house.told.said)


def by_the_clock_of_the_server(house: House) -> Callable[[web.Request], web.StreamResponse]:
    def play(request: web.Request) -> web.StreamResponse:
        from email.utils import formatdate

        theirs = house.clock.wall + house.clock.ahead
        left = claims(house)["exp"] - theirs
        headers = {"Date": formatdate(theirs, usegmt=True)}
        if 0 < left <= 300:
            answer = house.give(request)
            answer.headers.update(headers)
            return answer
        return web.json_response({"error": "invalid_client"}, status=401, headers=headers)

    return play


@pytest.mark.parametrize("ahead", [7_200.0, -7_200.0])
async def test_a_clock_that_is_wrong_is_noticed_and_the_statement_signed_by_the_server_s(
    house: House, ahead: float
) -> None:
    house.clock.ahead = ahead
    house.tokens.plays = [by_the_clock_of_the_server(house)]
    assert await house.deliver() == [Delivered(200)]
    assert len(house.tokens.requests) == 2
    house.clock.passes(301)
    assert await house.deliver() == [Delivered(200)]
    assert len(house.tokens.requests) == 3  # known by now
    probe = await house.endpoint.probe_token()
    assert probe is not None and probe.warn
    assert "this machine's clock is 7200 s " + ("behind" if ahead > 0 else "ahead of") in probe.text


async def test_a_key_that_is_replaced_on_disk_signs_the_next_statement(house: House) -> None:
    await house.deliver()
    house.key.write_text(OTHER_KEY)
    house.clock.passes(301)
    await house.deliver()
    signed = form(house)["client_assertion"]
    found = jwt.decode(signed, read_key(OTHER_KEY, "k").private, algorithms=["ES384"])
    assert found.header["kid"] == read_key(OTHER_KEY, "k").kid != read_key(KEY, "k").kid


@pytest.mark.parametrize("content", [None, "", "rubbish", SENTINEL])
async def test_a_key_that_cannot_be_read_lets_everything_wait_and_sends_nothing(
    house: House, content: str | None
) -> None:
    if content is None:
        house.key.unlink()
    else:
        house.key.write_text(content)
    (outcome,) = await house.deliver()
    assert isinstance(outcome, Unauthorised) and outcome.why == "the credentials cannot be read"
    assert house.tokens.requests == house.fhir.requests == []


async def test_without_a_configured_address_the_server_is_asked_and_asked_again_only_after_a_failure(
    make_house: MakeHouse,
) -> None:
    house = make_house(token_url=None)
    guard = house.guard

    def fhir(request: web.Request) -> web.StreamResponse:
        if request.path == "/fhir/.well-known/smart-configuration":
            assert "Authorization" not in request.headers
            return web.json_response({"token_endpoint": f"{house.tokens.url}/found"})
        return guard(request)

    house.fhir.plays = [fhir]
    asked = lambda: sum("well-known" in path for _, path, _, _ in house.fhir.requests)  # noqa: E731
    for _ in range(3):
        assert await house.deliver() == [Delivered(200)]
        house.clock.passes(301)
    assert asked() == 1
    assert {path for _, path, _, _ in house.tokens.requests} == {"/fhir/found"}
    house.tokens.plays = [lambda _: web.Response(status=500)]
    await house.deliver()
    house.tokens.plays = [house.give]
    assert await house.deliver() == [Delivered(200)]
    assert asked() == 2


async def test_a_token_request_is_not_redirected(house: House) -> None:
    house.tokens.plays = [lambda _: web.Response(status=307, headers={"Location": f"{house.fhir.url}/stolen"})]
    (outcome,) = await house.deliver()
    assert isinstance(outcome, Unauthorised) and "redirects are not followed" in outcome.why
    assert house.fhir.requests == []


async def test_the_probe_says_what_the_token_allows(make_house: MakeHouse) -> None:
    house = make_house(scopes=("a", "b"))
    narrow = {"access_token": SENTINEL, "token_type": "bearer", "expires_in": 60, "scope": "a"}
    house.tokens.plays = [lambda _: web.json_response(narrow)]
    probe = await house.endpoint.probe_token()
    assert probe is not None and probe.ok and probe.warn
    assert probe.text == "a token for 60 s, but without the scopes b"
    house.tokens.plays = [lambda _: web.json_response({"error": "invalid_scope"}, status=400)]
    probe = await house.endpoint.probe_token()
    assert probe is not None and not probe.ok and "fhir.smart.scopes" in probe.text


async def test_tokens_and_keys_are_in_nothing_that_is_printed(house: House) -> None:
    await house.deliver()
    held = house.endpoint._credentials
    printed = "".join(map(repr, [house.endpoint, held, vars(held), house.told.said, vars(house.endpoint)]))
    assert SENTINEL not in printed
    assert not any(line in printed for line in KEY.splitlines() if "-" not in line)


async def test_a_defect_on_the_way_to_a_token_is_an_outage_and_not_a_hang(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError(SENTINEL)

    monkeypatch.setattr("hl7bridge.delivery.smart.statement", broken)
    (outcome,) = await house.deliver()
    assert isinstance(outcome, RetryAt) and outcome.why == "no token (RuntimeError)"
