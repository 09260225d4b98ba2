"""Where bundles go: a FHIR server over HTTP, or a directory. The only part of delivery that does network IO.

What holds and why:

- `deliver` never raises for anything the other side does: whatever happens becomes an `Outcome` (see outcome).
- One session, kept-alive connections, at most `concurrency` of them. No redirect is followed, no cookie kept, no proxy
  or password taken from the environment: the configuration alone says where patient data goes.
- `X-Request-ID` is the message's id, so that a line in the server's log leads to the message.
- `Prefer: return=minimal` spares the server from sending back every resource it was just given.
- A token that the server refuses is read again from its reference; if it changed on disk, the bundle is sent once more.
- An answer is read up to `ANSWER_MAX` bytes; a longer one counts as broken off.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson

from hl7bridge import __version__
from hl7bridge.config import Fhir, Tls
from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.disk import day, make_folder, sweep_beside, write_file
from hl7bridge.delivery.outcome import Delivered, Outcome, TransportFailure, Unauthorised, judge
from hl7bridge.errors import ConfigError, UnavailableError

ANSWER_MAX = 16 * 1024 * 1024  # a minimal answer has about 200 bytes an entry
CONNECT_MAX = 10.0  # seconds for a connection, within the total
FHIR_JSON = "application/fhir+json"
FILE = "file:"

Secret = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Shipment:
    """A bundle on its way. `entries`: how many the bundle has, so that a short answer is noticed."""

    id: str
    received_at: float
    bundle: bytes = field(repr=False)
    entries: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Is the endpoint there? `text` is for the operator: what is wrong and what to do."""

    ok: bool
    text: str


class Endpoint(Protocol):
    """Takes bundles. `probe` is for doctor and readyz and changes nothing there."""

    async def deliver(self, shipment: Shipment) -> Outcome: ...
    async def probe(self) -> Probe: ...
    async def close(self) -> None: ...


def open_endpoint(fhir: Fhir, secret: Secret) -> Endpoint:
    """The endpoint of the configuration. `secret` resolves a reference (hl7bridge.config.secret).

    Raises UnavailableError when the TLS files cannot be read.
    """
    if fhir.base_url.startswith(FILE):
        return FileEndpoint(Path(fhir.base_url.removeprefix(FILE).removeprefix("//")))
    return HttpEndpoint(fhir, secret)


