"""SMART Backend Services: a token for the endpoint, got with a signed statement, kept, renewed before it ends.

SMART App Launch 2.2; what answers mean is `token`, what is signed is `assertion`. What holds and why:

- One renewal at a time, however many bundles wait for it; all of them get its result, a failure too.
- A token is renewed `MARGIN` of its life (at most a minute) before it ends. While the old one is good nobody waits for
  the new one, and a token endpoint that is down is asked again every `AGAIN` seconds without stopping delivery.
- After a 401 the token is dropped, but only if it is still the one that was refused: with many requests in flight one
  renewal serves them all.
- A token's life is counted by a clock that does not jump. A statement's times are the wall clock's; where the token
  endpoint doubts it and its `Date` differs from our clock, it is signed once more by the endpoint's clock.
- Keys are read for each statement, so that they are rotated without a restart.
- The endpoint's own request headers (fhir.headers) are not sent to the token endpoint: it may be another party.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from hl7bridge.config import Fhir, Smart
from hl7bridge.delivery.answer import Response, http_date
from hl7bridge.delivery.assertion import ASSERTION_TYPE, Key, read_key, statement
from hl7bridge.delivery.credentials import Authorization, Secret
from hl7bridge.delivery.http import Http
from hl7bridge.delivery.outcome import FAILURE, TransportFailure
from hl7bridge.delivery.shipment import EndpointObserver, Probe
from hl7bridge.delivery.token import Token, doubts_the_statement, read_discovery, read_token
from hl7bridge.errors import ConfigError

MARGIN, MARGIN_MOST = 0.2, 60.0  # of a token's life; seconds
AGAIN = 5.0  # seconds between tries to renew a token that is still good
SKEW = 30.0  # seconds of difference between clocks that may explain a refusal


@dataclass(slots=True)
class _Held:
    token: Token = field(repr=False)
    renew_at: float
    ends: float


class SmartTokens:
    """`Credentials` by SMART Backend Services. Used in one event loop.

    `now`: seconds since the epoch; `monotonic`: any clock that does not jump. `http` is closed with it.
    """

    def __init__(
        self,
        fhir: Fhir,
        smart: Smart,
        secret: Secret,
        http: Http,
        observer: EndpointObserver | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base_url, self._smart, self._secret, self._http = fhir.base_url, smart, secret, http
        self._observer = observer or EndpointObserver()
        self._now, self._monotonic = now, monotonic
        self._held: _Held | None = None
        self._renewal: asyncio.Task[TransportFailure | None] | None = None
        self._discovered: str | None = None
        self._ahead = 0.0  # seconds the token endpoint's clock is ahead of ours

    async def authorization(self) -> Authorization:
        """The header of a token that is good now, or why there is none."""
        held, now = self._held, self._monotonic()
        if held is not None and now < held.ends:
            if now >= held.renew_at:
                self._renew()  # beside: nobody waits for it
            return held.token.header
        failure = await asyncio.shield(self._renew())
        if failure is not None:
            return failure
        return self._held.token.header if self._held is not None else TransportFailure("token")

    async def renewed(self, refused: str) -> Authorization:
        """After a 401: another token, unless somebody else got one already."""
        if self._held is not None and self._held.token.header == refused:
            self._held = None
        return await self.authorization()

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self._http.close()

    async def probe(self) -> Probe:
        """For doctor: asks for a token, keeps it."""
        failure = await asyncio.shield(self._renew())
        if failure is not None or self._held is None:
            return Probe(False, _sentence(failure or TransportFailure("token")))
        token = self._held.token
        told = f"a token for {token.lasts:g} s"
        if abs(self._ahead) > SKEW:
            return Probe(True, f"{told}; {self._clocks()}", warn=True)
        if token.missing:
            return Probe(True, f"{told}, but without the scopes {' '.join(token.missing)}", warn=True)
        return Probe(True, f"{told} for {' '.join(self._smart.scopes)}")

    # ---- renewal ----

    def _renew(self) -> asyncio.Task[TransportFailure | None]:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._fetch(), name="token")
        return self._renewal

    async def _fetch(self) -> TransportFailure | None:
        """Puts a new token in place; what keeps it from that is told and returned."""
        begun = self._monotonic()  # before the request: a token's life begins when it is made, not when it arrives
        try:
            token = await self._token()
        except Exception as error:  # a defect of ours or of a library: told like any other, and nobody waits for ever
            token = TransportFailure("token", type(error).__name__)
        if isinstance(token, TransportFailure):
            self._discovered = None  # the address may have moved
            if self._held is not None:
                self._held.renew_at = self._monotonic() + AGAIN
            self._observer.no_token(_sentence(token))
            return token
        margin = min(token.lasts * MARGIN, MARGIN_MOST)
        self._held = _Held(token, begun + token.lasts - margin, begun + token.lasts)
        self._observer.token(token.lasts)
        return None

    async def _token(self) -> Token | TransportFailure:
        try:
            key = self._key()
        except (ConfigError, OSError, ValueError):
            return TransportFailure("secret")
        address = await self._address(key)
        if isinstance(address, TransportFailure):
            return address
        answer = await self._ask(address, key)
        if isinstance(answer, Response) and doubts_the_statement(answer) and self._clocks_differ(answer):
            answer = await self._ask(address, key)
        if isinstance(answer, TransportFailure):
            return _of_the_token_endpoint(answer)
        token = read_token(answer, self._smart.scopes, self._now())
        if isinstance(token, TransportFailure) and token.kind == "token-refused" and abs(self._ahead) > SKEW:
            return TransportFailure(token.kind, f"{token.note}; {self._clocks()}")
        return token

    async def _ask(self, address: str, key: Key) -> Response | TransportFailure:
        smart, now = self._smart, self._now() + self._ahead
        signed = statement(
            key, smart.client_id, smart.audience or address, now, secrets.token_urlsafe(24), smart.jwks_url
        )
        form = dict(smart.parameters) | {
            "grant_type": "client_credentials",
            "scope": " ".join(smart.scopes),
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": signed,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await self._http.request("POST", address, headers, urlencode(form).encode("ascii"))

    async def _address(self, key: Key) -> str | TransportFailure:
        """The token endpoint: configured, or asked from the FHIR server until a renewal fails."""
        known = self._smart.token_url or self._discovered
        if known is not None:
            return known
        where = self._base_url.rstrip("/") + "/.well-known/smart-configuration"
        answer = await self._http.request("GET", where, {"Accept": "application/json"})
        if isinstance(answer, TransportFailure):
            return answer  # it is the endpoint itself that does not answer
        found = read_discovery(answer, self._base_url, key.alg, self._now())
        if isinstance(found, str):
            self._discovered = found
        return found

    def _key(self) -> Key:
        """The first key, as it is on disk now."""
        return read_key(self._secret(self._smart.keys[0].get_secret_value()), "fhir.smart.keys.0")

    # ---- clocks ----

    def _clocks_differ(self, answer: Response) -> bool:
        """Does the token endpoint's clock differ from the one the statement was signed by? Notes by how much."""
        theirs = http_date(answer.headers.get("date", ""))
        if theirs is None:
            return False
        before, self._ahead = self._ahead, theirs - self._now()
        return abs(self._ahead - before) > SKEW

    def _clocks(self) -> str:
        which = "behind" if self._ahead > 0 else "ahead of"
        return f"this machine's clock is {abs(self._ahead):.0f} s {which} the token endpoint's"


def _of_the_token_endpoint(failure: TransportFailure) -> TransportFailure:
    """What kept us from the token endpoint, as its failure and not the FHIR endpoint's."""
    if failure.kind == "address":
        return TransportFailure("token-refused", "fhir.smart.token_url is no address")
    text = FAILURE[failure.kind][1]
    note = f"{text}, {failure.note}" if failure.note else text
    return TransportFailure("token", f"token endpoint: {note}")


def _sentence(failure: TransportFailure) -> str:
    text = FAILURE[failure.kind][1]
    return f"{text}: {failure.note}" if failure.note else text
