"""What the server holds after an event: each family of ADT events says of visit, person and place what HL7 means."""

from __future__ import annotations

from typing import Any

import pytest

from hl7bridge import Mappings, load_mappings, translate
from hl7bridge.errors import MessageError

A = "NORTHLAKE&2.16.840.1.113883.19.4711&ISO"
PATIENT = f"PID|1||4711002^^^{A}^MR||Brandauer^Josefine||19610317|F"
OTHER = f"PID|2||4711009^^^{A}^MR||Sedlak^Oskar||19480901|M"
BED = "3W^312^2^NORTHLAKE"
AWAY = "5E^501^1^NORTHLAKE"
NEVER_DEFINED = {"A56", "A57", "A58", "A59"}
QUERY = {"A19"}  # a query of its own message types, QRY and ADR: nobody sends ADT^A19


@pytest.fixture(scope="module")
def tables() -> Mappings:
    return load_mappings()


def visit(patient_class: str = "I", at: str = BED, number: str = "V1", **fields: str) -> str:
    """A PV1 with further fields by name: `PV1(f45="2024")` is PV1-45."""
    by_number = {2: patient_class, 3: at, 19: f"{number}^^^{A}^VN", 44: "20240305+0000"}
    by_number |= {int(name[1:]): value for name, value in fields.items()}
    return "PV1|1|" + "|".join(by_number.get(n, "") for n in range(2, 53)).rstrip("|")


def message(event: str, *segments: str, code: str = "ADT", version: str = "2.5.1") -> bytes:
    head = f"MSH|^~\\&|ADT|NORTHLAKE|||20240307100000+0000||{code}^{event}|1|P|{version}"
    return "\r".join([head, f"EVN|{event}|20240307100000+0000", *segments, ""]).encode()


class Outcome:
    """The bundle of one message, to be asked for its resources."""

    def __init__(self, tables: Mappings, event: str, *segments: str, **more: str) -> None:
        written = translate(message(event, *segments, **more), tables).resource["entry"]
        self.entries = [entry for entry in written if entry["request"]["method"] in ("PUT", "POST")]
        self.patches = [entry for entry in written if entry["request"]["method"] == "PATCH"]
        self.deleted = [entry["request"]["url"] for entry in written if entry["request"]["method"] == "DELETE"]

    def all(self, type: str) -> list[dict[str, Any]]:
        return [entry["resource"] for entry in self.entries if entry["resource"]["resourceType"] == type]

    def one(self, type: str) -> dict[str, Any]:
        (found,) = self.all(type)
        return found

    def ways(self, type: str) -> set[str]:
        """How resources of a type are written: PUT, POST (created only), PATCH."""
        patched = {e["request"]["method"] for e in self.patches if e["request"]["url"].startswith(type + "?")}
        return patched or {e["request"]["method"] for e in self.entries if e["resource"]["resourceType"] == type}

    def deletions(self, type: str) -> set[str]:
        """The paths that patches of a type take away."""
        operations = [
            {part["name"]: part.get("valueCode") or part.get("valueString") for part in operation["part"]}
            for entry in self.patches
            if entry["request"]["url"].startswith(type + "?")
            for operation in entry["resource"]["parameter"]
        ]
        return {str(operation["path"]) for operation in operations if operation["type"] == "delete"}

    def found_by(self, type: str) -> list[str]:
        """The numbers by which the resources of a type are looked up on the server."""
        urls = [entry["request"]["url"] for entry in self.patches]
        return [url.rpartition("%7C")[2] for url in urls if url.startswith(type + "?")]

    def by_number(self, type: str, value: str) -> dict[str, Any]:
        return next(e["resource"] for e in self.entries if e["fullUrl"] == self.url(type, value))

    def url(self, type: str, value: str) -> str:
        """The fullUrl of the resource of this type with this identifier."""
        (found,) = [
            entry["fullUrl"]
            for entry in self.entries
            if entry["resource"]["resourceType"] == type
            and any(i.get("value") == value for i in entry["resource"].get("identifier", ()))
        ]
        return str(found)

    def places(self, encounter: dict[str, Any]) -> dict[str, str | None]:
        """Where the visit is, was and will be: the names of its places with their status."""
        names = {entry["fullUrl"]: entry["resource"].get("name") for entry in self.entries}
        return {
            str(names[place["location"]["reference"]]): place.get("status") for place in encounter.get("location", ())
        }


