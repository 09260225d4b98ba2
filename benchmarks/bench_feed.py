"""`hl7bridge translate` of a feed, from its file to its bundles, in one process and in two.

python benchmarks/bench_feed.py [--short] [--rounds 5]

The feed is the shared one of 20,000 messages, else the samples again and again. Loading the tables is not in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from figures import Effort, Figure, by_round, effort, interleaved, seconds, show
from messages import feed

from hl7bridge import load_mappings
from hl7bridge.cli.inputs import Input
from hl7bridge.cli.translate import AT_ONCE, Translating
from hl7bridge.workbench.traffic import cores, work

MESSAGES = 20_000


def measure(effort: Effort) -> Iterator[Figure]:
    translating = Translating(load_mappings(), None, None, strict=False, pretty=False)
    count = effort.of(MESSAGES, 60)

    def all_of_it(processes: int) -> None:
        at_once = AT_ONCE if not effort.short else 10
        found = (Input("feed", number, raw) for number, raw in enumerate(feed(count), 1))
        parts = work(translating, found, processes=processes, at_once=at_once)
        done = sum(len(part) for part in parts)
        if done != count:
            raise ValueError(f"{done} outcomes of {count} messages")

    one, two = interleaved(effort.rounds, lambda: seconds(lambda: all_of_it(1)), lambda: seconds(lambda: all_of_it(2)))
    yield Figure(
        f"translate of a feed of {count:,} messages, two processes",
        f"{count / statistics.median(two):,.0f} messages/s",
        f"one process, {count / statistics.median(one):,.0f} messages/s; {cores()} cores",
        "1.8 x",
        by_round(one, two),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
