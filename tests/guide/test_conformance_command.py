"""`mappings conformance` judges strictly: made-up guides of few rows, one difference each, and the real one."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.fhir.model import model
from hl7bridge.guide.conformance import conform
from hl7bridge.guide.names import rows_named
from hl7bridge.guide.sheet import NEEDED, read_guide
from hl7bridge.mapping.load import load_tables

CORPUS = Path(os.environ.get("HL7BRIDGE_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus")
REAL = CORPUS.parent / "ig"

TABLE = """
table: PID-Patient
rows:
  PID-3: {to: identifier#list, as: CX-Identifier}
  PID-5: {to: name#legal, as: XPN-HumanName}
  PID-6: {extension: patient-mothersMaidenName, to: valueString, as: XPN-string}
  PID-8: {to: gender, as: CWE-code, codes: AdministrativeSex}
  PID-9: {to: name#alias, as: XPN-HumanName}
  PID-14: {to: telecom#work.use, value: work, when: PID-14 valued and PID-14.2 not valued}
  PID-19:
    - {to: identifier#ssn.value, option: ssn-country = us, set: {identifier#ssn.type.coding.code: SS}}
  PID-23: {extension: patient-birthPlace, to: valueAddress.text}
  PID-30: {to: deceasedBoolean, codes: YesNoIndicator, when: PID-29 not valued, note: "PID[Patient]#50: on purpose"}
unmapped:
  PID-1: only counts the segments
  PID-2: not with us
  PID[Patient]#90: nobody sends it
deviations:
  PID[Patient]#91-#92: written elsewhere
"""


def guide(folder: Path, *rows: Mapping[str, str]) -> Path:
    """A guide of rows of PID[Patient], as far as they say nothing else."""
    common = {
        "map_kind": "segment",
        "map_name": "PID[Patient]",
        "reachable": "yes",
        "row_class": "target",
        "testable": "yes",
    }
    with (folder / "ig_rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*NEEDED], restval="")
        writer.writeheader()
        for number, row in enumerate(rows, 3):
            writer.writerow({**common, "row_id": f"PID[Patient]#{number}", **row})
    (folder / "code_rows.csv").write_text("map_name,line,display\n")
    return folder


def run(tmp_path: Path, *rows: Mapping[str, str], table: str = TABLE, words: tuple[str, ...] = ()) -> Result:
    """The command over a PID-Patient of our own: a field that a table does not speak of stands in `unmapped`."""
    spoken = {line.split(":")[0].strip() for line in table.splitlines() if line.startswith("  PID-")}
    more = "".join(f"  PID-{n}: not in this test\n" for n in range(1, 41) if f"PID-{n}" not in spoken)
    site = tmp_path / "site"
    (site / "segments").mkdir(parents=True)
    (site / "segments" / "PID-Patient.yaml").write_text(table.replace("unmapped:\n", f"unmapped:\n{more}"))
    return CliRunner().invoke(
        cli, ["mappings", "conformance", "--ig", str(guide(tmp_path, *rows)), str(site), *words], terminal_width=200
    )


def verdict(tmp_path: Path, row: Mapping[str, str], table: str = TABLE) -> tuple[str, str]:
    document = json.loads(run(tmp_path, row, table=table, words=("--json",)).output)
    return document["rows"][0]["verdict"], document["rows"][0]["why"]


NAME = {"v2_path": "PID-5", "fhir_path": "name[1]", "datatype_map": "XPN[HumanName]"}


def test_a_row_with_the_same_field_path_and_map_is_implemented(tmp_path: Path) -> None:
    assert verdict(tmp_path, NAME) == ("implemented", "")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({**NAME, "v2_path": "PID-3"}, "no row of PID-3 writes name[1]"),
        ({**NAME, "fhir_path": "name[1].family"}, "no row of PID-5 writes"),
        ({**NAME, "datatype_map": "XPN[string]"}, "the guide uses XPN[string], not XPN-HumanName"),
        ({**NAME, "vocab_map": "NameType"}, "the guide translates with NameType, not nothing"),
        ({**NAME, "condition": "x", "condition_norm": "PID-9 valued"}, "the guide asks PID-9 valued, ours nothing"),
        ({**NAME, "assignment": "nobody"}, "the guide has nobody, not what was sent"),
        ({**NAME, "testable": "config"}, "a site has to decide it, and no `option` stands over it"),
        ({**NAME, "map_name": "PID[Nothing]"}, "there is no table PID-Nothing"),
    ],
)
def test_a_row_that_differs_is_undecided_and_says_what_differs(
    tmp_path: Path, row: Mapping[str, str], why: str
) -> None:
    found, said = verdict(tmp_path, row)
    assert found == "undecided" and why in said


def test_an_undecided_row_fails_the_command_and_is_listed(tmp_path: Path) -> None:
    result = run(tmp_path, NAME, {**NAME, "v2_path": "PID-3"})
    assert result.exit_code == 1
    assert "PID[Patient]#4  PID-3 -> name[1]" in result.output
    assert "failed: 1 of 2 rows are undecided" in result.output


def test_an_extension_is_its_url_and_its_value(tmp_path: Path) -> None:
    url = {
        "v2_path": "PID-6",
        "fhir_path": "extension[1].url",
        "assignment": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName",
    }
    value = {"v2_path": "PID-6", "fhir_path": "extension[1].valueString", "datatype_map": "XPN[string]"}
    result = run(tmp_path, url, value)
    assert result.exit_code == 0, result.output


def test_another_url_is_another_extension(tmp_path: Path) -> None:
    url = {"v2_path": "PID-6", "fhir_path": "extension[1].url", "assignment": "http://example.org/other"}
    assert verdict(tmp_path, url)[0] == "undecided"


def test_a_test_for_the_rows_own_field_changes_nothing(tmp_path: Path) -> None:
    row = {
        "v2_path": "PID-14",
        "fhir_path": "telecom[1].use",
        "condition": "x",
        "condition_norm": "PID-14.2 not valued",
        "assignment": "work",
    }
    assert verdict(tmp_path, row) == ("implemented", "")


def test_the_order_of_a_condition_changes_nothing_and_its_meaning_does(tmp_path: Path) -> None:
    table = TABLE.replace(
        "PID-5: {to: name#legal, as: XPN-HumanName}",
        'PID-5: {to: name#legal, as: XPN-HumanName, when: "(PID-9 valued or PID-8 in [M, F]) and PID-2 != X"}',
    )
    turned = 'PID-2.1 != "X" and (PID-8 = "F" or PID-8 = "M" or PID-9 valued)'
    row = {**NAME, "condition": "x", "condition_norm": turned}
    assert verdict(tmp_path, row, table) == ("implemented", "")


def test_a_condition_of_another_meaning_is_undecided(tmp_path: Path) -> None:
    table = TABLE.replace("as: XPN-HumanName}", "as: XPN-HumanName, when: PID-9 valued and PID-8 = M}", 1)
    row = {**NAME, "condition": "x", "condition_norm": 'PID-9 valued or PID-8 = "M"'}
    assert verdict(tmp_path, row, table)[0] == "undecided"


def test_rows_with_one_number_write_one_instance(tmp_path: Path) -> None:
    alias = {**NAME, "v2_path": "PID-9"}
    result = run(tmp_path, NAME, alias)
    assert "PID[Patient]#4" in result.output and "another instance" in result.output


def test_rows_with_two_numbers_write_two_instances(tmp_path: Path) -> None:
    result = run(tmp_path, NAME, {**NAME, "v2_path": "PID-9", "fhir_path": "name[2]"})
    assert result.exit_code == 0, result.output


def test_a_decision_counts_under_its_option(tmp_path: Path) -> None:
    row = {
        "v2_path": "PID-19",
        "fhir_path": "identifier[4].type.coding.code",
        "assignment": "SS",
        "narrative": "in the US",
        "testable": "config",
    }
    document = json.loads(run(tmp_path, row, words=("--json",)).output)
    assert document["rows"][0]["verdict"] == "implemented"
    assert document["rows"][0]["option"] == "ssn-country"


@pytest.mark.parametrize(
    ("row", "found", "why"),
    [
        ({"row_id": "PID[Patient]#50", "v2_path": "PID-30", "fhir_path": "nothing"}, "deviates", "PID[Patient]#50: on"),
        ({"row_id": "PID[Patient]#90", "v2_path": "PID-5", "fhir_path": "nothing"}, "unmapped", "nobody sends it"),
        ({"row_id": "PID[Patient]#92", "v2_path": "PID-5", "fhir_path": "nothing"}, "deviates", "written elsewhere"),
        ({"row_id": "PID[Patient]#93", "v2_path": "PID-5", "fhir_path": "nothing"}, "undecided", ""),
        ({"row_id": "PID[Patient]#94", "v2_path": "PID-2", "fhir_path": "identifier"}, "unmapped", "not with us"),
    ],
)
def test_what_is_done_otherwise_or_not_at_all_has_its_reason(
    tmp_path: Path, row: Mapping[str, str], found: str, why: str
) -> None:
    verdict_, said = verdict(tmp_path, row)
    assert verdict_ == found and said.startswith(why)


def code(number: int, sent: str, target: str) -> dict[str, str]:
    return {
        "map_kind": "codesystem",
        "map_name": "AdministrativeSex",
        "row_id": f"AdministrativeSex#{number}",
        "v2_path": f"HL70001#{sent}",
        "fhir_path": target,
    }


def test_a_code_is_its_code_and_its_system(tmp_path: Path) -> None:
    gender = "http://hl7.org/fhir/administrative-gender"
    result = run(
        tmp_path,
        code(3, "F", f"{gender}|female"),
        code(4, "M", f"{gender}|female"),
        code(5, "O", "http://example.org|other"),
        code(6, "Q", f"{gender}|other"),
        words=("--json",),
    )
    rows = json.loads(result.output)["rows"]
    assert [row["verdict"] for row in rows] == ["implemented", "undecided", "undecided", "undecided"]


def message(number: int, **said: str) -> dict[str, str]:
    return {"map_kind": "message", "map_name": "ADT_A01", "row_id": f"ADT_A01#{number}", **said}


def test_a_message_row_is_its_table_and_its_resource(tmp_path: Path) -> None:
    pid = {"v2_path": "ADT_A01.PID", "fhir_path": "Patient[1]"}
    subject = {
        "map_kind": "message-ref",
        "fhir_path": "Observation[4].subject.reference",
        "v2_path": "ADT_A01.PD1",
        "segment_map": "PD1[Observation-LivingWill]",
        "condition": "x",
        "condition_norm": "PD1-7 valued",
    }
    result = run(
        tmp_path,
        message(913, **pid, segment_map="PID[Patient]", v2_min="1"),
        message(914, **pid, segment_map="PID[Nobody]"),
        message(915, **{**pid, "fhir_path": "Person[1]"}, segment_map="PID[Patient]"),
        message(916, **{**subject, "row_id": "ADT_A01#916.ref1"}, assignment="Patient[1].id"),
        message(917, **{**subject, "row_id": "ADT_A01#916.ref2"}, assignment="Encounter[1].id"),
        words=("--json",),
    )
    rows: list[dict[str, Any]] = json.loads(result.output)["rows"]
    assert {row["row"]: row["verdict"] for row in rows} == {
        "ADT_A01#913": "implemented",
        "ADT_A01#914": "undecided",
        "ADT_A01#915": "undecided",
        "ADT_A01#916.ref1": "implemented",
        "ADT_A01#916.ref2": "undecided",
    }


def test_a_guide_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ig_rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "code_rows.csv").write_text("map_name,line,display\n")
    result = CliRunner().invoke(cli, ["mappings", "conformance", "--ig", str(tmp_path)])
    assert result.exit_code == 4 and "has no column map_kind" in result.output


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("PID[Patient]#34: the system", ["PID[Patient]#34"]),
        ("PV2[Encounter]#4-#6, #9: so", [f"PV2[Encounter]#{n}" for n in (4, 5, 6, 9)]),
        ("ADT_A01#5 ADT_A02#6.ref1: so", ["ADT_A01#5", "ADT_A02#6.ref1"]),
        ("no row here # 5", []),
    ],
)
def test_a_note_names_rows(text: str, rows: list[str]) -> None:
    assert list(rows_named(text)) == rows


@pytest.mark.skipif(not (REAL / "ig_rows.csv").is_file(), reason="needs the guide's rows beside the corpus")
def test_the_whole_guide_is_measured() -> None:
    rows = [row for row in read_guide(REAL) if row.row_class == "target"]
    assert sum(row.asked == "yes" for row in rows) == 2874
    assert sum(row.asked == "config" for row in rows) == 191


@pytest.mark.skipif(not (REAL / "ig_rows.csv").is_file(), reason="needs the guide's rows beside the corpus")
def test_no_row_of_the_guide_is_undecided() -> None:
    found = conform(read_guide(REAL), load_tables(), model())
    assert [v.row.id for v in found.undecided] == []
    assert found.strangers == ()
