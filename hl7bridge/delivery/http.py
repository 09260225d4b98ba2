"""Requests toward an endpoint: whatever happens becomes a Response or a TransportFailure. The network IO of delivery.

What holds and why:

- `request` never raises for anything the other side does.
- No redirect is followed, no cookie kept, no proxy or password taken from the environment: the configuration alone
  says where patient data and credentials go.
- An answer is read up to `ANSWER_MAX` bytes; a longer one counts as broken off.
- TLS always verifies the server's certificate and its name. Rotated files are taken with the next connection (see tls).
- It is our own and no general client's: at a saturated daemon that was half of what a delivery cost
  (docs/decisions/0038-an-http-exchange-of-our-own.md). http1 has the bytes, connection what happens on one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohappyeyeballs
from yarl import URL

from hl7bridge import __version__
from hl7bridge.delivery.connection import Answer, Connection, errno_name, tls_note
from hl7bridge.delivery.http1 import request_head
from hl7bridge.delivery.outcome import TransportFailure
from hl7bridge.delivery.tls import Contexts

__all__ = ["ANSWER_MAX", "Http", "errno_name"]

ANSWER_MAX = 16 * 1024 * 1024  # a minimal answer has about 200 bytes an entry
CONNECT_MAX = 10.0  # seconds for a connection, within the total
EYEBALLS = 0.25  # seconds until a host's next address is tried beside the one before (RFC 8305)
AGENT = {"User-Agent": f"hl7bridge/{__version__}"}
IDEMPOTENT = frozenset({"GET"})  # sent once more where a kept connection had ended


@dataclass(frozen=True, slots=True)
class Place:
    """An address, taken apart. `authority`: as the Host header has it."""

    tls: bool
    host: str
    port: int
    authority: str
    target: str


_Key = tuple[bool, str, int, ssl.SSLContext | None]  # over which connections a request may go


class Http:
    """Kept-alive connections, at most `limit` requests at once. Made in any thread, used in one event loop.

    `timeout`: seconds from the request to its whole answer, the wait for a connection included.
    """

    def __init__(self, timeout: float, limit: int, contexts: Contexts | None) -> None:
        self._timeout, self._contexts = timeout, contexts
        self._free = asyncio.Semaphore(limit)
        self._kept: dict[_Key, list[Connection]] = {}
        self._all: set[Connection] = set()

    async def request(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """One request. `headers` must hold every header but User-Agent and what HTTP itself needs."""
        try:
            place = placed(address)
        except ValueError:
            return TransportFailure("address")
        length = None if body is None else len(body)
        try:
            head = request_head(method, place.target, place.authority, AGENT | dict(headers), length)
        except ValueError as error:
            return TransportFailure("protocol", type(error).__name__)
        deadline = asyncio.get_running_loop().time() + self._timeout
        if self._free.locked():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._free.acquire()
            except TimeoutError:
                return TransportFailure("timeout")
        else:
            await self._free.acquire()
        try:
            return await self._exchange(place, head, body or b"", deadline, method in IDEMPOTENT)
        finally:
            self._free.release()

    async def close(self) -> None:
        for connection in tuple(self._all):
            connection.abort()
        await asyncio.sleep(0)  # in which they end

    async def _exchange(self, place: Place, head: bytes, body: bytes, deadline: float, again: bool) -> Answer:
        tls = self._contexts.current() if place.tls and self._contexts is not None else None
        key = (place.tls, place.host, place.port, tls)
        while True:
            connection = _usable(self._kept.get(key, [])) or await self._connected(place, tls, deadline)
            if isinstance(connection, TransportFailure):
                return connection
            stale = not connection.fresh
            answer = await connection.exchange(head, body, ANSWER_MAX, deadline)
            if connection.usable():
                self._kept.setdefault(key, []).append(connection)
            lost = isinstance(answer, TransportFailure) and answer.kind == "disconnected"
            if not (again and stale and lost):
                return answer

    async def _connected(
        self, place: Place, tls: ssl.SSLContext | None, deadline: float
    ) -> Connection | TransportFailure:
        loop = asyncio.get_running_loop()
        if place.tls and tls is None:
            return TransportFailure("address")  # nothing says whom to trust there
        try:
            async with asyncio.timeout_at(deadline):
                flags = socket.AI_NUMERICHOST if _is_numeric(place.host) else socket.AI_ADDRCONFIG
                found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=flags)
        except TimeoutError:
            return TransportFailure("timeout")
        except (OSError, UnicodeError):
            return TransportFailure("dns")
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + CONNECT_MAX)):
                ends = await aiohappyeyeballs.start_connection(
                    found, happy_eyeballs_delay=EYEBALLS, interleave=1, loop=loop
                )
                name = place.host.rstrip(".") if tls is not None else None
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._gone), sock=ends, ssl=tls, server_hostname=name
                )
        except OSError as error:
            return _unconnected(error)
        except ValueError as error:  # a name that TLS cannot ask for
            return TransportFailure("protocol", type(error).__name__)
        self._all.add(connection)
        return connection

    def _gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        for key, kept in tuple(self._kept.items()):
            if connection in kept:
                kept.remove(connection)
            if not kept:  # files may have changed: nothing more comes under this key
                del self._kept[key]


@lru_cache(maxsize=16)
def placed(address: str) -> Place:
    """Raises ValueError where it is no address of a server; a user or password has no place in one."""
    url = URL(address)
    if url.scheme not in ("http", "https") or not url.raw_host or url.port is None or url.raw_user or url.raw_password:
        raise ValueError("no address")
    shown = f"[{url.raw_host}]" if ":" in url.raw_host else url.raw_host
    authority = shown if url.is_default_port() else f"{shown}:{url.port}"
    return Place(url.scheme == "https", url.raw_host, url.port, authority, url.raw_path_qs)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _usable(kept: list[Connection]) -> Connection | None:
    """The one used last, so that what is not needed is closed."""
    while kept:
        connection = kept.pop()
        if connection.usable():
            return connection
        connection.abort()
    return None


def _unconnected(error: OSError) -> TransportFailure:
    """Why there is no connection, as a row of the failure table. Its text is dropped: it may quote the peer."""
    if isinstance(error, ssl.SSLError):
        return TransportFailure("tls", tls_note(error))
    if isinstance(error, TimeoutError) and error.errno is None:
        return TransportFailure("connect-timeout")
    if isinstance(error, ConnectionResetError) and error.errno is None:
        return TransportFailure("tls", "the server ended the handshake")  # asyncio's own error, no errno
    return TransportFailure("refused", errno_name(error))
