"""A site's folder replaces by v2 field, adds what is new, and is judged as if it had been written in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from hl7bridge.errors import TablesError
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.schema import Code, Table, TableSet

GOOD = Path(__file__).parent / "good"


class Site:
    """An overlay under construction."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, file: str, text: str) -> Site:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return self

    def load(self) -> TableSet:
        return load_tables(GOOD, self.folder, shipped=False)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "north").mkdir()
    return Site(tmp_path / "north")


def sources(table: Table) -> list[str]:
    return [str(row.source) for row in table.rows]


def test_rows_replace_all_rows_of_the_same_field_in_its_place(site: Site) -> None:
    before = sources(load_tables(GOOD, shipped=False).segments["PID-Patient"])
    site.write("segments/PID-Patient.yaml", "table: PID-Patient\nrows:\n  PID-7: {to: birthDate, note: no time}\n")
    table = site.load().segments["PID-Patient"]
    assert sources(table) == [s for i, s in enumerate(before) if not (s == "PID-7" and before[i - 1] == "PID-7")]
    (birth,) = [row for row in table.rows if str(row.source) == "PID-7"]
    assert birth.note == "no time"
    assert str(birth.place) == "north/segments/PID-Patient.yaml:3"


def test_a_component_of_a_field_replaces_the_field(site: Site) -> None:
    text = "table: XPN-HumanName\nrows:\n  XPN.1: {to: family}\n"
    assert sources(site.write("datatypes/XPN-HumanName.yaml", text).load().datatypes["XPN-HumanName"])[0] == "XPN.1"


def test_a_field_that_was_unmapped_becomes_a_row_and_the_other_way_round(site: Site) -> None:
    text = "table: PID-Patient\nrows:\n  PID-9: {to: name#alias.text}\nunmapped:\n  PID-8: not with us\n"
    table = site.write("segments/PID-Patient.yaml", text).load().segments["PID-Patient"]
    assert "PID-9" in sources(table) and "PID-9" not in table.unmapped
    assert "PID-8" not in sources(table) and table.unmapped["PID-8"] == "not with us"


def test_examples_are_added_and_replaced_by_name(site: Site) -> None:
    text = """\
table: PID-Patient
examples:
  - {name: another country's number, given: PID|1, expect: {active: "true"}}
  - {name: ours, given: PID|1, expect: {active: "true"}}
"""
    examples = site.write("segments/PID-Patient.yaml", text).load().segments["PID-Patient"].examples
    assert [example.name for example in examples] == [
        "one record number, legal name",
        "another country's number",
        "ours",
    ]
    assert examples[1].given == "PID|1"


def test_new_tables_are_added(site: Site) -> None:
    site.write("segments/ZPI-Patient.yaml", "table: ZPI-Patient\nrows:\n  ZPI-1: {to: name#nick.text}\n")
    site.write(
        "messages/ADT_A01.yaml",
        "message: ADT_A01\nstructure: MSH [{SFT}] EVN PID [ZPI]\nrows:\n"
        "  ZPI: {use: ZPI-Patient, into: Patient#patient}\n",
    )
    message = site.load().messages["ADT_A01"]
    assert [use.segment for use in message.uses] == ["PID", "ZPI"]
    assert message.events == ("A01", "A04")


def test_a_use_replaces_the_uses_of_the_same_node_however_it_is_written(site: Site) -> None:
    text = """\
message: ORU_R01
rows:
  OBSERVATION.OBX: {use: OBX-Observation, into: Observation#result, when: OBX-2 = NM}
unmapped:
  ORDER_OBSERVATION.OBR: not with us
"""
    message = site.write("messages/ORU_R01.yaml", text).load().messages["ORU_R01"]
    (use,) = [use for use in message.uses if use.segment.endswith("OBX")]
    assert use.when_text == "OBX-2 = NM" and use.links == ()
    assert message.unmapped["PATIENT_RESULT.ORDER_OBSERVATION.OBR"] == "not with us"


def test_codes_are_added_and_replaced_one_by_one(site: Site) -> None:
    text = "codes: AdministrativeSex\nmap: {X: other, U: other}\notherwise: drop\n"
    codes = site.write("codes/AdministrativeSex.yaml", text).load().codes["AdministrativeSex"]
    system = "http://hl7.org/fhir/administrative-gender"
    assert codes.map["X"] == codes.map["U"] == Code("other", system)
    assert codes.map["F"] == Code("female", system)
    assert (codes.otherwise, codes.v2_table) == ("drop", "0001")


def test_options_are_set_and_added(site: Site) -> None:
    text = 'set: {ssn-country: other}\ntime-zone: {default: Europe/Vienna, says: "The zone of times without one."}\n'
    tables = site.write("options.yaml", text).load()
    assert tables.settings["ssn-country"] == "other"
    assert tables.settings["time-zone"] == "Europe/Vienna"


def test_a_later_folder_lies_over_an_earlier_one(site: Site, tmp_path: Path) -> None:
    site.write("options.yaml", "set: {ssn-country: other, home-use: temp}\n")
    Site(tmp_path / "ward").write("options.yaml", "set: {ssn-country: us}\n")
    tables = load_tables(GOOD, site.folder, tmp_path / "ward", shipped=False)
    assert (tables.settings["ssn-country"], tables.settings["home-use"]) == ("us", "temp")


def test_identity_is_replaced_word_by_word(site: Site) -> None:
    tables = site.write("identity.yaml", "Patient: {owners: [ADT, ORU]}\nDevice: {prefer: ['*']}\n").load()
    assert tables.identities["Patient"].owners == ("ADT", "ORU")
    assert tables.identities["Patient"].prefer == ("MR", "PI", "*")
    assert tables.identities["Device"].prefer == ("*",)


def test_a_mistake_in_an_overlay_names_the_overlays_file(site: Site) -> None:
    site.write("segments/PID-Patient.yaml", "table: PID-Patient\nrows:\n\n  PID-6: {to: nmae.text}\n")
    with pytest.raises(TablesError) as caught:
        site.load()
    assert str(caught.value) == (
        "north/segments/PID-Patient.yaml:4: Patient has no element 'nmae'; did you mean 'name'?"
    )


def test_the_version_changes_with_an_overlay(site: Site) -> None:
    plain = load_tables(GOOD, shipped=False).version
    assert site.write("options.yaml", "set: {ssn-country: us}\n").load().version != plain
