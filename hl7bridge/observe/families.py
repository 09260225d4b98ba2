"""Metrics as plain numbers, told to Prometheus when it asks.

What holds and why: a message passes a dozen of them, so counting is an addition and no lock; at each scrape the samples
are made of the numbers as they are, so a scrape is exact. A child is counted by one thread (the event loop, or the
journal's writer for the two that are its own). No family grows past MOST_CHILDREN.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OTHER = "other"
MOST_CHILDREN = 2_000

Sample = tuple[str, dict[str, str], float]  # what follows the metric's name, further labels, value


class Counter:
    """A total: it only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def samples(self) -> Iterator[Sample]:
        yield "_total", {}, self.value


class Gauge:
    """How things stand now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def set(self, value: float) -> None:
        self.value = value

    def samples(self) -> Iterator[Sample]:
        yield "", {}, self.value


class Histogram:
    """How often something took up to each of `bounds` (rising), and all of it together."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)  # the last: above every bound
        self._sum: float = 0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[Sample]:
        upto = list(accumulate(self._counts))
        for bound, count in zip((*self._bounds, float("inf")), upto, strict=True):
            yield "_bucket", {"le": _text(bound)}, count
        yield "_count", {}, upto[-1]
        yield "_sum", {}, self._sum


def _text(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Collector, Generic[Child]):
    """One metric with labels, told to a registry. Its children are kept: finding one is a look-up.

    `name`: as it is served, a counter's with `_total`. A metric without labels is there from the start.
    """

    def __init__(self, make: Callable[[], Child], kind: str, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._make: Callable[[], Child] = make
        self._kind, self._name, self._meaning = kind, name.removesuffix("_total"), meaning
        self._labels = tuple(labels)
        self._others = (OTHER,) * len(self._labels)
        self._children: dict[tuple[str, ...], Child] = {}
        if not self._labels:
            self()

    def __call__(self, *labels: str) -> Child:
        """The child for these label values, in the order of the labels."""
        child = self._children.get(labels)
        if child is None:
            if len(labels) != len(self._labels):
                raise ValueError(f"{self._name} has {len(self._labels)} labels")
            if len(self._children) >= MOST_CHILDREN and labels != self._others:
                return self(*self._others)
            child = self._children[labels] = self._make()
        return child

    def clear(self) -> None:
        self._children.clear()

    def describe(self) -> Iterator[Metric]:
        """Without samples: for the registry, which refuses a name that it has."""
        yield Metric(self._name, self._meaning, self._kind)

    def collect(self) -> Iterator[Metric]:
        told = Metric(self._name, self._meaning, self._kind)
        for labels, child in self._children.items():
            named = dict(zip(self._labels, labels, strict=True))
            for suffix, further, value in child.samples():
                told.add_sample(self._name + suffix, named | further, value)
        yield told
