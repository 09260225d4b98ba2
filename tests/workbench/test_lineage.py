"""Lineage: every element says where it came from, every populated field where it went or why nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.message import parse
from hl7bridge.lineage import Fate, Line
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.translation import Story, explain

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "samples").glob("*.hl7"))


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings(settings={"time-zone": "Europe/Vienna"})


@pytest.fixture(scope="module")
def admitted(mappings: Mappings) -> Story:
    return explain(parse((ROOT / "samples" / "adt_a01_admit.hl7").read_bytes()), mappings)


def leaves(value: Any, path: str = "Bundle") -> Any:
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        at = f"{path}.{name}" if isinstance(name, str) else f"{path}[{name}]"
        if isinstance(part, dict | list):
            yield from leaves(part, at)
        elif part is not None:
            yield at


def line(story: Story, end: str) -> Line:
    (found,) = [one for one in story.elements if one.path.endswith(end)]
    return found


def fate(story: Story, source: str) -> Fate:
    (found,) = [one for one in story.fields if one.source == source]
    return found


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_no_element_of_any_sample_is_without_origin(file: Path, mappings: Mappings) -> None:
    for piece in split(file.read_bytes()):
        try:
            result = translate(piece.raw, mappings)
        except MessageError:
            continue
        assert [one.path for one in result.lineage] == list(leaves(result.resource))
        assert [one.path for one in result.lineage if one.kind == "unknown"] == []
        for one in result.lineage:
            assert one.kind == "hl7bridge" or (one.place and one.table and one.source), one.path


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_every_populated_field_of_any_sample_goes_somewhere_or_has_a_reason(file: Path, mappings: Mappings) -> None:
    for piece in split(file.read_bytes()):
        story = explain(parse(piece.raw), mappings)
        assert story.fields
        paths = {one.path for one in story.elements}
        for one in story.fields:
            assert one.to or (one.why and all(why.text for why in one.why)), one.source
            for path in one.to:
                assert any(known == path or known.startswith((f"{path}.", f"{path}[")) for known in paths), path


def test_the_bundle_that_is_explained_is_the_bundle_that_is_sent(mappings: Mappings) -> None:
    for file in SAMPLES:
        for piece in split(file.read_bytes()):
            story = explain(parse(piece.raw), mappings)
            if story.bundle is not None:
                assert len(story.elements) == len(list(leaves(translate(piece.raw, mappings).resource)))


def test_a_patch_and_what_it_repeats_have_their_origin(tmp_path: Path) -> None:
    (tmp_path / "identity.yaml").write_text("Patient:\n  owners: []\n  patchers: [ADT]\n")
    raw = (ROOT / "samples" / "adt_a08_update_null.hl7").read_bytes()
    story = explain(parse(raw), load_mappings(tmp_path))
    assert story.bundle is not None
    assert "PATCH" in [entry["request"]["method"] for entry in story.bundle["entry"]]
    assert [one.path for one in story.elements if one.kind == "unknown"] == []
    assert fate(story, "PID[1]-5[1].1").to
