"""A segment's form decides which code its tables run, never what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2 import message as messages
from hl7bridge.hl7v2.escape import Separators
from hl7bridge.hl7v2.form import ANY, PLAIN, SINGLE
from hl7bridge.hl7v2.message import Segment
from hl7bridge.mapping.mappings import Mappings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
USUAL = Separators("|", "^", "~", "\\", "&")


def form(line: str, separators: Separators = USUAL) -> int:
    return Segment(line[:3], line, separators, 1, 1).form


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("OBX|1|NM|A^B C^L||1.5", SINGLE),
        ("OBX|1|NM|^^A|", PLAIN),
        ("PID|||1^^^A~2^^^B", PLAIN),
        ("PID|||1^^^A&1.2&ISO", ANY),
        ("OBX|1|TX|A||a\\.br\\b", ANY),
        ('OBX|1|TX|A||""', ANY),
        ("OBX|1|TX|A|| a", ANY),
        ("OBX|1|TX|A||a |", ANY),
        ("OBX|1|TX|A||a ^b", ANY),
        ("OBX|1|TX|A||a^ b", ANY),
        ("OBX|1|TX|A||a~ b", ANY),
        ("OBX|1|TX|A||a  b", ANY),
        ("OBX|1|TX|A||a ", ANY),
        ("OBX|1|TX|A||a\tb", ANY),
        ("OBX|1|TX|A||a\xa0b", ANY),
        ("OBX|1|TX|A||é b", SINGLE),
    ],
)
def test_the_form_of_a_segment(line: str, found: int) -> None:
    assert form(line) == found


def test_an_envelopes_own_separators_do_not_count() -> None:
    assert form("MSH|^~\\&|A|B|C") == SINGLE and form("MSH|^~\\&|A|B~C") == PLAIN and form("MSH|^~\\&|A|B&C") == ANY


def test_a_separator_that_the_message_has_not_is_in_no_text() -> None:
    assert form("OBX|1|TX|A||a", Separators("|", "^", "", "", "")) == SINGLE


def test_with_a_blank_for_a_separator_nothing_is_plain() -> None:
    assert form("OBX|1|TX|A||a", Separators("|", " ", "~", "\\", "&")) == ANY


def test_a_long_segment_has_its_form_after_it_was_split() -> None:
    segment = Segment("OBX", "OBX|1|TX|A||" + "a" * 10_000, USUAL, 1, 1)
    assert len(segment.fields) == 6 and segment.form == SINGLE
    assert segment.with_field(5, "a~b").form == PLAIN


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


def said(raw: bytes, mappings: Mappings) -> Any:
    try:
        made = translate(raw, mappings)
    except MessageError as error:
        return type(error), str(error)
    return json.loads(made.bundle), made.issues, made.deletes


def in_all_forms(raw: bytes, mappings: Mappings, patch: pytest.MonkeyPatch) -> list[Any]:
    """What a message becomes as it is, and by the code that is right for every segment."""
    as_it_is = said(raw, mappings)
    with patch.context() as any_form:
        any_form.setattr(messages, "form_of", lambda line, separators: ANY)
        return [as_it_is, said(raw, mappings)]


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*.hl7")), ids=lambda file: file.stem)
def test_samples_say_the_same_in_every_form(file: Path, mappings: Mappings, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = file.read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    for piece in (raw, raw.replace(b'""', b"A").replace(b"&", b"")):
        one, other = in_all_forms(piece, mappings, monkeypatch)
        assert one == other


PARTS = st.lists(
    st.sampled_from(
        ("", "A", "B1", "2.5", "<5", "20240102", "1-3", "LN", "HL70203", "UCUM", "mg/dL", "Y", "N", "x y", "é")
    )
    | st.text("aZ9é .-<>/", max_size=4),
    max_size=6,
).map("^".join)
FIELDS = st.lists(st.lists(PARTS, min_size=1, max_size=2).map("~".join), max_size=40).map("|".join)
TYPES = st.sampled_from(
    ("NM", "ST", "TX", "CWE", "SN", "NR", "DT", "TM", "TS", "CX", "XPN", "ED", "RP", "NA", "", "QQ")
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pid=FIELDS, pv1=FIELDS, orc=FIELDS, obr=FIELDS, obx=FIELDS, type_=TYPES, code=PARTS, value=PARTS)
def test_any_fields_say_the_same_in_every_form(
    pid: str, pv1: str, orc: str, obr: str, obx: str, type_: str, code: str, value: str, mappings: Mappings
) -> None:
    lines = (
        "MSH|^~\\&|A|B|C|D|20240101||ORU^R01^ORU_R01|1|P|2.5.1",
        f"PID|1||7^^^H^MR|{pid}",
        f"PV1|1|{pv1}",
        f"ORC|RE|{orc}",
        f"OBR|1|{obr}",
        f"OBX|1|{type_}|{code}|1|{value}|{obx}",
    )
    with pytest.MonkeyPatch.context() as patch:
        one, other = in_all_forms("\r".join(lines).encode(), mappings, patch)
    assert one == other
