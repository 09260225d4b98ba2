"""What an OBX becomes, type by type and status by status, with the tables that are shipped."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.translation import Translation, translate

MSH = "MSH|^~\\&|LAB|NORTH|||20240305143012+0100||ORU^R01^ORU_R01|C1|P|2.5.1"
PID = "PID|1||123^^^A&1.2.3.4.5&ISO^MR||Doe^Jo"
OBR = "OBR|1||F1^LAB|P1^Panel^L|||20240305090000+0100||||||||||||||||||F"
DOC = "https://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.valueAttachment"
ORIGINAL = "http://hl7.org/fhir/StructureDefinition/originalText"
UCUM = "http://unitsofmeasure.org"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
REFERENCE = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


@pytest.fixture(scope="module")
def oru(mappings: Mappings) -> Any:
    def run(*segments: str, header: str = MSH) -> Translation:
        return translate("\r".join((header, *segments)).encode(), mappings, zone=ZoneInfo("Asia/Kathmandu"))

    return run


def of_type(result: Translation, type_: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in result.resource["entry"] if e["resource"]["resourceType"] == type_]


def observations(result: Translation) -> list[dict[str, Any]]:
    return of_type(result, "Observation")


def value_of(result: Translation) -> dict[str, Any]:
    (found,) = observations(result)
    return {
        k: v for k, v in found.items() if k.lstrip("_").startswith("value") or k in ("component", "dataAbsentReason")
    }


def quantity(value: str, unit: str = "", comparator: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"value": Decimal(value)}
    return {
        "valueQuantity": made | ({"unit": unit} if unit else {}) | ({"comparator": comparator} if comparator else {})
    }


def text(said: str, original: str = "") -> dict[str, Any]:
    extension = {"_valueString": {"extension": [{"url": ORIGINAL, "valueString": original}]}} if original else {}
    return {"valueString": said, **extension}


def coded(*codings: tuple[str, str, str], text: str = "") -> dict[str, Any]:
    names = ("system", "code", "display")
    made: dict[str, Any] = (
        {"coding": [{n: part for n, part in zip(names, c, strict=True) if part} for c in codings]} if codings else {}
    )
    return {"valueCodeableConcept": made | ({"text": text} if text else {})}


SCT = "http://snomed.info/sct"
TYPES = [
    ("NM", "5.40", "", quantity("5.40")),
    ("NM", "5.40", "mmol/L", quantity("5.40", "mmol/L")),
    ("NM", "<5", "mmol/L", quantity("5", "mmol/L", "<")),
    ("NM", ">= 100", "", quantity("100", "", ">=")),
    ("NM", "1+", "mg/dL", text("1+ mg/dL")),
    ("NM", "POS", "", text("POS")),
    ("NM", "120^80", "mm[Hg]", text("120^80 mm[Hg]")),
    ("NM", "60~120", "mg", {"component": "two"}),
    ("ST", "straw coloured", "", text("straw coloured")),
    ("ST", "100", "%", quantity("100", "%")),
    ("ST", "trace", "mg/dL", text("trace mg/dL")),
    ("TX", "one~~three", "", text("one\n\nthree")),
    ("TX", "~second", "", text("second")),
    ("FT", "a\\.br\\b", "", text("a\nb")),
    ("CE", "A^Group A^L", "", coded(("urn:id:L", "A", "Group A"))),
    ("CWE", "112283007^E. coli^SCT^^^^^^as written", "", coded((SCT, "112283007", "E. coli"), text="as written")),
    ("CWE", "^^^^^^^^free text only", "", coded(text="free text only")),
    ("CNE", "112283007^E. coli^SCT", "", coded((SCT, "112283007", "E. coli"))),
    ("CF", "F-10^No growth^L", "", coded(("urn:id:L", "F-10", "No growth"))),
    ("IS", "Y", "", coded(("", "Y", ""))),
    ("ID", "N", "", coded(("", "N", ""))),
    ("DT", "202403", "", {"valueDateTime": "2024-03"}),
    ("TS", "202403010915-0500", "", {"valueDateTime": "2024-03-01T09:15:00-05:00"}),
    ("DTM", "20240301091500.5", "", {"valueDateTime": "2024-03-01T09:15:00.5+01:00"}),
    ("DTM", "yesterday", "", text("yesterday")),
    ("TM", "0800", "", {"valueTime": "08:00:00"}),
    ("TM", "0800+0200", "", {"valueTime": "08:00:00", "_valueTime": "0800+0200"}),
    ("SN", ">^100", "mg", quantity("100", "mg", ">")),
    ("SN", "^1^:^128", "", {"valueRatio": "1:128"}),
    ("SN", "^2^-^5", "mg", {"valueRange": "2-5 mg"}),
    ("SN", "<>^5", "mg", text("<> 5 mg")),
    ("SN", "<0.10", "kU/L", text("<0.10 kU/L")),
    ("SN", "^few", "mg", text("^few mg")),
    ("NR", "1^9", "mg", {"valueRange": "1-9 mg"}),
    ("DR", "20240101^20240131", "", {"valuePeriod": {"start": "2024-01-01", "end": "2024-01-31"}}),
    ("NA", "12^-7.5^24", "mV", {"valueSampledData": "12 -7.5 24"}),
    ("CQ", "10^mL", "", quantity("10", "mL")),
    ("MO", "99.50^USD", "", quantity("99.50", "USD")),
    ("CP", "100&USD^UP", "", text("100 USD UP", "100&USD^UP")),
    ("XPN", "Doe^Jane^Q^^Dr.", "", text("Dr. Jane Q Doe", "Doe^Jane^Q^^Dr.")),
    ("PN", "^Jane", "", text("Jane", "^Jane")),
    ("XCN", "77^Beaker^Bill^^^Dr.", "", text("Dr. Bill Beaker", "77^Beaker^Bill^^^Dr.")),
    ("CN", "77^Beaker^Bill", "", text("Bill Beaker", "77^Beaker^Bill")),
    ("PPN", "77^Beaker^Bill", "", text("Bill Beaker", "77^Beaker^Bill")),
    ("XON", "North Lab^L^5", "", text("North Lab", "North Lab^L^5")),
    ("XAD", "1 Road^^Town^^9999", "", text("1 Road Town 9999", "1 Road^^Town^^9999")),
    ("AD", "1 Road^^Town", "", text("1 Road Town", "1 Road^^Town")),
    ("XTN", "^PRN^PH^^1^555^1234567", "", text("1 555 1234567", "^PRN^PH^^1^555^1234567")),
    ("TN", "(555)555-5555X123", "", text("(555)555-5555X123")),
    ("CX", "999^^^A&1.2.3^PI", "", text("999 A", "999^^^A&1.2.3^PI")),
    ("CK", "999^7^M10^A", "", text("999 A", "999^7^M10^A")),
    ("EI", "X1^LAB", "", text("X1 LAB", "X1^LAB")),
    ("HD", "LAB^1.2.3.4^ISO", "", text("LAB 1.2.3.4", "LAB^1.2.3.4^ISO")),
    ("VR", "1^9", "", text("1-9")),
    ("QQ", "what", "", text("what")),
    ("", "something", "", text("something")),
    ("", "28", "/min", quantity("28", "/min")),
]


@pytest.mark.parametrize(("type_", "sent", "unit", "expected"), TYPES, ids=[f"{t}-{v}-{u}" for t, v, u, _ in TYPES])
def test_a_value_of_each_type_becomes(oru: Any, type_: str, sent: str, unit: str, expected: dict[str, Any]) -> None:
    found = value_of(oru(PID, OBR, f"OBX|1|{type_}|X^Test^L||{sent}|{unit}|||||F"))
    if "valueRange" in found:
        ends = found["valueRange"]
        found = {"valueRange": f"{ends['low']['value']}-{ends['high']['value']} {ends['low']['unit']}"}
    elif "valueRatio" in found:
        ratio = found["valueRatio"]
        found = {"valueRatio": f"{ratio['numerator']['value']}:{ratio['denominator']['value']}"}
    elif "valueSampledData" in found:
        found = {"valueSampledData": found["valueSampledData"]["data"].replace("^", " ")}
    elif "component" in found:
        assert [c["valueQuantity"] for c in found["component"]] == [
            {"value": Decimal(value), "unit": unit} for value in ("60", "120")
        ]
        found = {"component": "two"}
    elif "_valueTime" in found:
        found["_valueTime"] = found["_valueTime"]["extension"][0]["valueString"]
    assert found == expected


def test_the_page_on_results_names_every_type_that_is_tested_here() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    table = "".join(line for line in page.splitlines(keepends=True) if line.startswith("|"))
    missing = {type_ for type_, *_ in TYPES if type_ and f"`{type_}`" not in table}
    assert not missing


def document(result: Translation) -> dict[str, Any]:
    (found,) = observations(result)
    (extension,) = [e for e in found["extension"] if e["url"] == DOC]
    made: dict[str, Any] = extension["valueAttachment"]
    return made


@pytest.mark.parametrize("type_", ["ED", ""])
@pytest.mark.parametrize(
    ("sent", "content_type", "data"),
    [
        ("^application^pdf^Base64^JVBERi0xLjQK", "application/pdf", b"%PDF-1.4\n"),
        ("^^PDF^Base64^JVBERi0xLjQ", "application/pdf", b"%PDF-1.4"),
        ("^^txt^^plain words ^ with & separators", "text/plain", b"plain words ^ with & separators"),
        ("^^RTF^A^{\\E\\rtf1}", "application/rtf", b"{\\rtf1}"),
        ("^^txt^Hex^6869", "text/plain", b"hi"),
    ],
)
def test_a_document_is_an_attachment_of_its_result_and_the_form_of_its_report(
    oru: Any, type_: str, sent: str, content_type: str, data: bytes
) -> None:
    result = oru(PID, OBR, f"OBX|1|{type_}|DOC^Letter^L||{sent}||||||F")
    found = {"contentType": content_type, "data": base64.b64encode(data).decode()}
    assert document(result) == found
    assert of_type(result, "DiagnosticReport")[0]["presentedForm"] == [{**found, "title": "Letter"}]


def test_a_document_elsewhere_keeps_its_address(oru: Any) -> None:
    result = oru(PID, OBR, "OBX|1|RP|IMG^Image^L||https://example.org/i/1^EX^image^jpeg||||||F")
    assert document(result) == {"contentType": "image/jpeg", "url": "https://example.org/i/1"}


def test_data_in_no_known_encoding_are_kept_as_text(oru: Any) -> None:
    result = oru(PID, OBR, "OBX|1|ED|DOC^Letter^L||^application^pdf^Base64^no base64 at all!||||||F")
    (found,) = observations(result)
    assert found["valueString"] == "^application^pdf^Base64^no base64 at all!"
    assert "extension" not in found


@pytest.mark.parametrize(
    ("status", "sent", "expected", "reason"),
    [
        ("F", "4.1", "final", None),
        ("P", "4.1", "preliminary", None),
        ("C", "4.1", "corrected", None),
        ("R", "4.1", "preliminary", None),
        ("f", "4.1", "final", None),
        ("F^Final^HL70085", "4.1", "final", None),
        ("", "4.1", "final", None),  # the report's, OBR-25
        ("I", "", "registered", "temp-unknown"),
        ("P", "", "preliminary", "temp-unknown"),
        ("X", "", "cancelled", "not-performed"),
        ("N", "", "final", "not-asked"),
        ("F", "", "final", "unknown"),
        ("F", '""', "final", "unknown"),
    ],
)
def test_a_result_has_its_status_and_says_why_it_has_no_value(
    oru: Any, status: str, sent: str, expected: str, reason: str | None
) -> None:
    (found,) = observations(oru(PID, OBR, f"OBX|1|NM|K^Potassium^L||{sent}||||||{status}"))
    assert found["status"] == expected
    assert ("valueQuantity" in found) is (reason is None)
    if reason is not None:
        assert found["dataAbsentReason"]["coding"] == [{"code": reason, "system": ABSENT}]


def test_without_any_status_it_is_unknown(oru: Any) -> None:
    assert observations(oru(PID, "OBX|1|NM|K^Potassium^L||4.1"))[0]["status"] == "unknown"


@pytest.mark.parametrize("status", ["D", "W"])
@pytest.mark.parametrize("sent", ["NM|K^Potassium^L||4.1", "NM|K^Potassium^L||4.1~4.2", "TX|K^Potassium^L||high"])
def test_what_was_taken_back_shows_no_value_and_is_found_again(oru: Any, status: str, sent: str) -> None:
    obx = f"OBX|1|{sent}|mmol/L|3.5-5.0|H|||{{}}|||20240305090000+0100"
    (first,) = observations(oru(PID, OBR, obx.format("F")))
    result = oru(PID, OBR, obx.format(status))
    (found,) = observations(result)
    assert found["status"] == "entered-in-error"
    assert not any(name.startswith("value") for name in found)
    assert not {"component", "interpretation", "referenceRange"} & set(found)
    assert found["identifier"] == first["identifier"]
    assert b"4.1" not in result.bundle


@pytest.mark.parametrize(
    ("sent", "low", "high"),
    [
        ("3.5-5.0", "3.5", "5.0"),
        ("[ 135 - 180 ]", "135", "180"),
        ("-2 to 2", "-2", "2"),
        ("<5", None, "5"),
        (">=10", "10", None),
        ("5.0-3.5", None, None),
        ("3.5-5.0 g/L", None, None),
        ("M 13-17, F 12-15", None, None),
        ("negative", None, None),
    ],
)
def test_a_reference_range_keeps_its_text_and_has_ends_where_it_is_numbers(
    oru: Any, sent: str, low: str | None, high: str | None
) -> None:
    (found,) = observations(oru(PID, OBR, f"OBX|1|NM|K^Potassium^L||4.1|mmol/L^^UCUM|{sent}||||F"))
    (reference_range,) = found["referenceRange"]
    assert reference_range["text"] == sent
    for name, value in (("low", low), ("high", high)):
        quantity_ = {"value": Decimal(value), "unit": "mmol/L", "system": UCUM, "code": "mmol/L"} if value else None
        assert reference_range.get(name) == quantity_


def test_every_abnormal_flag_is_kept_and_an_unknown_one_does_not_claim_to_be_the_standards(oru: Any) -> None:
    (found,) = observations(oru(PID, OBR, "OBX|1|NM|K^Potassium^L||9.9|||HH~QQQ|||F"))
    first, second = found["interpretation"]
    assert first["coding"][0]["code"] == "HH"
    assert second["coding"] == [{"code": "QQQ", "system": "urn:id:HL70078"}]


def test_lines_sent_in_an_obx_each_are_one_text(oru: Any) -> None:
    line = "OBX|{}|TX|CXR^Chest^L|{}|{}||||||F"
    texts = ["Heart normal.", "", "No effusion."]
    result = oru(PID, OBR, *(line.format(n, n, said) for n, said in enumerate(texts, 1)), "NTE|1||read twice")
    (found,) = observations(result)
    assert found["valueString"] == "Heart normal.\n\nNo effusion."
    assert found["note"] == [{"text": "read twice"}]
    assert len(of_type(result, "DiagnosticReport")[0]["result"]) == 1


@pytest.mark.parametrize(
    "second",
    [
        "OBX|2|TX|CXR^Chest^L|1|b||||||C",
        "OBX|2|TX|OTHER^Other^L|1|b||||||F",
        "OBX|2|TX|CXR^Chest^L|7|b||||||F",
        "OBX|2|ST|CXR^Chest^L|1|b||||||F",
    ],
    ids=["other status", "other code", "number that jumps", "other type"],
)
def test_what_differs_in_more_than_its_text_is_a_result_of_its_own(oru: Any, second: str) -> None:
    assert [o["valueString"] for o in observations(oru(PID, OBR, "OBX|1|TX|CXR^Chest^L|1|a||||||F", second))] == [
        "a",
        "b",
    ]


def test_a_short_corrected_text_takes_the_place_of_the_long_one(oru: Any) -> None:
    line = "OBX|{0}|TX|CXR^Chest^L|{0}|line {0}||||||{1}"
    long = observations(oru(PID, OBR, *(line.format(n, "P") for n in (1, 2, 3))))
    short = observations(oru(PID, OBR, *(line.format(n, "C") for n in (1, 2))))
    assert [o["identifier"] for o in long] == [o["identifier"] for o in short]


CULTURE = (
    "ORC|RE|O1^ADM|F1^LAB",
    "OBR|1|O1^ADM|F1^LAB|600-7^Culture^LN|||20240305090000+0100|||||||||||||||||MB|F",
    "OBX|1|CWE|600-7^Bacteria^LN|1|112283007^E. coli^SCT||||||F",
    "OBX|2|CWE|600-7^Bacteria^LN|2|3092008^S. aureus^SCT||||||F",
    "OBX|3|NM|564-5^Count^LN|2.1|>100000|[CFU]/mL^^UCUM|||||F",
    "SPM|1|S1&LAB||119297000^Blood^SCT",
    "ORC|RE||F2^LAB",
    "OBR|2||F2^LAB|50545-3^Susceptibility^LN|||20240305090000+0100|||||||||||||||||MB|F|600-7&Bacteria&LN^2^S. aureus|||O1&ADM^F1&LAB",
    "OBX|1|SN|28-1^Ampicillin^LN||>=^32|ug/mL^^UCUM||R|||F",
)


def test_a_susceptibility_is_derived_from_its_organism_and_a_member_belongs_to_its_sub_id(oru: Any) -> None:
    result = oru(PID, *CULTURE)
    coli, aureus, count, ampicillin = (
        next(o for o in observations(result) if said in str(o)) for said in ("E. coli", "S. aureus", "564-5", "28-1")
    )
    full = {
        e["resource"]["identifier"][0]["value"]: e["fullUrl"]
        for e in result.resource["entry"]
        if e["resource"]["resourceType"] == "Observation"
    }
    assert len(full) == 4
    assert ampicillin["derivedFrom"] == [{"reference": full[aureus["identifier"][0]["value"]]}]
    assert aureus["hasMember"] == [{"reference": full[count["identifier"][0]["value"]]}]
    assert "hasMember" not in coli
    assert count["valueQuantity"]["comparator"] == ">"
    assert {"reference": coli["specimen"]["reference"]} == aureus["specimen"]
    assert "specimen" not in ampicillin


def test_of_several_specimens_a_result_names_none_and_one_behind_a_specimen_that_one(oru: Any) -> None:
    obx = "OBX|1|NM|K^Potassium^L||4.1||||||F"
    two = oru(PID, OBR, obx, "SPM|1|S1&LAB||BLD", "SPM|2|S2&LAB||UR", "OBX|2|NM|V^Volume^L||5|mL|||||F")
    result, volume = observations(two)
    specimens = of_type(two, "Specimen")
    assert "specimen" not in result
    assert volume["specimen"] == volume["focus"][0]
    assert len(specimens) == 2
    assert len(of_type(two, "DiagnosticReport")[0]["result"]) == 2


def test_results_without_an_order_are_results_and_keep_their_comments(oru: Any) -> None:
    result = oru(PID, "OBX|1|NM|K^Potassium^L||4.1||||||F", "NTE|1||haemolysed")
    (found,) = observations(result)
    assert found["note"] == [{"text": "haemolysed"}]
    assert found["valueQuantity"] == {"value": Decimal("4.1")}
    assert not of_type(result, "DiagnosticReport")


def test_an_order_segment_without_obr_makes_no_report(oru: Any) -> None:
    result = oru(PID, "ORC|RE|O1^ADM", "OBX|1|NM|K^Potassium^L||4.1||||||F")
    assert not of_type(result, "DiagnosticReport")
    assert len(observations(result)) == 1


def test_a_value_with_neither_order_nor_time_does_not_replace_yesterdays(oru: Any) -> None:
    obx = "OBX|1|NM|K^Potassium^L||4.1||||||F"
    one, other = (observations(oru(PID, obx, header=MSH.replace("|C1|", f"|{n}|")))[0] for n in ("C1", "C2"))
    assert one["identifier"] != other["identifier"]


def test_a_corrected_display_is_still_the_same_result(oru: Any) -> None:
    obx = "OBX|1|NM|K^{}^L|1|4.1||||||{}|||20240305090000+0100"
    one, other = (observations(oru(PID, OBR, obx.format(*said)))[0] for said in (("Potasium", "P"), ("Potassium", "C")))
    assert one["identifier"] == other["identifier"]


def test_comments_stay_with_what_they_are_about(oru: Any) -> None:
    result = oru(
        PID,
        "NTE|1||hard of hearing",
        "ORC|RE|O1^ADM|F1^LAB",
        "NTE|1||of the order",
        "OBR|1|O1^ADM|F1^LAB|P1^Panel^L|||20240305090000+0100||||||||||||||||||F",
        "NTE|1||of the report~second line",
        "OBX|1|NM|K^Potassium^L||4.1||||||F",
        "NTE|1||of the result",
        "SPM|1|S1&LAB||BLD",
        "NTE|1||of the specimen",
    )
    patients, result_ = sorted(observations(result), key=lambda o: "valueString" not in o)
    assert patients["valueString"] == "hard of hearing"
    assert result_["note"] == [{"text": "of the result"}]
    assert of_type(result, "Specimen")[0]["note"] == [{"text": "of the specimen"}]
    report = [e["valueAnnotation"]["text"] for e in of_type(result, "DiagnosticReport")[0]["extension"]]
    assert report == ["of the order", "of the report\nsecond line"]
    order = [note["text"] for note in of_type(result, "ServiceRequest")[0]["note"]]
    assert order == ["of the order", "of the report\nsecond line"]


def test_every_specimen_of_a_result_is_named(oru: Any) -> None:
    fields = ["OBX", "1", "NM", "K^Potassium^L", "", "4.1", *[""] * 5, "F", *[""] * 21, "S1&LAB~S2&LAB"]
    result = oru(PID, OBR, "|".join(fields))
    assert len(of_type(result, "Specimen")) == 2


OLD = "MSH|^~\\&|LAB|NORTH|||198805041530||{}|C1|P|{}"


def patient_of(result: Translation) -> dict[str, Any]:
    return next(e for e in result.resource["entry"] if e["resource"]["resourceType"] == "Patient")["request"]


def test_an_old_message_without_an_event_means_the_same(oru: Any) -> None:
    body = ("OBR|1||8842|GLU^Glucose", "OBX|1|NM|GLU^Glucose||5.4|mmol/l|||||F")
    old = oru("PID|1|77||77|DOE^JO", *body, header=OLD.format("ORU", "2.1"))
    new = oru("PID|1||77||DOE^JO", *body, header=OLD.format("ORU^R01^ORU_R01", "2.5.1"))
    assert patient_of(old) == patient_of(new)
    assert observations(old) == observations(new)


def test_the_number_of_pid_3_identifies_before_those_of_pid_2_and_pid_4(oru: Any) -> None:
    obx = "OBX|1|NM|K^Potassium^L||4.1||||||F"
    one = oru("PID|1|EXT|INT|ALT|Doe^Jo", obx)
    other = oru("PID|1||INT||Doe^Jo", obx)
    assert patient_of(one) == patient_of(other)
    assert "ALT" in patient_of(oru("PID|1|||ALT|Doe^Jo", obx))["ifNoneExist"]


def test_a_z_segment_is_left_alone(oru: Any) -> None:
    obx = "OBX|1|NM|K^Potassium^L||4.1||||||F"
    assert oru(PID, OBR, obx, "ZLR|1|x").entries == oru(PID, OBR, obx).entries


@pytest.mark.parametrize(
    ("type_", "sent"),
    [
        ("CWE", "POS^Positive^L"),
        ("IS", "Y"),
        ("DT", "20240301"),
        ("TX", "one~two"),
        ("CE", "A^a^L~B^b^L"),
        ("XPN", "Doe^J"),
    ],
)
def test_a_unit_beside_what_has_none_is_a_note(oru: Any, type_: str, sent: str) -> None:
    (found,) = of_type(oru(PID, OBR, f"OBX|1|{type_}|X^Test^L||{sent}|titre|||||F"), "Observation")
    assert found["note"] == [{"text": "Unit: titre"}]
    (plain,) = of_type(oru(PID, OBR, f"OBX|1|{type_}|X^Test^L||{sent}||||||F"), "Observation")
    assert "note" not in plain


def test_one_corrected_line_leaves_the_text_it_belongs_to_alone(oru: Any) -> None:
    """With a sub-id of its own; the text sent whole again takes the old one's place."""

    def found(*lines: str) -> tuple[str, str]:
        (one,) = of_type(oru(PID, OBR, *(f"OBX|{line}||||||C" for line in lines)), "Observation")
        return one["identifier"][-1]["value"], one["valueString"]

    text = found("1|TX|18782-3^Impression^LN|1|first", "2|TX|18782-3^Impression^LN|2|second")
    whole = found("1|TX|18782-3^Impression^LN|1|first", "2|TX|18782-3^Impression^LN|2|other")
    line = found("2|TX|18782-3^Impression^LN|2|other")
    assert text[0] == whole[0] != line[0]
    assert whole[1] == "first\nother"


