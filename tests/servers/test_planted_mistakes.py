"""What the run-time check calls wrong, the official validator calls wrong, and what it lets pass, that lets pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fhir"))
from planted import GOOD, MISTAKES, planted

Validate = Callable[[bytes], dict[str, Any]]


def _refused(validate: Validate, bundle: dict[str, Any]) -> bool:
    verdict = validate(orjson.dumps(bundle))
    return bool(verdict["fatal"] or verdict["error"] or verdict["dangling_urn_refs"])


@pytest.mark.servers
def test_the_official_validator_finds_every_planted_mistake_and_nothing_in_what_is_right(
    validator: Validate, say: Callable[[str], None]
) -> None:
    missed = [name for name, plant in MISTAKES.items() if not _refused(validator, planted(plant))]
    refused = [name for name, plant in GOOD.items() if _refused(validator, planted(plant))]
    say(f"{len(MISTAKES)} planted mistakes, {len(GOOD)} oddities that are right: the validator agrees")
    assert not missed
    assert not refused
