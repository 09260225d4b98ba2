"""The code for shapes that are met often finds right what the plain checks find right, and looks no wider than they."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.fhir.check import Checker
from hl7bridge.fhir.formats import decimal
from hl7bridge.fhir.model import model
from hl7bridge.fhir.plan import OFTEN
from hl7bridge.fhir.resource import Number
from hl7bridge.fhir.terms import terms
from hl7bridge.fhir.unroll import LOOKS, MAX_SYSTEMS, NAMES, Systems

sys.path.insert(0, str(Path(__file__).parent))
from planted import MISTAKES, OURS, UCUM, V2, good, observation, planted


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
    assert not code_made(checker)
    for _ in range(OFTEN):
        checker.problem(good())
    made = code_made(checker)
    assert ("code", "system") in map(tuple, map(sorted, made)) and any("valueQuantity" in names for names in made)


def code_made(checker: Checker) -> list[tuple[str, ...]]:
    code = checker._plans._code
    short = [shape.names for shapes in code._short.values() for shape in shapes]
    return [*short, *(names for type in code._short for names in code.long(type))]


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
        "urn:uuid:00000000-0000-4000-8000-00000000000a",
        "urn:uuid:00000000-0000-4000-8000-00000000000A",
        "in-progress",
        "718-7",
    ]
)
NUMBERS = st.from_regex(r"[-+0-9٣.eE]{0,6}").map(Number)
MOMENTS = st.from_regex(
    r"(20[0-9]{2}|0000)(-[01][0-9](-[0-3][0-9](T[0-2][0-9]:[0-9]{2}(:[0-6][0-9](\.[0-9])?)?(Z|[+-]1[0-9]:[0-9]{2})?)?)?)?"
)
VALUES = (
    TEXTS | NUMBERS | MOMENTS | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXTS, max_size=2)
)


def look_of(expression: str) -> Callable[[Any], bool]:
    made: Callable[[Any], bool] = eval(f"lambda v: bool({expression.format('v')})", dict(NAMES))
    return made


@pytest.mark.parametrize("form", LOOKS, ids=lambda form: str(form.__name__))
@given(value=VALUES)
def test_what_a_look_finds_right_its_format_finds_right(form: Callable[..., str | None], value: Any) -> None:
    if look_of(LOOKS[form])(value):
        assert form(value, {}) is None


@pytest.mark.parametrize("digits", ["7.", "07", "00.1", ".5", "٣", "1٣", "1.2.3", "", "+1", "-1", "1e5", "1 ", "²"])
def test_no_look_takes_digits_for_a_number_that_are_none(digits: str) -> None:
    if look_of(LOOKS[decimal])(Number(digits)):
        assert decimal(Number(digits)) is None


@pytest.mark.parametrize("form", LOOKS, ids=lambda form: str(form.__name__))
def test_a_look_finds_ordinary_values_right(form: Callable[..., str | None]) -> None:
    ordinary = {
        "string": ["Müller, Anna"],
        "uri": ["http://loinc.org", "urn:uuid:00000000-0000-4000-8000-00000000000a"],
        "code": ["final", "in-progress", "718-7"],
        "boolean": [True],
        "decimal": [Number("7.50"), Number("120")],
        "date_time": ["2024", "2024-03-05T10:00:00+01:00"],
        "instant": ["2024-03-05T10:00:00Z"],
    }
    assert all(map(look_of(LOOKS[form]), ordinary[form.__name__]))


def test_systems_that_were_met_are_kept_in_bounds_and_wrong_ones_never() -> None:
    systems = Systems(terms())
    assert systems.meets("http://loinc.org") and systems["http://loinc.org"] is None
    assert systems.meets(V2 + "0203") and "MR" in (systems[V2 + "0203"] or ())
    assert systems.meets(UCUM) and UCUM not in systems  # its codes are told by their form
    assert systems.meets("http://" + "x" * 300)
    assert not systems.meets("a b") and not systems.meets("urn:oid:1")
    assert {*systems} == {"http://loinc.org", V2 + "0203"}
    for number in range(MAX_SYSTEMS + 5):
        assert systems.meets(f"urn:id:{number}")
    assert len(systems) == MAX_SYSTEMS


WRONG_BY_VALUE = [
    {"system": "urn:x y", "code": "1"},
    {"system": V2 + "0203", "code": "NOPE"},
    {"system": UCUM, "code": "sec"},
    {"code": " 1", "system": "http://loinc.org"},
    {"system": ["http://loinc.org"], "code": "1"},
    {"code": {"code": "1"}},
    {"display": ""},
    {"display": "a", "wrong": "b"},
    {},
    [],
    "MR",
]


@pytest.mark.parametrize("wrong", range(len(WRONG_BY_VALUE)))
def test_what_is_wrong_in_a_short_shape_is_found_by_code_too(wrong: int) -> None:
    bundle = planted(observation(category=[{"coding": [{"system": V2 + "0203", "code": "MR"}, WRONG_BY_VALUE[wrong]]}]))
    checker = Checker(model())
    cold = checker.problem(bundle)
    assert cold is not None and cold.text.startswith("Observation.category[0].coding[1]")
    for coding in (
        {"system": V2 + "0203", "code": "MR"},
        {"code": "1"},
        {"display": "a"},
        {"code": "1", "display": "a"},
        {"system": "http://loinc.org"},
    ):
        for _ in range(OFTEN + 2):
            assert checker.problem(planted(observation(category=[{"coding": [coding]}]))) is None
    assert checker.problem(bundle) == cold


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
