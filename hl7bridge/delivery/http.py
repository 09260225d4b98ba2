"""Requests toward an endpoint: whatever happens becomes a Response or a TransportFailure. The network IO of delivery.

What holds and why:

- `request` never raises for anything the other side does.
- No redirect is followed, no cookie kept, no proxy or password taken from the environment: the configuration alone
  says where patient data and credentials go.
- An answer is read up to `ANSWER_MAX` bytes; a longer one counts as broken off.
- TLS always verifies the server's certificate and its name. Rotated files are taken with the next connection (see tls).
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace

import aiohttp

from hl7bridge import __version__
from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.outcome import TransportFailure
from hl7bridge.delivery.tls import Contexts

ANSWER_MAX = 16 * 1024 * 1024  # a minimal answer has about 200 bytes an entry
CONNECT_MAX = 10.0  # seconds for a connection, within the total


class Http:
    """One session with kept-alive connections, at most `limit` of them. Made in any thread, used in one event loop."""

    def __init__(self, timeout: float, limit: int, contexts: Contexts | None) -> None:
        self._timeout, self._limit, self._contexts = timeout, limit, contexts
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Response | TransportFailure:
        """One request. `headers` must hold every header but User-Agent and what HTTP itself needs."""
        try:
            tls = self._contexts.current() if self._contexts is not None else None
            async with self._open().request(
                method, address, data=body, headers=headers, allow_redirects=False, ssl=tls if tls else True
            ) as response:
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return failure_of(error)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limit),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(CONNECT_MAX, self._timeout)),
                headers={"User-Agent": f"hl7bridge/{__version__}"},
            )
        return self._session


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
            if isinstance(error.os_error, ConnectionResetError) and error.os_error.errno is None:
                return TransportFailure("tls", "the server ended the handshake")  # asyncio's own error, no errno
            return TransportFailure("refused", errno_name(error.os_error))
        case aiohttp.ConnectionTimeoutError():
            return TransportFailure("connect-timeout")
        case TimeoutError():
            return TransportFailure("timeout")
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return TransportFailure("disconnected")
        case aiohttp.ClientOSError():
            return TransportFailure("disconnected", errno_name(error))
        case _:
            return TransportFailure("protocol", type(error).__name__)


def _tls_note(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or type(cause).__name__)


def errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
