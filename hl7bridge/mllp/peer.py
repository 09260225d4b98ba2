"""The other end of a connection: what it is called, and noticing that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hl7bridge.config import Client, ListenerTls
from hl7bridge.mllp.denial import Denial
from hl7bridge.tls.certificates import clients_of, identity_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Turn:
    """Whose place among the frames of one connection is made certain now. Who has to wait for his asks for it, in the
    order of the frames, and holds it (`async with`) until his place is certain; who needs no time and finds it free
    takes his place without asking.
    """

    __slots__ = ("_asked", "_lock")

    def __init__(self) -> None:
        self._asked = 0
        self._lock = asyncio.Lock()  # those who wait for it get it in the order in which they began to

    @property
    def free(self) -> bool:
        """Nobody has asked for it who has not had it."""
        return not self._asked

    def ask(self) -> Turn:
        self._asked += 1
        return self

    async def __aenter__(self) -> None:
        try:
            await self._lock.acquire()
        except BaseException:
            self._asked -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._asked -= 1
        self._lock.release()


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """The other end of one connection. `certificate`: the common name of its verified TLS certificate, its SHA-256
    where it has none; "" without certificate. `clients`: the items of `tls.clients` that fit it.

    `turn` keeps the frames of one connection in the order they came, whatever each of them waits for.
    """

    address: str
    port: int
    certificate: str = ""
    fingerprint: str = ""  # SHA-256 of the certificate
    clients: tuple[Client, ...] = ()
    turn: Turn = field(default_factory=Turn, repr=False)

    @property
    def name(self) -> str:
        """What the journal records: the certificate's name, else the address."""
        return self.certificate or self.address


def peer_of(transport: asyncio.BaseTransport, tls: ListenerTls | None = None) -> tuple[Peer, Denial | None]:
    """Who is at the other end of `transport`, and why it may not be there after all.

    The handshake has verified the certificate, or the session it was verified for was resumed: so its end is looked
    at again.
    """
    address, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    spoken = transport.get_extra_info("ssl_object")
    der = spoken.getpeercert(True) if spoken is not None else None
    if tls is None or tls.client == "none" or not der:
        return Peer(str(address), int(port)), None
    identity = identity_of(spoken.getpeercert() or {}, der)
    clients = clients_of(identity, tls.clients)
    peer = Peer(str(address), int(port), identity.shown, identity.fingerprint, clients)
    if identity.ends <= time.time():
        return peer, Denial.EXPIRED
    return peer, Denial.NOT_LISTED if tls.clients and not clients else None


def peer_at(address: Sequence[Any]) -> Peer:
    """Who is at an address as `socket.accept` gives it."""
    return Peer(str(address[0]), int(address[1])) if len(address) > 1 else Peer("", 0)


def networks(allow: Sequence[str]) -> tuple[Network, ...]:
    """`listeners.allow` ready to be asked."""
    return tuple(ipaddress.ip_network(text) for text in allow)


def allowed(address: str, among: Sequence[Network]) -> bool:
    """Is the address in one of the networks? An IPv4 address in IPv6 clothes (::ffff:192.0.2.1) is an IPv4 address."""
    try:
        asked = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(asked, ipaddress.IPv6Address) and asked.ipv4_mapped is not None:
        asked = asked.ipv4_mapped
    return any(asked in network for network in among)


def keep_alive(transport: asyncio.BaseTransport, idle: int, interval: int, probes: int) -> None:
    """Has the kernel notice a peer that vanished without a word. Seconds; `idle` 0: not at all.

    What a system cannot set stays as it is.
    """
    connected = transport.get_extra_info("socket")
    if connected is None or not idle:
        return
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", probes)):
            if hasattr(socket, option):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
