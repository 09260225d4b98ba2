"""Durable ACKs a second, beside a bare asyncio MLLP server that only answers, in the same run.

    python benchmarks/bench_ack.py [--messages 20000] [--rounds 5]

The daemon runs as a process with a directory endpoint; only the acknowledgement is timed. The generator runs in this
process and shares the two cores with both servers alike.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

START, END = b"\x0b", b"\x1c\r"
MESSAGE = (
    b"MSH|^~\\&|BENCH|TEST|||20240305143012+0100||ADT^A08|%b|P|2.5.1\rEVN|A08|20240305143012+0100\r"
    b"PID|1||P%b^^^T&1.2.3.4&ISO^MR||Test^Bench||19610317|F\rPV1|1|I|||||||||||||||||V1^^^T&1.2.3.4&ISO^VN\r"
)


class _Bare(asyncio.Protocol):
    """Finds frames and answers them; nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        *frames, self.buffer = (self.buffer + data).split(END)
        answers = []
        for frame in frames:
            control_id = frame.split(b"|", 10)[9]
            answers.append(START + b"MSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AA|" + control_id + b"\r" + END)
        if answers:
            self.transport.write(b"".join(answers))  # type: ignore[attr-defined]


def _serve_bare(port: int) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", port, backlog=512)
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


async def _rate(port: int, connections: int, total: int, label: str) -> float:
    each = total // connections
    begin = time.perf_counter()
    await asyncio.gather(*[_connection(port, f"{label}-{c}", each) for c in range(connections)])
    return each * connections / (time.perf_counter() - begin)


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
    bare_port = free_port()
    bare = multiprocessing.get_context("spawn").Process(target=_serve_bare, args=(bare_port,), daemon=True)
    bare.start()
    wait_for_port(bare_port)
    print(
        f"{'connections':>12}{'bare ACK/s':>14}{'durable ACK/s':>16}{'ratio':>8}   (medians of {options.rounds} rounds)"
    )
    for connections in (1, 100):
        total = options.messages if connections > 1 else options.messages // 4
        plain, durable = [], []
        for i in range(options.rounds):
            plain.append(asyncio.run(_rate(bare_port, connections, total, f"b{i}")))
            served = Served()
            try:
                durable.append(asyncio.run(_rate(served.port, connections, total, f"d{i}")))
            finally:
                served.close()
        base, ours = statistics.median(plain), statistics.median(durable)
        print(f"{connections:>12}{base:>14.0f}{ours:>16.0f}{ours / base:>8.2f}")
    bare.terminate()


if __name__ == "__main__":
    main()
