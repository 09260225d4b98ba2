"""The guide's folder and the one Prover of a test run, made when first asked for."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from guide_run import Prover
from guide_sheet import Guide, read_guide

from hl7bridge.fhir.model import model
from hl7bridge.guide.conformance import conform
from hl7bridge.guide.sheet import read_guide as read_rows
from hl7bridge.mapping.load import load_tables

ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path | None:
    """The guide as data: `ig` beside the corpus; None where it is absent."""
    corpus = Path(os.environ.get("HL7BRIDGE_CORPUS") or ROOT.parent / "shared" / "corpus")
    found = corpus.parent / "ig"
    return found if (found / "ig_rows.csv").is_file() else None


@cache
def guide() -> Guide | None:
    found = folder()
    return read_guide(found) if found else None


@cache
def verdicts() -> dict[str, str]:
    """What `mappings conformance` says of each row."""
    found = folder()
    assert found is not None
    judged = conform(read_rows(found), load_tables(), model())
    return {verdict.row.id: verdict.verdict for verdict in judged.verdicts}


@cache
def prover() -> Prover:
    read = guide()
    assert read is not None
    return Prover(read)
