"""The R4 model as data: made from fhir.resources, complete where that package is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hl7bridge.fhir.model import Element, closest, model
from hl7bridge.fhir.model_build import TARGET, build, render


def test_the_file_is_what_a_fresh_build_gives() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(build())


def test_loading_does_not_import_fhir_resources() -> None:
    code = "import sys; from hl7bridge.fhir.model import model; model(); sys.exit('fhir' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("type_path", "name", "type_", "many", "required"),
    [
        ("Patient", "name", "HumanName", True, False),
        ("Patient", "contact", "Patient.contact", True, False),
        ("Patient", "id", "id", False, False),
        ("Patient.contact", "name", "HumanName", False, False),
        ("Patient", "birthDate", "date", False, False),
        ("Patient", "active", "boolean", False, False),
        ("HumanName", "given", "string", True, False),
        ("Observation", "status", "code", False, True),
        ("Observation", "code", "CodeableConcept", False, True),
        ("Observation.component", "referenceRange", "Observation.referenceRange", True, False),
        ("Encounter", "class", "Coding", False, True),
        ("Encounter", "status", "code", False, True),
        ("Provenance", "target", "Reference", True, True),
        ("Provenance", "recorded", "instant", False, True),
        ("MessageHeader.source", "endpoint", "url", False, True),
        ("Coverage", "payor", "Reference", True, True),
        ("Account", "status", "code", False, True),
        ("Specimen", "status", "code", False, False),
        ("DiagnosticReport", "status", "code", False, True),
        ("Attachment", "data", "base64Binary", False, False),
        ("Timing.repeat", "count", "positiveInt", False, False),
        ("Questionnaire.item", "item", "Questionnaire.item", True, False),
        ("Parameters.parameter", "part", "Parameters.parameter", True, False),
        ("Bundle.entry", "link", "Bundle.link", True, False),
        ("Bundle.entry", "resource", "Resource", False, False),
        ("Task", "for", "Reference", False, False),
        ("Element", "id", "string", False, False),
    ],
)
def test_elements_are_those_of_the_specification(
    type_path: str, name: str, type_: str, many: bool, required: bool
) -> None:
    found = model().element(type_path, name)
    assert found is not None
    assert (found.type, found.many, found.required) == (type_, many, required)
    assert found.is_primitive == type_[0].islower()


def test_a_choice_has_exactly_the_types_of_its_element() -> None:
    assert model().choices("Patient", "multipleBirth") == ("multipleBirthBoolean", "multipleBirthInteger")
    assert model().choices("MessageHeader", "event") == ("eventCoding", "eventUri")
    assert len(model().choices("Observation", "value")) == 11
    assert model().choices("Observation", "status") == ()
    assert "valueMeta" in model().choices("Extension", "value")
    assert "valueCodeableReference" not in model().choices("Extension", "value")  # R4B only


def test_required_names_one_of_many_as_alternatives() -> None:
    assert model().required("MedicationRequest") == (
        ("status",),
        ("intent",),
        ("medicationCodeableConcept", "medicationReference"),
        ("subject",),
    )
    assert model().required("Provenance") == (("target",), ("recorded",), ("agent",))
    assert model().required("Patient") == ()


def test_code_lists_are_whole_where_the_package_cuts_them_short() -> None:
    status = model().element("Observation", "status")
    assert status is not None and status.codes[-3:] == ("cancelled", "entered-in-error", "unknown")
    every = [e for t in model()._types for e in model().elements(t).values()]
    assert not [e for e in every if "+" in e.codes or "etc." in e.codes]


def test_required_bindings_of_concepts_carry_their_system() -> None:
    found = model().element("Condition", "clinicalStatus")
    assert found is not None
    assert found.system == "http://terminology.hl7.org/CodeSystem/condition-clinical"
    assert "active" in found.codes


def test_reference_targets_are_resource_types_of_r4() -> None:
    found = model().element("Observation", "performer")
    assert found is not None and found.is_resource_reference
    assert found.targets[:2] == ("Practitioner", "PractitionerRole")
    targets = {target for t in model()._types for e in model().elements(t).values() for target in e.targets}
    assert targets <= model().resources


def test_every_type_that_an_element_names_exists() -> None:
    types = model()._types
    assert not [(t, e) for t in types for e in model().elements(t).values() if not model().exists(e.type)]


def test_derived_types_are_known_as_what_they_derive_from() -> None:
    assert model().is_a("Age", "Quantity")
    assert model().is_a("Patient", "Resource")
    assert not model().is_a("Patient", "Observation")
    assert not model().is_a("nothing", "Resource")


def test_kinds_are_told_apart() -> None:
    assert model().is_resource("Patient") and not model().is_resource("Resource")
    assert model().is_backbone("Patient.contact") and not model().is_backbone("HumanName")
    assert model().is_primitive("uri") and not model().is_primitive("Coding")
    assert not model().exists("Nmae") and model().elements("Nmae") == {}


def test_suggestions_find_what_was_meant() -> None:
    assert model().suggest("Patient", "nmae") == "name"
    assert model().suggest("Patient", "birthdate") == "birthDate"
    assert model().suggest("Patient", "xyz") is None
    assert model().suggest_type("Pateint") == "Patient"
    assert model().suggest_type("HumanNmae", resources_only=True) != "HumanName"
    assert closest("KEEP", ("keep", "drop")) == "keep"


def test_elements_are_frozen() -> None:
    element = Element("name", "HumanName")
    with pytest.raises(AttributeError):
        element.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        model().elements("Patient")["name"] = element  # type: ignore[index]
