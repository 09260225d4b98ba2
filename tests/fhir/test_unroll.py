"""The straight-line checks of shapes that are met often say what the plain ones say, and look no wider than they."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.fhir.check import Checker
from hl7bridge.fhir.model import model
from hl7bridge.fhir.plan import OFTEN
from hl7bridge.fhir.unroll import LOOKS

sys.path.insert(0, str(Path(__file__).parent))
from planted import MISTAKES, OURS, good, observation, planted


def warmed() -> Checker:
    """A checker that has met the shapes of a good bundle often enough to have made code for them."""
    checker = Checker(model())
    for _ in range(OFTEN + 2):
        assert checker.problem(good()) is None
    return checker


WARM = warmed()


@pytest.mark.parametrize("mistake", [*MISTAKES, *OURS])
def test_a_warm_check_finds_the_same_mistake_in_the_same_words_as_a_cold_one(mistake: str) -> None:
    bundle = planted({**MISTAKES, **OURS}[mistake])
    cold = Checker(model()).problem(bundle)
    assert cold is not None
    for _ in range(3):
        assert WARM.problem(bundle) == cold


def test_code_is_made_only_for_shapes_that_are_met_often() -> None:
    checker = Checker(model())
    checker.problem(good())
    assert not any(made_as_code(checker))
    for _ in range(OFTEN):
        checker.problem(good())
    assert any(made_as_code(checker))


def made_as_code(checker: Checker) -> list[bool]:
    return [
        check.__code__.co_filename == "<check of a shape>"  # type: ignore[attr-defined]
        for shapes in checker._plans._insides.shapes.values()
        for check in shapes.values()
    ]


def look_of(expression: str) -> Callable[[Any], bool]:
    made: Callable[[Any], bool] = eval(f"lambda v: bool({expression.format('v')})")
    return made


TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "a b",
        " a",
        "a ",
        "a  b",
        "a\tb",
        "a\u00a0b",
        "a\u2028b",
        "\x1c",
        "\x85",
        "\x00",
        "urn:oid:1",
        "urn:uuid:1",
    ]
)
VALUES = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXTS, max_size=2)


@pytest.mark.parametrize("form", LOOKS, ids=lambda form: str(form.__name__))
@given(value=VALUES)
def test_what_a_look_finds_right_its_format_finds_right(form: Callable[..., str | None], value: Any) -> None:
    if look_of(LOOKS[form])(value):
        assert form(value, {}) is None


@pytest.mark.parametrize("form", LOOKS, ids=lambda form: str(form.__name__))
def test_a_look_finds_ordinary_values_right(form: Callable[..., str | None]) -> None:
    ordinary = {"string": "Müller, Anna", "uri": "http://loinc.org", "code": "final", "boolean": True}
    assert look_of(LOOKS[form])(ordinary[form.__name__])


def test_a_wrong_item_of_a_list_is_named_by_its_place_also_when_the_one_before_is_the_same() -> None:
    wrong: dict[str, Any] = {"coding": [{"code": "1"}, {"code": " "}]}
    right: dict[str, Any] = {"coding": [{"code": "1"}]}
    bundle = planted(observation(category=[right, right, wrong]))
    for _ in range(OFTEN + 2):
        found = WARM.problem(bundle)
        assert found is not None
        assert found.text.startswith("Observation.category[2].coding[1].code: is no code")


REFERENCES = [
    {"reference": "urn:uuid:5c8d1c2e-0000-4000-8000-000000000000"},
    {"reference": "urn:uuid:00000000-0000-4000-8000-000000000099"},
    {"reference": ["urn:uuid:00000000-0000-4000-8000-000000000001"]},
    {"reference": ""},
    {"reference": "Patient/1"},
    {"reference": "Organization/1"},
    {"reference": None},
    {"display": "somebody"},
    {"type": "Patient"},
    {},
    "Patient/1",
    None,
    [{"reference": "Patient/1"}],
]


@pytest.mark.parametrize("leads", range(len(REFERENCES)))
def test_a_reference_is_judged_by_code_as_it_was_before(leads: int) -> None:
    bundle = planted(observation(subject=REFERENCES[leads]))
    assert WARM.problem(bundle) == Checker(model()).problem(bundle)


def test_a_reference_to_an_entry_of_another_type_is_refused_by_code_too() -> None:
    bundle = good()
    urls = {entry["resource"]["resourceType"]: entry["fullUrl"] for entry in bundle["entry"]}
    found = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation")
    assert WARM.problem(bundle) is None
    found["subject"] = {"reference": urls["Observation"]}
    cold = Checker(model()).problem(bundle)
    assert cold is not None
    assert "leads to Observation" in cold.text
    assert WARM.problem(bundle) == cold
