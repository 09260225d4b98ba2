"""The run-time check finds every planted mistake, names its place and no value, and refuses nothing that is right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hl7bridge import reasons
from hl7bridge.errors import TranslationError
from hl7bridge.fhir.check import Checker
from hl7bridge.fhir.model import model
from hl7bridge.fhir.resource import Number
from hl7bridge.fhir.terms import terms

sys.path.insert(0, str(Path(__file__).parent))
from planted import GOOD, MISTAKES, OURS, SIXTEEN, UCUM, V2, good, name, observation, planted

CHECKER = Checker(model())


@pytest.mark.parametrize("mistake", [*MISTAKES, *OURS])
def test_every_planted_mistake_is_found(mistake: str) -> None:
    assert CHECKER.problem(planted({**MISTAKES, **OURS}[mistake])) is not None


def test_the_sixteen_mistakes_of_the_validators_own_probes_are_among_them() -> None:
    assert len(SIXTEEN) == 16 and SIXTEEN.keys() <= MISTAKES.keys()


@pytest.mark.parametrize("odd", GOOD)
def test_what_is_right_is_not_refused(odd: str) -> None:
    assert CHECKER.problem(planted(GOOD[odd])) is None


def test_a_problem_names_the_element_and_what_it_was_made_from_and_no_value() -> None:
    bundle = planted(name(given=["SENTINEL\x07"]))
    with pytest.raises(TranslationError) as caught:
        CHECKER.check(bundle, lambda entry: ("PID, segment 3", "OBX, segment 7")[entry])
    assert caught.value.reason is reasons.INVALID_BUNDLE
    assert caught.value.detail == "Patient.name[0].given[0]: holds a control character (made from PID, segment 3)"


def test_a_wrong_reference_says_where_it_leads_and_where_it_may() -> None:
    problem = CHECKER.problem(planted(MISTAKES["14 reference to the wrong entry"]))
    assert problem is not None and problem.entry == 1
    assert problem.text == "Observation.encounter.reference: leads to Patient, where FHIR has Encounter"


@pytest.mark.parametrize(
    ("system", "code", "spelled"),
    [
        ("http://terminology.hl7.org/CodeSystem/v2-0074", "Lab", "LAB"),
        ("http://terminology.hl7.org/CodeSystem/v2-0074", "LAB", "LAB"),
        ("http://terminology.hl7.org/CodeSystem/v2-0074", "none of it", "none of it"),
        ("http://loinc.org", "ab", "ab"),
    ],
)
def test_a_code_of_a_v2_table_is_spelled_as_the_table_spells_it(system: str, code: str, spelled: str) -> None:
    assert terms().spelling(system, code) == spelled


def test_a_decimal_by_its_digits_is_a_number_and_nothing_else_is() -> None:
    def plant(text: str) -> str | None:
        found = CHECKER.problem(planted(lambda b, p, o: o["valueQuantity"].update(value=Number(text))))
        return None if found is None else found.text

    assert plant("7.50") is None and plant("-0.5e-3") is None
    assert plant("07") == "Observation.valueQuantity.value: is no number"
    assert plant("60~120") is not None and plant("") is not None


def test_precisions_that_differ_are_compared_as_far_as_both_go() -> None:
    period = {"start": "2024-01-01T10:00:00+02:00", "end": "2024-01-01"}
    assert CHECKER.problem(planted(observation(effectivePeriod=period))) is None
    assert CHECKER.problem(planted(observation(effectivePeriod={**period, "end": "2023-12"}))) is not None


def test_what_is_no_bundle_is_refused() -> None:
    assert CHECKER.problem({}) is not None
    assert CHECKER.problem({"resourceType": "Patient"}) is not None
    assert CHECKER.problem({**good(), "entry": {}}) is not None
    assert CHECKER.problem({**good(), "type": "junk"}) is not None


@pytest.mark.parametrize(
    ("system", "code", "refused"),
    [
        (V2 + "0203", "MR", False),
        (V2 + "0203", "mr", False),
        (V2 + "0203", "NOPE", True),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "IMP", False),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "imp", True),
        ("http://loinc.org", "NOPE", False),
        ("urn:iso:std:iso:3166", "AT", False),
        ("urn:iso:std:iso:3166", "AUT", False),
        ("urn:ietf:bcp:47", "de-AT", False),
        ("urn:ietf:bcp:47", "German", True),
        (UCUM, "mm[Hg]", False),
        (UCUM, "Gi[iU]", False),
        (UCUM, "sec", True),
    ],
)
def test_a_system_of_hl7_knows_its_codes_and_of_others_nothing_is_known(system: str, code: str, refused: bool) -> None:
    assert terms().refuses(system, code) is refused
