"""Parsing and translating, beside python-hl7 and beside another converter, on the same messages.

python benchmarks/bench_translate.py [--short] [--rounds 5]

Bytes in, bundle bytes out, all tables, with the run-time check. Each message's ratio is of its medians over the rounds;
the line gives the median over the messages, in brackets the tenth and the ninetieth percentile. The other converter is
the LinuxForHealth one (a published jar), where ../shared/peers/lfh is at hand and built: a JVM of its own, warmed up.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hl7
from figures import Effort, Figure, effort, progress, seconds, show
from messages import FALLBACK, ROOT, ordinary, small, translatable

from hl7bridge import load_mappings, translate
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.mappings import Mappings

# what a listener and a lane key read of every message, and a few more
READ = (
    *((("MSH", number), f"MSH-{number}") for number in (3, 4, 7, 9, 10, 11, 12)),
    *((("PID", number), f"PID-{number}") for number in (3, 5, 7, 8, 11, 13, 18)),
    *((("PV1", number), f"PV1-{number}") for number in (2, 3, 19, 44)),
)
LFH_SECONDS, LFH_WARMUP = 20.0, 15.0


def _read_by_yardstick(text: str) -> list[Any]:
    message = hl7.parse(text)
    found: list[Any] = []
    for (segment_id, number), _ in READ:
        try:
            found.append(str(message.segment(segment_id)[number]))
        except (KeyError, IndexError):
            found.append("")
    return found


def _read(raw: bytes) -> list[str]:
    message = parse(raw, charset_fallback=FALLBACK)
    return [message.get(path) for _, path in READ]


def _pairs(raws: list[bytes]) -> list[tuple[bytes, str]]:
    """With the text the yardstick gets; messages it cannot read are left out: there is no ratio."""
    pairs = []
    for raw in raws:
        text = raw.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r")
        try:
            _read_by_yardstick(text)
        except Exception:
            continue
        pairs.append((raw, text))
    return pairs


def _line(what: str, target: str, ours: list[float], base: list[float], named: str) -> Figure:
    ratios = sorted(mine / other for mine, other in zip(ours, base, strict=True))
    middle = statistics.median(ratios)
    spread = (ratios[len(ratios) // 10], middle, ratios[len(ratios) * 9 // 10])
    return Figure(
        what,
        f"{statistics.median(ours) * 1e6:,.0f} µs",
        f"{named}, {statistics.median(base) * 1e6:,.0f} µs",
        target,
        spread,
    )


def _beside_python_hl7(mappings: Mappings, raws: list[bytes], name: str, rounds: int) -> Iterator[Figure]:
    pairs = _pairs(raws)
    works: tuple[Callable[[bytes, str], object], ...] = (
        lambda raw, text: hl7.parse(text),
        lambda raw, text: translate(raw, mappings, charset_fallback=FALLBACK),
        lambda raw, text: _read_by_yardstick(text),
        lambda raw, text: _read(raw),
    )
    taken: list[list[list[float]]] = [[[] for _ in pairs] for _ in works]
    for _ in range(rounds):
        for i, (raw, text) in enumerate(pairs):
            for series, work in zip(taken, works, strict=True):
                series[i].append(seconds(lambda work=work, raw=raw, text=text: work(raw, text)))  # type: ignore[misc]
    base, ours, base_reads, our_reads = ([statistics.median(one) for one in series] for series in taken)
    size = statistics.median(len(raw) for raw, _ in pairs)
    where = f"{len(pairs)} {name} (median {size / 1000:.1f} kB)"
    yield _line(f"translate, {where}", "0.20 x", ours, base, "python-hl7 parse")
    yield _line(f"parse and read {len(READ)} fields, {where}", "0.04 x", our_reads, base_reads, "python-hl7, the same")


def _beside_the_other(mappings: Mappings, raws: list[bytes], short: bool) -> Iterator[Figure]:
    """The other converter on the messages it converts, warmed up, then ours on the same: medians per message."""
    servers = Path(os.environ.get("HL7BRIDGE_SERVERS") or ROOT.parent / "shared" / "servers")
    runner = servers.parent / "peers" / "lfh" / "run.sh"
    cache = Path(os.environ.get("SERVERS_CACHE") or Path.home() / ".cache" / "hl7bridge-servers") / "lfh" / "classes"
    if not runner.exists() or not cache.is_dir():
        progress("the other converter is not at hand: no figure beside it")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for i, raw in enumerate(raws):
            (folder / "in" / f"{i:03}.hl7").write_bytes(raw)
        lasting, warming = (1.0, 1.0) if short else (LFH_SECONDS, LFH_WARMUP)
        progress(f"the other converter, {lasting + warming:.0f} s")
        places = [str(folder / "in"), str(lasting), str(warming), str(folder / "per.tsv")]
        subprocess.run(["bash", str(runner), "bench", *places], check=True, capture_output=True, timeout=600)
        lines = [line.split("\t") for line in (folder / "per.tsv").read_text().splitlines()]
    theirs = {int(line[0].removesuffix(".hl7")): float(line[2]) / 1e6 for line in lines}
    if not theirs:
        return
    base, ours = [], []
    for i, other in theirs.items():
        raw = raws[i]
        until = time.perf_counter() + (0.0 if short else 0.1)
        taken = [seconds(lambda raw=raw: translate(raw, mappings, charset_fallback=FALLBACK))]  # type: ignore[misc]
        while time.perf_counter() < until:
            taken.append(seconds(lambda raw=raw: translate(raw, mappings, charset_fallback=FALLBACK)))  # type: ignore[misc]
        base.append(other)
        ours.append(statistics.median(taken))
    times = sorted(other / mine for other, mine in zip(base, ours, strict=True))
    yield Figure(
        f"translate, the {len(base)} of {len(raws)} messages that the other converts",
        f"{statistics.median(ours) * 1e6:,.0f} µs",
        f"LinuxForHealth, {statistics.median(base) * 1e6:,.0f} µs: {statistics.median(times):.1f} times as long",
        "50 times",
        (1 / times[len(times) * 9 // 10], 1 / statistics.median(times), 1 / times[len(times) // 10]),
    )


def measure(effort: Effort) -> Iterator[Figure]:
    mappings = load_mappings()
    odd = translatable(small(), mappings)
    usual = ordinary(mappings, effort.of(2000, 60))
    if effort.short:
        odd, usual = odd[:5], usual[:5]
    for raws, name in ((usual, "ordinary messages"), (odd, "odd and short messages")):
        if raws:
            yield from _beside_python_hl7(mappings, raws, name, effort.rounds)
    yield from _beside_the_other(mappings, usual + odd, effort.short)


if __name__ == "__main__":
    show(measure(effort(__doc__)))
