"""What a token endpoint's answer means: a token, or a row of the outcome table. Sans-IO.

Sources: RFC 6749 5.1 and 5.2 (tokens, errors), RFC 6750 (bearer), SMART App Launch 2.2 (Backend Services, discovery).

What holds: a token is never printed. Of what the other side says only the words that the standards define are told on;
`error_description` is dropped, it may quote the statement or the client. A token endpoint that is down is like an
endpoint that is down; one that refuses us is like a wrong password: everything waits, nothing becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

import orjson

from hl7bridge.delivery.answer import Response, retry_after
from hl7bridge.delivery.outcome import TransportFailure

LASTS_UNSAID = 60.0  # seconds a token is used that does not say how long it lasts
LASTS_MOST = 86_400.0
TOKEN_MAX = 16 * 1024  # characters; servers take no longer header

# RFC 6749 5.2, RFC 8707: the word, and what the operator does about it
ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "invalid_client": "register the keys of `hl7bridge endpoint jwks` for fhir.smart.client_id, or mend fhir.smart",
        "invalid_grant": "register the keys of `hl7bridge endpoint jwks` for fhir.smart.client_id, or mend fhir.smart",
        "unauthorized_client": "the server must allow this client the grant client_credentials",
        "unsupported_grant_type": "the server does no client_credentials: see fhir.smart.token_url",
        "invalid_scope": "the server does not give this client these scopes: see fhir.smart.scopes",
        "invalid_target": "the server does not know the resource: see fhir.smart.parameters",
        "invalid_request": "see fhir.smart",
        "access_denied": "the server's people have to allow this client",
    }
)
PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
STATEMENT_DOUBTED = frozenset({"invalid_client", "invalid_grant", "invalid_request"})  # a wrong clock makes these, too
DOWN = frozenset({408, 425, 429}) | frozenset(range(500, 600)) - {501, 505}


@dataclass(frozen=True, slots=True)
class Token:
    """`header`: for Authorization. `missing`: scopes asked for and not given; None: the server did not say."""

    header: str = field(repr=False)
    lasts: float
    missing: tuple[str, ...] | None = None


def read_token(response: Response, asked: Collection[str], now: float) -> Token | TransportFailure:
    """The token of an answer. `now`: seconds since the epoch, for Retry-After. Never raises."""
    content = _object(response)
    if response.status == 200:
        return _token(content, asked)
    word = content.get("error")
    status = f"HTTP {response.status} of the token endpoint"
    if response.status in DOWN or word in PASSING:
        return TransportFailure("token", status, retry_after(response.headers, now))
    if isinstance(word, str) and word in ERRORS:
        return TransportFailure("token-refused", f"{word}: {ERRORS[word]}")
    if 300 <= response.status < 400:
        status += "; redirects are not followed"
    return TransportFailure("token-refused", f"{status}: see fhir.smart.token_url")


def _token(content: Mapping[str, object], asked: Collection[str]) -> Token | TransportFailure:
    token, kind = content.get("access_token"), content.get("token_type")
    if not isinstance(token, str) or not isinstance(kind, str):
        return TransportFailure("token", "HTTP 200 of the token endpoint without a token")
    if kind.lower() != "bearer":
        return TransportFailure("token-refused", "the token endpoint gives tokens that are not bearer tokens")
    if not (0 < len(token) <= TOKEN_MAX and token.isascii() and token.isprintable() and " " not in token):
        return TransportFailure("token", "the token cannot be sent in a header")
    granted = content.get("scope")
    missing = tuple(sorted(set(asked) - set(granted.split()))) if isinstance(granted, str) else None
    return Token(f"Bearer {token}", _lasts(content.get("expires_in")), missing)


def _lasts(said: object) -> float:
    """expires_in in seconds; some servers write it as a text. What makes no sense counts as unsaid."""
    if isinstance(said, str) and said.isascii() and said.isdigit():
        said = int(said[:9])
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not said > 0:
        return LASTS_UNSAID
    return min(float(said), LASTS_MOST)


def doubts_the_statement(response: Response) -> bool:
    """Was the statement itself refused? (Perhaps only because the clocks differ.)"""
    return response.status in (400, 401, 403) and _object(response).get("error") in STATEMENT_DOUBTED


def read_discovery(response: Response, base_url: str, alg: str, now: float) -> str | TransportFailure:
    """The token endpoint that `.well-known/smart-configuration` names. `alg`: ours."""
    if response.status in DOWN:
        note = f"HTTP {response.status} of .well-known/smart-configuration"
        return TransportFailure("token", note, retry_after(response.headers, now))
    content = _object(response)
    if response.status != 200 or not content:
        note = f"HTTP {response.status} of .well-known/smart-configuration: set fhir.smart.token_url"
        return TransportFailure("token-refused", note)
    algorithms = content.get("token_endpoint_auth_signing_alg_values_supported")
    if isinstance(algorithms, list) and algorithms and alg not in algorithms:
        other = "an EC key (ES384)" if alg == "RS384" else "an RSA key (RS384)"
        note = f"the server does not say that it takes {alg}: put {other} first in fhir.smart.keys"
        return TransportFailure("token-refused", note)
    address = content.get("token_endpoint")
    if not isinstance(address, str) or not is_address(address):
        note = ".well-known/smart-configuration names no token endpoint: set fhir.smart.token_url"
        return TransportFailure("token-refused", note)
    if base_url.startswith("https:") and not address.startswith("https:"):
        note = ".well-known/smart-configuration names a token endpoint without TLS: set fhir.smart.token_url"
        return TransportFailure("token-refused", note)
    return address


def is_address(text: str) -> bool:
    """An absolute http or https address without user, password and fragment."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.username is None
            and not parts.fragment
            and text.isascii()
            and text.isprintable()
            and " " not in text
        )
    except ValueError:
        return False


def _object(response: Response) -> Mapping[str, object]:
    """The body as a JSON object; an empty one where it is none."""
    if response.truncated:
        return {}
    try:
        content = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
