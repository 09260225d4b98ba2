"""Built-in functions: systems of codes and identifiers, base64, UCUM."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.mapping.functions import FUNCTIONS, base64, coding_system, identifier_system, positive, samples, ucum


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("LN", "http://loinc.org"),
        ("ln", "http://loinc.org"),
        ("SCT", "http://snomed.info/sct"),
        ("SNM", "http://snomed.info/sct"),
        ("I10C", "http://hl7.org/fhir/sid/icd-10-cm"),
        ("I9C", "http://hl7.org/fhir/sid/icd-9-cm"),
        ("HL70001", "http://terminology.hl7.org/CodeSystem/v2-0001"),
        ("2.16.840.1.113883.6.1", "urn:oid:2.16.840.1.113883.6.1"),
        ("http://example.org/codes", "http://example.org/codes"),
        ("urn:oid:1.2.3", "urn:oid:1.2.3"),
        ("L", "urn:id:L"),
        ("99 ours/x", "urn:id:99%20ours%2Fx"),
        ("C:5", "urn:id:C%3A5"),
        ("", ""),
    ],
)
def test_coding_systems_have_their_uri(name: str, uri: str) -> None:
    assert coding_system(name) == uri


@pytest.mark.parametrize(
    ("parts", "uri"),
    [
        (("GOOD", "1.2.3.4", "ISO"), "urn:oid:1.2.3.4"),
        (("GOOD", "1.2.3.4", ""), "urn:oid:1.2.3.4"),
        (("", "6A2DD4D0-0E22-4F0A-9B5D-3E7B6A1C9F11", "UUID"), "urn:uuid:6a2dd4d0-0e22-4f0a-9b5d-3e7b6a1c9f11"),
        (("", "https://example.org/mrn", "URI"), "https://example.org/mrn"),
        (("", "tag:x,2020:y", "URI"), "tag:x,2020:y"),
        (("GOOD", "", ""), "urn:id:GOOD"),
        (("1.2.3.4", "", ""), "urn:oid:1.2.3.4"),
        (("", "1.2.3", "ISO"), "urn:id:1.2.3"),
        (("", "not an oid", "ISO"), "urn:id:not%20an%20oid"),
        (("", "1.02.3", "ISO"), "urn:id:1.02.3"),
        (("", "hospital.example", "DNS"), "urn:id:hospital.example"),
        (("", "", ""), ""),
    ],
)
def test_identifier_systems_prefer_the_universal_id(parts: tuple[str, str, str], uri: str) -> None:
    assert identifier_system(*parts) == uri


def test_base64_comes_from_three_encodings() -> None:
    assert base64("Grüße") == "R3LDvMOfZQ=="
    assert base64("48 69", "Hex") == "SGk="
    assert base64("SGk=\r\n", "Base64") == "SGk="


@pytest.mark.parametrize(("data", "encoding"), [("zz", "Hex"), ("S*k=", "Base64"), ("x", "Zip"), ("\ud800", "A")])
def test_data_in_another_encoding_is_refused_without_being_quoted(data: str, encoding: str) -> None:
    with pytest.raises(ValueError) as caught:
        base64(data, encoding)
    assert data not in str(caught.value) or data == "x"


UNITS = """
    mg/dL g/L mmol/L % 10*3/uL 10^9/L mm[Hg] {cells}/uL U/L [IU]/L m[IU]/mL /[HPF] fL pg meq/L kg/m2 Cel [degF]
    mL/min/{1.73_m2} ng/mL s min h mosm/kg {ratio} /min cm mm/h (mg/dL)/h mol.s-1
"""


@pytest.mark.parametrize("unit", UNITS.split())
def test_ucum_units_carry_its_system(unit: str) -> None:
    assert ucum(unit) == "http://unitsofmeasure.org"


@pytest.mark.parametrize(
    "unit",
    [
        "mEq/L",
        "sec",
        "K/uL",
        "IU/L",
        "F",
        "C",
        "mg/dl)",
        "mmHg",
        "bpm",
        "thou/mcL",
        "",
        "mg//dL",
        "mg /dL",
        "µg",
        "pH",
        "EU",
        "{a",
        "mg/",
    ],
)
def test_other_units_carry_none(unit: str) -> None:
    assert ucum(unit) == ""


def test_a_positive_number_stays_as_it_is_and_any_other_is_an_error() -> None:
    assert positive("3.50") == "3.50"
    for text in ("0", "-3", "three", "1e3"):
        with pytest.raises(ValueError, match="no positive"):
            positive(text)


def test_samples_are_numbers_with_blanks_between_and_e_for_a_missing_one() -> None:
    assert samples("12\n-7.5\n\n.5") == "12 -7.5 E .5"
    assert samples("\n") == ""
    with pytest.raises(ValueError, match="no numbers"):
        samples("12\nhigh")


@given(st.sampled_from(sorted(FUNCTIONS)), st.text(max_size=40))
def test_a_function_gives_text_or_a_value_error(name: str, text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(FUNCTIONS[name](text), str)