def test_a_corrected_text_of_a_single_line_says_that_lines_may_be_in_its_former_version(oru: Any) -> None:
    def notes(*lines: str) -> list[str]:
        (one,) = of_type(oru(PID, OBR, *(f"OBX|{line}" for line in lines)), "Observation")
        return [note["text"] for note in one.get("note", [])]

    text = "18782-3^Impression^LN"
    (said,) = notes(f"3|TX|{text}||other||||||C")
    assert "single line" in said and "former version" in said
    assert notes(f"1|TX|{text}||first||||||C", f"2|TX|{text}||other||||||C") == []  # sent whole
    assert notes(f"1|TX|{text}||other||||||F") == []
    assert notes(f"2|TX|{text}|2|other||||||C") == []  # a result of its own
    assert notes(f"1|FT|{text}||{'a report ' * 20}||||||C") == []  # more than a line
    assert notes(f"1|NM|{text}||5||||||C") == []


def test_the_participant_after_obr_orders_where_nothing_else_names_him(oru: Any) -> None:
    prt = "PRT||AD||OP^Ordering^HL70443|77^Good^Ann^^^^^^A&1.2.3&ISO"

    def family(orc: str) -> str:
        result = oru(PID, orc, OBR, prt, "OBX|1|NM|X^Test^L||5||||||F")
        by_url = {entry["fullUrl"]: entry["resource"] for entry in result.resource["entry"]}
        (order,) = of_type(result, "ServiceRequest")
        return by_url[by_url[order["requester"]["reference"]]["practitioner"]["reference"]]["name"][0]["family"]

    assert family("ORC|RE||F1^LAB") == "Good"
    assert family("ORC|RE||F1^LAB|||||||||55^Other^Bea^^^^^^A&1.2.3&ISO") == "Other"