def test_every_event_of_adt_that_hl7_defines_has_a_table(tables: Mappings) -> None:
    defined = {f"A{n:02}" for n in range(1, 63)} - NEVER_DEFINED - QUERY
    assert {event for code, event in tables.events if code == "ADT"} == defined


def test_every_event_of_oru_has_a_table(tables: Mappings) -> None:
    assert {event for code, event in tables.events if code == "ORU"} == {"R01", "R30", "R31", "R32", "R40"}


@pytest.mark.parametrize("event", sorted(NEVER_DEFINED | QUERY))
def test_an_event_that_does_not_exist_is_refused_by_name(tables: Mappings, event: str) -> None:
    with pytest.raises(MessageError) as caught:
        Outcome(tables, event, PATIENT)
    assert caught.value.reason.code == "unsupported-event"


def test_the_event_chooses_the_table_whatever_structure_or_version_the_header_names(tables: Mappings) -> None:
    raw = message("A08", PATIENT, visit())
    for changed in (raw.replace(b"ADT^A08", b"ADT^A08^ADT_A08"), raw.replace(b"2.5.1", b"2.1")):
        assert translate(changed, tables).table == "ADT_A01"


# -- visits -----------------------------------------------------------------------------------------------------------

STATUS_BY_EVENT = {
    "A01": "in-progress",
    "A02": "in-progress",
    "A03": "finished",
    "A04": "in-progress",
    "A05": "planned",
    "A06": "in-progress",
    "A07": "in-progress",
    "A08": "in-progress",
    "A09": "in-progress",
    "A10": "in-progress",
    "A11": "cancelled",
    "A12": "in-progress",
    "A13": "in-progress",
    "A14": "planned",
    "A15": "in-progress",
    "A16": "in-progress",
    "A17": "in-progress",
    "A21": "onleave",
    "A22": "in-progress",
    "A23": "entered-in-error",
    "A25": "in-progress",
    "A26": "in-progress",
    "A27": "cancelled",
    "A32": "in-progress",
    "A33": "in-progress",
    "A38": "cancelled",
    "A52": "in-progress",
    "A53": "onleave",
    "A54": "in-progress",
    "A55": "in-progress",
    "A61": "in-progress",
    "A62": "in-progress",
}


@pytest.mark.parametrize(("event", "status"), STATUS_BY_EVENT.items())
def test_the_event_says_how_the_visit_is(tables: Mappings, event: str, status: str) -> None:
    assert Outcome(tables, event, PATIENT, visit()).one("Encounter")["status"] == status


@pytest.mark.parametrize("event", ["A03", "A11", "A13", "A16", "A21", "A38"])
def test_a_discharge_time_does_not_overrule_the_event(tables: Mappings, event: str) -> None:
    encounter = Outcome(tables, event, PATIENT, visit(f45="20240309+0000")).one("Encounter")
    assert encounter["status"] == STATUS_BY_EVENT[event]


def test_a_discharge_ends_the_visit_and_leaves_the_bed(tables: Mappings) -> None:
    after = Outcome(tables, "A03", PATIENT, visit(f36="01", f45="20240309+0000"))
    encounter = after.one("Encounter")
    assert encounter["period"] == {"start": "2024-03-05", "end": "2024-03-09"}
    assert after.places(encounter) == {"2": "completed"}


def test_a_cancelled_discharge_reopens_the_visit(tables: Mappings) -> None:
    after = Outcome(tables, "A13", PATIENT, visit(f36="01", f45="20240309+0000"))
    encounter = after.one("Encounter")
    assert encounter["status"] == "in-progress"
    assert encounter["period"] == {"start": "2024-03-05"}
    assert "dischargeDisposition" not in encounter.get("hospitalization", {})
    assert after.places(encounter) == {"2": "active"}


