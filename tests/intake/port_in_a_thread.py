"""A listener that runs in a thread of its own, for commands that bring their own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

from hl7bridge.config import Listener
from hl7bridge.mllp.gate import Refuse
from hl7bridge.mllp.peer import Peer
from hl7bridge.mllp.server import MllpServer

Handler = Callable[[bytes, Peer], Awaitable[bytes | None]]


@contextlib.contextmanager
def port_in_a_thread(
    make: Callable[[Listener], tuple[Handler, Refuse]], port: int = 0, commit_bytes: bool = False
) -> Iterator[int]:
    """Serves what `make` gives on a port of this machine; yields the port; drains at the end."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    listener = Listener(host="127.0.0.1", port=port, commit_bytes=commit_bytes)
    servers: list[MllpServer] = []

    async def start() -> None:
        handle, refuse = make(listener)
        servers.append(MllpServer(listener, handle, refuse))
        await servers[0].start()
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(5)
        yield servers[0].port
    finally:
        asyncio.run_coroutine_threadsafe(servers[0].drain(5), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
