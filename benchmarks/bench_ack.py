"""Durable ACKs a second, beside a bare asyncio MLLP server with the same kind of group commit and nothing else.

    python benchmarks/bench_ack.py [--messages 20000] [--rounds 5]

The daemon runs as a process with a directory endpoint; only the acknowledgement is timed. The generator runs in this
process and shares the two cores with both servers alike.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

_Item = tuple[bytes, Any, bytes]  # a message, the transport its answer goes to, the answer

START, END = b"\x0b", b"\x1c\r"
MESSAGE = (
    b"MSH|^~\\&|BENCH|TEST|||20240305143012+0100||ADT^A08|%b|P|2.5.1\rEVN|A08|20240305143012+0100\r"
    b"PID|1||P%b^^^T&1.2.3.4&ISO^MR||Test^Bench||19610317|F\rPV1|1|I|||||||||||||||||V1^^^T&1.2.3.4&ISO^VN\r"
)


class _Bare(asyncio.Protocol):
    """Finds frames, has them written, answers them; no checks, no tables, no limits."""

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
    """A thread that drains what is queued into one transaction: SQLite, WAL, synchronous=FULL, one table."""
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


async def _connection(port: int, name: str, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(count):
        control_id = b"%s-%d" % (name.encode(), i)
        writer.write(START + MESSAGE % (control_id, control_id) + END)
        answer = await reader.readuntil(END)
        if b"|AA|" + control_id not in answer:
            raise RuntimeError("not acknowledged")
    writer.close()
    await writer.wait_closed()


async def _pipelined(port: int, name: str, count: int) -> None:
    """One connection that sends on without waiting for answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        for i in range(count):
            control_id = b"%s-%d" % (name.encode(), i)
            writer.write(START + MESSAGE % (control_id, control_id) + END)
            if i % 50 == 0:
                await writer.drain()

    async def receive() -> None:
        for _ in range(count):
            if b"|AA|" not in await reader.readuntil(END):
                raise RuntimeError("not acknowledged")

    await asyncio.gather(send(), receive())
    writer.close()
    await writer.wait_closed()


async def _rate(port: int, connections: int, total: int, label: str) -> float:
    """Answers a second; connections 0: one that pipelines."""
    each = total // max(connections, 1)
    begin = time.perf_counter()
    if connections:
        await asyncio.gather(*[_connection(port, f"{label}-{c}", each) for c in range(connections)])
    else:
        await _pipelined(port, label, total)
    return each * max(connections, 1) / (time.perf_counter() - begin)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, within: float = 30.0) -> None:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port} after {within:g} s")


class Served:
    """`hl7bridge serve` over a temporary folder."""

    def __init__(self, base_url: str | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.port, self.http = free_port(), free_port()
        base = Path(self.folder.name)
        environment = {
            **os.environ,
            "HL7BRIDGE_LISTENERS__0__PORT": str(self.port),
            "HL7BRIDGE_LISTENERS__0__HOST": "127.0.0.1",
            "HL7BRIDGE_JOURNAL__PATH": str(base / "journal"),
            "HL7BRIDGE_DEAD_LETTERS__PATH": str(base / "dlq"),
            "HL7BRIDGE_FHIR__BASE_URL": base_url or f"file:{base / 'out'}",
            "HL7BRIDGE_OBSERVE__PORT": str(self.http),
            "HL7BRIDGE_OBSERVE__HOST": "127.0.0.1",
            "HL7BRIDGE_OBSERVE__LOG_LEVEL": "error",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hl7bridge", "serve"], env=environment, cwd=base, stdout=subprocess.DEVNULL
        )
        wait_for_port(self.port)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=4000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    spawn = multiprocessing.get_context("spawn")
    print(f"{'':>14}{'bare ACK/s':>12}{'durable ACK/s':>16}{'ratio':>8}   (medians of {options.rounds} rounds)")
    for name, connections, total in (
        ("1 connection", 1, options.messages // 4),
        ("1 pipelined", 0, options.messages),
        ("100", 100, options.messages),
    ):
        plain, durable = [], []
        for i in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                bare_port = free_port()
                bare = spawn.Process(target=_serve_bare, args=(bare_port, folder), daemon=True)
                bare.start()
                wait_for_port(bare_port)
                plain.append(asyncio.run(_rate(bare_port, connections, total, f"b{i}")))
                bare.terminate()
                bare.join()
            served = Served()
            try:
                durable.append(asyncio.run(_rate(served.port, connections, total, f"d{i}")))
            finally:
                served.close()
        base, ours = statistics.median(plain), statistics.median(durable)
        print(f"{name:>14}{base:>12.0f}{ours:>16.0f}{ours / base:>8.2f}")


if __name__ == "__main__":
    main()
