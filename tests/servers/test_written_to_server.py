"""What the real FHIR server holds after terse messages, deletions, merges, resends: patches keep what was not said."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.mapping.mappings import Mappings

pytestmark = pytest.mark.servers
ZONE = ZoneInfo("Europe/Vienna")
OID = "1.2.40.0.10.1.4.3.1"


class Hospital:
    """Sends messages' bundles to the server and reads back what it holds."""

    def __init__(self, base_url: str, mappings: Mappings) -> None:
        self.base_url, self.mappings = base_url, mappings

    def send(self, event: str, *segments: str, mappings: Mappings | None = None) -> list[str]:
        """The statuses of the entries."""
        head = f"MSH|^~\\&|ADT|LAKESIDE|||20240602101500+0200||ADT^{event}|{uuid.uuid4().hex[:12]}|P|2.5.1"
        raw = "\r".join((head, f"EVN|{event}|20240602101500+0200", *segments)).encode()
        bundle = translate(raw, mappings or self.mappings, zone=ZONE).bundle
        answer = self._open(self.base_url, bundle)
        return [entry["response"]["status"][:3] for entry in answer["entry"]]

    def all(self, type_: str, value: str) -> list[dict[str, Any]]:
        """Every resource with this identifier."""
        search = urllib.parse.urlencode({"identifier": f"urn:oid:{OID}|{value}"})
        return [entry["resource"] for entry in self._open(f"{self.base_url}/{type_}?{search}").get("entry", ())]

    def one(self, type_: str, value: str) -> dict[str, Any]:
        (found,) = self.all(type_, value)
        return found

    def put(self, type_: str, value: str, body: dict[str, Any]) -> None:
        """Writes a resource past the bridge."""
        resource = {"resourceType": type_, "identifier": [{"system": f"urn:oid:{OID}", "value": value}], **body}
        request = {"method": "PUT", "url": f"{type_}?identifier=urn:oid:{OID}%7C{value}"}
        entry = {"resource": resource, "request": request}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        self._open(self.base_url, json.dumps(bundle).encode())

    def _open(self, url: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/fhir+json", "Cache-Control": "no-cache"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120) as answer:
            return json.load(answer)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def hospital(fhir_server: Any) -> Hospital:
    return Hospital(fhir_server.base_url, load_mappings())


@pytest.fixture
def new() -> Callable[[], str]:
    """A number nobody had before."""
    return lambda: uuid.uuid4().hex[:10]


def pid(number: str, rest: str = "") -> str:
    return f"PID|1||{number}^^^LAKESIDE&{OID}&ISO^MR|{rest}"


def pv1(visit: str, **fields: str) -> str:
    values = {2: "I", 19: f"{visit}^^^LAKESIDE&{OID}&ISO^VN", **{int(k[1:]): v for k, v in fields.items()}}
    return "PV1|1|" + "|".join(values.get(number, "") for number in range(2, max(values) + 1))


FULL = "|Doe^Jo||19800203|F|||1 Main St^^Linz||5551^PRN^PH|5552^WPN^PH||M"
ATTENDING = "77^House^Gregory^^^^^^LAKESIDE"


def admit(hospital: Hospital, patient: str, visit: str) -> None:
    hospital.send(
        "A01", pid(patient, FULL), pv1(visit, f3="WARD^1^2", f7=ATTENDING, f14="7", f44="20240601080000+0200")
    )


def test_a_terse_transfer_keeps_what_it_does_not_say(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    admit(hospital, patient, visit)
    before = hospital.one("Patient", patient)
    for _ in range(2):
        hospital.send("A02", pid(patient), pv1(visit, f3="ICU^9^1"))
        person, stay = hospital.one("Patient", patient), hospital.one("Encounter", visit)
        assert {n: v for n, v in person.items() if n != "meta"} == {n: v for n, v in before.items() if n != "meta"}
        assert stay["period"] == {"start": "2024-06-01T08:00:00+02:00"}
        assert "admitSource" in stay["hospitalization"]
        assert len(stay["participant"]) == 1
        assert len(stay["location"]) == 1


def test_a_terse_discharge_ends_the_stay_and_keeps_its_beginning(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    admit(hospital, patient, visit)
    for _ in range(2):
        hospital.send("A03", pid(patient), pv1(visit, f36="01", f45="20240605+0200"))
        stay = hospital.one("Encounter", visit)
        assert stay["status"] == "finished"
        assert stay["period"]["start"] == "2024-06-01T08:00:00+02:00"
        assert stay["period"]["end"].startswith("2024-06-05")
        assert {"admitSource", "dischargeDisposition"} <= stay["hospitalization"].keys()


def test_null_takes_away_and_what_is_not_sent_stays(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    admit(hospital, patient, visit)
    for _ in range(2):
        hospital.send("A02", pid(patient, '|||""||||||""'), pv1(visit))
        person = hospital.one("Patient", patient)
        assert "birthDate" not in person
        assert [t["value"] for t in person["telecom"]] == ["5552"]
        assert person["name"][0]["family"] == "Doe"


def test_a_patient_nobody_knew_is_created_by_a_patch(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    hospital.send("A02", pid(patient, FULL), pv1(visit, f3="ICU^9^1", f44="20240601"))
    person = hospital.one("Patient", patient)
    assert person["birthDate"] == "1980-02-03"
    assert len(person["telecom"]) == 2
    assert hospital.one("Encounter", visit)["period"] == {"start": "2024-06-01"}


def test_a_site_may_have_its_updates_patched(hospital: Hospital, new: Callable[[], str], tmp_path: Path) -> None:
    """A sender whose A08 says only what changed."""
    owners = "ADT^A01, ADT^A04, ADT^A05, ADT^A28, ADT^A31"
    (tmp_path / "identity.yaml").write_text(f"Patient: {{owners: [{owners}]}}\n")
    site = load_mappings(tmp_path)
    patient, visit = new(), new()
    admit(hospital, patient, visit)
    hospital.send("A08", pid(patient, "|Doe^Joanna"), pv1(visit), mappings=site)
    person = hospital.one("Patient", patient)
    assert (person["name"][0]["given"], person["birthDate"], len(person["telecom"])) == (["Joanna"], "1980-02-03", 2)
    hospital.send("A08", pid(patient, "|Doe^Joanna"), pv1(visit))
    assert "birthDate" not in hospital.one("Patient", patient), "the shipped tables take an A08 for the whole"


def mrg(*numbers: str) -> str:
    return "MRG|" + "~".join(f"{number}^^^LAKESIDE&{OID}&ISO^MR" for number in numbers)


def references(person: dict[str, Any]) -> set[tuple[str, str]]:
    return {(link["type"], link["other"]["reference"]) for link in person.get("link", ())}


def test_a_merge_leaves_both_records_as_they_are_and_links_them(hospital: Hospital, new: Callable[[], str]) -> None:
    survivor, prior, other = new(), new(), new()
    for number in (survivor, prior):
        hospital.send("A28", pid(number, FULL))
    for _ in range(2):
        hospital.send("A40", pid(survivor), mrg(prior))
        kept, gone = hospital.one("Patient", survivor), hospital.one("Patient", prior)
        assert references(kept) == {("replaces", f"Patient/{gone['id']}")}
        assert references(gone) == {("replaced-by", f"Patient/{kept['id']}")}
        assert len(kept["link"]) == len(gone["link"]) == 1
        assert gone["active"] is False
        assert kept.get("active") is not False
        for person in (kept, gone):
            assert (person["birthDate"], len(person["telecom"])) == ("1980-02-03", 2)
    hospital.send("A40", pid(survivor), mrg(other))
    assert len(hospital.one("Patient", survivor)["link"]) == 2, "a later merge keeps the earlier one's link"


def test_two_numbers_merged_away_are_two_records_linked_both_ways(hospital: Hospital, new: Callable[[], str]) -> None:
    survivor, first, second = new(), new(), new()
    hospital.send("A28", pid(first, FULL))  # the second and the survivor are nobody the server knows
    for _ in range(2):
        hospital.send("A40", pid(survivor), mrg(first, second))
        kept = hospital.one("Patient", survivor)
        gone = [hospital.one("Patient", number) for number in (first, second)]
        assert references(kept) == {("replaces", f"Patient/{person['id']}") for person in gone}
        assert len(kept["link"]) == 2
        for person in gone:
            assert person["active"] is False
            assert references(person) == {("replaced-by", f"Patient/{kept['id']}")}
        assert gone[0]["birthDate"] == "1980-02-03"
        assert [person["identifier"][0]["value"] for person in gone] == [first, second]


def test_a_site_may_have_visits_deleted(hospital: Hospital, new: Callable[[], str], tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    messages.mkdir()
    (messages / "ADT_A02.yaml").write_text(
        "message: ADT_A02\nrows:\n  PV1: {use: PV1-Encounter, into: Encounter#visit, write: delete}\n"
        "  PV2: {use: PV2-Encounter, into: Encounter#visit}\n"
    )
    site = load_mappings(tmp_path)
    patient, visit = new(), new()
    hospital.put("Encounter", visit, {"status": "planned", "class": {"code": "AMB"}})  # nothing refers to it
    assert hospital.one("Encounter", visit)
    for _ in range(2):
        hospital.send("A02", pid(patient, FULL), pv1(visit), mappings=site)
        assert hospital.all("Encounter", visit) == []
        assert hospital.one("Patient", patient)["birthDate"] == "1980-02-03"


def mrg_visit(patient: str, visit: str) -> str:
    return f"{mrg(patient)}||||{visit}^^^LAKESIDE&{OID}&ISO^VN"


def test_a_cancelled_discharge_reopens_the_stay(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    admit(hospital, patient, visit)
    hospital.send("A03", pid(patient), pv1(visit, f36="01", f45="20240605+0200"))
    for _ in range(2):
        hospital.send("A13", pid(patient), pv1(visit, f3="WARD^1^2"))
        stay = hospital.one("Encounter", visit)
        assert stay["status"] == "in-progress"
        assert stay["period"] == {"start": "2024-06-01T08:00:00+02:00"}
        assert "dischargeDisposition" not in stay["hospitalization"]
    hospital.send("A03", pid(patient), pv1(visit, f45="20240606+0200"))
    hospital.send("A08", pid(patient), pv1(visit))
    assert hospital.one("Encounter", visit)["status"] == "finished"


def test_unlinking_takes_back_the_link_and_leaves_a_merge(hospital: Hospital, new: Callable[[], str]) -> None:
    one, other, merged = new(), new(), new()
    for number in (one, other, merged):
        hospital.send("A28", pid(number, FULL))
    hospital.send("A40", pid(one), mrg(merged))
    for event, kinds in (("A24", {"replaces", "seealso"}), ("A37", {"replaces"}), ("A37", {"replaces"})):
        hospital.send(event, pid(one), pid(other))
        assert {link["type"] for link in hospital.one("Patient", one)["link"]} == kinds
    assert "link" not in hospital.one("Patient", other)


def test_a_changed_number_is_another_number_of_the_same_record(hospital: Hospital, new: Callable[[], str]) -> None:
    former, now, visit, former_visit = new(), new(), new(), new()
    admit(hospital, former, former_visit)
    record, stay = hospital.one("Patient", former)["id"], hospital.one("Encounter", former_visit)["id"]
    for _ in range(2):
        hospital.send("A47", pid(now), mrg(former))
        hospital.send("A50", pid(now), mrg_visit(now, former_visit), pv1(visit))
    assert hospital.one("Patient", now)["id"] == hospital.one("Patient", former)["id"] == record
    assert hospital.one("Encounter", visit)["id"] == hospital.one("Encounter", former_visit)["id"] == stay
    hospital.send("A08", pid(now, FULL.replace("Linz", "Graz")))
    assert hospital.one("Patient", now)["address"][0]["city"] == "Graz"
    assert hospital.one("Patient", now)["id"] == record


def test_a_moved_visit_and_a_merged_one(hospital: Hospital, new: Callable[[], str]) -> None:
    wrong, right, visit, double = new(), new(), new(), new()
    admit(hospital, wrong, visit)
    admit(hospital, right, double)
    hospital.send("A45", pid(right), mrg_visit(wrong, visit), pv1(visit))
    owner = hospital.one("Patient", right)["id"]
    assert hospital.one("Encounter", visit)["subject"]["reference"] == f"Patient/{owner}"
    hospital.send("A42", pid(right), mrg_visit(right, double), pv1(visit))
    prior, stay = hospital.one("Encounter", double), hospital.one("Encounter", visit)
    assert (prior["status"], prior["partOf"]["reference"]) == ("entered-in-error", f"Encounter/{stay['id']}")
    assert stay["status"] == "in-progress"


def roles(stay: dict[str, Any]) -> dict[str, list[str]]:
    """Who takes part, by role: the references' display or the id."""
    found: dict[str, list[str]] = {}
    for one in stay.get("participant", ()):
        found.setdefault(one["type"][0]["coding"][0]["code"], []).append(one["individual"]["reference"])
    return found


def test_who_attends_now_does_not_send_the_consultant_away(hospital: Hospital, new: Callable[[], str]) -> None:
    patient, visit = new(), new()
    doctors = {"f7": ATTENDING, "f9": "78^Wilson^James~79^Foreman^Eric", "f17": "80^Cuddy^Lisa"}
    hospital.send("A01", pid(patient, FULL), pv1(visit, **doctors))
    before = roles(hospital.one("Encounter", visit))
    assert {role: len(who) for role, who in before.items()} == {"ATND": 1, "CON": 2, "ADM": 1}
    for _ in range(2):
        hospital.send("A02", pid(patient), pv1(visit, f7="81^Chase^Robert"))
        now = roles(hospital.one("Encounter", visit))
        assert {role: len(who) for role, who in now.items()} == {"ATND": 1, "CON": 2, "ADM": 1}
        assert now["ATND"] != before["ATND"]
        assert (now["CON"], now["ADM"]) == (before["CON"], before["ADM"])
    for _ in range(2):
        hospital.send("A61", pid(patient), pv1(visit, f9="82^Thirteen^Remy"))
        then = roles(hospital.one("Encounter", visit))
        assert {role: len(who) for role, who in then.items()} == {"ATND": 1, "CON": 1, "ADM": 1}
        assert then["ATND"] == now["ATND"]
    hospital.send("A02", pid(patient), pv1(visit, f9='""'))
    assert set(roles(hospital.one("Encounter", visit))) == {"ATND", "ADM"}


def test_a_doctor_without_a_role_takes_the_place_of_another_without_one(
    hospital: Hospital, new: Callable[[], str]
) -> None:
    patient, visit = new(), new()
    hospital.send("A01", pid(patient, FULL), pv1(visit, f7=ATTENDING))
    for name in ("90^Good^Ann", "91^Better^Bea"):
        for _ in range(2):
            hospital.send("A02", pid(patient), pv1(visit), f"PRT|1|AD|||{name}")
            who = hospital.one("Encounter", visit)["participant"]
            assert ["type" in one for one in who].count(False) == 1
            assert len(who) == 2


def test_a_site_may_have_an_update_after_a_merge_keep_the_links_and_replace_the_rest(
    hospital: Hospital, new: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "identity.yaml").write_text("Patient: {keeps: [link, photo]}\n")
    keeping = load_mappings(tmp_path)
    survivor, prior = new(), new()
    for number in (survivor, prior):
        hospital.send("A28", pid(number, FULL))
    hospital.send("A40", pid(survivor), mrg(prior))
    for event in ("A08", "A31", "A01"):
        for _ in range(2):
            hospital.send(event, pid(survivor, "|Doe^Joanna||19800203|F"), pv1(new()), mappings=keeping)
            kept, gone = hospital.one("Patient", survivor), hospital.one("Patient", prior)
            assert references(kept) == {("replaces", f"Patient/{gone['id']}")}
            assert references(gone) == {("replaced-by", f"Patient/{kept['id']}")}
            assert [name["given"] for name in kept["name"]] == [["Joanna"]]
            assert not {"telecom", "address", "maritalStatus"} & kept.keys(), "what was left out is gone"
    hospital.send("A40", pid(survivor), mrg(new()))
    assert len(hospital.one("Patient", survivor)["link"]) == 2


def test_an_update_after_a_merge_replaces_the_whole_person_and_the_old_record_still_tells(
    hospital: Hospital, new: Callable[[], str]
) -> None:
    survivor, prior = new(), new()
    hospital.send("A40", pid(survivor, FULL), mrg(prior))
    hospital.send("A08", pid(survivor, FULL), pv1(new()))
    kept, gone = hospital.one("Patient", survivor), hospital.one("Patient", prior)
    assert "link" not in kept
    assert references(gone) == {("replaced-by", f"Patient/{kept['id']}")}
