"""What the lint of HL7 finds, where, and that it never shows a value or raises."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7bridge.hl7v2 import conformance
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.conformance import MAX_FINDINGS, Finding, check

CORPUS = Path(os.environ.get("HL7BRIDGE_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))

MSH = "MSH|^~\\&|LAB|NORTH|EHR|SOUTH|20240101120000||ADT^A01^ADT_A01|C1|P|2.5"
GOOD = [MSH, "EVN||20240101", "PID|1||7^^^MRN||SENTINEL^SENTINEL||19800101|F", "PV1|1|I"]


def found(*lines: str) -> list[tuple[str, str, str]]:
    """Location, condition and severity of each finding."""
    return [(f.location, f.condition, f.severity) for f in check("\r".join(lines).encode("latin-1"))]


def test_a_good_message_has_no_finding() -> None:
    assert found(*GOOD) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([MSH, "EVN||2024", "PID|1||7||A"], ("PV1^1", "100", "E")),
        ([*GOOD, "PID|2||8||B"], ("PID^2", "198", "E")),
        ([*GOOD, "PR1|1"], ("PR1^1^3", "101", "E")),
        ([*GOOD, "TXA|1"], ("TXA^1", "100", "W")),
        ([*GOOD, "XYZ|1"], ("", "100", "W")),
        ([MSH, "EVN||2024", "PID|1||||A", "PV1|1|I"], ("PID^1^3", "101", "E")),
        ([*GOOD[:2], "PID|1||7||A||19801301", "PV1|1|I"], ("PID^1^7", "102", "E")),
        ([*GOOD[:2], "PID|x||7||A", "PV1|1|I"], ("PID^1^1", "102", "E")),
        ([*GOOD[:2], "PID|1||7||A||1980~1981", "PV1|1|I"], ("PID^1^7", "198", "E")),
        ([*GOOD, "OBX|1|NM|a||12~x1"], ("OBX^1^5^2", "102", "E")),
        ([*GOOD, "OBX|1|ST|a||b||||||F", "OBX|2||a||5||||||F"], ("OBX^2^2", "101", "E")),
        ([*GOOD, "OBX|1|QQ|a||b||||||F"], ("OBX^1^2", "103", "E")),
        ([*GOOD[:2], "PID|1||7||A" + "|" * 25 + "Q", "PV1|1|I"], ("PID^1^30", "103", "W")),
        ([*GOOD[:2], "PID|1||7||A\\Q\\B", "PV1|1|I"], ("PID^1^5", "102", "W")),
        ([*GOOD[:2], "PID|1||7||A\\Z1\\B", "PV1|1|I"], ("PID^1^5", "102", "I")),
        ([*GOOD[:2], "PID|1||7||A\\B", "PV1|1|I"], ("PID^1^5", "102", "W")),
        ([MSH.replace("ADT_A01", "ADT_A04"), *GOOD[1:]], ("MSH^1^9^1^3", "103", "W")),
        ([MSH.replace("ADT^A01^ADT_A01", "QQQ^Q99"), *GOOD[1:]], ("MSH^1^9", "103", "W")),
        ([MSH.replace("|2.5", "|7.0"), *GOOD[1:]], ("MSH^1^12", "203", "E")),
        ([MSH.replace("|2.5", "|2.9"), *GOOD[1:]], ("MSH^1^12", "203", "I")),
        ([MSH.replace("^~\\&", "^~"), *GOOD[1:]], ("MSH^1^2", "102", "E")),
        ([MSH.replace("^~\\&", "^~\\~"), *GOOD[1:]], ("MSH^1^2", "102", "E")),
        ([MSH.replace("^~\\&", "^~\\&#!"), *GOOD[1:]], ("MSH^1^2", "102", "W")),
        ([MSH.replace("|C1|", "||"), *GOOD[1:]], ("MSH^1^10", "101", "E")),
        ([MSH + "||||||KLINGON", *GOOD[1:]], ("MSH^1^18", "102", "W")),
        ([*GOOD, "NTE|1||\xff"], ("MSH^1^18", "102", "E")),
        ([MSH, MSH], ("MSH^2", "100", "E")),
        (["PID|1"], ("", "100", "E")),
        (["MSHx"], ("MSH^1^1", "100", "E")),
    ],
)
def test_each_mistake_is_found_where_it_stands(lines: list[str], expected: tuple[str, str, str]) -> None:
    assert expected in found(*lines)


def test_what_a_receiver_shall_ignore_is_no_finding() -> None:
    assert found(*GOOD[:3], "PV1|1|I" + "|" * 80 + "extra", "ZPI|1|local") == []
    assert found(*GOOD[:2], 'PID|1||7||A||""|""', "PV1|1|I") == []


def test_segments_of_a_group_are_required_only_where_the_group_is() -> None:
    """IN1 opens the insurance group: IN2 alone says the group is there without its IN1."""
    assert ("IN1^1", "100", "E") in found(*GOOD, "IN2|1")
    assert found(*GOOD, "IN1|1|A^B|C") == []


@pytest.mark.parametrize(
    "version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5.1", "2.6", "2.7", "2.7.1", "2.8.2", "2.9"]
)
def test_every_version_has_a_profile(version: str) -> None:
    lines = [MSH.replace("|2.5", "|" + version), "EVN|A01|20240101", GOOD[2], "PV1|1|I|A"]
    assert [f for f in check("\r".join(lines).encode()) if f.condition == "207"] == []


def test_locations_count_the_segments_of_one_kind() -> None:
    lines = [*GOOD, *(f"OBX|{n}|NM|a||{'x' if n == 3 else n}||||||F" for n in range(1, 5))]
    assert found(*lines) == [("OBX^3^5", "102", "E")]


def test_a_hopeless_message_does_not_give_endless_findings() -> None:
    assert len(check("\r".join([*GOOD, *["OBX|x|QQ|||||"] * 1000]).encode())) < MAX_FINDINGS + 20


def test_a_fallback_that_is_configured_is_a_warning() -> None:
    [finding] = check("\r".join([*GOOD, "ZNT|1||\xff"]).encode("latin-1"), "cp1252")
    assert (finding.location, finding.severity) == ("MSH^1^18", "W")


def test_whatever_the_profiles_raise_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("SENTINEL")

    with monkeypatch.context() as patch:
        patch.setattr("hl7apy.load_library", broken)
        findings = check("\r".join(GOOD).encode())
    assert {(f.condition, f.severity) for f in findings} == {("207", "W")}
    monkeypatch.setattr(conformance, "parse", broken)
    assert [f.condition for f in check("\r".join(GOOD).encode())] == ["207"]
    assert "SENTINEL" not in repr(findings)


def test_no_finding_shows_a_value() -> None:
    lines = [
        f"{line}|SENTINEL|SENTINEL\\Q\\|SENTINEL~SENTINEL^SENTINEL" for line in (*GOOD, "OBX|1|SENTINEL|||", "XXX")
    ]
    for message in ("\r".join(lines), "SENTINEL", "MSH|SENTINEL", "MSH|^~\\&|" + "SENTINEL|" * 20):
        findings = check(message.encode())
        assert findings
        assert "SENTINEL" not in repr(findings)


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda b: "\r".join(GOOD).encode() + b"\r" + b))
@settings(deadline=None)
def test_any_bytes_give_findings_and_never_an_exception(raw: bytes) -> None:
    assert all(isinstance(finding, Finding) for finding in check(raw))
    assert "itself failed" not in repr(check(raw))


@pytest.mark.corpus
def test_real_messages_are_checked_without_a_failure_of_the_check() -> None:
    if not CORPUS.is_dir():
        pytest.skip("no corpus of real messages: set HL7BRIDGE_CORPUS")
    files = sorted((CORPUS / "messages").glob("*.hl7"))
    findings = [finding for file in files for piece in split(file.read_bytes()) for finding in check(piece.raw)]
    assert len(files) > 50
    assert [f.text for f in findings if f.condition == "207"] == []
    assert {"100", "101", "102", "103"} <= {f.condition for f in findings}
