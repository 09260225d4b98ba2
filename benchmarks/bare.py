"""The yardsticks that listen: a bare MLLP server with a durable group commit, and an HTTP endpoint that only answers.

Each runs in a process of its own. The MLLP server finds frames, writes them in one transaction (SQLite, WAL,
synchronous=FULL, one table) with whatever else is queued, and answers: no checks, no tables, no limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

START, END = b"\x0b", b"\x1c\r"
_Item = tuple[bytes, Any, bytes]  # a message, the transport its answer goes to, the answer


class _Bare(asyncio.Protocol):
    def __init__(self, queue: SimpleQueue[_Item]) -> None:
        self.queue = queue

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        *frames, self.buffer = (self.buffer + data).split(END)
        for frame in frames:
            control_id = frame.split(b"|", 10)[9]
            answer = START + b"MSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AA|" + control_id + b"\r" + END
            self.queue.put((frame[1:], self.transport, answer))


def _serve_bare(port: int, folder: str) -> None:
    queue: SimpleQueue[_Item] = SimpleQueue()
    journal = sqlite3.connect(f"{folder}/bare.db", isolation_level=None, check_same_thread=False)
    journal.execute("PRAGMA journal_mode=WAL")
    journal.execute("PRAGMA synchronous=FULL")
    journal.execute("CREATE TABLE m (seq INTEGER PRIMARY KEY, raw)")

    def answer(group: list[_Item]) -> None:
        for _, transport, block in group:
            transport.write(block)

    def commit(loop: asyncio.AbstractEventLoop) -> None:
        while True:
            group = [queue.get()]
            with contextlib.suppress(Empty):
                while True:
                    group.append(queue.get_nowait())
            journal.execute("BEGIN IMMEDIATE")
            journal.executemany("INSERT INTO m (raw) VALUES (?)", [(raw,) for raw, _, _ in group])
            journal.execute("COMMIT")
            loop.call_soon_threadsafe(answer, group)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=commit, args=(loop,), daemon=True).start()
        server = await loop.create_server(lambda: _Bare(queue), "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(run())


class _Endpoint(asyncio.Protocol):
    """Answers every transaction with as many entries as it has, with as little work as can be.

    HTTP as far as a client that keeps its connection and sends a length needs it. `arrived`: takes (MSH-10, time) of
    each that came.
    """

    def __init__(self, arrived: list[tuple[str, float]] | None) -> None:
        self.arrived = arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not end or len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        if self.arrived is not None:
            at = time.time()
            control_id = body.partition(b'"identifier":{')[2].partition(b'"value":"')[2].partition(b'"')[0].decode()
            self.arrived.append((control_id, at))
        entries = b",".join([b'{"response":{"status":"200 OK"}}'] * body.count(b'"fullUrl"'))
        answer = b'{"resourceType":"Bundle","type":"transaction-response","entry":[%b]}' % entries
        headers = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n" % len(answer)
        self.transport.write(headers + answer)  # type: ignore[attr-defined]


def _serve_endpoint(port: int, arrivals: Any) -> None:
    """`arrivals`: a queue that gets lists of what arrived, ten times a second; None: nothing is remembered."""
    arrived: list[tuple[str, float]] | None = None if arrivals is None else []

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Endpoint(arrived), "127.0.0.1", port)
        async with server:
            while True:
                await asyncio.sleep(0.1)
                if arrived:
                    arrivals.put(arrived.copy())
                    arrived.clear()

    asyncio.run(run())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, within: float = 60.0, alive: Callable[[], bool] = lambda: True) -> None:
    until = time.monotonic() + within
    while time.monotonic() < until and alive():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"nothing listens on port {port}: the server has ended, or is not there after {within:g} s")


@contextlib.contextmanager
def _process(target: Callable[..., None], *arguments: Any) -> Iterator[int]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(port, *arguments), daemon=True)
    process.start()
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def bare_server() -> Iterator[int]:
    """The port of a bare MLLP server over a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, _process(_serve_bare, folder) as port:
        yield port


@contextlib.contextmanager
def endpoint(arrivals: Any = None) -> Iterator[int]:
    """The port of an HTTP endpoint that only answers; `arrivals`: see _serve_endpoint."""
    with _process(_serve_endpoint, arrivals) as port:
        yield port
