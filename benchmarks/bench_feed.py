"""`hl7bridge translate` of a feed, from its file to its bundles, in one process and in two.

python benchmarks/bench_feed.py [--short] [--rounds 5]

The feed is the shared one of 20,000 messages, else the samples again and again; each round is the whole of it, on
each side. Making the processes is in the figure; loading the tables and reading the feed from its file are not: both
sides do them once and alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from figures import Effort, Figure, by_round, effort, interleaved, progress, show
from messages import feed

from hl7bridge import load_mappings
from hl7bridge.cli.inputs import Input
from hl7bridge.cli.translate import AT_ONCE, Translating
from hl7bridge.workbench.traffic import cores, work

MESSAGES = 20_000


def measure(effort: Effort) -> Iterator[Figure]:
    translating = Translating(load_mappings(), None, None, strict=False, pretty=False)
    count = effort.of(MESSAGES, 60)
    messages = list(feed(count))
    at_once = AT_ONCE if not effort.short else 10

    def side(processes: int) -> Callable[[], float]:
        def translated() -> float:
            found = (Input("feed", number, raw) for number, raw in enumerate(messages, 1))
            begin = time.perf_counter()
            done = sum(len(outcomes) for outcomes in work(translating, found, processes=processes, at_once=at_once))
            rate = done / (time.perf_counter() - begin)
            if done != count:
                raise ValueError(f"{done} outcomes of {count} messages")
            progress(f"{done:,} messages, {processes} process{'es' * (processes > 1)}: {rate:,.0f} a second")
            return rate

        return translated

    for _ in work(translating, iter([Input("feed", 1, raw) for raw in messages[: effort.of(500, 5)]]), processes=1):
        pass  # tables become code when they are first used, on neither side's time
    one, two = interleaved(effort.rounds, side(1), side(2))
    yield Figure(
        f"translate of a feed of {count:,} messages, two processes",
        f"{statistics.median(two):,.0f} messages/s",
        f"one process, {statistics.median(one):,.0f} messages/s; {cores()} cores",
        "1.8 x",
        by_round(two, one),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
