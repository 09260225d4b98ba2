"""Paths, references, labels and concatenations: read, or a ValueError that says where."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.mapping.paths import (
    Malformed,
    parse_concat,
    parse_extension,
    parse_label,
    parse_link_key,
    parse_path,
    parse_ref,
)
from hl7bridge.mapping.schema import Label, Literal_, Place, Ref, Step

PLACE = Place("file.yaml", 1, 1)


def test_a_path_is_its_steps_with_labels() -> None:
    assert parse_path("name#legal.family", PLACE).steps == (Step("name", "legal"), Step("family"))
    assert parse_path("$this", PLACE).steps == ()


def test_a_bracket_is_a_new_resource_and_the_path_goes_on_inside() -> None:
    (step,) = parse_path("participant#attender.individual(Practitioner#p.name.family)", PLACE).steps[1:]
    assert step == Step("individual", "", "Practitioner", "p", (Step("name"), Step("family")))


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("", "the path is empty", 1),
        ("name.", "ends too early", 6),
        ("name..family", "unexpected '.'", 6),
        ("name#.family", "after # stands a label", 6),
        ("value[x]", "spelled out with the type", 6),
        ("name[0]", "told apart by labels", 5),
        ("$this.name", "$this and $value stand alone", 1),
        ("subject(patient)", "in ( ) stands a resource type", 9),
        ("subject(Patient", "not closed", 16),
        ("subject)", "without its (", 8),
        ("subject(Patient).name", "the path has ended", 17),
        ("Patient.name", "lower case", 1),
        ("subject(Patient.link(" * 11 + ")", "too many brackets", 1),
        ("name family", "unexpected ' '", 5),
    ],
)
def test_a_malformed_path_says_where_and_what_was_meant(text: str, says: str, column: int) -> None:
    with pytest.raises(Malformed) as caught:
        parse_path(text, PLACE)
    assert says in caught.value.what
    if "[" not in text:
        assert caught.value.column == column


def test_references_read_back_as_written() -> None:
    for text in ("PID", "PID-5", "PID-5.1.2", "XPN", "XPN.1.2", "CX.4", "Z01-3"):
        assert str(parse_ref(text)) == text
    assert parse_ref("PID-5.1") == Ref("PID", (5, 1))


def test_labels_and_link_keys() -> None:
    assert parse_label("Patient#patient") == Label("Patient", "patient")
    assert parse_label("Patient") == Label("Patient", "")
    on, path = parse_link_key("DiagnosticReport#report.result", PLACE)
    assert (on, path.text) == (Label("DiagnosticReport", "report"), "result")
    assert parse_link_key("subject", PLACE)[0] is None
    with pytest.raises(Malformed):
        parse_label("patient")


def test_concatenations_are_fields_and_texts() -> None:
    assert parse_concat('OBX-5.1 + " - "+OBX-5.2') == (Ref("OBX", (5, 1)), Literal_(" - "), Ref("OBX", (5, 2)))
    for wrong, says in (
        ("OBX-5 OBX-6", "joined with +"),
        ('"a', "not closed"),
        ("", "expected a field"),
        ("x+", "text stands"),
    ):
        with pytest.raises(Malformed) as caught:
            parse_concat(wrong)
        assert says in caught.value.what


def test_extensions_have_their_full_url_and_relative_ones_inside() -> None:
    base = "http://hl7.org/fhir/StructureDefinition/"
    assert parse_extension(("patient-citizenship#x", "code")) == ((base + "patient-citizenship", "code"), "x")
    assert parse_extension(("https://example.org/e",)) == (("https://example.org/e",), "")


@given(st.text("nameX#.()$[] -1P\"+OBD5'é", max_size=30) | st.text(max_size=30))
def test_any_text_is_read_or_refused_in_a_known_way(text: str) -> None:
    for parse in (
        lambda t: parse_path(t, PLACE),
        parse_ref,
        parse_label,
        parse_concat,
        lambda t: parse_extension((t,)),
    ):
        with contextlib.suppress(Malformed):
            parse(text)
