"""The options of the form: a message instead of a transaction, narratives; and the version of the tables in Provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge import Translation, load_mappings, translate
from hl7bridge.fhir.form import narrate
from hl7bridge.hl7v2.batch import split

ZONE = ZoneInfo("Europe/Vienna")
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
ADMIT = SAMPLES / "adt_a01_admit.hl7"


def sample(file: Path, **settings: str) -> Translation:
    piece = next(iter(split(file.read_bytes())))
    return translate(piece.raw, load_mappings(settings=settings), zone=ZONE)


def of_type(result: Translation, type: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in result.resource["entry"] if e["resource"]["resourceType"] == type]


def test_a_message_begins_with_its_header_and_tells_nobody_what_to_do() -> None:
    whole = sample(ADMIT).resource
    bundle = sample(ADMIT, **{"bundle-type": "message"}).resource
    assert bundle["type"] == "message"
    assert bundle["entry"][0]["resource"]["resourceType"] == "MessageHeader"
    assert all(entry.keys() == {"fullUrl", "resource"} for entry in bundle["entry"])
    urls = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    assert urls == {entry["fullUrl"]: entry["resource"] for entry in whole["entry"] if "fullUrl" in entry} | {
        url: resource for url, resource in urls.items() if resource["resourceType"] == "Provenance"
    }
    focus = [urls[reference["reference"]]["resourceType"] for reference in bundle["entry"][0]["resource"]["focus"]]
    assert focus[:2] == ["Patient", "Encounter"]


def test_patches_and_deletions_stay_out_of_a_message_and_what_they_patch_is_in_it() -> None:
    bundle = sample(SAMPLES / "adt_a02_transfer.hl7", **{"bundle-type": "message"}).resource
    assert not [e for e in bundle["entry"] if e["resource"]["resourceType"] in ("Parameters", "Binary")]
    assert [e for e in bundle["entry"] if e["resource"]["resourceType"] == "Encounter"]


def test_a_narrative_is_short_escaped_and_stands_where_fhir_has_it() -> None:
    (patient,) = of_type(sample(ADMIT, narrative="generated"), "Patient")
    assert next(iter(patient)) == "resourceType" and "text" in list(patient)[:4]
    assert patient["text"]["status"] == "generated"
    assert "text" not in of_type(sample(ADMIT), "Patient")[0]


def test_what_a_sender_writes_cannot_leave_its_narrative() -> None:
    body = {"resourceType": "Patient", "name": [{"family": "</p><script>alert('1')</script>", "given": [None, "A&B"]}]}
    bundle = {"entry": [{"resource": body}, {"request": {"method": "DELETE"}}]}
    narrate(bundle)
    div = body["text"]["div"]  # type: ignore[call-overload]
    assert "<script" not in div and "A&amp;B" in div and "&lt;script&gt;" in div


def test_the_transformation_names_the_version_of_the_tables_and_the_same_tables_give_the_same_bytes() -> None:
    first, again = sample(ADMIT), sample(ADMIT)
    assert first.bundle == again.bundle
    policies = [policy for p in of_type(first, "Provenance") for policy in p.get("policy", ())]
    assert f"urn:hl7bridge:mappings:{first.mapping_version}" in policies
    other = sample(ADMIT, **{"transformer-name": "other"})
    assert other.mapping_version != first.mapping_version
    assert other.mapping_version.encode() in other.bundle


@pytest.mark.parametrize("name", sorted(load_mappings().tables.messages))
def test_every_message_table_says_what_its_message_is_about(name: str) -> None:
    """MessageHeader.focus leads to the patient, in a result to its reports too, in a bed's status (A20) to the bed."""
    table = load_mappings().tables.messages[name]
    focus = {
        link.to.type
        for use in table.uses
        for link in use.links
        if link.on is not None and link.on.type == "MessageHeader" and link.path.text == "focus"
    }
    assert ("Location" if name == "ADT_A20" else "Patient") in focus
    assert not name.startswith("ORU") or "DiagnosticReport" in focus
