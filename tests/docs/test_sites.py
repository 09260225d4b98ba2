"""samples/sites: overlays of a site, a listener and a sender, as its hl7bridge.yaml puts them together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.config import load
from hl7bridge.errors import TablesError
from hl7bridge.hl7v2.header import read_header
from hl7bridge.mapping.examples import run
from hl7bridge.mapping.mappings import load_mappings
from hl7bridge.service.tablesets import TableSets
from hl7bridge.translation import translate

ROOT = Path(__file__).resolve().parents[2]
SITES = ROOT / "samples" / "sites"
ADMIT = (
    "MSH|^~\\&|{sender}|NORTHLAKE|||20240501120000+0200||ADT^A01|C1|P|2.5\rEVN|A01\r"
    "PID|1||4711002||Brandauer^Josefine\rZPI|1|Fini|L-17\rPV1|1|I||||||||ORT\r"
)


@pytest.fixture(scope="module")
def tables() -> TableSets:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return TableSets(load(SITES / "hl7bridge.yaml", {}))


def resources(tables: TableSets, listener: str, sender: str) -> dict[str, Any]:
    raw = ADMIT.format(sender=sender).encode()
    setting = tables.setting(listener, read_header(raw))
    bundle = translate(raw, setting.mappings, zone=setting.zone).resource
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}


def test_the_examples_of_every_overlay_hold(tables: TableSets) -> None:
    for mappings in tables.sets.values():
        assert not [str(difference) for difference in run(mappings)[1]]
    assert len(tables.sets) == 3


def test_the_sites_z_segment_is_mapped_for_every_listener(tables: TableSets) -> None:
    for listener in ("ward", "lab"):
        patient = resources(tables, listener, "ADMITTING")["Patient"]
        assert {"use": "nickname", "text": "Fini"} in patient["name"]
        assert "L-17" in [extension.get("valueString") for extension in patient["extension"]]


def test_the_listeners_code_table_holds_for_its_port_only(tables: TableSets) -> None:
    ward, lab = (resources(tables, name, "ADMITTING")["Encounter"]["serviceType"]["coding"] for name in ("ward", "lab"))
    assert ward[0]["code"] == "ORT"
    assert (lab[0]["code"], lab[1]["code"]) == ("218", "ORT")


def test_the_senders_numbers_get_the_hospitals_authority(tables: TableSets) -> None:
    def system(listener: str, sender: str) -> str:
        return str(resources(tables, listener, sender)["Patient"]["identifier"][0].get("system"))

    assert system("lab", "OLDLIS") == "urn:oid:2.16.840.1.113883.19.4711"
    assert system("lab", "ADMITTING") != system("lab", "OLDLIS")
    assert system("ward", "OLDLIS") != system("lab", "OLDLIS")


@pytest.mark.parametrize(
    ("site", "file", "old", "new", "told"),
    [
        ("north", "segments/ZPI-Patient.yaml", "name#called.text", "nmae.text", ":5: Patient has no element 'nmae'"),
        ("lab", "codes/HospitalService.yaml", "{code: 218,", "{cdoe: 218,", ":4: "),
        (
            "old-system",
            "datatypes/CX-Identifier.yaml",
            "to: system, value",
            "to: sytsem, value",
            ":6: Identifier has no",
        ),
    ],
)
def test_a_mistake_in_an_overlay_names_the_overlays_file_and_line(
    tmp_path: Path, site: str, file: str, old: str, new: str, told: str
) -> None:
    folder = Path(shutil.copytree(SITES / site, tmp_path / site))
    text = (folder / file).read_text("utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), "utf-8")
    with pytest.raises(TablesError) as caught:
        load_mappings(folder)
    assert f"{site}/{file}{told}" in str(caught.value)
