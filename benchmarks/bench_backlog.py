"""The journal with 1,000,000 messages waiting, beside an empty one: what it takes in, and how long a claim lasts.

    python benchmarks/bench_backlog.py [--short] [--rounds 5]

The messages wait as they do when the endpoint is away. Receive rate: a hundred callers, each append on disk before it
counts. TMPDIR decides which disk is measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Effort, Figure, by_round, effort, interleaved, progress, show
from senders import MESSAGE

from hl7bridge.journal.protocol import Received
from hl7bridge.journal.sqlite import SqliteJournal

CALLERS, CLAIMS = 100, 50
_numbers = itertools.count()


def _message() -> Received:
    number = next(_numbers)
    control_id = b"B%d" % number
    raw = MESSAGE % (control_id, control_id)
    return Received(
        raw=raw, sha256=hashlib.sha256(raw).digest(), received_at=time.time(), listener="bench", peer="127.0.0.1",
        sender="BENCH|TEST", control_id=control_id.decode(), type="ADT^A08", lanes=(f"{number % 50_000:064x}",),
        ack=b"MSH|^~\\&|\rMSA|AA|" + control_id + b"\r", ack_code="AA",
    )  # fmt: skip


async def _append(journal: SqliteJournal, many: int, say: bool = False) -> float:
    """Appends a second."""
    left = iter(range(many))
    begin = time.perf_counter()

    async def caller() -> None:
        for number in left:
            await journal.append(_message())
            if say and number and number % 100_000 == 0:
                progress(f"{number:,} of {many:,} messages wait")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return many / (time.perf_counter() - begin)


async def _with(folder: Path, many: int) -> tuple[float, float]:
    """Appends a second, and the median of the seconds that a claim takes."""
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    try:
        rate = await _append(journal, many)
        claims = []
        for _ in range(CLAIMS):
            begin = time.perf_counter()
            await journal.claimable(time.time(), 0, 100)
            claims.append(time.perf_counter() - begin)
        return rate, statistics.median(claims)
    finally:
        await journal.close()


async def _fill(folder: Path, many: int) -> None:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    try:
        await _append(journal, many, say=True)
    finally:
        await journal.close()


def measure(effort: Effort) -> Iterator[Figure]:
    waiting, many = effort.of(1_000_000, 2_000), effort.of(20_000, 500)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        asyncio.run(_fill(base / "full", waiting))
        empties = (base / f"empty-{number}" for number in itertools.count())
        claims: dict[str, list[float]] = {"full": [], "empty": []}

        def once(which: str, folder: Path) -> float:
            rate, claim = asyncio.run(_with(folder, many))
            claims[which].append(claim)
            return rate

        empty, full = interleaved(
            effort.rounds, lambda: once("empty", next(empties)), lambda: once("full", base / "full")
        )
    yield Figure(
        f"receive rate, {waiting:,} messages waiting",
        f"{statistics.median(full):,.0f} /s",
        f"empty journal, {statistics.median(empty):,.0f} /s",
        "0.8 x",
        by_round(full, empty),
    )
    yield Figure(
        f"claim of the next 100, {waiting:,} messages waiting",
        f"{statistics.median(claims['full']) * 1000:.2f} ms",
        f"a journal with {many:,} waiting, {statistics.median(claims['empty']) * 1000:.2f} ms",
        "1.2 x",
        by_round(claims["full"], claims["empty"]),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
