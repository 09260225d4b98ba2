"""Whatever bytes come: a bundle, or one of the documented errors; and the same bytes give the same bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
MESSAGES = [piece.raw for file in sorted(SAMPLES.glob("*.hl7")) for piece in split(file.read_bytes())]
PARTS = [
    b"|",
    b"^",
    b"~",
    b"&",
    b"\\",
    b"\r",
    b'""',
    b"\\X0D\\",
    b"\x00",
    b"\xff",
    b"20240230",
    b"1e9",
    b"OBX|1|NM|",
    b"PID|",
]
MAPPINGS = load_mappings()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sample with pieces put in, taken out and repeated anywhere."""
    message = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(message)))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            message[at:at] = draw(st.sampled_from(PARTS))
        elif kind == 1:
            del message[at : at + draw(st.integers(1, 12))]
        else:
            start = draw(st.integers(0, len(message)))
            message[at:at] = message[start : start + draw(st.integers(1, 60))]
    return bytes(message)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_a_damaged_message_gives_a_bundle_or_a_documented_error_and_always_the_same(raw: bytes) -> None:
    try:
        first = translate(raw, MAPPINGS, charset_fallback="cp1252").bundle
    except MessageError as error:
        assert error.reason.code
        return
    assert translate(raw, MAPPINGS, charset_fallback="cp1252").bundle == first


@pytest.mark.parametrize("encoding", ["^", "^~", "^&\\~", "#", "^~\\", "^~\\&#"])
def test_a_message_that_lacks_some_separators_is_still_read(encoding: str) -> None:
    raw = f"MSH|{encoding}|A|B|||20240305143012+0100||ADT^A08|1|P|2.5\rPID|1||1^^^A||Doe~x^Jo&y\rPV1|1|I".encode()
    try:
        translate(raw, MAPPINGS)
    except MessageError as error:
        assert error.reason.code
