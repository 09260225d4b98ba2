"""Where bundles go: a FHIR server over HTTP, or a directory (see directory).

What holds and why:

- `deliver` never raises for anything the other side does: whatever happens becomes an `Outcome` (see outcome).
- `X-Request-ID` is the message's id, so that a line in the server's log leads to the message.
- `Prefer: return=minimal` spares the server from sending back every resource it was just given.
- Credentials that the server refuses with 401 are renewed (a token asked for, a file read again), and if there are
  others now, the bundle is sent exactly once more. What comes then is judged like any answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import orjson

from hl7bridge.config import Fhir
from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.credentials import Authorization, Credentials, FromConfiguration, Secret
from hl7bridge.delivery.directory import FileEndpoint
from hl7bridge.delivery.http import Http
from hl7bridge.delivery.outcome import Outcome, TransportFailure, Unauthorised, judge
from hl7bridge.delivery.shipment import Endpoint, EndpointObserver, Probe, Shipment
from hl7bridge.delivery.tls import Contexts

__all__ = ["Endpoint", "EndpointObserver", "FileEndpoint", "HttpEndpoint", "Probe", "Shipment", "open_endpoint"]

FHIR_JSON = "application/fhir+json"
FILE = "file:"


def open_endpoint(fhir: Fhir, secret: Secret, observer: EndpointObserver | None = None) -> Endpoint:
    """The endpoint of the configuration. `secret` resolves a reference (hl7bridge.config.secret).

    Raises UnavailableError when the TLS files cannot be read.
    """
    if fhir.base_url.startswith(FILE):
        return FileEndpoint(Path(fhir.base_url.removeprefix(FILE).removeprefix("//")))
    return HttpEndpoint(fhir, secret, observer=observer)


class HttpEndpoint:
    """A FHIR R4 server that takes transactions at its base URL. Made in any thread, used in one event loop."""

    def __init__(
        self,
        fhir: Fhir,
        secret: Secret,
        clock: Callable[[], float] = time.time,
        observer: EndpointObserver | None = None,
    ) -> None:
        self._fhir, self._clock = fhir, clock
        contexts = Contexts(fhir.tls, "fhir.tls", observer) if fhir.base_url.lower().startswith("https:") else None
        self._http = Http(fhir.timeout, fhir.concurrency, contexts)
        self._credentials = _credentials(fhir, secret, observer)

    async def deliver(self, shipment: Shipment) -> Outcome:
        authorization = await self._credentials.authorization()
        outcome = await self._attempt(shipment, authorization)
        if isinstance(outcome, Unauthorised) and outcome.status == 401 and isinstance(authorization, str):
            renewed = await self._credentials.renewed(authorization)
            if renewed not in (authorization, None):
                outcome = await self._attempt(shipment, renewed)
        return outcome

    async def _attempt(self, shipment: Shipment, authorization: Authorization) -> Outcome:
        if isinstance(authorization, TransportFailure):
            return judge(authorization, shipment.entries, self._clock())
        headers = {
            "Content-Type": f"{FHIR_JSON}; charset=utf-8",
            "Accept": FHIR_JSON,
            "Prefer": "return=minimal",
            "X-Request-ID": shipment.id,
        }
        headers = self._with(headers, authorization)
        answer = await self._http.request("POST", self._fhir.base_url, headers, shipment.bundle)
        return judge(answer, shipment.entries, self._clock())

    async def probe(self) -> Probe:
        """GET /metadata: is a FHIR server there, and does it say that it takes transactions?"""
        authorization = await self._credentials.authorization()
        address = self._fhir.base_url.rstrip("/") + "/metadata"
        if isinstance(authorization, TransportFailure):
            why = getattr(judge(authorization, 0, self._clock()), "why", "")
            return Probe(False, f"{address} was not asked: {why}; see the credentials in fhir")
        answer = await self._http.request("GET", address, self._with({"Accept": FHIR_JSON}, authorization))
        if isinstance(answer, TransportFailure):
            outcome = judge(answer, 0, self._clock())
            return Probe(False, f"{address}: {getattr(outcome, 'why', 'no answer')}; see fhir.base_url and the network")
        return _judge_metadata(address, answer)

    async def probe_token(self) -> Probe | None:
        """Asks for a token; None where the configuration wants none."""
        from hl7bridge.delivery.smart import SmartTokens

        return await self._credentials.probe() if isinstance(self._credentials, SmartTokens) else None

    async def close(self) -> None:
        await self._credentials.close()
        await self._http.close()

    def _with(self, headers: dict[str, str], authorization: str | None) -> dict[str, str]:
        return dict(self._fhir.headers) | headers | ({"Authorization": authorization} if authorization else {})


def _credentials(fhir: Fhir, secret: Secret, observer: EndpointObserver | None) -> Credentials:
    smart = fhir.smart
    if smart is None:
        return FromConfiguration(fhir, secret)
    from hl7bridge.delivery.smart import SmartTokens  # with its library for keys: only who uses it waits for it

    tls, key = (smart.tls, "fhir.smart.tls") if smart.tls is not None else (fhir.tls, "fhir.tls")
    contexts = Contexts(tls, key, observer)
    return SmartTokens(fhir, smart, secret, Http(fhir.timeout, 1, contexts), observer)


def _judge_metadata(address: str, answer: Response) -> Probe:
    if answer.status in (401, 403):
        return Probe(False, f"{address}: HTTP {answer.status}; see fhir.bearer_token, fhir.basic_user or fhir.smart")
    if 300 <= answer.status < 400:
        return Probe(
            False, f"{address}: HTTP {answer.status}; redirects are not followed: set fhir.base_url to the target"
        )
    if answer.status != 200:
        return Probe(False, f"{address}: HTTP {answer.status}; see fhir.base_url and the server's log")
    try:
        statement = orjson.loads(answer.body)
        known = isinstance(statement, dict) and statement.get("resourceType") == "CapabilityStatement"
    except orjson.JSONDecodeError:
        known = False
    if not known:
        return Probe(False, f"{address}: no CapabilityStatement; fhir.base_url does not lead to a FHIR server")
    return Probe(True, f"{address}: a FHIR server answers")
