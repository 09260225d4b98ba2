"""An MLLP port: hands frames of its connections to a handler, drains when told to. Who comes in: door.py; the rest:
connection.py.

What holds here: a connection past max_connections is closed at once and costs nobody else anything; draining ends with
every frame that came whole either answered or, at the deadline, left unanswered, which is what its sender resends on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hl7bridge.config import Listener
from hl7bridge.mllp.connection import Connection
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.door import Door
from hl7bridge.mllp.gate import Handle, Limits, Refuse, RequiresCr
from hl7bridge.mllp.observer import Observer, Why
from hl7bridge.tls.rotation import Rotating


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
        self._door: Door | None = None
        self._connections: set[Connection] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._under_way = 0  # frames that wait for their answer without a task
        self._none_under_way = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    @property
    def port(self) -> int:
        """The port that is bound: for port 0 the one the system chose."""
        return (self._door.port if self._door is not None else None) or self.listener.port

    @property
    def connections(self) -> int:
        """Connections that are open now; not those whose TLS handshake is under way."""
        return len(self._connections)

    @property
    def keys(self) -> Rotating | None:
        """The TLS files in use; None in clear text, and before the start."""
        return self._door.keys if self._door is not None else None

    async def start(self) -> None:
        """Binds and listens. UnavailableError names host and port; ConfigError the TLS keys."""
        door = Door(self.listener, self.limits, lambda: Connection(self), self.tell, self._judge_again)
        await door.open()
        self._door = door

    def look(self) -> None:
        """Takes changed TLS files into use at once, and tells of those that are unfit."""
        if self._door is not None:
            self._door.look(again=True)

    def _judge_again(self) -> None:
        """Ends, in order, connections that other authorities or revocation lists let in: their senders come again."""
        if self.listener.tls is not None and self.listener.tls.client != "none":
            for connection in tuple(self._connections):
                connection.drain(Why.TRUST)

    async def drain(self, within: float) -> int:
        """Stops accepting and reading, finishes what came whole, closes. May be called again, and without start.

        Gives how many connections were cut off because they were not done `within` seconds. Waits as well for frames
        whose connection is already gone: what they commit is part of this run.
        """
        self._draining = True
        if self._door is not None:
            self._door.close()
            await self._door.closed()
        for connection in tuple(self._connections):
            connection.drain()
        late: tuple[Connection, ...] = ()
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
                if self._work:
                    await asyncio.wait(self._work)
                if self._under_way:
                    self._none_under_way.clear()
                    await self._none_under_way.wait()
        except TimeoutError:
            late = tuple(self._connections)
            for connection in late:
                connection.abort()
            await self._empty.wait()
        return len(late)

    # -- what connections call (gate.Gate)

    def admit(self, connection: Connection, denial: Denial | None) -> bool:
        """Whether it may come in and there is room. One whose TLS handshake ends while draining comes too late."""
        if self._draining:
            return False
        if denial is None and len(self._connections) >= self.listener.max_connections:
            denial = Denial.FULL
        if denial is not None:
            self.tell(Observer.denied, connection.peer, denial)
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

    def began(self) -> None:
        self._under_way += 1

    def ended(self) -> None:
        self._under_way -= 1
        if not self._under_way and self._draining:
            self._none_under_way.set()

    def tell(self, method: Callable[..., None], *facts: Any) -> None:
        try:
            getattr(self._observer, method.__name__)(*facts)
        except Exception:
            self.observer_failures += 1
