"""Resident memory of the daemon after 200,000 messages, beside that after 10,000.

    python benchmarks/bench_memory.py [--short]

Everything sent is translated and delivered to a directory, by the daemon as it is shipped; the figure is taken when all
is delivered. The translating processes are beside it, each with its tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from figures import Effort, Figure, effort, progress, show
from senders import acknowledged
from served import Served

MB = 1_000_000
LONGEST = 3600.0


def _settle(served: Served, sent: int) -> None:
    until = time.monotonic() + LONGEST
    while (done := served.metric("hl7bridge_delivered_total")) < sent:
        if time.monotonic() > until:
            raise SystemExit(f"{done:.0f} of {sent} delivered after {LONGEST:g} s")
        time.sleep(1)


def measure(effort: Effort) -> Iterator[Figure]:
    first, last = effort.of(10_000, 100), effort.of(200_000, 300)
    with Served() as served:
        figures: dict[int, tuple[int, list[int]]] = {}
        sent, part = 0, min(first, 10_000)
        while sent < last:
            acknowledged(served.port, 10, part, f"m{sent}")
            sent += part
            if sent in (first, last):
                _settle(served, sent)
                time.sleep(effort.of(5, 1))
                figures[sent] = served.resident(), served.resident_translators()
            if sent % (part * 5) == 0:
                progress(f"{sent:,} messages: {served.resident() / MB:.0f} MB")
    (early, early_translators), (late, late_translators) = figures[first], figures[last]
    yield Figure(
        f"resident memory after {last:,} messages",
        f"{late / MB:.0f} MB",
        f"after {first:,}, {early / MB:.0f} MB",
        "150 MB, flat",
        [late / early],
    )
    if late_translators:
        yield Figure(
            f"each of {len(late_translators)} translating processes",
            f"{max(late_translators) / MB:.0f} MB",
            f"after {first:,}, {max(early_translators) / MB:.0f} MB",
            "",
            [max(late_translators) / max(early_translators)],
        )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
