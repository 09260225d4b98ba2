"""What differs between two bundles, by path."""

from __future__ import annotations

from typing import Any

from hl7bridge.fhir.resource import Body, Number
from hl7bridge.workbench.difference import differences

ENTRY = {"fullUrl": "urn:uuid:1", "request": {"method": "PUT", "url": "Patient?identifier=a"}}


def bundle(*resources: dict[str, Any]) -> Body:
    entries = [
        {"fullUrl": f"urn:uuid:{r.pop('url_', i)}", "resource": r, "request": {"method": "PUT", "url": "x"}}
        for i, r in enumerate(dict(resource) for resource in resources)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **more}


def told(old: Body, new: Body) -> list[tuple[str, str]]:
    return [(found.kind, found.path) for found in differences(old, new)]


def test_the_same_is_no_difference() -> None:
    assert told(bundle(patient(gender="male")), bundle(patient(gender="male"))) == []
    assert told({"entry": []}, {"entry": []}) == []


def test_added_removed_and_changed_elements_are_told_by_their_path() -> None:
    old = bundle(patient(gender="male", birthDate="1980", name=[{"family": "A"}]))
    new = bundle(patient(gender="female", name=[{"family": "A", "given": ["B"]}], active=True))
    assert sorted(told(old, new)) == [
        ("added", "Patient.active"),
        ("added", "Patient.name.given"),
        ("changed", "Patient.gender"),
        ("removed", "Patient.birthDate"),
    ]


def test_where_it_is_in_the_bundle_is_known() -> None:
    (found,) = differences(
        bundle(patient(), patient(name=[{"use": "old"}, {"family": "A"}])),
        bundle(patient(), patient(name=[{"use": "old"}, {"family": "B"}])),
    )
    assert found.at == "Bundle.entry[1].resource.name[1].family"
    assert (found.old, found.new) == ("A", "B")


def test_an_item_put_in_front_is_added_and_changes_no_other() -> None:
    one, two = {"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}
    assert told(bundle(patient(identifier=[two])), bundle(patient(identifier=[one, two]))) == [
        ("added", "Patient.identifier")
    ]
    changed = {"system": "urn:b", "value": "3"}
    assert told(bundle(patient(identifier=[one, two])), bundle(patient(identifier=[changed, one]))) == [
        ("changed", "Patient.identifier.value")
    ]


def test_another_order_is_told() -> None:
    names = [{"family": "A"}, {"family": "B"}]
    assert told(bundle(patient(name=names)), bundle(patient(name=names[::-1]))) == [("order", "Patient.name")]


def test_extensions_are_told_apart_by_their_url() -> None:
    old = bundle(patient(extension=[{"url": "http://x/one", "valueString": "a"}]))
    new = bundle(patient(extension=[{"url": "http://x/two", "valueString": "a"}]))
    assert sorted(told(old, new)) == [("added", "Patient.extension(two)"), ("removed", "Patient.extension(one)")]


def test_the_digits_of_a_number_count() -> None:
    def of(value: object) -> Body:
        return bundle({"resourceType": "Observation", "valueQuantity": {"value": value}})

    assert told(of(Number("7.0")), of(Number("7.0"))) == []
    assert told(of(Number("7.0")), of(Number("7.00"))) == [("changed", "Observation.valueQuantity.value")]
    assert told(of(Number("7.0")), of("7.0")) == [("changed", "Observation.valueQuantity.value")]
    assert told(of("7.0"), of(Number("7.0"))) == [("changed", "Observation.valueQuantity.value")]


def test_another_identity_is_one_difference_and_not_one_for_each_reference() -> None:
    def visit(url: str, system: str) -> Body:
        return bundle(
            patient(url_=url, identifier=[{"system": system, "value": "1"}]),
            {"resourceType": "Encounter", "url_": "9", "subject": {"reference": f"urn:uuid:{url}"}},
        )

    assert told(visit("1", "urn:a"), visit("2", "urn:b")) == [("changed", "Patient.identifier.system")]


def test_a_reference_to_another_entry_is_a_difference() -> None:
    def visit(of: str) -> Body:
        subject = {"reference": f"urn:uuid:{of}"}
        return bundle(patient(url_="1"), patient(url_="2"), {"resourceType": "Encounter", "subject": subject})

    assert told(visit("1"), visit("2")) == [("changed", "Encounter.subject.reference")]


def test_whole_resources_and_how_they_are_written_are_told() -> None:
    assert told(bundle(patient()), bundle(patient(), {"resourceType": "Account"})) == [("added", "Account")]
    assert told(bundle(patient(), patient()), bundle(patient())) == [("removed", "Patient")]
    put, post = bundle(patient()), bundle(patient())
    post["entry"][0]["request"]["method"] = "POST"
    assert told(put, post) == [("changed", "Patient: request.method")]
