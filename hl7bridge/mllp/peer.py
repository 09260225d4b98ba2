"""The other end of a connection: what it is called, and noticing that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """The other end of one connection. `certificate`: common name or, without one, SHA-256 of its TLS certificate.

    `turn` is held by the handler of one frame until that frame's place in the journal is certain, so that the frames
    of one connection are stored in the order they came, whatever each of them waits for.
    """

    address: str
    port: int
    certificate: str = ""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def name(self) -> str:
        """What the journal records: the certificate's name, else the address."""
        return self.certificate or self.address


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Who is at the other end of `transport`."""
    address = transport.get_extra_info("peername") or ("", 0)
    return Peer(str(address[0]), int(address[1]), _certificate_name(transport))


def _certificate_name(transport: asyncio.BaseTransport) -> str:
    """The common name of a verified client certificate, its SHA-256 when it has none, "" without certificate."""
    certificate = transport.get_extra_info("peercert") or {}
    for pairs in certificate.get("subject", ()):
        for key, value in pairs:
            if key == "commonName":
                return str(value)
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(True) if tls is not None else None
    return hashlib.sha256(der).hexdigest() if der else ""


def keep_alive(transport: asyncio.BaseTransport, idle: int, interval: int, probes: int) -> None:
    """Has the kernel notice a peer that vanished without a word. Seconds; what a system cannot set stays as it is."""
    connected = transport.get_extra_info("socket")
    if connected is None:
        return
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", probes)):
            if hasattr(socket, option):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
