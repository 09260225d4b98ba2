"""Codes nobody knows, in any field of any sample: never a code outside its binding, never a code its system has not."""

from __future__ import annotations

import random
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split
from hl7bridge.mapping.mappings import Mappings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
ODD = ("ZZ9", "ZZ9^Local words^L", "ZZ9^Said to be^HL70203", "zz", "QQ^^UCUM", "ZZ9^^ISO3166_1", "1")
TRIES = 12  # damaged copies of each sample


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """The message with an odd code in every fourth field behind MSH."""
    segments = raw.decode("utf-8", "replace").replace("\n", "\r").split("\r")
    for index, segment in enumerate(segments):
        if segment and not segment.startswith("MSH"):
            name, *fields = segment.split("|")
            fields = [chance.choice(ODD) if chance.random() < 0.25 else field for field in fields]
            segments[index] = "|".join([name, *fields])
    return "\r".join(segments).encode()


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.hl7")), ids=lambda file: file.stem)
def test_odd_codes_never_give_a_code_that_its_binding_or_system_has_not(sample: Path, mappings: Mappings) -> None:
    raw = next(iter(split(sample.read_bytes()))).raw
    chance = random.Random(sample.stem)
    for _ in range(TRIES):
        try:
            translate(damaged(raw, chance), mappings, zone=ZoneInfo("Europe/Vienna"))
        except MessageError as error:
            assert "binding" not in error.detail and "no such code" not in error.detail, error.detail
