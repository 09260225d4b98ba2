"""`hl7bridge explain`: what the analyst sees; values only when asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
ADMIT = SAMPLES / "adt_a01_admit.hl7"


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", *map(str, arguments), "--zone", "Europe/Vienna"], input=stdin)


def test_a_path_shows_its_elements_with_field_and_row() -> None:
    result = run(ADMIT, "--path", "Patient.name")
    assert result.exit_code == 0
    elements, fields = result.stdout.split("\n\n")
    assert [line.split()[:2] for line in elements.splitlines()[1:3]] == [
        ["Patient.name[0].family", "PID[1]-5[1].1.1"],
        ["Patient.name[0].given[0]", "PID[1]-5[1].2"],
    ]
    assert "datatypes/XPN-HumanName.yaml:4 < segments/PID-Patient.yaml:" in elements
    assert "PID[1]-5[1].2  Patient.name[0].given[0]" in fields


def test_a_field_shows_where_it_went_and_the_code_table() -> None:
    result = run(ADMIT, "--field", "pid-8")
    assert result.exit_code == 0
    assert "Patient.gender  PID[1]-8[1]  AdministrativeSex  segments/PID-Patient.yaml:" in result.stdout


def test_what_went_nowhere_says_why() -> None:
    lines = run(ADMIT, "--nowhere").stdout.splitlines()
    assert any(line.startswith("PID[1]-1[1] ") and "unmapped: only counts the segments" in line for line in lines)
    assert any("nowhere: condition: asks for " in line for line in lines)
    assert not any(line.startswith("ELEMENT") for line in lines)


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_values_are_shown_only_when_asked_for(option: list[str]) -> None:
    family = ADMIT.read_text().split("\rPID|")[-1].split("\nPID|")[-1].split("|")[4].split("^")[0]
    hidden, shown = run(ADMIT, *option), run(ADMIT, "--field", "PID-5", "--values", *option)
    assert family and family not in hidden.output
    assert family in shown.stdout and family not in shown.stderr


def test_json_has_both_directions() -> None:
    document = json.loads(run(ADMIT, "--json", "--field", "PID-7").stdout)
    assert document["elements"][0] | {"row": "", "via": []} == {
        "path": "Bundle.entry[4].resource.birthDate",
        "kind": "field",
        "field": "PID[1]-7[1]",
        "table": "PID-Patient",
        "row": "",
        "codes": "",
        "via": [],
    }
    assert [field["to"] for field in document["fields"]] == [["Bundle.entry[4].resource.birthDate"]]


def test_the_overlay_s_rows_are_named_with_its_folder() -> None:
    result = run(SAMPLES / "adt_a09_depart_z_segment.hl7", "--field", "ZTR-2", "--tables", SAMPLES / "site")
    assert "TransportMode  site/segments/ZTR-Encounter.yaml:" in result.stdout


def test_without_the_overlay_its_segment_is_said_to_have_no_place() -> None:
    result = run(SAMPLES / "adt_a09_depart_z_segment.hl7", "--field", "ZTR-2")
    assert "nowhere: unmapped: ADT_A09 has no place for this segment here" in result.stdout


def test_a_message_that_fails_is_explained_as_far_as_it_came() -> None:
    result = run(SAMPLES / "broken_two_patients.hl7")
    assert result.exit_code == 1
    assert "hl7bridge: " in result.stderr and "message 1: " in result.stderr
    assert (
        "PID[1]-" in result.stdout and "nowhere: refused: the message was refused before any row ran" in result.stdout
    )


def test_standard_input_and_the_second_message() -> None:
    batch = (SAMPLES / "batch_two_admissions.hl7").read_bytes()
    assert run("-", "--message", 2, "--field", "MSH-10", stdin=batch).exit_code == 0
    assert run("-", "--message", 3, stdin=batch).exit_code == 1


def test_a_field_that_is_none_is_a_wrong_usage() -> None:
    assert run(ADMIT, "--field", "name").exit_code == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--field", "pid-99"), "Nothing in this message matches: PID has no field 99, its last is PID-40\n"),
        (("--path", "Patient.nme"), "matches: Patient has no element 'nme'; did you mean 'name'?\n"),
        (("--field", "PID-31"), "Nothing in this message matches.\n"),  # there is one, but not in this message
        (("--field", "ZPI-3"), "Nothing in this message matches.\n"),
        (("--path", "Patient.name[7]._given"), "Nothing in this message matches.\n"),
        (("--path", "Observation@7.value"), "Nothing in this message matches.\n"),
    ],
)
def test_what_the_standards_do_not_have_is_told_from_what_the_message_has_not(
    asked: tuple[str, str], said: str
) -> None:
    result = run(ADMIT, *asked)
    assert result.exit_code == 0 and result.stderr.endswith(said)
