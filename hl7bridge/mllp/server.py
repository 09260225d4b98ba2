"""An MLLP port: takes connections, hands their frames to a handler, drains when told to. The rest is connection.py.

What holds here: a connection past max_connections is closed at once and costs nobody else anything; a machine out of
file descriptors stops taking connections for a moment (asyncio pauses accepting) and goes on; draining ends with every
frame that came whole either answered or, at the deadline, left unanswered, which is what its sender resends on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from hl7bridge.config import Listener
from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.connection import Connection
from hl7bridge.mllp.gate import Handle, Limits, Refuse, RequiresCr
from hl7bridge.mllp.observer import Observer
from hl7bridge.mllp.tls import server_context


class MllpServer:
    """Serves one listener.

    handle: payload, peer -> answer payload, or None when none is due; frames of one connection are handled side by
    side, started in the order they came. refuse: first bytes of a payload, why, peer -> negative answer. Neither frames
    (VT, FS) what it gives. requires_cr: first bytes of a payload, peer -> must CR follow its FS (default: listener's)?
    """

    def __init__(
        self,
        listener: Listener,
        handle: Handle,
        refuse: Refuse,
        observer: Observer | None = None,
        limits: Limits | None = None,
        requires_cr: RequiresCr | None = None,
    ) -> None:
        self.listener = listener
        self.handle = handle
        self.refuse = refuse
        self.requires_cr = requires_cr
        self.limits = limits or Limits()
        self.observer_failures = 0
        self._observer = observer or Observer()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    @property
    def port(self) -> int:
        """The port that is bound: for port 0 the one the system chose."""
        if self._server is None or not self._server.sockets:
            return self.listener.port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    async def start(self) -> None:
        """Binds and listens. UnavailableError names host and port; ConfigError the TLS keys."""
        listener = self.listener
        context: ssl.SSLContext | None = server_context(listener.tls) if listener.tls else None
        timeout = listener.frame_timeout if context else None
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self), listener.host, listener.port, ssl=context, ssl_handshake_timeout=timeout
            )
        except OSError as error:
            where = f"{listener.host}:{listener.port}"
            raise UnavailableError(f"listener {listener.name} cannot listen on {where}: {error.strerror}") from None

    async def drain(self, within: float) -> int:
        """Stops accepting and reading, finishes what came whole, closes. May be called again, and without start.

        Gives how many connections were cut off because they were not done `within` seconds. Waits as well for frames
        whose connection is already gone: what they commit is part of this run.
        """
        self._draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.drain()
        late: tuple[Connection, ...] = ()
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
                if self._work:
                    await asyncio.wait(self._work)
        except TimeoutError:
            late = tuple(self._connections)
            for connection in late:
                connection.abort()
            await self._empty.wait()
        return len(late)

    # -- what connections call (gate.Gate)

    def admit(self, connection: Connection) -> bool:
        """Whether there is room. A connection whose TLS handshake ends while draining comes too late."""
        if self._draining or len(self._connections) >= self.listener.max_connections:
            self.tell(Observer.refused, connection.peer)
            return False
        self._connections.add(connection)
        self._empty.clear()
        self.tell(Observer.opened, connection.peer)
        return True

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)  # asyncio itself keeps only weak references
        task.add_done_callback(self._work.discard)

    def tell(self, method: Callable[..., None], *facts: Any) -> None:
        try:
            getattr(self._observer, method.__name__)(*facts)
        except Exception:
            self.observer_failures += 1
