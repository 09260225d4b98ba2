"""Output in R5: what differs is moved by the tables in r5/, nothing is lost, and the R5 models accept it."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.errors import MessageError
from hl7bridge.fhir.bundle import to_bytes
from hl7bridge.fhir.conversion import Conversion
from hl7bridge.fhir.difference import CROSS_VERSION, Changes, Difference
from hl7bridge.fhir.model import model, model_r5
from hl7bridge.fhir.resource import Erasure
from hl7bridge.fhir.strict import problems
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.check_r5 import written_types
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.mappings import Mappings, conversion_to_r5
from hl7bridge.translation import explain

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.hl7"))


@pytest.fixture(scope="module")
def r5() -> Mappings:
    return Mappings(load_tables(settings={"fhir-version": "R5"}), model())


def converted(mappings: Mappings, body: dict[str, Any], leads_to: Callable[[Any], str] = lambda _: "") -> Any:
    assert mappings.conversion is not None
    return mappings.conversion.resource(body, Changes({}, {}, leads_to))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_valid_r5_and_says_where_each_element_came_from(sample: Path, r5: Mappings) -> None:
    for part in split(sample.read_bytes()):
        try:
            story = explain(parse(part.raw, charset_fallback="cp1252"), r5)
        except MessageError:
            continue
        if story.bundle is None:
            assert story.error is not None and story.error.reason.code != "invalid-bundle", str(story.error)
            continue
        assert problems(to_bytes(story.bundle), r5=True) == []
        assert [one.path for one in story.elements if one.kind == "unknown"] == []


def test_everything_the_tables_write_has_a_place_in_r5(r5: Mappings) -> None:
    conversion = conversion_to_r5(r5.tables, model())
    assert {type_: conversion.unhandled(type_) for type_ in written_types(r5.tables, model())} == {
        type_: [] for type_ in written_types(r5.tables, model())
    }


def test_without_its_row_each_element_that_r5_has_not_is_missed(r5: Mappings) -> None:
    said = {type_: table.difference for type_, table in r5.tables.r5.items()}
    for type_, difference in said.items():
        for path in difference.moves:
            rest = {key: move for key, move in difference.moves.items() if key[: len(path)] != path}
            fewer = {**said, type_: replace(difference, moves=rest)}
            assert Conversion(model(), model_r5(), fewer).unhandled(type_), f"{type_}.{'.'.join(path)} needs no row"


def test_a_visit_stands_as_r5_has_it(r5: Mappings) -> None:
    visit = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "serviceType": {"text": "cardiology"},
        "period": {"start": "2024-01-01"},
        "reasonCode": [{"text": "pain"}, {"text": "fever"}],
        "participant": [{"individual": {"display": "A"}}],
        "hospitalization": {"admitSource": {"text": "er"}, "dietPreference": [{"text": "vegan"}]},
        "diagnosis": [{"condition": {"display": "B"}, "use": {"text": "admission"}, "rank": 1}],
        "location": [{"location": {"display": "C"}, "physicalType": {"text": "bed"}}],
        "statusHistory": [{"status": "arrived", "period": {"start": "2024-01-01"}}],
    }
    assert converted(r5, visit) == {
        "resourceType": "Encounter",
        "extension": [
            {
                "url": CROSS_VERSION + "Encounter.statusHistory",
                "extension": [
                    {"url": "status", "valueCode": "arrived"},
                    {"url": "period", "valuePeriod": {"start": "2024-01-01"}},
                ],
            }
        ],
        "status": "completed",
        "class": [{"coding": [visit["class"]]}],
        "serviceType": [{"concept": {"text": "cardiology"}}],
        "participant": [{"actor": {"display": "A"}}],
        "actualPeriod": {"start": "2024-01-01"},
        "reason": [{"value": [{"concept": {"text": "pain"}}, {"concept": {"text": "fever"}}]}],
        "diagnosis": [
            {
                "condition": [{"reference": {"display": "B"}}],
                "use": [{"text": "admission"}],
                "extension": [{"url": CROSS_VERSION + "Encounter.diagnosis.rank", "valuePositiveInt": 1}],
            }
        ],
        "dietPreference": [{"text": "vegan"}],
        "admission": {"admitSource": {"text": "er"}},
        "location": [{"location": {"display": "C"}, "form": {"text": "bed"}}],
    }


def test_what_is_empty_when_its_elements_stand_elsewhere_is_not_written(r5: Mappings) -> None:
    visit = {"resourceType": "Encounter", "hospitalization": {"specialCourtesy": [{"text": "vip"}]}}
    assert converted(r5, visit) == {"resourceType": "Encounter", "specialCourtesy": [{"text": "vip"}]}


def test_of_two_codes_that_become_one_the_old_one_stands_beside(r5: Mappings) -> None:
    assert converted(r5, {"resourceType": "Encounter", "status": "triaged"}) == {
        "resourceType": "Encounter",
        "status": "in-progress",
        "_status": {"extension": [{"url": CROSS_VERSION + "Encounter.status", "valueCode": "triaged"}]},
    }


def test_a_code_becomes_a_concept_and_who_asserted_a_participant(r5: Mappings) -> None:
    allergy = {"resourceType": "AllergyIntolerance", "type": "allergy", "asserter": {"display": "A"}}
    made = converted(r5, allergy)
    assert made["type"] == {"coding": [{"system": "http://hl7.org/fhir/allergy-intolerance-type", "code": "allergy"}]}
    assert made["participant"][0]["actor"] == {"display": "A"}
    assert made["participant"][0]["function"]["coding"][0]["code"] == "informant"


def test_what_r5_requires_is_there(r5: Mappings) -> None:
    assert converted(r5, {"resourceType": "Coverage", "status": "active"})["kind"] == "insurance"
    assert converted(r5, {"resourceType": "Condition"})["clinicalStatus"]["coding"][0]["code"] == "unknown"
    device = converted(r5, {"resourceType": "Device", "udiCarrier": [{"carrierHRF": "X"}]})
    assert set(device["udiCarrier"][0]) == {"carrierHRF", "_issuer", "_deviceIdentifier"}


def test_what_r5_has_once_keeps_the_first_and_the_rest_beside(r5: Mappings) -> None:
    made = converted(r5, {"resourceType": "Coverage", "payor": [{"display": "A"}, {"display": "B"}]})
    assert made["insurer"] == {"display": "A"}
    assert made["extension"] == [{"url": CROSS_VERSION + "Coverage.payor", "valueReference": {"display": "B"}}]


def test_a_reference_to_what_r5_does_not_allow_there_stays_as_an_extension(r5: Mappings) -> None:
    made = converted(r5, {"resourceType": "ChargeItem", "context": {"display": "A"}}, lambda _: "EpisodeOfCare")
    assert "encounter" not in made
    assert made["extension"][0]["url"] == CROSS_VERSION + "ChargeItem.context"


@pytest.mark.parametrize(
    ("path", "where", "expected"),
    [
        (("period", "end"), (), (("actualPeriod", "end"), ())),
        (("hospitalization", "destination"), (), (("admission", "destination"), ())),
        (("hospitalization", "dietPreference"), (), (("dietPreference",), ())),
        (("reasonCode",), (), (("reason",), ())),
        (("identifier",), (("system", "a"),), (("identifier",), (("system", "a"),))),
        (("statusHistory",), (), (("extension",), (("url", CROSS_VERSION + "Encounter.statusHistory"),))),
    ],
)
def test_what_is_deleted_is_deleted_where_it_stands_in_r5(
    r5: Mappings, path: tuple[str, ...], where: Any, expected: Any
) -> None:
    assert r5.conversion is not None
    assert r5.conversion.erasure("Encounter", Erasure(path, where))[:2] == expected


def test_a_patch_names_the_elements_of_r5(r5: Mappings) -> None:
    sample = next(path for path in SAMPLES if path.stem == "adt_a03_discharge")
    story = explain(parse(sample.read_bytes()), r5)
    assert story.bundle is not None
    paths = {
        part["valueString"]
        for entry in story.bundle["entry"]
        if entry["request"]["url"].startswith("Encounter?") and entry["request"]["method"] == "PATCH"
        for operation in entry["resource"]["parameter"]
        for part in operation["part"]
        if part["name"] == "path"
    }
    assert "Encounter.actualPeriod.end" in paths
    assert not any("period" in path.split(".")[1:2] or "hospitalization" in path for path in paths)


def test_a_language_that_is_no_tag_stays_and_is_undetermined(r5: Mappings) -> None:
    tag, undetermined = "urn:ietf:bcp:47", {"system": "urn:ietf:bcp:47", "code": "und"}
    for said, expected in (
        ({"text": "Plattdeutsch"}, {"coding": [undetermined], "text": "Plattdeutsch"}),
        ({"coding": [{"code": "PD"}]}, {"coding": [{"code": "PD"}, undetermined]}),
        ({"coding": [{"system": tag, "code": "nds"}]}, {"coding": [{"system": tag, "code": "nds"}]}),
    ):
        made = converted(r5, {"resourceType": "Patient", "communication": [{"language": said}]})
        assert made["communication"] == [{"language": expected}]


def test_an_extension_that_r5_does_not_allow_there_has_a_url_of_our_own(r5: Mappings) -> None:
    base = "http://hl7.org/fhir/StructureDefinition/"
    digit = {"url": base + "identifier-checkDigit", "valueString": "4"}
    scheme = {"url": base + "namingsystem-checkDigit", "valueString": "M10"}
    made = converted(r5, {"resourceType": "Patient", "identifier": [{"value": "1", "extension": [digit, scheme]}]})
    assert made["identifier"][0]["extension"] == [digit, {**scheme, "url": "urn:hl7bridge:check-digit-scheme"}]
    beside = {"extension": [{"url": base + "alternate-codes", "valueCodeableConcept": {"text": "X"}}]}
    patient = {"resourceType": "Patient", "gender": "unknown", "_gender": beside, "address": [{"city": "L", **beside}]}
    made = converted(r5, patient)
    assert made["_gender"] == beside, "beside a code R5 allows it"
    assert made["address"][0]["extension"][0]["url"] == "urn:hl7bridge:address-type"


def test_no_difference_needs_no_table() -> None:
    conversion = Conversion(model(), model_r5(), dict[str, Difference]())
    assert conversion.unhandled("Patient") == []
    assert ("Encounter", "period") in conversion.unhandled("Encounter")


@pytest.mark.parametrize("type_", ["Encounter", "Patient", "Observation", "Coverage", "Device", "Attachment", "Timing"])
def test_the_r5_model_has_the_names_and_lists_of_fhir_resources(type_: str) -> None:
    fields = getattr(importlib.import_module(f"fhir.resources.{type_.lower()}"), type_).model_fields
    theirs = {
        field.alias or name: "List[" in str(field.annotation)
        for name, field in fields.items()
        if not name.endswith("__ext") and name not in ("fhir_comments", "resource_type")
    }
    ours = {name: element.many for name, element in model_r5().elements(type_).items()}
    assert typing.cast(dict[str, bool], theirs) == ours
