"""Translation per message beside python-hl7's parse of the same message, interleaved.

python benchmarks/bench_translate.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import hl7
from messages import translatable

from hl7bridge import load_mappings, translate
from hl7bridge.hl7v2.message import parse


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    rounds = arguments.parse_args().rounds
    begin = time.perf_counter()
    mappings = load_mappings()
    loading = time.perf_counter() - begin
    pairs = []
    for raw in translatable(mappings):
        text = raw.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r")
        try:
            hl7.parse(text)
        except Exception:
            continue  # the yardstick cannot read it: no ratio
        pairs.append((raw, text))
    yardstick: list[list[float]] = [[] for _ in pairs]
    parsed: list[list[float]] = [[] for _ in pairs]
    translated: list[list[float]] = [[] for _ in pairs]
    for _ in range(rounds):
        for i, (raw, text) in enumerate(pairs):
            yardstick[i].append(_seconds(lambda text=text: hl7.parse(text)))
            parsed[i].append(_seconds(lambda raw=raw: parse(raw, charset_fallback="cp1252")))
            translated[i].append(_seconds(lambda raw=raw: translate(raw, mappings, charset_fallback="cp1252")))
    base = [statistics.median(x) for x in yardstick]
    print(f"{len(pairs)} messages, {rounds} rounds; tables load in {loading * 1000:.0f} ms")
    print(f"{'':28}{'median':>10}{'ratio to python-hl7 parse':>28}")
    print(f"{'python-hl7 parse':28}{statistics.median(base) * 1e6:>8.0f} µs{1:>26.2f} x")
    for name, series in (("hl7bridge parse", parsed), ("hl7bridge translate", translated)):
        medians = [statistics.median(x) for x in series]
        ratios = sorted(m / b for m, b in zip(medians, base, strict=True))
        spread = f"(p10 {ratios[len(ratios) // 10]:.2f}, p90 {ratios[len(ratios) * 9 // 10]:.2f})"
        print(f"{name:28}{statistics.median(medians) * 1e6:>8.0f} µs{statistics.median(ratios):>26.2f} x  {spread}")


if __name__ == "__main__":
    main()
