"""Resident memory of the daemon after 200,000 messages, beside that after 10,000.

    python benchmarks/bench_memory.py [--short]

Everything sent is another patient's, is translated and delivered over HTTP to an endpoint that only answers, by the
daemon as it is shipped. The figure is the main process, when all is delivered; the translating processes stand beside
it, each with its tables. About six minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bare import endpoint
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
        time.sleep(0.2)


def measure(effort: Effort) -> Iterator[Figure]:
    first, last = effort.of(10_000, 100), effort.of(200_000, 300)
    with endpoint() as port, Served(f"http://127.0.0.1:{port}/fhir") as served:
        figures: dict[int, tuple[int, list[int]]] = {}
        sent, part = 0, min(first, 10_000)
        begin = time.monotonic()
        while sent < last:
            acknowledged(served.port, 10, part, f"m{sent}")
            sent += part
            # never far ahead: what waits in the journal is another benchmark's
            _settle(served, sent if sent in (first, last) else sent - part)
            if sent in (first, last):
                time.sleep(effort.of(5, 1))
                figures[sent] = served.resident(), served.resident_translators()
            if sent % (part * 2) == 0 or sent == last:
                rate = sent / (time.monotonic() - begin)
                progress(f"{sent:,} messages, {rate:.0f} a second: {served.resident() / MB:.0f} MB")
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
