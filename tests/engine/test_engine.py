"""What the tables' words do, on a small set of tables of the tests' own: rows, labels, codes, links, identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from hl7bridge import reasons
from hl7bridge.errors import MessageError, PeerError, TranslationError
from hl7bridge.fhir.model import model
from hl7bridge.mapping.load import read_tables
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.runtime import Issue
from hl7bridge.translation import Translation, translate

ZONE = ZoneInfo("Asia/Kathmandu")
MSH = "MSH|^~\\&|APP|FAC|||20240305143012||{}|C1|P|2.5.1"
PID = "PID|1||123^^^A&1.2.3.4&ISO^MR||Doe^Jo"


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    tables, mistakes = read_tables(Path(__file__).parent / "tables", shipped=False)
    assert not mistakes
    return Mappings(tables, model())


@pytest.fixture(scope="module")
def adt(mappings: Mappings) -> Any:
    def run(*segments: str) -> Translation:
        return translate("\r".join((MSH.format("ADT^A01"), *segments)).encode(), mappings, zone=ZONE)

    return run


@pytest.fixture(scope="module")
def oru(mappings: Mappings) -> Any:
    def run(*segments: str) -> Translation:
        return translate("\r".join((MSH.format("ORU^R01"), *segments)).encode(), mappings, zone=ZONE)

    return run


def of_type(result: Translation, type_: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in result.resource["entry"] if e["resource"]["resourceType"] == type_]


def one(result: Translation, type_: str) -> dict[str, Any]:
    (found,) = of_type(result, type_)
    return found


def entry(result: Translation, type_: str) -> dict[str, Any]:
    return next(e for e in result.resource["entry"] if e["resource"]["resourceType"] == type_)


def test_each_repetition_makes_an_instance_of_its_label(adt: Any) -> None:
    patient = one(adt("PID|1||1^^^A~2^^^B||Doe^Jo^X~Roe^Al"), "Patient")
    assert [i["value"] for i in patient["identifier"]] == ["1", "2"]
    assert [(n["family"], n["given"]) for n in patient["name"]] == [("Doe", ["Jo", "X"]), ("Roe", ["Al"])]


def test_rows_with_one_label_write_into_one_instance_and_companions_follow_their_row(adt: Any) -> None:
    patient = one(adt("PID|1||1^^^A||||||||||555~^PRN|||||77-8"), "Patient")
    assert patient["telecom"] == [{"value": "555", "system": "phone", "use": "home"}]
    assert one(adt("PID|1||1^^^A||||||||||||||||77-8"), "Patient")["identifier"][1] == {
        "value": "77-8",
        "system": "http://hl7.org/fhir/sid/us-ssn",
        "type": {"coding": [{"code": "SS"}]},
    }


def test_another_instance_stands_beside_the_one_its_value_fills_for_each_repetition(adt: Any) -> None:
    patient = one(adt("PID|1||1^^^A||Doe^Jo^^^^^^^^^^^^^Jojo~^^^^^^^^^^^^^^Al"), "Patient")
    assert patient["name"] == [
        {"family": "Doe", "given": ["Jo"]},
        {"given": ["Jojo"], "use": "nickname"},
        {"given": ["Al"], "use": "nickname"},
    ]


def test_another_instance_of_what_occurs_once_is_counted_as_dropped(adt: Any) -> None:
    result = adt(PID, "NK1|1|Roe^^^^^^^^^^^^^^Ro")
    assert one(result, "Patient")["contact"][0]["name"] == {"family": "Roe"}
    assert result.issues[Issue("repetition-dropped", "NK1-Patient", "NK1-2")] == 1


def test_an_extension_goes_with_the_one_of_several_primitives_that_it_is_on(adt: Any) -> None:
    extension = {"url": "http://hl7.org/fhir/StructureDefinition/humanname-own-name", "valueString": "Own"}
    name = one(adt("PID|1||1^^^A||Doe^Jo^X^Own"), "Patient")["name"][0]
    assert (name["given"], name["_given"]) == (["Jo", "X"], [{"extension": [extension]}])
    name = one(adt("PID|1||1^^^A||Doe^^X^Own"), "Patient")["name"][0]
    assert (name["given"], name["_given"]) == (["X", None], [None, {"extension": [extension]}])


def test_a_star_says_where_the_repetition_counts(adt: Any) -> None:
    contact = {"relationship": [{"text": "one"}, {"text": "two"}], "name": {"family": "Roe"}}
    assert one(adt(PID, "NK1|1|Roe|one~two"), "Patient")["contact"] == [contact]


def test_without_its_value_a_row_writes_no_companions(adt: Any) -> None:
    assert len(one(adt(PID), "Patient")["identifier"]) == 1


def test_an_extension_stands_beside_its_primitive_and_inside_its_extension(adt: Any) -> None:
    patient = one(adt("PID|1||1^^^A||||198001020304|||||||||||||||||||AUT~DEU"), "Patient")
    assert patient["birthDate"] == "1980-01-02"
    (birth_time,) = patient["_birthDate"]["extension"]
    assert birth_time["valueDateTime"] == "1980-01-02T03:04:00+05:30"  # the zone's offset of that year
    codes = [e["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] for e in patient["extension"]]
    assert codes == ["AUT", "DEU"]


def test_an_unknown_code_of_a_required_binding_is_kept_beside_the_code_unknown_and_counted(adt: Any) -> None:
    result = adt("PID|1||1^^^A|||||Q")
    patient = one(result, "Patient")
    assert patient["gender"] == "unknown"
    (extension,) = patient["_gender"]["extension"]
    assert extension["valueCodeableConcept"]["coding"] == [{"system": "urn:id:HL70001", "code": "Q"}]
    assert result.issues == {Issue("code-unmapped", "PID-Patient", "PID-8"): 1}


def test_a_translated_coding_comes_first_and_the_sent_one_stays_behind_it(adt: Any) -> None:
    patient = one(adt("PID|1||1^^^A|||||||||||||W^Widow"), "Patient")
    assert patient["maritalStatus"]["coding"] == [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "W", "display": "Widowed"},
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0002", "code": "W", "display": "Widow"},
    ]


def test_a_local_coding_is_not_translated_by_the_standard_table(adt: Any) -> None:
    result = adt("PID|1||1^^^A|||||||||||||W^Widow^99LOC")
    assert one(result, "Patient")["maritalStatus"]["coding"] == [
        {"system": "urn:id:99LOC", "code": "W", "display": "Widow"}
    ]
    assert not result.issues


def test_a_value_that_cannot_be_converted_says_so_and_is_counted(adt: Any) -> None:
    result = adt("PID|1||1^^^A||||PIDDOB!")
    patient = one(result, "Patient")
    assert "birthDate" not in patient
    assert patient["_birthDate"]["extension"][0]["valueCode"] == "error"
    assert result.issues == {Issue("value-invalid", "PID-Patient", "PID-7"): 1}


def test_a_number_that_is_none_goes_where_the_row_says(oru: Any) -> None:
    result = oru(PID, "OBR|1||F1|X", "OBX|1|NM|N||60-120~9|mg|||||F", "OBX|2|NM|M||+007.50|mg|||||F")
    first, second = of_type(result, "Observation")
    assert first["valueString"] == "60-120"
    assert second["valueQuantity"]["unit"] == "mg"
    assert b'"value":7.50' in result.bundle
    assert Issue("value-invalid", "OBX-Observation", "OBX-5") in result.issues
    assert Issue("repetition-dropped", "OBX-Observation", "OBX-5") in result.issues


def test_null_is_no_value_and_is_recorded_as_a_deletion(adt: Any) -> None:
    result = adt('PID|1||1^^^A||Doe^Jo||""||||||""')
    assert "birthDate" not in one(result, "Patient")
    assert result.deletes == ("Patient.birthDate", "Patient.telecom#home")


def test_a_repeating_segment_makes_a_resource_each_and_a_label_is_shared_in_its_scope(adt: Any) -> None:
    result = adt(PID, "AL1|1||A", "AL1|2||B")
    patient = entry(result, "Patient")["fullUrl"]
    allergies = of_type(result, "AllergyIntolerance")
    assert [a["code"]["coding"][0]["code"] for a in allergies] == ["A", "B"]
    assert {a["patient"]["reference"] for a in allergies} == {patient}


def test_every_group_has_its_own_labels(oru: Any) -> None:
    result = oru(
        PID,
        "OBR|1||F1|X",
        "OBX|1|ST|N||a",
        "NTE|1||first",
        "OBX|2|ST|M||b",
        "OBR|2||F2|Y",
        "OBX|1|ST|N||c",
        "NTE|1||other",
    )
    reports = of_type(result, "DiagnosticReport")
    urls = {e["fullUrl"]: e["resource"] for e in result.resource["entry"]}
    texts = [[urls[r["reference"]]["valueString"] for r in report["result"]] for report in reports]
    assert texts == [["a", "b"], ["c"]]
    notes = {o["valueString"]: [n["text"] for n in o.get("note", ())] for o in of_type(result, "Observation")}
    assert notes == {"a": ["first"], "b": [], "c": ["other"]}


def test_two_patients_in_one_message_stay_apart(oru: Any) -> None:
    result = oru(PID, "OBR|1||F1|X", "OBX|1|ST|N||a", "PID|2||9^^^A||Roe", "OBR|1||F2|X", "OBX|1|ST|N||b")
    urls = {e["fullUrl"]: e["resource"] for e in result.resource["entry"]}
    seen = {
        o["valueString"]: urls[o["subject"]["reference"]]["name"][0]["family"] for o in of_type(result, "Observation")
    }
    assert seen == {"a": "Doe", "b": "Roe"}


def test_a_second_patient_where_the_structure_has_one_is_refused(adt: Any) -> None:
    with pytest.raises(PeerError) as caught:
        adt(PID, "PID|2||9^^^A||Roe")
    assert caught.value.reason is reasons.STRUCTURE
    assert "Roe" not in str(caught.value)


def test_resources_behind_references_are_written_once_and_referred_to(oru: Any) -> None:
    result = oru(PID, "OBR|1||F1|X||||||||||||7^Hou^Greg^^^^^^AUTH", "OBR|2||F2|X||||||||||||7^Hou^Greg^^^^^^AUTH")
    (practitioner,) = [e for e in result.resource["entry"] if e["resource"]["resourceType"] == "Practitioner"]
    assert practitioner["request"] == {
        "method": "POST",
        "url": "Practitioner",
        "ifNoneExist": "identifier=urn%3Aid%3AAUTH%7C7",
    }
    assert {r["practitioner"]["reference"] for r in of_type(result, "PractitionerRole")} == {practitioner["fullUrl"]}


def test_a_location_without_content_is_replaced_by_the_one_it_is_part_of(adt: Any) -> None:
    result = adt(PID, "PV1|1|I|W^R")
    room, ward = of_type(result, "Location")
    assert room["identifier"][0]["value"] == "R" and ward["identifier"][0]["value"] == "W"
    assert one(result, "Encounter")["location"][0]["location"]["reference"] == entry(result, "Location")["fullUrl"]


def test_the_same_bytes_give_the_same_bundle_and_other_bytes_other_derived_identities(mappings: Mappings) -> None:
    def anonymous(control_id: str) -> bytes:
        return f"MSH|^~\\&|A|B|||20240305143012||ADT^A01|{control_id}|P|2.5\rPID|1||||Doe".encode()

    first, again, other = (translate(anonymous(c), mappings, zone=ZONE) for c in ("1", "1", "2"))
    assert first.bundle == again.bundle
    assert entry(first, "Patient")["request"]["method"] == "POST", "no identifier: created once, never matched"
    assert entry(first, "Patient")["request"] != entry(other, "Patient")["request"]


def test_an_owner_replaces_and_a_mention_only_creates(adt: Any, oru: Any) -> None:
    search = "identifier=urn%3Aoid%3A1.2.3.4%7C123"
    assert entry(adt(PID), "Patient")["request"] == {"method": "PUT", "url": f"Patient?{search}"}
    assert entry(oru(PID, "OBR|1||F|X"), "Patient")["request"] == {
        "method": "POST",
        "url": "Patient",
        "ifNoneExist": search,
    }


def test_equal_observations_of_one_message_are_numbered_and_stay_the_same_when_sent_again(oru: Any) -> None:
    segments = (PID, "OBR|1||F1|X", "OBX|1|ST|N||a", "OBX|2|ST|N||b", "OBX|3|ST|N||c")
    searches = [e["request"]["url"] for e in oru(*segments).resource["entry"] if "Observation" in e["request"]["url"]]
    assert len(set(searches)) == 3
    again = [e["request"]["url"] for e in oru(*segments).resource["entry"] if "Observation" in e["request"]["url"]]
    assert searches == again


def test_a_missing_required_element_stops_the_bundle_with_its_path(adt: Any) -> None:
    with pytest.raises(TranslationError) as caught:
        adt(PID, "PV1|1||W")
    assert caught.value.reason is reasons.INVALID_BUNDLE
    assert "Encounter.class: is required" in str(caught.value)


def test_an_event_without_a_table_is_named(mappings: Mappings) -> None:
    with pytest.raises(MessageError) as caught:
        translate((MSH.format("ADT^A60") + "\rPID|1||1^^^A").encode(), mappings)
    assert caught.value.reason is reasons.UNSUPPORTED_EVENT
    with pytest.raises(MessageError) as caught:
        translate((MSH.format("SIU^S12") + "\rPID|1||1^^^A").encode(), mappings)
    assert caught.value.reason is reasons.UNSUPPORTED_TYPE


def test_lineage_leads_from_every_value_to_its_field_and_row_and_holds_no_value(adt: Any) -> None:
    result = adt("PID|1||123^^^A&1.2.3.4&ISO^MR||SENTINEL^Jo")
    lines = {line.path: line for line in result.lineage}
    family = lines["Bundle.entry[0].resource.name[0].family"]
    assert family.source.startswith("PID[1]-5[1].1")
    assert family.table == "XPN-HumanName" and family.place.endswith("XPN-HumanName.yaml:3")
    assert "SENTINEL" not in repr(result.lineage)
    leaves = list(_leaves(result.resource["entry"][0]["resource"], "Bundle.entry[0].resource"))
    assert [leaf for leaf in leaves if leaf not in lines and "resourceType" not in leaf] == []


def _leaves(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _leaves(part, f"{path}[{i}]")
    else:
        yield path


def test_the_bundle_is_what_the_dictionary_says(adt: Any) -> None:
    result = adt(PID)
    assert orjson.loads(result.bundle)["type"] == "transaction"
    assert result.resource["timestamp"] == "2024-03-05T14:30:12+05:45"
    assert result.entries == 1


@pytest.fixture(scope="module")
def shipped() -> Mappings:
    return load_mappings()


LAB = "MSH|^~\\&|LAB|FAC|||20240305143012+0100||ORU^R01|{}|P|2.5.1\rPID|1||123^^^A&1.2.3.4&ISO^MR||Doe^Jo\r"


def _observations(shipped: Mappings, control_id: str, *segments: str) -> list[str]:
    result = translate((LAB.format(control_id) + "\r".join(segments)).encode(), shipped, zone=ZONE)
    return [e["request"]["url"] for e in result.resource["entry"] if e["resource"]["resourceType"] == "Observation"]


def test_a_correction_finds_what_it_corrects_with_or_without_orc(shipped: Mappings) -> None:
    obr, obx = "OBR|1|P1|F1|X^Panel^L|||20240305", "OBX|1|NM|N^Na^L||{}|mmol/L|||||{}"
    first = _observations(shipped, "1", "ORC|RE|P1|F1", obr, obx.format("5.6", "F"))
    corrected = _observations(shipped, "2", obr, obx.format("4.1", "C"))
    assert first == corrected and len(first) == 1


def test_the_same_test_of_another_order_is_another_observation(shipped: Mappings) -> None:
    obx = "OBX|1|NM|N^Na^L||5|mmol/L|||||F"
    first = _observations(shipped, "1", "OBR|1|P1|F1|X^Panel^L|||20240305", obx)
    assert first != _observations(shipped, "2", "OBR|1|P2|F2|X^Panel^L|||20240305", obx), "another order"
    assert first != _observations(shipped, "3", "OBR|1|P1|F1|X^Panel^L|||20240306", obx), "another day"


@pytest.mark.parametrize(
    ("event", "person", "visit"), [("A01", "PUT", "PUT"), ("A08", "PUT", "POST"), ("A02", "POST", "POST")]
)
def test_an_admission_replaces_an_update_replaces_the_person_a_transfer_patches(
    shipped: Mappings, event: str, person: str, visit: str
) -> None:
    raw = f"MSH|^~\\&|A|B|||20240305143012||ADT^{event}|1|P|2.5\r{PID}\rPV1|1|I|W||||||||||||||||V1^^^A".encode()
    result = translate(raw, shipped, zone=ZONE)
    assert entry(result, "Patient")["request"]["method"] == person
    assert entry(result, "Encounter")["request"]["method"] == visit
    requests = [e["request"] for e in result.resource["entry"]]
    patched = [request["url"].partition("?")[0] for request in requests if request["method"] == "PATCH"]
    assert patched == [type_ for type_, way in (("Patient", person), ("Encounter", visit)) if way == "POST"]
