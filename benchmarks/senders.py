"""MLLP senders for the benchmarks: one that waits for each answer, one that pipelines, one that keeps a rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from bare import END, START

MESSAGE = (
    b"MSH|^~\\&|BENCH|TEST|||20240305143012+0100||ADT^A08|%b|P|2.5.1\rEVN|A08|20240305143012+0100\r"
    b"PID|1||P%b^^^T&1.2.3.4&ISO^MR||Test^Bench||19610317|F\rPV1|1|I|||||||||||||||||V1^^^T&1.2.3.4&ISO^VN\r"
)


def made(name: str) -> Iterator[tuple[bytes, bytes]]:
    """(control id, message) for ever: each another patient's."""
    number = 0
    while True:
        control_id = b"%s-%d" % (name.encode(), number)
        yield control_id, MESSAGE % (control_id, control_id)
        number += 1


async def _waiting(port: int, messages: Iterable[tuple[bytes, bytes]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for control_id, message in messages:
        writer.write(START + message + END)
        if b"|AA|" + control_id not in await reader.readuntil(END):
            raise RuntimeError("not acknowledged")
    writer.close()
    await writer.wait_closed()


async def _pipelining(port: int, messages: Iterable[tuple[bytes, bytes]], count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        for number, (_, message) in enumerate(messages):
            writer.write(START + message + END)
            if number % 50 == 0:
                await writer.drain()

    async def receive() -> None:
        for _ in range(count):
            if b"|AA|" not in await reader.readuntil(END):
                raise RuntimeError("not acknowledged")

    await asyncio.gather(send(), receive())
    writer.close()
    await writer.wait_closed()


async def _acknowledged(port: int, connections: int, total: int, name: str) -> float:
    each = total // max(connections, 1)
    begin = time.perf_counter()
    if connections:
        work = [_waiting(port, islice(made(f"{name}-{number}"), each)) for number in range(connections)]
        await asyncio.gather(*work)
    else:
        await _pipelining(port, islice(made(name), each), each)
    return each * max(connections, 1) / (time.perf_counter() - begin)


def acknowledged(port: int, connections: int, total: int, name: str) -> float:
    """Positive answers a second. `connections` 0: one that sends on without waiting."""
    return asyncio.run(_acknowledged(port, connections, total, name))


async def _steady(port: int, rate: float, lasting: float, connections: int, sent: dict[str, float]) -> None:
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]

    async def swallow(reader: asyncio.StreamReader) -> None:
        while await reader.read(65536):
            pass

    swallowing = [asyncio.create_task(swallow(reader)) for reader, _ in pairs]
    source, begin = made(f"R{rate:g}"), time.perf_counter()
    due = 0
    while (passed := time.perf_counter() - begin) < lasting:
        # what is due by now goes out at once: a pause for each message would be more work than sending it
        while due <= passed * rate:
            control_id, message = next(source)
            sent[control_id.decode()] = time.time()
            pairs[due % connections][1].write(START + message + END)
            due += 1
        await asyncio.sleep(0.002)
    for _, writer in pairs:
        await writer.drain()
    await asyncio.sleep(1)
    for _, writer in pairs:
        writer.close()
    for task in swallowing:
        task.cancel()


def steady(port: int, rate: float, lasting: float, connections: int = 8) -> dict[str, float]:
    """Sends at a rate for so many seconds; gives when each control id was written."""
    sent: dict[str, float] = {}
    asyncio.run(_steady(port, rate, lasting, connections, sent))
    return sent
