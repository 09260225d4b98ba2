"""The messages the benchmarks use: the shared corpus and feed where they are, else the samples."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from pathlib import Path

from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.translation import translate

ROOT = Path(__file__).resolve().parent.parent
FALLBACK = "cp1252"
MANY = 64


def corpus() -> Path:
    return Path(os.environ.get("HL7BRIDGE_CORPUS") or ROOT.parent / "shared" / "corpus")


def small() -> list[bytes]:
    """The corpus' odd messages, most of them a few lines long; or the samples."""
    folder = corpus() / "messages"
    files = sorted((folder if folder.is_dir() else ROOT / "samples").glob("*.hl7"))
    return [piece.raw for file in files for piece in split(file.read_bytes())]


def feed(count: int | None = None) -> Iterator[bytes]:
    """The messages of the long feed, in its order; without it the samples, again and again when a count is asked."""
    path = corpus() / "simhospital_mixed_20k.hl7.xz"
    if not path.exists():
        samples = small()
        yield from (samples[i % len(samples)] for i in range(count if count is not None else len(samples)))
        return
    with lzma.open(path) as file:
        for number, piece in enumerate(split(file.read())):
            if number == count:
                return
            yield piece.raw


def translatable(raws: Iterator[bytes] | list[bytes], mappings: Mappings) -> list[bytes]:
    """Those that give a bundle."""
    kept = []
    for raw in raws:
        try:
            translate(raw, mappings, charset_fallback=FALLBACK)
        except MessageError:
            continue
        kept.append(raw)
    return kept


def ordinary(mappings: Mappings, among: int = 2000) -> list[bytes]:
    """64 messages as hospitals send them: of those of the feed that hold 1 to 16 kB, every so many by size."""
    found = sorted(
        (raw for raw in translatable(feed(among), mappings) if 1_000 <= len(raw) <= 16_000), key=lambda raw: len(raw)
    )
    step = max(len(found) / MANY, 1)
    return [found[int(i * step)] for i in range(min(MANY, len(found)))]
