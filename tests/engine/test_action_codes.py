"""Segments with an action code: what is taken back is written as entered in error, by the shipped tables."""

from __future__ import annotations

from typing import Any

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.mapping.mappings import Mappings

HEAD = "MSH|^~\\&|A|B|||20240305143012+0000||ADT^{}|1|P|2.6\rEVN||20240305143012+0000\rPID|1||1^^^A||Doe"
VISIT = "PV1|1|I" + "|" * 17 + "V1^^^A"


@pytest.fixture(scope="module")
def shipped() -> Mappings:
    return load_mappings()


def made(mappings: Mappings, type_: str, *segments: str, event: str = "A08") -> dict[str, Any]:
    bundle = translate("\r".join((HEAD.format(event), *segments)).encode(), mappings).resource
    (found,) = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == type_]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(("action", "status"), [("", "completed"), ("A", "completed"), ("D", "entered-in-error")])
def test_a_procedure_that_is_taken_back_is_entered_in_error(shipped: Mappings, action: str, status: str) -> None:
    segment = "PR1|1||44950^Appendectomy^CPT||20240101" + "|" * 15 + action
    assert made(shipped, "Procedure", VISIT, segment)["status"] == status


@pytest.mark.parametrize("action", ["A", "D"])
def test_a_diagnosis_that_is_taken_back_is_no_diagnosis_of_the_visit(shipped: Mappings, action: str) -> None:
    segment = "DG1|1||K35^Appendicitis^I10" + "|" * 18 + action
    condition = made(shipped, "Condition", VISIT, segment)
    assert ("verificationStatus" in condition) == (action == "D")
    assert ("diagnosis" in made(shipped, "Encounter", VISIT, segment)) == (action == "A")


def test_an_allergy_that_is_taken_back_has_no_clinical_status(shipped: Mappings) -> None:
    allergy = made(shipped, "AllergyIntolerance", "IAM|1|DA|1605^ACETAMINOPHEN^L|||D|AL77||||||||||A", event="A60")
    assert allergy["verificationStatus"]["coding"][0]["code"] == "entered-in-error"
    assert "clinicalStatus" not in allergy
