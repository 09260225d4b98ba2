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


NOTE = "shared: note\nrows:\n  NTE: {use: NTE-Observation, into: Observation#note, link: {subject: Patient#patient}}\n"
SHARING = """message: ADT_A0%d
events: [A0%d]
structure: "MSH [PID] [{NTE}] [{OBX}]"
shares: [note]
rows:
  PID: {use: PID-Patient, into: Patient#patient}
unmapped:
  MSH: read by the engine
  OBX: not in the test
"""


@pytest.fixture
def sharing(site: Site) -> Site:
    """Two messages that share the row of NTE."""
    site.write("shared/note.yaml", NOTE)
    return site.write("messages/ADT_A02.yaml", SHARING % (2, 2)).write("messages/ADT_A03.yaml", SHARING % (3, 3))


def note_rows(tables: TableSet, message: str) -> list[str]:
    return [str(use.place) for use in tables.messages[message].uses if use.segment == "NTE"]


def test_shared_rows_stand_once_and_are_in_every_message_that_shares_them(sharing: Site) -> None:
    tables = sharing.load()
    assert note_rows(tables, "ADT_A02") == note_rows(tables, "ADT_A03") == ["north/shared/note.yaml:3"]


def test_a_message_s_own_word_on_a_segment_comes_before_the_shared_rows(sharing: Site) -> None:
    text = SHARING % (3, 3)
    sharing.write("messages/ADT_A03.yaml", text + "  NTE: notes are not part of this event\n")
    tables = sharing.load()
    assert note_rows(tables, "ADT_A02") == ["north/shared/note.yaml:3"]
    assert note_rows(tables, "ADT_A03") == []


def test_a_site_replaces_a_shared_row_for_all_messages_or_for_one(sharing: Site, tmp_path: Path) -> None:
    ward = Site(tmp_path / "ward")
    ward.write("shared/note.yaml", NOTE.replace("#note", "#remark"))
    row = "rows:\n  NTE: {use: NTE-Observation, into: Observation#ours}\n"
    ward.write("messages/ADT_A03.yaml", "message: ADT_A03\n" + row)
    tables = load_tables(GOOD, sharing.folder, ward.folder, shipped=False)
    assert note_rows(tables, "ADT_A02") == ["ward/shared/note.yaml:3"]
    assert note_rows(tables, "ADT_A03") == ["ward/messages/ADT_A03.yaml:3"]


def test_a_shared_link_to_what_a_message_does_not_make_is_left_out_there(sharing: Site) -> None:
    person = "rows:\n  PID: {use: PID-Patient, into: Patient#patient}\n"
    text = (SHARING % (3, 3)).replace(person, "").replace("  MSH:", "  PID: nobody\n  MSH:")
    tables = sharing.write("messages/ADT_A03.yaml", text).load()
    with_it, without = (next(u for u in tables.messages[m].uses if u.segment == "NTE") for m in ("ADT_A02", "ADT_A03"))
    assert [str(link.to) for link in with_it.links] == ["Patient#patient"]
    assert without.links == ()


def test_a_segment_a_message_has_not_is_no_mistake_where_another_has_it(sharing: Site) -> None:
    text = (SHARING % (3, 3)).replace(" [{NTE}]", "")
    assert note_rows(sharing.write("messages/ADT_A03.yaml", text).load(), "ADT_A03") == []


def test_rows_under_also_stand_beside_the_shared_ones(sharing: Site) -> None:
    row = "also:\n  NTE: {use: NTE-Observation, into: Observation#more}\n"
    sharing.write("messages/ADT_A03.yaml", SHARING % (3, 3) + row)
    tables = sharing.load()
    assert note_rows(tables, "ADT_A03") == ["north/shared/note.yaml:3", "north/messages/ADT_A03.yaml:11"]
    assert note_rows(tables, "ADT_A02") == ["north/shared/note.yaml:3"]


def test_a_site_adds_segments_to_a_structure_that_is_there(site: Site) -> None:
    site.write(
        "messages/ORU_R01.yaml",
        'message: ORU_R01\nsegments: [ZPI after PID, ZPJ after PID, "{ZOB} after OBX", ZGR after OBSERVATION, ZQQ after ZOB]\n'
        "unmapped: {ZPI: a, ZPJ: b, ZOB: c, ZGR: d, ZQQ: e}\n",
    )
    structure = " ".join(site.load().messages["ORU_R01"].structure.split())
    assert structure == (
        "MSH { PATIENT_RESULT: [ PATIENT: PID [ZPI] [ZPJ] [{NTE}] ] "
        "{ ORDER_OBSERVATION: OBR [{ OBSERVATION: OBX [{ZOB}] [ZQQ] [{NTE}] }] [ZGR] } }"
    )
    assert len(site.load().messages["ORU_R01"].uses) == len(load_tables(GOOD, shipped=False).messages["ORU_R01"].uses)


def test_a_later_folder_adds_to_what_an_earlier_one_added(site: Site, tmp_path: Path) -> None:
    site.write("messages/ADT_A01.yaml", "message: ADT_A01\nsegments: ZPI after EVN\nunmapped: {ZPI: a}\n")
    later = Site(tmp_path / "later").write(
        "messages/ADT_A01.yaml", "message: ADT_A01\nsegments: ZPJ after SFT\nunmapped: {ZPJ: b}\n"
    )
    tables = load_tables(GOOD, site.folder, later.folder, shipped=False)
    assert tables.messages["ADT_A01"].structure.split() == ["MSH", "[{SFT}]", "[ZPJ]", "EVN", "[ZPI]", "PID"]
