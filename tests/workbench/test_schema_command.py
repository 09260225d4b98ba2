"""The JSON Schema of the tables: every shipped table fits it, wrong words do not, and it knows what the reader knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from hl7bridge.cli.main import cli
from hl7bridge.fhir.model import model
from hl7bridge.mapping import read, read_message, read_site
from hl7bridge.mapping.json_schema import KINDS, schemas
from hl7bridge.mapping.load import load_tables, shipped_tables

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "samples" / "site"
FILES = [file for folder in (shipped_tables(), SITE) for file in sorted(folder.rglob("*.yaml")) if file.name[0] != "."]


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft7Validator]:
    made = schemas(load_tables(SITE), model())
    for one in made.values():
        Draft7Validator.check_schema(one)
    return {kind: Draft7Validator(one) for kind, one in made.items()}


def kind_of(file: Path) -> str:
    return file.stem if file.stem in ("options", "identity") else file.parent.name


def problems(validators: dict[str, Draft7Validator], kind: str, text: str) -> list[str]:
    """As the reader loads it, every scalar a text."""
    return [error.message for error in validators[kind].iter_errors(yaml.load(text, yaml.BaseLoader))]


def test_every_shipped_table_and_the_sample_site_fit(validators: dict[str, Draft7Validator]) -> None:
    assert len(FILES) > 200
    wrong = {
        str(file): found for file in FILES if (found := problems(validators, kind_of(file), file.read_text("utf-8")))
    }
    assert wrong == {}


def test_there_is_a_schema_for_each_kind_of_file(validators: dict[str, Draft7Validator]) -> None:
    assert set(validators) == set(KINDS) == {kind_of(file) for file in FILES}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("segments", "table: PID-Patient\nrow: {}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-5: {to: name, az: XPN-HumanName}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-5: {to: name, as: XPN-HumanNames}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, codes: AdministrativeSexes}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {codes: AdministrativeSex}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID.8: {to: gender}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: []}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, apply: uppercase}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, option: no-such-option}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, option: ssn-country = mars}}\n"),
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, value: {options: ssn-country}}}\n"),
        ("segments", "rows: {PID-8: {to: gender}}\n"),
        ("datatypes", "table: XPN-HumanName\nrows: {XPN-1: {to: family}}\n"),
        ("datatypes", "table: XPN-HumanName\nexamples: [{given: A, expects: {}}]\n"),
        ("messages", "message: ADT_A01\nrows: {PID: {use: PID-Patiant, into: Patient#p}}\n"),
        ("messages", "message: ADT_A01\nrows: {PID: {use: PID-Patient, in: Patient#p}}\n"),
        ("messages", "message: ADT_A01\nrows: {PID: {use: PID-Patient, into: patient}}\n"),
        ("codes", "codes: AdministrativeSex\nmaps: {F: female}\n"),
        ("codes", "codes: AdministrativeSex\nmap: {F: {cod: female}}\n"),
        ("options", "ssn-country: {default: us, say: nothing}\n"),
        ("options", "set: {ssn-country: mars}\n"),
        ("identity", "Patiant: {prefer: [MR]}\n"),
        ("identity", "Patient: {prefers: [MR]}\n"),
    ],
)
def test_what_the_reader_refuses_is_underlined(validators: dict[str, Draft7Validator], kind: str, text: str) -> None:
    assert problems(validators, kind, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("segments", "table: PID-Patient\nrows: {PID-8: {to: gender, option: ssn-country = us, note: fine}}\n"),
        ("codes", "codes: AdministrativeSex\nmap: {01: 1e3}\n"),
        ("options", "set: {ssn-country: other}\n"),
    ],
)
def test_an_overlay_needs_no_more_than_it_changes(validators: dict[str, Draft7Validator], kind: str, text: str) -> None:
    assert problems(validators, kind, text) == []


def test_numbers_as_an_editor_sees_them_are_texts(validators: dict[str, Draft7Validator]) -> None:
    assert validators["codes"].is_valid({"codes": "X", "v2-table": 1, "map": {"1": {"code": 218}}, "otherwise": True})


def test_the_schema_has_the_reader_s_words_and_no_others(validators: dict[str, Draft7Validator]) -> None:
    def rows(kind: str) -> Any:
        return validators[kind].schema["properties"]["rows"]["additionalProperties"]["anyOf"][0]["properties"]

    assert set(rows("segments")) == set(rows("datatypes")) == set(read.ROW_WORDS)
    assert set(rows("messages")) == set(rows("shared")) == set(read_message.USE_WORDS)
    assert set(validators["segments"].schema["properties"]) == set(read.TABLE_WORDS)
    assert set(validators["messages"].schema["properties"]) == set(read_message.MESSAGE_WORDS)
    assert set(validators["codes"].schema["properties"]) == set(read_site.CODES_WORDS)


def test_the_command_prints_one_kind_or_writes_all_and_tells_the_editor(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["mappings", "schema", str(SITE), "--kind", "segments"])
    names = json.loads(printed.stdout)["properties"]["rows"]["additionalProperties"]["anyOf"][0]["properties"]
    assert "TransportMode" in names["codes"]["enum"] and "XPN-HumanName" in names["as"]["enum"]
    written = CliRunner().invoke(cli, ["mappings", "schema", "-o", str(tmp_path / "s")])
    settings = json.loads(written.stdout)["yaml.schemas"]
    assert {Path(name).name for name in settings} == {file.name for file in (tmp_path / "s").iterdir()}
    assert "**/segments/*.yaml" in settings.values() and "**/options.yaml" in settings.values()