@pytest.mark.parametrize("event", ["A11", "A27", "A38"])
def test_a_cancelled_visit_was_nowhere(tables: Mappings, event: str) -> None:
    after = Outcome(tables, event, PATIENT, visit())
    assert after.places(after.one("Encounter")) == {"2": None}


def test_a_transfer_is_here_now_and_was_there_before(tables: Mappings) -> None:
    after = Outcome(tables, "A02", PATIENT, visit(at=AWAY, f6=BED))
    assert after.places(after.one("Encounter")) == {"1": "active", "2": "completed"}


def test_a_cancelled_transfer_never_was_at_the_other_place(tables: Mappings) -> None:
    after = Outcome(tables, "A12", PATIENT, visit(f6=AWAY))
    assert after.places(after.one("Encounter")) == {"2": "active"}


def test_a_pending_transfer_reserves_a_place_and_its_cancel_gives_it_back(tables: Mappings) -> None:
    pending = Outcome(tables, "A15", PATIENT, visit(f42=AWAY))
    assert pending.places(pending.one("Encounter")) == {"2": "active", "1": "reserved"}
    cancelled = Outcome(tables, "A26", PATIENT, visit(f42=AWAY), f"PV2|{AWAY}")
    assert cancelled.places(cancelled.one("Encounter")) == {"2": "active"}


def test_a_pending_admission_has_a_planned_place(tables: Mappings) -> None:
    pending = Outcome(tables, "A14", PATIENT, visit())
    assert pending.places(pending.one("Encounter")) == {"2": "planned"}


@pytest.mark.parametrize("event", ["A16", "A25"])
def test_an_expected_discharge_and_its_cancel_end_nothing(tables: Mappings, event: str) -> None:
    encounter = Outcome(tables, event, PATIENT, visit(f45="20240309+0000")).one("Encounter")
    assert encounter["period"] == {"start": "2024-03-05"}


PLANNED = "https://hl7.org/fhir/5.0/StructureDefinition/extension-Encounter.planned"


