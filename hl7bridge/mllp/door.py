"""The sockets of a port and those who come in through them: bind, accept, address, TLS handshake. Then server.py.

What holds here:
  - Whom `allow` leaves out is closed before a byte is read or written.
  - Handshakes under way are limited as connections are (max_connections), and by frame_timeout in time: strangers that
    stall cost no sender its place, and end.
  - Out of file descriptors, nobody is taken for a moment; then it goes on. Who waits in the kernel's queue is served.
  - Whose handshake fails is told why by a TLS alert, so that the log at the other end says it too.
  - A peer that leaves during the handshake is nobody's fault: probes of load balancers do so every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from hl7bridge.config import Listener
from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.denial import Denial, denial_of
from hl7bridge.mllp.gate import Limits
from hl7bridge.mllp.observer import Observer
from hl7bridge.mllp.peer import Peer, allowed, networks, peer_at
from hl7bridge.tls.contexts import last_words
from hl7bridge.tls.rotation import Look, Rotating

BACKLOG: Final = 256  # connections the kernel holds for us while the event loop is busy
AT_ONCE: Final = 16  # connections taken before the event loop gets its turn
_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Tell = Callable[..., None]


class Door:
    """Lets peers in. make: the protocol of a new connection; tell: the server's (an observer's method, its facts);
    trust_changed: called when other authorities or revocation lists came into use.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        make: Callable[[], asyncio.Protocol],
        tell: Tell,
        trust_changed: Callable[[], None],
    ) -> None:
        self.keys: Rotating | None = None  # from `open` on, with TLS
        self._listener = listener
        self._limits = limits
        self._make = make
        self._tell = tell
        self._trust_changed = trust_changed
        self._networks = networks(listener.allow)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._watching: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int | None:
        """The port that is bound; None while none is."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else None

    async def open(self) -> None:
        """Binds, waiting up to bind_wait for an address that is taken. UnavailableError, ConfigError (TLS files)."""
        if self._listener.tls is not None:
            self.keys = Rotating(self._listener.tls)
            self._warn()
        await self._bind()
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)
        if self.keys is not None:
            self._watching = self._loop.create_task(self._watch())

    def close(self) -> None:
        """Nobody comes in any more, and who is in the handshake is sent away."""
        for listening in self._sockets:
            if listening in self._pauses:
                self._pauses.pop(listening).cancel()
            else:
                self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for task in (*self._handshakes, *([self._watching] if self._watching else [])):
            task.cancel()

    async def closed(self) -> None:
        """After `close`: returns when nothing of it runs any more."""
        running = (*self._handshakes, *([self._watching] if self._watching else []))
        await asyncio.gather(*running, return_exceptions=True)

    # -- the sockets

    async def _bind(self) -> None:
        until = self._loop.time() + self._listener.bind_wait
        while True:
            try:
                self._sockets = await self._bound()
                return
            except OSError as error:
                if self._loop.time() >= until:
                    where = f"{self._listener.host}:{self._listener.port}"
                    why = error.strerror or type(error).__name__
                    raise UnavailableError(
                        f"listener {self._listener.name} cannot listen on {where}: {why}{_remedy(error)}"
                    ) from None
            await asyncio.sleep(self._limits.bind_pause)

    async def _bound(self) -> list[socket.socket]:
        """A listening socket for every address of the host: `""` is all of the machine's, of both families."""
        found = dict.fromkeys(
            await self._loop.getaddrinfo(
                self._listener.host or None, self._listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
        bound: list[socket.socket] = []
        try:
            for family, _, _, _, address in found:
                try:
                    bound.append(_listening(family, address))
                except OSError as error:
                    # `localhost` names ::1 too, also where the machine has no IPv6
                    if family != socket.AF_INET6 or error.errno not in _NO_IPV6 or len(found) == 1:
                        raise
        except OSError:
            for listening in bound:
                listening.close()
            raise
        return bound

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._tell(Observer.starved, errno.errorcode.get(error.errno or 0, type(error).__name__))
                self._loop.remove_reader(listening)
                self._pauses[listening] = self._loop.call_later(self._limits.accept_pause, self._go_on, listening)
                return
            self._welcome(connected, address)

    def _go_on(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)

    # -- those who come

    def _welcome(self, connected: socket.socket, address: Sequence[Any]) -> None:
        peer = peer_at(address)
        denial: Denial | None = None
        if self._networks and not allowed(peer.address, self._networks):
            denial = Denial.ADDRESS
        elif len(self._handshakes) >= self._listener.max_connections:
            denial = Denial.FULL
        if denial is not None:
            connected.close()
            self._tell(Observer.denied, peer, denial)
            return
        task = self._loop.create_task(self._shake(connected, peer))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake(self, connected: socket.socket, peer: Peer) -> None:
        """From a socket to a connection, through the TLS handshake where there is one. asyncio closes what fails."""
        if self.keys is None:
            with contextlib.suppress(OSError):
                await self._loop.connect_accepted_socket(self._make, connected)
            return
        self.look()
        timeout = self._listener.frame_timeout
        with _duplicate(connected) as line:  # asyncio closes its own at once
            try:
                await self._loop.connect_accepted_socket(
                    self._make,
                    connected,
                    ssl=self.keys.context,
                    ssl_handshake_timeout=timeout,
                    ssl_shutdown_timeout=timeout,
                )
            except OSError as error:
                denial = denial_of(error)
                self._tell(*((Observer.denied, peer, denial) if denial else (Observer.probed, peer)))
                if words := last_words(error):
                    await self._say(words, line)

    async def _say(self, words: bytes, line: socket.socket | None) -> None:
        """Tells the peer why its handshake failed, and lets it read that: a close over unread bytes would take it."""
        if line is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._limits.linger):
                await self._loop.sock_sendall(line, words)
                line.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(line, 65536):
                    pass

    # -- the TLS files

    def look(self, again: bool = False) -> None:
        """Takes changed TLS files into use. `again`: unfit ones are tried once more."""
        if self.keys is None:
            return
        found = self.keys.look(again)
        if found is Look.REFUSED:
            self._tell(Observer.not_rotated, self.keys.refused)
        elif found is Look.DONE:
            self._tell(Observer.rotated, [ending.path for ending in self.keys.endings])
            self._warn()
            if self.keys.trust_changed:
                self._trust_changed()

    def _warn(self) -> None:
        assert self.keys is not None
        for ending in self.keys.warnings():
            self._tell(Observer.ending, ending)

    async def _watch(self) -> None:
        """Files that change while nobody connects, and days that pass."""
        while True:
            await asyncio.sleep(self._limits.look_every)
            self.look(again=True)
            self._warn()


@contextlib.contextmanager
def _duplicate(connected: socket.socket) -> Iterator[socket.socket | None]:
    """The same connection once more; None when there is no descriptor left for it."""
    try:
        line = connected.dup()
    except OSError:
        yield None
        return
    with line:
        line.setblocking(False)
        yield line


def _listening(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # else it would take IPv4's port as well, and not get it beside 0.0.0.0
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _remedy(error: OSError) -> str:
    """What to do, where the errno says it."""
    with contextlib.suppress(KeyError):
        return {
            errno.EADDRINUSE: "; `ss -ltnp` tells who has it",
            errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
            errno.EACCES: "; ports below 1024 need privileges",
        }[error.errno or 0]
    return ""
