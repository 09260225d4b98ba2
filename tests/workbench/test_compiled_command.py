"""`hl7bridge mappings compiled`: the code of a table, as it runs; and that code made of tables holds only their meaning."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.fhir.resource import Resource
from hl7bridge.hl7v2.form import ANY, PLAIN, SINGLE
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.compile import Compiler
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.runtime import Run
from hl7bridge.translation import translate

MESSAGE = (
    b"MSH|^~\\&|APP|FAC|||20240229101112+0100||ADT^A01|1|P|2.5.1\rPID|1||1^^^A&1.2.3.4&ISO^MR||Doe^Jane\rPV1|1|I\r"
)
ROWS = """table: PID-Patient
rows:
  PID-5:
    - {to: name#only, as: XPN-HumanName, when: 'PID-8 in [F, M] or length(PID-7) > 8'}
    - {extension: 'http://site.example/"quoted"', to: valueString, value: "it's \\"a\\" constant \\\\ # no comment", when: PID-5 valued}
"""


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "site" / "segments").mkdir(parents=True)
    (tmp_path / "site" / "segments" / "PID-Patient.yaml").write_text(ROWS)
    yield tmp_path / "site"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["mappings", "compiled", *map(str, arguments)])


def test_each_row_stands_under_its_place_and_its_words() -> None:
    result = run("PID-Patient")
    assert result.exit_code == 0
    assert result.output.startswith("def PID_Patient(run, segment, group, resource):\n")
    assert " PID-5: name#legal; as XPN-HumanName\n" in result.output
    assert "# mappings/segments/PID-Patient.yaml:" in result.output


def test_the_code_for_a_single_segment_is_the_shorter_one() -> None:
    usual, single = (run("OBX-Observation", *form).output for form in ((), ("--form", "single")))
    rows = [[line.strip() for line in code.splitlines() if "# mappings/" in line] for code in (usual, single)]
    assert rows[0] == rows[1]
    assert "run.repetition" in usual and "run.repetition" not in single
    assert run("CWE-CodeableConcept", "--form", "single").output == run("CWE-CodeableConcept", "--form", "plain").output


def test_what_is_printed_is_python(mappings: Mappings) -> None:
    for name in ("PID-Patient", "OBX-Observation", "XPN-HumanName", "CWE-code"):
        compile(mappings.compiler.code(name), name, "exec")


def test_an_overlays_row_is_in_the_code(site: Path) -> None:
    result = run("PID-Patient", site)
    assert "site/segments/PID-Patient.yaml:4 PID-5: name#only" in result.output and "name#legal" not in result.output


def test_texts_of_a_table_stay_texts_whatever_is_in_them(site: Path) -> None:
    made = translate(MESSAGE, load_mappings(site)).resource
    patient = next(e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == "Patient")
    assert patient["extension"] == [
        {"url": 'http://site.example/"quoted"', "valueString": 'it\'s "a" constant \\ # no comment'}
    ]


def test_a_name_that_no_table_has_says_which_was_meant() -> None:
    result = run("PID-Patiant")
    assert result.exit_code == 2 and "did you mean 'PID-Patient'?" in result.output


@pytest.mark.parametrize(("traced", "form"), [(False, ANY), (True, ANY), (False, PLAIN), (False, SINGLE)])
def test_every_shipped_table_can_be_compiled(mappings: Mappings, traced: bool, form: int) -> None:
    compiler = Compiler(mappings.tables, mappings.model, traced=traced).forms[form]
    assert set(compiler.everything()) == {*mappings.tables.segments, *mappings.tables.datatypes}


def test_a_traceback_shows_the_line_of_the_table(mappings: Mappings) -> None:
    message = parse(MESSAGE)
    segment = message.segments[1]
    segment.fields[5] = None  # type: ignore[call-overload]  # no message can hold it
    segment.fields[3] = 7  # type: ignore[call-overload]
    with pytest.raises(TypeError) as failed:
        mappings.compiler.segment("PID-Patient")(
            Run(message, mappings.zone, None), segment, None, Resource("Patient", 2)
        )
    text = "".join(traceback.format_exception(failed.value))
    assert 'File "PID-Patient (compiled)"' in text and "if raw[0] == " in text


def test_compiled_tables_reach_another_process(mappings: Mappings) -> None:
    before = translate(MESSAGE, mappings).bundle
    assert translate(MESSAGE, pickle.loads(pickle.dumps(mappings))).bundle == before


def test_other_separators_and_missing_ones_read_the_same(mappings: Mappings) -> None:
    plain = translate(MESSAGE, mappings).resource
    other = translate(MESSAGE.translate(bytes.maketrans(b"^&", b"$%")), mappings).resource
    names = [[e["resource"].get("name") for e in made["entry"]] for made in (plain, other)]
    assert names[0] == names[1]
    bare = MESSAGE.replace(b"|^~\\&|", b"|^|")
    entries = [entry["resource"] for entry in translate(bare, mappings).resource["entry"]]
    patient = next(resource for resource in entries if resource["resourceType"] == "Patient")
    assert patient["name"] == [{"family": "Doe", "given": ["Jane"]}]
