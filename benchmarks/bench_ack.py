"""Durable ACKs a second, beside a bare asyncio MLLP server with the same group commit and nothing else.

    python benchmarks/bench_ack.py [--short] [--rounds 5]

The daemon runs as it is shipped, with a directory as endpoint: what it has acknowledged it also translates and
delivers, on the same cores, while the next messages come. The first line of each pair shows it with nothing to deliver
(the endpoint's circuit is open): what the target is about.

Like with like: both servers are up, at rest and warm before the clock runs, and both wait for one fsync of SQLite's log
a commit. What differs is what is asked for: the bare one writes a page of 4 KiB for a message that comes alone, the
journal seven of 8 KiB (message, payload, three indices, receipt, tally). The generator runs in this process and shares
the two cores with both alike; what it costs itself is told, because no server looks faster than it can ask.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import count

from bare import bare_server, free_port
from figures import Effort, Figure, by_round, effort, interleaved, progress, show
from senders import acknowledged
from served import Served

WAYS = (
    ("1 connection", 1, 1000, "0.8 x"),
    ("1 connection, pipelined", 0, 4000, "0.6 x"),
    ("100 connections", 100, 4000, "0.6 x"),
)


def measure(effort: Effort) -> Iterator[Figure]:
    numbers = count()

    def warm(port: int, connections: int, total: int) -> float:
        acknowledged(port, connections, max(total // 10, connections), f"w{next(numbers)}")
        return acknowledged(port, connections, total, f"m{next(numbers)}")

    def bare(connections: int, total: int) -> float:
        with bare_server() as port:
            begin = time.process_time()
            rate = warm(port, connections, total)
            own = (time.process_time() - begin) / (total + max(total // 10, connections))
            progress(f"the generator alone: {own * 1e6:.0f} µs of CPU a message, no more than {1 / own:,.0f} /s")
            return rate

    def ours(connections: int, total: int, base_url: str | None = None) -> float:
        with Served(base_url) as served:
            served.settle()
            return warm(served.port, connections, total)

    for name, connections, many, target in WAYS:
        total = effort.of(many, max(many // 20, 100))
        progress(f"acknowledgements, {name}")
        nowhere = f"http://127.0.0.1:{free_port()}/fhir"
        plain, whole, receiving = interleaved(
            effort.rounds,
            lambda c=connections, n=total: bare(c, n),  # type: ignore[misc]
            lambda c=connections, n=total: ours(c, n),  # type: ignore[misc]
            lambda c=connections, n=total, u=nowhere: ours(c, n, u),  # type: ignore[misc]
        )
        yardstick = f"bare durable MLLP server, {statistics.median(plain):,.0f} /s"
        for what, rates, aim in (
            (f"durable ACK, {name}", receiving, target),
            (f"durable ACK while delivering, {name}", whole, ""),
        ):
            yield Figure(what, f"{statistics.median(rates):,.0f} /s", yardstick, aim, by_round(rates, plain))


if __name__ == "__main__":
    show(measure(effort(__doc__)))
