"""`hl7bridge mappings`: what an analyst sees, and how the command ends."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.mappings import mappings

GOOD = Path(__file__).parents[1] / "mapping" / "good"
BAD = GOOD.parent / "bad"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(mappings, [str(argument) for argument in arguments])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the good tables that a test may spoil."""
    return Path(shutil.copytree(GOOD, tmp_path / "site"))


def test_good_tables_are_counted() -> None:
    result = run("check", "--alone", GOOD)
    assert result.exit_code == 0
    assert "ok: 15 tables, 41 rows, 8 codes, 3 examples, version " in result.stdout
    assert "good/options.yaml:3:1: note: no row asks for the option 'assigner'" in result.stdout


def test_mistakes_are_all_named_and_the_exit_code_is_3() -> None:
    result = run("check", "--alone", GOOD, BAD / "unknown_tables")
    assert result.exit_code == 3
    *mistakes, last = result.stderr.splitlines()
    without_column = [re.sub(r"^([^:]+:\d+):\d+:", r"\1:", mistake) for mistake in mistakes]
    assert without_column == (BAD / "unknown_tables" / "expected.txt").read_text().splitlines()
    assert without_column != mistakes and last == "2 mistakes: the tables are not used"


def test_mistakes_as_json_have_their_column() -> None:
    result = run("check", "--alone", GOOD, BAD / "unknown_element", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "ok": False,
        "mistakes": [
            {
                "file": "unknown_element/segments/PID-Patient.yaml",
                "line": 3,
                "column": 15,
                "message": "Patient has no element 'nmae'; did you mean 'name'?",
            }
        ],
    }


def test_good_tables_as_json() -> None:
    document = json.loads(run("check", "--alone", GOOD, "--json").stdout)
    assert (document["ok"], document["tables"], len(document["notes"])) == (True, 15, 1)


def test_examples_that_hold_are_counted() -> None:
    result = run("test", "--alone", GOOD)
    assert (result.exit_code, result.stdout.splitlines()[0][:26]) == (0, "ok: 3 of 3 examples hold, "), result.output


def test_an_example_that_does_not_hold_shows_the_difference(site: Path) -> None:
    file = site / "segments" / "PID-Patient.yaml"
    file.write_text(file.read_text().replace("name: [{family: EVERYWOMAN}]", "name: [{family: SOMEBODY}]"))
    result = run("test", "--alone", site)
    assert result.exit_code == 1
    assert "site/segments/PID-Patient.yaml:" in result.stdout
    assert "name[0].family" in result.stdout and "SOMEBODY" in result.stdout and "EVERYWOMAN" in result.stdout
    document = json.loads(run("test", "--alone", site, "--json").stdout)
    assert (document["ok"], document["failed"], document["differences"][0]["path"]) == (False, 1, "name[0].family")


def test_examples_of_broken_tables_are_not_run() -> None:
    result = run("test", "--alone", GOOD, BAD / "unknown_element")
    assert result.exit_code == 3
    assert "did you mean 'name'?" in result.stderr


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert run("check", tmp_path / "nowhere").exit_code == 2


def test_the_help_teaches() -> None:
    assert "file:line" in run("check", "--help").stdout
    assert "sites/north" in run("--help").stdout
