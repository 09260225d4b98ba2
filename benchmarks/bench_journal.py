"""How many messages a second the journal makes durable: one caller after another, and many callers at once.

    python benchmarks/bench_journal.py [--seconds 3] [--size 2800] [--folder DIR]

Every append is on the disk (fsync) before it counts. The folder decides what is measured: give one on the disk that the
journal will live on; a folder in memory shows what is left without the disk. Also printed: the cost of a claim and of
the figures with what has been appended waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hl7bridge.journal.protocol import Change, Received, State
from hl7bridge.journal.sqlite import SqliteJournal


def messages(size: int) -> Iterator[Received]:
    body = b"MSH|^~\\&|BENCH|LOCAL|||20240101||ORU^R01|%d|P|2.5\r"
    filler = os.urandom(size)
    for number in itertools.count():
        raw = body % number + filler
        yield Received(
            raw=raw, sha256=hashlib.sha256(raw).digest(), received_at=time.time(), listener="bench", peer="127.0.0.1",
            sender="BENCH|LOCAL", control_id=str(number), type="ORU^R01", lanes=(f"{number % 5000:064x}",),
            ack=b"MSH|^~\\&|\rMSA|AA|%d\r" % number, ack_code="AA",
        )  # fmt: skip


async def rate(
    journal: SqliteJournal, source: Iterator[Received], callers: int, seconds: float
) -> tuple[float, list[str]]:
    """Appends a second of so many callers, each of which waits for its answer before it goes on; and the ids."""
    ids: list[str] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < end:
            ids.append((await journal.append(next(source))).id)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(ids) / (time.perf_counter() - started), ids


async def median_ms(call, times: int = 50) -> float:  # type: ignore[no-untyped-def]
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


async def run(folder: Path, seconds: float, size: int) -> None:
    works: list[int] = []
    journal = await SqliteJournal.open(folder, min_free_bytes=0, on_commit=lambda _, count: works.append(count))
    source = messages(size)
    for callers in (1, 100):
        works.clear()
        found, ids = await rate(journal, source, callers, seconds)
        print(f"{callers:4} callers: {found:9,.0f} appends/s, {statistics.mean(works):6.1f} a commit")
    waiting = (await journal.figures()).undelivered
    print(f"with {waiting:,} received messages in the journal:")
    print(f"  claim of 100     {await median_ms(lambda: journal.claimable(time.time(), 0, 100)):7.2f} ms")
    print(f"  blocked lanes    {await median_ms(lambda: journal.blocked_lanes(time.time())):7.2f} ms")
    print(f"  figures          {await median_ms(journal.figures):7.2f} ms")
    ids = ids[:20_000]
    started = time.perf_counter()
    await asyncio.gather(*(journal.apply(Change(id, State.DELIVERED, 1)) for id in ids))
    print(f"  deliveries       {len(ids) / (time.perf_counter() - started):7,.0f} changes/s, all asked for at once")
    await journal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=2800, help="bytes of a message; the default is the feed's median")
    parser.add_argument("--folder", type=Path, help="made where missing, and kept; default: a temporary one")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(run(folder / "journal", options.seconds, options.size))


if __name__ == "__main__":
    main()
