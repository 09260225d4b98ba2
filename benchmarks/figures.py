"""What every benchmark gives: figures beside their yardstick, both taken in one run, round by round.

A figure's ratio is the median of the rounds' ratios, each of two measurements that followed one another; the spread is
the smallest and the largest of them. Nothing here judges: a figure beside its target is for people.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ratios`: ours by the yardstick's, one for each round; `target` as it was set."""

    what: str
    ours: str
    yardstick: str
    target: str = ""
    ratios: Sequence[float] = field(default=())

    @property
    def ratio(self) -> str:
        if not self.ratios:
            return ""
        spread = f" ({min(self.ratios):.2f}-{max(self.ratios):.2f})" if len(self.ratios) > 1 else ""
        return f"{statistics.median(self.ratios):.2f} x{spread}"


@dataclass(frozen=True)
class Effort:
    """How much to measure. `short`: only whether the benchmark runs; its figures say nothing."""

    short: bool = False
    rounds: int = 5

    def of(self, many: int, few: int) -> int:
        return few if self.short else many


Measure = Callable[[Effort], Iterable[Figure]]


def interleaved(rounds: int, *works: Callable[[], float]) -> list[list[float]]:
    """What each work gives in each round, in turns, so that a change of the machine's mood meets all of them."""
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        # the order turns round: who comes second finds warmer caches
        for at in range(len(works)) if number % 2 == 0 else reversed(range(len(works))):
            taken[at].append(works[at]())
    return taken


def by_round(ours: Sequence[float], yardstick: Sequence[float]) -> list[float]:
    return [mine / base for mine, base in zip(ours, yardstick, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def progress(text: str) -> None:
    """A line for the one who waits; not part of the output."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def show(figures: Iterable[Figure]) -> list[Figure]:
    """Prints each figure as it comes."""
    shown = []
    for figure in figures:
        target = f"  target {figure.target}" if figure.target else ""
        print(f"{figure.what:58} {figure.ours:>22}   {figure.yardstick:48} {figure.ratio:>22}{target}", flush=True)
        shown.append(figure)
    return shown


def effort(description: str | None) -> Effort:
    """From the command line: `--short`, `--rounds N`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="only see that it runs: few messages, one round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    return Effort(options.short, 1 if options.short else options.rounds)