class FileEndpoint:
    """Writes `<received date>/<message-id>.json`, whole or not at all. Delivering twice gives the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deliver(self, shipment: Shipment) -> Outcome:
        try:
            await asyncio.to_thread(self._write, shipment)
        except OSError as error:
            return judge(TransportFailure("disk", _errno(error)), shipment.entries, time.time())
        return Delivered(201)

    async def probe(self) -> Probe:
        return await asyncio.to_thread(self._probe)

    async def close(self) -> None:
        await asyncio.to_thread(sweep_beside, self._folder)

    def _write(self, shipment: Shipment) -> None:
        path = self._folder / day(shipment.received_at) / f"{shipment.id}.json"
        write_file(self._folder, path, shipment.bundle)

    def _probe(self) -> Probe:
        trial = self._folder / f".probe-{secrets.token_hex(4)}"
        try:
            make_folder(self._folder)
            trial.write_bytes(b"")
            trial.unlink()
        except OSError as error:
            return Probe(
                False, f"{self._folder} cannot be written ({_errno(error)}): see its owner, mode and free space"
            )
        return Probe(True, f"bundles are written to {self._folder}")


class HttpEndpoint:
    """A FHIR R4 server that takes transactions at its base URL. Made in any thread, used in one event loop."""

    def __init__(self, fhir: Fhir, secret: Secret, clock: Callable[[], float] = time.time) -> None:
        self._fhir = fhir
        self._secret = secret
        self._clock = clock
        self._tls = _tls_context(fhir.tls) if fhir.base_url.startswith("https:") else None
        self._session: aiohttp.ClientSession | None = None
        self._authorization: str | None = None  # kept until the server refuses it

    async def deliver(self, shipment: Shipment) -> Outcome:
        outcome = await self._attempt(shipment)
        if isinstance(outcome, Unauthorised):
            refused, self._authorization = self._authorization, None
            if refused is not None and self._authorise() not in (refused, None):
                outcome = await self._attempt(shipment)
        return outcome

    async def _attempt(self, shipment: Shipment) -> Outcome:
        answer = await self._post(shipment)
        return judge(answer, shipment.entries, self._clock())

    async def _post(self, shipment: Shipment) -> Response | TransportFailure:
        authorization = self._authorise()
        if isinstance(authorization, TransportFailure):
            return authorization
        headers = {
            "Content-Type": f"{FHIR_JSON}; charset=utf-8",
            "Accept": FHIR_JSON,
            "Prefer": "return=minimal",
            "X-Request-ID": shipment.id,
        } | ({"Authorization": authorization} if authorization else {})
        return await self._request("POST", self._fhir.base_url, headers, shipment.bundle)

    async def probe(self) -> Probe:
        """GET /metadata: is a FHIR server there, and does it say that it takes transactions?"""
        authorization = self._authorise()
        if isinstance(authorization, TransportFailure):
            return Probe(False, "the credentials cannot be read: see fhir.bearer_token and fhir.basic_password")
        headers = {"Accept": FHIR_JSON} | ({"Authorization": authorization} if authorization else {})
        address = self._fhir.base_url.rstrip("/") + "/metadata"
        answer = await self._request("GET", address, headers, None)
        if isinstance(answer, TransportFailure):
            outcome = judge(answer, 0, self._clock())
            return Probe(False, f"{address}: {getattr(outcome, 'why', 'no answer')}; see fhir.base_url and the network")
        return _judge_metadata(address, answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _authorise(self) -> str | TransportFailure | None:
        """The Authorization header, None without credentials. References are resolved when used, never at start."""
        if self._authorization is not None:
            return self._authorization
        fhir = self._fhir
        try:
            if fhir.bearer_token is not None:
                token = self._secret(fhir.bearer_token.get_secret_value())
                if not (token.isascii() and token.isprintable()):  # a header cannot carry it
                    return TransportFailure("secret")
                self._authorization = f"Bearer {token}"
            elif fhir.basic_user is not None:
                reference = fhir.basic_password
                password = self._secret(reference.get_secret_value()) if reference is not None else ""
                pair = f"{fhir.basic_user}:{password}".encode()  # RFC 7617, charset UTF-8
                self._authorization = f"Basic {base64.b64encode(pair).decode('ascii')}"
        except (ConfigError, OSError, ValueError):
            return TransportFailure("secret")
        return self._authorization

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            fhir = self._fhir
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=fhir.concurrency, ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=fhir.timeout, sock_connect=min(CONNECT_MAX, fhir.timeout)),
                headers={"User-Agent": f"hl7bridge/{__version__}"} | dict(fhir.headers),
            )
        return self._session

    async def _request(
        self, method: str, address: str, headers: dict[str, str], body: bytes | None
    ) -> Response | TransportFailure:
        try:
            async with self._open().request(
                method, address, data=body, headers=headers, allow_redirects=False
            ) as response:
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return failure_of(error)


async def _read(response: aiohttp.ClientResponse) -> Response:
    """The answer with its bounded body. The status stands even where the body breaks off."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    answer = Response(response.status, headers, b"", truncated=True)
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_MAX:
                response.close()
                return answer
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return answer
    return replace(answer, body=bytes(body), truncated=False)


def failure_of(error: Exception) -> TransportFailure:
    """What an exception of aiohttp tells, as a row of the failure table. Its text is dropped: it may quote the peer."""
    match error:
        case aiohttp.InvalidURL():
            return TransportFailure("address")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return TransportFailure("tls", _tls_note(error))
        case aiohttp.ClientConnectorError():
            if isinstance(error.os_error, socket.gaierror) or type(error).__name__ == "ClientConnectorDNSError":
                return TransportFailure("dns")
            return TransportFailure("refused", _errno(error.os_error))
        case aiohttp.ConnectionTimeoutError():
            return TransportFailure("connect-timeout")
        case TimeoutError():
            return TransportFailure("timeout")
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return TransportFailure("disconnected")
        case aiohttp.ClientOSError():
            return TransportFailure("disconnected", _errno(error))
        case _:
            return TransportFailure("protocol", type(error).__name__)


def _tls_note(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or type(cause).__name__)


def _errno(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _judge_metadata(address: str, answer: Response) -> Probe:
    if answer.status in (401, 403):
        return Probe(False, f"{address}: HTTP {answer.status}; see fhir.bearer_token or fhir.basic_user")
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


def _tls_context(tls: Tls | None) -> ssl.SSLContext:
    """TLS toward the server: its certificate is always verified, against `ca` or the machine's store."""
    tls = tls or Tls()
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise UnavailableError(f"fhir.tls: the files cannot be read ({_errno(error)})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    return context
