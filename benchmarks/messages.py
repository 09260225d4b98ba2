"""The messages the benchmarks use: the shared corpus and feed where they are, else the samples."""

from __future__ import annotations

import os
from pathlib import Path

from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.translation import translate

ROOT = Path(__file__).resolve().parent.parent


def corpus() -> Path:
    return Path(os.environ.get("HL7BRIDGE_CORPUS") or ROOT.parent / "shared" / "corpus")


def messages() -> list[bytes]:
    """One message after the other: the corpus' files, or the samples."""
    folder = corpus() / "messages"
    files = sorted((folder if folder.is_dir() else ROOT / "samples").glob("*.hl7"))
    return [piece.raw for file in files for piece in split(file.read_bytes())]


def translatable(mappings: Mappings) -> list[bytes]:
    """Those of `messages()` that give a bundle."""
    kept = []
    for raw in messages():
        try:
            translate(raw, mappings, charset_fallback="cp1252")
        except MessageError:
            continue
        kept.append(raw)
    return kept
