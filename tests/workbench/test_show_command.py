"""`hl7bridge mappings show`: which rows touch a field, an element or a table; which file won."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.schema import TableSet
from hl7bridge.mapping.show import Found, Unknown, show

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> TableSet:
    return load_tables()


@pytest.fixture
def north(tmp_path: Path) -> Path:
    folder = tmp_path / "north" / "segments"
    folder.mkdir(parents=True)
    (folder / "PID-Patient.yaml").write_text("table: PID-Patient\nrows:\n  PID-5: {to: name#only, as: XPN-HumanName}\n")
    return folder.parent


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["mappings", "show", *map(str, arguments)])


def of(found: list[Found], table: str) -> list[Found]:
    return [one for one in found if one.table == table]


def test_a_field_shows_its_rows_and_those_of_the_data_type_within(tables: TableSet) -> None:
    found = show(tables, "PID-5")
    (row,) = of(found, "PID-Patient")
    assert (row.role, row.target, row.how, row.depth) == ("writes", "name#legal", "as XPN-HumanName", 0)
    inside = of(found, "XPN-HumanName")
    assert {one.depth for one in inside} == {1}
    assert "name#legal.given#first" in [one.target for one in inside]


def test_a_component_shows_what_reads_it_and_what_asks_for_it(tables: TableSet) -> None:
    roles = {(one.role, one.source) for one in show(tables, "OBX-2")}
    assert ("unmapped", "OBX-2") in roles and ("asks", "OBX-5") in roles
    assert any(one.role == "reads" and one.how.startswith("concat") for one in show(tables, "OBX-6"))


def test_an_unmapped_field_shows_the_reason(tables: TableSet) -> None:
    assert [(one.role, one.how) for one in of(show(tables, "PID-1"), "PID-Patient")] == [
        ("unmapped", "only counts the segments")
    ]


def test_an_element_shows_the_rows_at_and_below_it(tables: TableSet) -> None:
    found = show(tables, "Patient.name")
    assert {"PID-5", "PID-9"} <= {one.source for one in of(found, "PID-Patient")}
    assert any(one.target == "name.family" or one.source == "XPN.1" for one in of(found, "XPN-HumanName"))
    assert not any("birthDate" in one.target for one in found)


def test_an_element_of_a_backbone_and_a_reference_are_found(tables: TableSet) -> None:
    assert {one.role for one in show(tables, "Encounter.subject")} == {"links"}
    assert any(one.role == "writes" for one in show(tables, "Encounter.location.status"))


def test_a_code_table_shows_who_uses_it_and_what_it_maps(tables: TableSet) -> None:
    found = show(tables, "AdministrativeSex")
    assert ("uses", "PID-8") in {(one.role, one.source) for one in found}
    assert ("codes", "F", "female") in {(one.role, one.source, one.target) for one in found}


def test_a_table_shows_its_users_and_rows(tables: TableSet) -> None:
    found = show(tables, "XPN-HumanName")
    assert found[0].role == "uses" and any(one.source == "XPN.1" for one in found)
    assert any(one.role == "uses" and "PID-Patient" in one.how for one in show(tables, "ADT_A01"))


def test_the_overlay_that_won_is_named_with_its_line(north: Path) -> None:
    result = run("PID-5", north)
    assert result.exit_code == 0
    assert "north/segments/PID-Patient.yaml:3" in result.stdout and "name#only" in result.stdout
    assert "name#legal" not in result.stdout


def test_json_has_file_and_line() -> None:
    document: Any = json.loads(run("PID-8", "--json").stdout)
    row = next(one for one in document["rows"] if one["table"] == "PID-Patient" and one["target"] == "gender")
    assert row["file"] == "mappings/segments/PID-Patient.yaml" and row["line"] > 1


def test_a_name_that_is_none_says_what_was_meant(tables: TableSet) -> None:
    with pytest.raises(Unknown, match="did you mean 'Patient'"):
        show(tables, "Patien.name")
    assert run("Patien.name").exit_code == 2


def test_what_no_row_touches_ends_with_1() -> None:
    result = run("Patient.photo")
    assert result.exit_code == 1 and "No row touches Patient.photo\n" in result.stderr


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("PID-99", "No row touches PID-99: PID has no field 99, its last is PID-40"),
        ("Patient.nme", "No row touches Patient.nme: Patient has no element 'nme'; did you mean 'name'?"),
    ],
)
def test_what_no_row_can_touch_says_why(asked: str, why: str) -> None:
    assert why in run(asked).stderr


def test_an_element_shows_where_it_stands_in_r5(tables: TableSet) -> None:
    def in_r5(asked: str) -> list[tuple[str, str, str]]:
        return [(one.source, one.target, one.place.file) for one in show(tables, asked) if one.role == "in R5"]

    moved = ("period", "Encounter.actualPeriod", "mappings/r5/Encounter.yaml")
    assert in_r5("Encounter.period") == [moved]
    assert in_r5("Encounter.actualPeriod") == [moved]
    assert moved in in_r5("Encounter") and moved in in_r5("r5/Encounter")
    assert in_r5("Patient.birthDate") == []
    (scheme,) = show(tables, "r5/Identifier")
    assert (scheme.target, scheme.place.line) == ("urn:hl7bridge:check-digit-scheme", 4)
    assert "status" in [one.source for one in show(tables, "Encounter.status") if one.how.startswith("arrived: ")]