@pytest.mark.parametrize(
    ("event", "pv2", "expected"),
    [
        ("A05", "", {"StartDate": "2024-03-09T08:00:00+00:00"}),
        ("A14", "", {"StartDate": "2024-03-09T08:00:00+00:00"}),
        ("A16", "", {"EndDate": "2024-03-09T08:00:00+00:00"}),
        ("A14", "PV2||||||||20240310", {"StartDate": "2024-03-10"}),
        ("A16", "PV2|||||||||20240310", {"EndDate": "2024-03-10"}),
        ("A01", "", {}),
    ],
)
def test_when_a_planned_event_is_expected_is_said_once(
    tables: Mappings, event: str, pv2: str, expected: dict[str, str]
) -> None:
    """EVN-3, and PV2-8 or PV2-9 where they say it."""
    head = f"MSH|^~\\&|ADT|NORTHLAKE|||20240307100000+0000||ADT^{event}|1|P|2.5.1"
    evn = f"EVN|{event}|20240307100000+0000|20240309080000+0000"
    segments = [head, evn, PATIENT, visit(), *([pv2] if pv2 else [])]
    bundle = translate("\r".join(segments).encode(), tables).resource
    (found,) = (e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Encounter")
    said = {one["url"]: one["valueDateTime"] for one in found.get("extension", [])}
    assert said == {PLANNED + name: moment for name, moment in expected.items()}


def test_a_pending_transfer_says_when_it_is_planned(tables: Mappings) -> None:
    head = "MSH|^~\\&|ADT|NORTHLAKE|||20240307100000+0000||ADT^A15|1|P|2.5.1"
    segments = [head, "EVN|A15|20240307|20240309080000+0000", PATIENT, visit(f42=AWAY)]
    bundle = translate("\r".join(segments).encode(), tables).resource
    (found,) = (e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Encounter")
    (place,) = (one for one in found["location"] if one["status"] == "reserved")
    assert place["period"] == {"start": "2024-03-09T08:00:00+00:00"}


def test_the_patient_type_stands_beside_the_admission_type(tables: Mappings) -> None:
    found = Outcome(tables, "A01", PATIENT, visit(f4="R", f18="DAYCASE^Day case^L")).one("Encounter")
    assert [one["coding"][0]["code"] for one in found["type"]] == ["R", "DAYCASE"]


@pytest.mark.parametrize(
    ("segment", "type_"), [("DG1|1|{0}|{1}|Words", "Condition"), ("PR1|1|{0}|{1}|Words|20240305", "Procedure")]
)
def test_a_code_of_version_2_2_has_its_system_in_a_field_of_its_own(tables: Mappings, segment: str, type_: str) -> None:
    def coding(system: str, code: str) -> tuple[str, str]:
        found = Outcome(tables, "A01", PATIENT, visit(), segment.format(system, code)).one(type_)["code"]["coding"]
        return found[0].get("system"), found[0]["code"]

    assert coding("I9C", "250.00") == ("http://hl7.org/fhir/sid/icd-9-cm", "250.00")
    assert coding("I9C", "E11^Diabetes^I10") == ("http://hl7.org/fhir/sid/icd-10", "E11")
    assert coding("", "250.00") == (None, "250.00")


@pytest.mark.parametrize(
    ("event", "status"), [("A21", "reserved"), ("A22", "active"), ("A52", "active"), ("A53", "reserved")]
)
def test_the_bed_of_a_patient_on_leave_is_kept(tables: Mappings, event: str, status: str) -> None:
    after = Outcome(tables, event, PATIENT, visit())
    assert after.places(after.one("Encounter")) == {"2": status}


def test_a_cancelled_arrival_takes_the_temporary_place_away(tables: Mappings) -> None:
    arrived = Outcome(tables, "A10", PATIENT, visit(f11=AWAY))
    assert arrived.places(arrived.one("Encounter")) == {"2": "active", "1": "active"}
    cancelled = Outcome(tables, "A32", PATIENT, visit(f11=AWAY))
    assert cancelled.places(cancelled.one("Encounter")) == {"2": "active"}


def test_a_change_of_class_keeps_the_visit(tables: Mappings) -> None:
    after = Outcome(tables, "A06", PATIENT, visit("I"))
    assert after.one("Encounter")["class"]["code"] == "IMP"


def test_two_patients_swap_their_beds(tables: Mappings) -> None:
    after = Outcome(tables, "A17", PATIENT, visit(at="3W^314^1", number="V1"), OTHER, visit(at=BED, number="V2"))
    first, second = after.all("Encounter")
    assert first["subject"]["reference"] == after.url("Patient", "4711002")
    assert second["subject"]["reference"] == after.url("Patient", "4711009")
    assert (after.places(first), after.places(second)) == ({"1": "active"}, {"2": "active"})


@pytest.mark.parametrize(
    ("event", "field", "role"),
    [("A54", "f7", "ATND"), ("A55", "f7", "ATND"), ("A61", "f9", "CON"), ("A62", "f9", "CON")],
)
def test_a_doctor_changes(tables: Mappings, event: str, field: str, role: str) -> None:
    after = Outcome(tables, event, PATIENT, visit(**{field: "44^Weidinger^Clara"}))
    (participant,) = after.one("Encounter")["participant"]
    assert participant["type"][0]["coding"][0]["code"] == role
    assert after.one("Practitioner")["name"][0]["family"] == "Weidinger"


# -- places and allergies ---------------------------------------------------------------------------------------------


def test_a_bed_status_is_about_the_bed_alone(tables: Mappings) -> None:
    after = Outcome(tables, "A20", f"NPU|{BED}|H")
    (bed,) = [place for place in after.all("Location") if place["name"] == "2"]
    assert bed["operationalStatus"]["code"] == "H"
    assert not after.all("Patient") and not after.all("Encounter")


def test_an_allergy_that_is_taken_back_was_entered_in_error(tables: Mappings) -> None:
    added, removed = Outcome(
        tables, "A60", PATIENT, "IAM|1|DA|1^Penicillin^L|SV||A|7^NORTHLAKE", "IAM|2|DA|2^Latex^L|||D|8^NORTHLAKE"
    ).all("AllergyIntolerance")
    assert added["clinicalStatus"]["coding"][0]["code"] == "active"
    assert removed["verificationStatus"]["coding"][0]["code"] == "entered-in-error"
    assert "clinicalStatus" not in removed


# -- merges, moves, numbers, links ------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A39", "A40"])
def test_of_two_merged_records_one_stays_and_one_points_to_it(tables: Mappings, event: str) -> None:
    after = Outcome(tables, event, PATIENT, f"MRG|4710001^^^{A}^MR")
    survivor, prior = after.by_number("Patient", "4711002"), after.by_number("Patient", "4710001")
    assert prior["active"] is False
    assert [(link["type"], link["other"]["reference"]) for link in prior["link"]] == [
        ("replaced-by", after.url("Patient", "4711002"))
    ]
    assert [(link["type"], link["other"]["reference"]) for link in survivor["link"]] == [
        ("replaces", after.url("Patient", "4710001"))
    ]
    assert survivor.get("active") is not False
    assert after.ways("Patient") == {"PATCH"}


def test_a_person_merged_by_his_outer_number_alone_is_merged_too(tables: Mappings) -> None:
    after = Outcome(tables, "A30", PATIENT, f"MRG||||77^^^{A}^PI")
    assert after.by_number("Patient", "77")["active"] is False


@pytest.mark.parametrize("event", ["A35", "A36", "A41"])
def test_a_merged_account_is_inactive_and_part_of_the_one_that_stays(tables: Mappings, event: str) -> None:
    patient = f"{PATIENT}||||||||||AC1^^^{A}^AN"
    after = Outcome(tables, event, patient, f"MRG|4710001^^^{A}^MR||AC0^^^{A}^AN")
    prior = after.by_number("Account", "AC0")
    assert prior["status"] == "inactive"
    assert prior["partOf"]["reference"] == after.url("Account", "AC1")
    assert after.by_number("Account", "AC1")["status"] == "active"


def test_a_merged_visit_was_entered_in_error_and_is_part_of_the_one_that_stays(tables: Mappings) -> None:
    after = Outcome(tables, "A42", PATIENT, f"MRG|4711002^^^{A}^MR||||V0^^^{A}^VN", visit(number="V1"))
    prior = after.by_number("Encounter", "V0")
    assert prior["status"] == "entered-in-error"
    assert prior["partOf"]["reference"] == after.url("Encounter", "V1")
    assert after.ways("Encounter") == {"PATCH"}


def test_a_moved_account_belongs_to_the_patient_of_pid(tables: Mappings) -> None:
    after = Outcome(tables, "A44", f"{PATIENT}||||||||||AC1^^^{A}^AN", f"MRG|4710001^^^{A}^MR")
    (owner,) = after.by_number("Account", "AC1")["subject"]
    assert owner["reference"] == after.url("Patient", "4711002")
    assert after.ways("Account") == {"PATCH"}


def test_moved_numbers_link_the_two_records_and_end_neither(tables: Mappings) -> None:
    after = Outcome(tables, "A43", PATIENT, f"MRG|4710001^^^{A}^MR")
    source = after.by_number("Patient", "4710001")
    assert [link["type"] for link in source["link"]] == ["seealso"]
    assert "active" not in source


def test_a_moved_visit_belongs_to_patient_and_account_of_pid(tables: Mappings) -> None:
    patient = f"{PATIENT}||||||||||AC1^^^{A}^AN"
    after = Outcome(tables, "A45", patient, f"MRG|4710001^^^{A}^MR||||V1^^^{A}^VN", visit(number="V1"))
    encounter = after.one("Encounter")
    assert encounter["subject"]["reference"] == after.url("Patient", "4711002")
    assert encounter["account"][0]["reference"] == after.url("Account", "AC1")
    assert after.found_by("Encounter") == ["V1"]


def test_a_changed_record_number_finds_the_record_by_the_former_one(tables: Mappings) -> None:
    after = Outcome(tables, "A47", PATIENT, f"MRG|4710001^^^{A}^MR")
    patient = after.one("Patient")
    assert [(i["value"], i.get("use")) for i in patient["identifier"]] == [("4711002", None), ("4710001", "old")]
    assert after.found_by("Patient") == ["4710001"]


def test_a_changed_account_number_finds_the_account_by_the_former_one(tables: Mappings) -> None:
    after = Outcome(tables, "A49", f"{PATIENT}||||||||||AC1^^^{A}^AN", f"MRG|4711002^^^{A}^MR||AC0^^^{A}^AN")
    assert after.found_by("Account") == ["AC0"]
    assert [i["value"] for i in after.one("Account")["identifier"]] == ["AC1", "AC0"]


def test_a_changed_visit_number_finds_the_visit_by_the_former_one(tables: Mappings) -> None:
    after = Outcome(tables, "A50", PATIENT, f"MRG|4711002^^^{A}^MR||||V0^^^{A}^VN", visit(number="V1"))
    assert after.found_by("Encounter") == ["V0"]
    assert {i["value"] for i in after.one("Encounter")["identifier"]} == {"V0", "V1"}


@pytest.mark.parametrize(("event", "field"), [("A46", "MRG||||88^^^{A}^PI"), ("A48", "MRG||88^^^{A}^PI")])
def test_another_number_of_a_patient_changes_and_the_record_is_found_by_its_own(
    tables: Mappings, event: str, field: str
) -> None:
    after = Outcome(tables, event, PATIENT, field.replace("{A}", A))
    assert after.found_by("Patient") == ["4711002"]
    assert ("88", "old") in [(i["value"], i.get("use")) for i in after.one("Patient")["identifier"]]


def test_an_alternate_visit_number_changes_and_the_visit_is_found_by_its_own(tables: Mappings) -> None:
    segments = f"MRG|4711002^^^{A}^MR|||||W0^^^{A}^VN", visit(number="V1", f50=f"W1^^^{A}^VN")
    assert Outcome(tables, "A51", PATIENT, *segments).found_by("Encounter") == ["V1"]


def test_linked_records_point_to_each_other_and_unlinking_takes_that_away(tables: Mappings) -> None:
    linked = Outcome(tables, "A24", PATIENT, OTHER)
    ids = {}
    for number, other in (("4711002", "4711009"), ("4711009", "4711002")):
        (link,) = linked.by_number("Patient", number)["link"]
        assert (link["type"], link["other"]["reference"]) == ("seealso", linked.url("Patient", other))
        ids[number] = link["id"]
    unlinked = Outcome(tables, "A37", PATIENT, OTHER)
    assert all("link" not in patient for patient in unlinked.all("Patient"))
    assert {f"Patient.link.where(id='{id_}')[0]" for id_ in ids.values()} <= unlinked.deletions("Patient")


def test_a_cancelled_discharge_takes_the_end_from_the_server_too(tables: Mappings) -> None:
    gone = Outcome(tables, "A13", PATIENT, visit()).deletions("Encounter")
    assert {"Encounter.period.end", "Encounter.hospitalization.dischargeDisposition"} <= gone


def test_an_update_does_not_reopen_a_visit_by_its_class(tables: Mappings) -> None:
    (patch,) = [e for e in Outcome(tables, "A08", PATIENT, visit()).patches if "Encounter" in e["request"]["url"]]
    assert "Encounter.status" not in str(patch["resource"])


# -- deletes ----------------------------------------------------------------------------------------------------------


def test_a_deleted_person_is_inactive_and_a_deleted_visit_in_error_unless_the_site_says_otherwise(
    tables: Mappings,
) -> None:
    assert Outcome(tables, "A29", PATIENT).one("Patient")["active"] is False
    assert Outcome(tables, "A23", PATIENT, visit()).one("Encounter")["status"] == "entered-in-error"
    kept = load_mappings(settings={"delete-person": "keep", "delete-visit": "keep"})
    assert Outcome(kept, "A29", PATIENT).ways("Patient") == {"POST"}
    assert Outcome(kept, "A23", PATIENT, visit()).ways("Encounter") == {"POST"}
    gone = load_mappings(settings={"delete-person": "delete", "delete-visit": "delete"})
    assert [url.partition("?")[0] for url in Outcome(gone, "A29", PATIENT).deleted] == ["Patient"]
    assert [url.partition("?")[0] for url in Outcome(gone, "A23", PATIENT, visit()).deleted] == ["Encounter"]
