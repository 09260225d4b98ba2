"""What a token endpoint's answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.outcome import Blame, RetryAt, TransportFailure, Unauthorised, judge
from hl7bridge.delivery.token import ERRORS, LASTS_MOST, LASTS_UNSAID, Token, read_discovery, read_token

NOW = 1_700_000_000.0
SENTINEL = "ZZSENTINELZZ"
ASKED = ("system/Patient.cruds", "system/Encounter.cruds")


def answer(status: int, content: Any = None, **headers: str) -> Response:
    body = b"" if content is None else json.dumps(content).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def token(**members: Any) -> Token | TransportFailure:
    content = {"access_token": SENTINEL, "token_type": "bearer", "expires_in": 300} | members
    return read_token(answer(200, {k: v for k, v in content.items() if v is not None}), ASKED, NOW)


def test_a_token_is_a_bearer_header_that_is_not_printed() -> None:
    found = token()
    assert found == Token(f"Bearer {SENTINEL}", 300.0, None)
    assert SENTINEL not in repr(found)


@pytest.mark.parametrize(
    ("said", "lasts"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (299.5, 299.5),
        (None, LASTS_UNSAID),
        (0, LASTS_UNSAID),
        (-5, LASTS_UNSAID),
        (True, LASTS_UNSAID),
        ("soon", LASTS_UNSAID),
        ([], LASTS_UNSAID),
        (10**12, LASTS_MOST),
        ("9" * 400, LASTS_MOST),
    ],
)
def test_a_token_lasts_as_long_as_it_says_within_bounds(said: object, lasts: float) -> None:
    found = token(expires_in=said)
    assert isinstance(found, Token) and found.lasts == lasts


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (None, None),
        (" ".join(ASKED), ()),
        ("system/Patient.cruds other", ("system/Encounter.cruds",)),
        ("", tuple(sorted(ASKED))),
    ],
)
def test_scopes_that_were_not_given_are_known(granted: str | None, missing: tuple[str, ...] | None) -> None:
    found = token(scope=granted)
    assert isinstance(found, Token) and found.missing == missing


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"access_token": None}, "token"),
        ({"access_token": 5}, "token"),
        ({"access_token": ""}, "token"),
        ({"access_token": "two\r\nX-Evil: 1"}, "token"),
        ({"access_token": "two words"}, "token"),
        ({"access_token": "tök"}, "token"),
        ({"access_token": "x" * 20_000}, "token"),
        ({"token_type": None}, "token"),
        ({"token_type": "DPoP"}, "token-refused"),
    ],
)
def test_what_cannot_be_used_as_a_bearer_token_is_none(members: dict[str, Any], kind: str) -> None:
    found = token(**members)
    assert isinstance(found, TransportFailure) and found.kind == kind


@pytest.mark.parametrize("word", sorted(ERRORS))
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_of_the_client_lets_everything_wait_and_says_what_to_do(status: int, word: str) -> None:
    refused = read_token(answer(status, {"error": word, "error_description": SENTINEL}), ASKED, NOW)
    assert isinstance(refused, TransportFailure)
    outcome = judge(refused, 1, NOW)
    assert isinstance(outcome, Unauthorised) and outcome.at_once
    assert outcome.why.startswith(f"no token ({word}: ")
    assert SENTINEL not in outcome.why


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_token_endpoint_that_is_down_is_like_an_endpoint_that_is_down(status: int) -> None:
    failure = read_token(answer(status, {"error": "invalid_client"}, retry_after="7"), ASKED, NOW)
    assert isinstance(failure, TransportFailure)
    outcome = judge(failure, 1, NOW)
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT and outcome.after == 7.0


@pytest.mark.parametrize("word", ["temporarily_unavailable", "server_error", "slow_down"])
def test_an_error_that_passes_is_waited_for(word: str) -> None:
    failure = read_token(answer(400, {"error": word}), ASKED, NOW)
    assert isinstance(failure, TransportFailure) and failure.kind == "token"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 405])
def test_an_answer_of_something_else_names_the_key_to_look_at(status: int) -> None:
    failure = read_token(answer(status, None, location="https://elsewhere.example/"), ASKED, NOW)
    assert isinstance(failure, TransportFailure) and failure.kind == "token-refused"
    assert "fhir.smart.token_url" in failure.note and "elsewhere" not in failure.note


BASE = "https://fhir.example/r4"


def discovered(base: str = BASE, alg: str = "ES384", **members: Any) -> str | TransportFailure:
    content = {"token_endpoint": "https://auth.example/token"} | members
    return read_discovery(answer(200, content), base, alg, NOW)


def test_the_server_names_its_token_endpoint() -> None:
    assert discovered() == "https://auth.example/token"
    assert (
        discovered(token_endpoint_auth_signing_alg_values_supported=["RS384", "ES384"]) == "https://auth.example/token"
    )
    assert discovered("http://127.0.0.1/fhir", token_endpoint="http://127.0.0.1/token") == "http://127.0.0.1/token"


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (answer(404), "HTTP 404 of .well-known/smart-configuration: set fhir.smart.token_url"),
        (answer(200, "text"), "set fhir.smart.token_url"),
        (answer(200, {}), "set fhir.smart.token_url"),
        (answer(200, {"token_endpoint": "/token"}), "names no token endpoint"),
        (answer(200, {"token_endpoint": "http://auth.example/token"}), "without TLS"),
        (answer(200, {"token_endpoint": "https://u:p@auth.example/"}), "names no token endpoint"),
        (answer(200, {"token_endpoint": "https://auth.example/\r\nx"}), "names no token endpoint"),
        (
            answer(
                200, {"token_endpoint": "https://a/", "token_endpoint_auth_signing_alg_values_supported": ["RS384"]}
            ),
            "put an RSA key (RS384) first",
        ),
    ],
)
def test_a_discovery_that_leads_nowhere_is_the_operator_s_to_mend(response: Response, said: str) -> None:
    failure = read_discovery(response, BASE, "ES384", NOW)
    assert isinstance(failure, TransportFailure) and failure.kind == "token-refused"
    assert said in failure.note


def test_a_discovery_that_is_down_is_waited_for() -> None:
    failure = read_discovery(answer(503, None, retry_after="3"), BASE, "ES384", NOW)
    assert isinstance(failure, TransportFailure) and (failure.kind, failure.after) == ("token", 3.0)


@given(
    st.integers(100, 599),
    st.binary(max_size=60) | st.text(max_size=30).map(lambda t: json.dumps({"error": t}).encode()),
)
def test_whatever_a_token_endpoint_says_nothing_is_raised(status: int, body: bytes) -> None:
    response = Response(status, {}, body)
    assert isinstance(read_token(response, ASKED, NOW), (Token, TransportFailure))
    assert isinstance(read_discovery(response, BASE, "ES384", NOW), (str, TransportFailure))
