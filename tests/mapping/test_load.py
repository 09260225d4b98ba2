"""Loading: what is read as written, where the shipped tables are, what the version depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hl7bridge.errors import TablesError
from hl7bridge.mapping.check import notes
from hl7bridge.mapping.load import load_tables, shipped_tables
from hl7bridge.mapping.schema import (
    Code,
    Compare,
    Label,
    Link,
    Literal_,
    Measure,
    OptionTest,
    OptionValue,
    Ref,
    Row,
    Step,
    TableSet,
)
from hl7bridge.mapping.schema import (
    Path as FhirPath,
)

GOOD = Path(__file__).parent / "good"


@pytest.fixture(scope="module")
def good() -> TableSet:
    return load_tables(GOOD, shipped=False)


def row(tables: TableSet, table: str, source: str, number: int = 0) -> Row:
    found = {**tables.segments, **tables.datatypes}[table]
    return [r for r in found.rows if str(r.source) == source][number]


def steps(path: FhirPath | None) -> tuple[Step, ...]:
    assert path is not None
    return path.steps


def test_good_tables_load_without_a_mistake(good: TableSet) -> None:
    assert set(good.messages) == {"ADT_A01", "ORU_R01"}
    assert set(good.segments) == {"PID-Patient", "NTE-Observation", "OBX-Observation"}
    assert good.settings == {"ssn-country": "us", "home-use": "home", "assigner": ""}


def test_a_row_keeps_all_its_words(good: TableSet) -> None:
    ssn = row(good, "PID-Patient", "PID-19")
    assert steps(ssn.to) == (Step("identifier", "ssn"), Step("value"))
    assert [(path.text, value) for path, value in ssn.set_] == [
        ("identifier#ssn.system", "http://hl7.org/fhir/sid/us-ssn")
    ]
    assert ssn.option == OptionTest("ssn-country", "us")
    assert row(good, "PID-Patient", "PID-13", 1).value == OptionValue("home-use")
    birth = row(good, "PID-Patient", "PID-7", 1)
    assert birth.extension == ("http://hl7.org/fhir/StructureDefinition/patient-birthTime",)
    assert birth.on is not None and birth.on.text == "birthDate"
    assert birth.when == Measure("length", Ref("PID", (7,)), ">", 8)
    quantity = row(good, "OBX-Observation", "OBX-5")
    assert quantity.invalid is not None and quantity.invalid.text == "valueString"
    assert quantity.when == Compare(Ref("OBX", (2,)), ("NM",))
    joined = row(good, "OBX-Observation", "OBX-5", 1)
    assert joined.concat == (Ref("OBX", (5, 1)), Literal_("-"), Ref("OBX", (5, 2)))


def test_a_path_into_new_resources_nests(good: TableSet) -> None:
    observer = row(good, "OBX-Observation", "OBX-16")
    inner = (Step("practitioner", resource="Practitioner"),)
    assert steps(observer.to) == (Step("performer", "observer", "PractitionerRole", "", inner),)


def test_every_row_knows_its_file_and_line(good: TableSet) -> None:
    place = row(good, "PID-Patient", "PID-8").place
    assert str(place) == "good/segments/PID-Patient.yaml:12"


def test_scalars_keep_their_spelling(good: TableSet) -> None:
    assert good.codes["AdministrativeSex"].v2_table == "0001"
    assert good.codes["YesNoIndicator"].map == {"Y": Code("true", ""), "N": Code("false", "")}
    assert row(good, "PID-Patient", "PID").value == "true"


def test_codes_have_the_tables_system_unless_their_own(good: TableSet) -> None:
    codes = good.codes["MaritalStatus"]
    assert codes.map["M"] == Code("M", "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "Married")
    assert codes.map["U"] == Code("UNK", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor")
    assert codes.otherwise == "keep"


def test_uses_have_the_full_path_of_their_node(good: TableSet) -> None:
    uses = {use.segment: use for use in good.messages["ORU_R01"].uses}
    result = uses["PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION.OBX"]
    assert result.into == Label("Observation", "result")
    link = result.links[0]
    assert (link.on, link.path.text, link.to) == (None, "subject", Label("Patient", "patient"))
    assert isinstance(link, Link)
    assert "PATIENT_RESULT.PATIENT.NTE" in good.messages["ORU_R01"].unmapped


def test_the_version_is_a_hash_of_names_bytes_and_settings(tmp_path: Path, good: TableSet) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(GOOD, copy)
    same = load_tables(copy, shipped=False)
    assert same.version == good.version and len(same.version) == 12
    assert load_tables(copy, shipped=False, settings={"ssn-country": "other"}).version != same.version
    options = copy / "options.yaml"
    text = options.read_text()
    options.write_text(text.replace("PID-19 holds", "PID-19 keeps"))  # as many bytes as before
    assert load_tables(copy, shipped=False).version != same.version
    options.write_text(text)
    (copy / "codes" / "MaritalStatus.yaml").rename(copy / "codes" / "Marital.yaml")
    text = (copy / "codes" / "Marital.yaml").read_text().replace("codes: MaritalStatus", "codes: Marital")
    (copy / "codes" / "Marital.yaml").write_text(text)
    with pytest.raises(TablesError):
        load_tables(copy, shipped=False)
    shutil.copy(GOOD / "codes" / "MaritalStatus.yaml", copy / "codes")
    assert load_tables(copy, shipped=False).version != same.version


def test_settings_from_outside_win_and_are_checked() -> None:
    assert load_tables(GOOD, shipped=False, settings={"ssn-country": "other"}).settings["ssn-country"] == "other"
    with pytest.raises(TablesError) as caught:
        load_tables(GOOD, shipped=False, settings={"ssn-country": "uk", "ssn": "us"})
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "settings:1: the option 'ssn-country' is one of us, other, not 'uk'",
        "settings:1: there is no option 'ssn'; did you mean 'ssn-country'?",
    ]


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(TablesError) as caught:
        load_tables(GOOD, tmp_path / "nowhere", shipped=False)
    assert str(caught.value) == "nowhere:1: there is no such folder of mapping tables"


def test_a_file_that_is_not_utf8_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "Umlaut.yaml").write_bytes("codes: Umlaut\nmap:\n  Ä: a\n".encode("latin-1"))
    with pytest.raises(TablesError) as caught:
        load_tables(GOOD, tmp_path, shipped=False)
    assert str(caught.value) == f"{tmp_path.name}/codes/Umlaut.yaml:3: the file is not UTF-8 here"


def test_what_nothing_uses_is_a_note_and_no_mistake(good: TableSet) -> None:
    assert [str(note) for note in notes(good)] == ["good/options.yaml:3: no row asks for the option 'assigner'"]


def test_the_shipped_tables_are_a_folder_of_the_project_or_the_package() -> None:
    assert shipped_tables().name in ("mappings", "tables")
