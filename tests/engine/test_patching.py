"""How a resource is written: replaced, patched, only created, deleted; what `""` and `remove` take away."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge.fhir.model import model
from hl7bridge.fhir.patch import LONGEST, Patch, erase, name_parts
from hl7bridge.fhir.resource import Erasure
from hl7bridge.mapping.load import read_tables
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.runtime import Issue
from hl7bridge.translation import Translation, translate

HERE = Path(__file__).parent
PID = "PID|1||123^^^A&1.2.3.4&ISO^MR||Doe^Jo"
PATIENT = "Patient?identifier=urn%3Aoid%3A1.2.3.4%7C123"
Translate = Any


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    tables, mistakes = read_tables(HERE / "tables", HERE / "patching", shipped=False)
    assert not mistakes
    return Mappings(tables, model())


@pytest.fixture(scope="module")
def adt(mappings: Mappings) -> Translate:
    def run(event: str, *segments: str) -> Translation:
        head = f"MSH|^~\\&|APP|FAC|||20240305143012||ADT^{event}|C1|P|2.5.1"
        return translate("\r".join((head, *segments)).encode(), mappings, zone=ZoneInfo("Asia/Kathmandu"))

    return run


def requests(result: Translation, type_: str) -> list[tuple[str, str]]:
    """Method and what follows the type in the url (or in ifNoneExist) of each entry of a type."""
    found = []
    for entry in result.resource["entry"]:
        method, url = entry["request"]["method"], entry["request"]["url"]
        if url.partition("?")[0].partition("/")[0] == type_:
            found.append((method, entry["request"].get("ifNoneExist", url.partition("?")[2])))
    return found


def operations(result: Translation, type_: str) -> list[dict[str, Any]]:
    """The operations of the only patch of a type: each part by its name, the value as it is."""
    patches = [
        entry["resource"]
        for entry in result.resource["entry"]
        if entry["request"]["method"] == "PATCH" and entry["request"]["url"].startswith(f"{type_}?")
    ]
    (patch,) = patches
    assert patch["resourceType"] == "Parameters"
    return [_parts(operation) for operation in patch["parameter"]]


def _parts(operation: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for part in operation["part"]:
        rest = {name: value for name, value in part.items() if name != "name"}
        made[part["name"]] = rest if part["name"] == "value" else next(iter(rest.values()))
    return made


def deleted(result: Translation, type_: str) -> list[str]:
    return list(dict.fromkeys(o["path"] for o in operations(result, type_) if o["type"] == "delete"))


def added(result: Translation, type_: str) -> dict[str, Any]:
    return {o["name"]: o["value"] for o in operations(result, type_) if o["type"] == "add"}


def test_an_owner_replaces(adt: Translate) -> None:
    assert requests(adt("A08", PID), "Patient") == [("PUT", PATIENT.partition("?")[2])]


def test_a_patcher_creates_what_is_not_there_and_then_changes_what_is(adt: Translate) -> None:
    search = PATIENT.partition("?")[2]
    result = adt("A02", PID + "||20200102")
    assert requests(result, "Patient") == [("POST", search), ("PATCH", search)]
    assert result.resource["entry"][0]["resource"]["birthDate"] == "2020-01-02"
    assert len({e["fullUrl"] for e in result.resource["entry"]}) == result.entries
    assert result.entries == len(result.resource["entry"])


def test_a_patch_says_what_was_sent_and_nothing_else(adt: Translate) -> None:
    result = adt("A02", PID + "||20200102")
    assert deleted(result, "Patient") == [
        "Patient.identifier.where(system='urn:oid:1.2.3.4')[0]",
        "Patient.name[0]",
        "Patient.birthDate",
    ]
    assert added(result, "Patient")["birthDate"] == {"valueDate": "2020-01-02"}
    assert added(result, "Patient")["name"] == {"valueHumanName": {"family": "Doe", "given": ["Jo"]}}


def test_the_same_message_gives_the_same_patch(adt: Translate) -> None:
    assert adt("A02", PID + "||20200102").bundle == adt("A02", PID + "||20200102").bundle


def test_null_removes_the_element_or_the_parts_that_the_field_writes(adt: Translate) -> None:
    result = adt("A02", 'PID|1||123^^^A&1.2.3.4&ISO^MR||||""||||||5551~5552|""~""')
    assert "Patient.birthDate" in deleted(result, "Patient")
    assert "Patient.telecom.where(use='work')[0]" in deleted(result, "Patient")
    assert result.deletes == ("Patient.birthDate", "Patient.telecom#work")
    assert "Patient.name[0]" not in deleted(result, "Patient")


def test_null_in_a_list_that_several_fields_write_keeps_it_and_is_counted(adt: Translate) -> None:
    result = adt("A02", 'PID|1||""||Doe||||||||||||||999')
    assert result.issues == {Issue("deletion-kept", "PID-Patient", "PID-3"): 1}
    assert not adt("A08", 'PID|1||""||Doe||||||||||||||999').issues


def test_an_extension_is_told_apart_by_its_url(adt: Translate) -> None:
    url = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"
    for mother in ("Jones", '""'):
        result = adt("A02", f"{PID}|{mother}")
        assert f"Patient.extension.where(url='{url}')[0]" in deleted(result, "Patient")
    assert added(adt("A02", f"{PID}|Jones"), "Patient")["extension"] == {
        "part": [{"name": "url", "valueUri": url}, {"name": "value", "valueString": "Jones"}]
    }


def test_the_extension_of_a_primitive_follows_its_value() -> None:
    url = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
    beside = {"extension": [{"url": url, "valueDateTime": "1980-01-02T03:04:00Z"}]}
    patch = Patch(model(), "Patient", {}).parameters({"birthDate": "1980-01-02", "_birthDate": beside}, ())
    _, value, extension = map(_parts, patch["parameter"])
    assert (value["path"], value["name"], value["value"]) == ("Patient", "birthDate", {"valueDate": "1980-01-02"})
    assert (extension["type"], extension["path"], extension["name"]) == ("add", "Patient.birthDate", "extension")
    assert extension["value"] == {
        "part": [{"name": "url", "valueUri": url}, {"name": "value", "valueDateTime": "1980-01-02T03:04:00Z"}]
    }


def test_a_choice_is_deleted_by_its_stem(adt: Translate) -> None:
    result = adt("A02", PID + "|" * 24 + "20240101")
    assert "Patient.deceased" in deleted(result, "Patient")
    assert added(result, "Patient")["deceased"] == {"valueDateTime": "2024-01-01"}


def test_a_quote_in_a_value_does_not_end_the_condition() -> None:
    names = [{"text": "o'neil\\"}]
    patch = Patch(model(), "Patient", {"name": ("text",)}).parameters({"name": names}, ())
    assert _parts(patch["parameter"][0])["path"] == "Patient.name.where(text='o\\'neil\\\\')[0]"


def test_a_patch_goes_into_a_period(adt: Translate) -> None:
    result = adt("A02", PID, "PV1|1|I" + "|" * 17 + "9^^^A" + "|" * 26 + "20240102")
    told = [(o["type"], o["path"]) for o in operations(result, "Encounter") if "period" in o["path"]]
    assert told == [
        ("insert", "Encounter.period"),
        ("insert", "Encounter.period.end"),
        ("replace", "Encounter.period.end"),
    ]


def test_a_row_that_removes_wins_over_one_that_writes(adt: Translate) -> None:
    visit = "PV1|1|I" + "|" * 17 + "9^^^A" + "|" * 25 + "20240101|20240102"
    result = adt("A01", PID, visit)
    (encounter,) = [e["resource"] for e in result.resource["entry"] if e["resource"]["resourceType"] == "Encounter"]
    assert encounter["period"] == {"start": "2024-01-01"}
    assert "Encounter.period.end" in deleted(result, "Encounter")
    alone = adt("A01", PID, "PV1|1|I" + "|" * 17 + "9^^^A" + "|" * 26 + "20240102")
    assert b'"period"' not in alone.bundle
    assert result.deletes == ()


def test_what_only_fills_is_created_and_never_patched(adt: Translate) -> None:
    visit = "PV1|1|I||{}" + "|" * 15 + "9^^^A"
    filled, said = adt("A02", PID, visit.format("")), adt("A02", PID, visit.format("urgent"))
    (created,) = [e["resource"] for e in filled.resource["entry"] if e["resource"]["resourceType"] == "Encounter"]
    assert (created["status"], created["priority"]) == ("unknown", {"text": "routine"})
    assert set(added(filled, "Encounter")) == {"identifier", "class", "subject"}
    assert set(added(said, "Encounter")) == {"identifier", "class", "subject", "priority"}


def test_a_row_may_say_how_the_resource_is_written(adt: Translate) -> None:
    told = {
        code: [method for method, _ in requests(adt("A08", PID, f"AL1|1||A|||{code}"), "AllergyIntolerance")]
        for code in ("", "D", "X", "Z")
    }
    assert told == {"": ["PUT"], "D": ["POST", "PATCH"], "X": ["POST"], "Z": ["DELETE"]}


def test_a_part_that_is_only_added_is_known_by_its_id() -> None:
    link = {"id": "abc", "other": {"reference": "urn:uuid:1"}, "type": "replaces"}
    patch = Patch(model(), "Patient", {"link": ("id",)}).parameters({"link": [link]}, ())
    told = [_parts(o) for o in patch["parameter"]]
    assert {o["path"] for o in told[:-1]} == {"Patient.link.where(id='abc')[0]"}
    assert told[-1]["value"] == {
        "part": [
            {"name": "id", "valueString": "abc"},
            {"name": "other", "valueReference": {"reference": "urn:uuid:1"}},
            {"name": "type", "valueCode": "replaces"},
        ]
    }


def test_what_a_type_keeps_is_the_only_thing_a_replacement_leaves_alone(tmp_path: Path) -> None:
    (tmp_path / "identity.yaml").write_text("Patient: {keeps: [link]}\n")
    tables, mistakes = read_tables(HERE / "tables", HERE / "patching", tmp_path, shipped=False)
    assert not mistakes
    head = "MSH|^~\\&|APP|FAC|||20240305143012||ADT^A08|C1|P|2.5.1"
    result = translate(f"{head}\r{PID}||20200102".encode(), Mappings(tables, model()), zone=ZoneInfo("Asia/Kathmandu"))
    assert [method for method, _ in requests(result, "Patient")] == ["POST", "PATCH"]
    gone = set(deleted(result, "Patient"))
    assert {"Patient.birthDate", "Patient.gender", "Patient.deceased", "Patient.name[0]", "Patient.telecom[0]"} <= gone
    assert not {path for path in gone if path.startswith("Patient.link")}
    assert added(result, "Patient").keys() == {"identifier", "name", "birthDate"}


def test_the_parts_of_a_list_are_told_apart_by_what_stands_deeper() -> None:
    def doctor(code: str) -> dict[str, Any]:
        return {"type": [{"coding": [{"code": code}]}], "individual": {"display": code}}

    visit = {"participant": [doctor("CON"), doctor("CON"), doctor("a b"), {"individual": {"display": "x"}}]}
    name_parts("participant", visit["participant"], "type.coding.code")
    ids = [part["id"] for part in visit["participant"]]
    assert [ids[0], ids[1], ids[3]] == ["participant-CON-1", "participant-CON-2", "participant-1"]
    assert " " not in ids[2]
    patch = Patch(model(), "Encounter", {"participant": ("type.coding.code",)})
    paths = {_parts(o)["path"] for o in patch.parameters(visit, [ATTENDER])["parameter"] if len(o["part"]) == 2}
    for stem in ("participant-CON", "participant-ATND", "participant"):
        assert {f"Encounter.participant.where(id='{stem}-{number}')[0]" for number in (1, 20)} <= paths
    assert len(paths) == 4 * LONGEST


ATTENDER = Erasure(("participant",), (("type.coding.code", "ATND"),))


def test_a_row_takes_away_the_parts_that_say_what_stands_deeper() -> None:
    body: dict[str, Any] = {"participant": [{"type": [{"coding": [{"code": c}]}]} for c in ("ATND", "CON")]}
    erase(body, ATTENDER)
    assert [part["type"][0]["coding"][0]["code"] for part in body["participant"]] == ["CON"]
