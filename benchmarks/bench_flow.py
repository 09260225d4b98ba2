"""From the moment a frame is written to the endpoint's having the bundle: the highest rate that is held, and how late.

    python benchmarks/bench_flow.py [--short]

The endpoint only answers; endpoint, generator and daemon share the machine. The rate goes up in steps of a quarter,
each held for some seconds; a step is held when everything sent has arrived within the time it was sent in plus two
seconds and p99 is at most 300 ms. The knee is the last step that was held.
"""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Iterator
from typing import Any

from bare import endpoint
from figures import Effort, Figure, effort, progress, show
from senders import steady
from served import Served

FIRST, STEP, P99 = 100.0, 1.25, 300.0  # messages a second, a step's factor, milliseconds
STEPS = 16
GRACE = 2.0


def _arrived(arrivals: Any, sent: dict[str, float], within: float) -> list[float]:
    """Milliseconds from writing to arrival, for each of `sent` that came in time, in order of size."""
    took: dict[str, float] = {}
    until = time.monotonic() + within
    while len(took) < len(sent) and time.monotonic() < until:
        try:
            came = arrivals.get(timeout=0.2)
        except queue.Empty:
            continue
        for control_id, at in came:
            if control_id in sent:
                took.setdefault(control_id, (at - sent[control_id]) * 1000)
    return sorted(took.values())


def measure(effort: Effort) -> Iterator[Figure]:
    arrivals = multiprocessing.get_context("spawn").Queue()
    lasting = float(effort.of(8, 1))
    held: list[tuple[float, float, float]] = []
    with endpoint(arrivals) as port:
        rate = FIRST
        for _ in range(effort.of(STEPS, 1)):
            with Served(f"http://127.0.0.1:{port}/fhir") as served:
                served.settle()
                steady(served.port, 20.0, 1.0)  # the tables' code and the connections to the endpoint are made
                served.settle()
                sent = steady(served.port, rate, lasting)
                took = _arrived(arrivals, sent, GRACE)
            p50, p99 = (took[int(len(took) * part)] if took else float("inf") for part in (0.5, 0.99))
            progress(f"{rate:.0f} messages/s: {len(took)} of {len(sent)} arrived, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
            if len(took) < len(sent) or p99 > P99:
                break
            held.append((rate, p50, p99))
            rate *= STEP
    for rate, p50, p99 in dict.fromkeys(held[:1] + held[-1:]):
        which = "the knee" if (rate, p50, p99) == held[-1] else "quiet"
        what = f"receive to the endpoint's answer, {which}"
        yield Figure(
            what,
            f"{rate:,.0f} /s",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            "2,000 /s, p99 300 ms" if rate == held[-1][0] else "",
        )
    if not held:
        yield Figure("receive to the endpoint's answer, the knee", f"under {FIRST:,.0f} /s", "", "2,000 /s, p99 300 ms")


if __name__ == "__main__":
    show(measure(effort(__doc__)))
