"""Messages in parts: which part a message is, and parts joined to one. Sans-IO.

Source: HL7 v2.9.1 chapter 2, section 2.10.2 (v2.3: 2.23.2). A part that is continued ends with DSC, whose DSC-1 the
next part repeats in MSH-14. A segment may be cut, too: the part ends with its beginning and an ADD without fields, and
the next part begins, behind MSH, with an ADD that holds the rest; within one message ADD continues the segment before
it. DSC-2 I (interactive continuation) belongs to queries and makes no part.

What holds: what MSH, MSA, DSC and PID say is never joined from pieces (2.10.2 forbids it: half an identifier is another
patient), and nothing is dropped but the MSH, SFT and UAC of later parts, and ADD and DSC themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.header import Header
from hl7bridge.reasons import UNPARSABLE

UNDIVIDED: Final = frozenset((b"MSH", b"MSA", b"DSC", b"PID", b"QRD", b"QRF", b"URD", b"URS"))
_UNDIVIDED_TEXT: Final = frozenset(name.decode() for name in UNDIVIDED)
_OF_THE_ENVELOPE: Final = (b"SFT", b"UAC")  # stand behind MSH in every part, and speak of the sending software


@dataclass(frozen=True, slots=True)
class Part:
    """Where a message stands in a chain: `pointer` MSH-14, `continues` DSC-1; b"": it is the first, or the last."""

    pointer: bytes = field(repr=False)
    continues: bytes = field(repr=False)


def part_of(raw: bytes, header: Header) -> Part | None:
    """Which part of a message these bytes are; None: a whole one."""
    pointer = _value(header.continuation)
    continues = b""
    if b"DSC" in raw:
        sign = header.separators.field.encode("latin-1")
        found = _last_dsc(sign).search(raw.rstrip(b"\r\n\x00 "))
        if found is not None and (found[2] or b"").strip().upper() != b"I":
            continues = _value(found[1])
    return Part(pointer, continues) if pointer or continues else None


def join(parts: Sequence[bytes], sign: bytes) -> bytes:
    """One message of its parts in order; `sign`: their field separator. PeerError: a cut where none may be."""
    segments: list[bytes] = []
    for number, raw in enumerate(parts):
        lines = _lines(raw)
        if number:
            lines = lines[1:]
            while lines and lines[0][:3].upper() in _OF_THE_ENVELOPE:
                lines = lines[1:]
        for line in lines:
            name = line[:3].upper()
            if name == b"ADD":
                rest = line[3:].removeprefix(sign)
                if not segments or (rest and segments[-1][:3].upper() in UNDIVIDED):
                    raise PeerError(UNPARSABLE, "ADD continues a segment that must not be divided")
                segments[-1] += rest
            elif name != b"DSC":
                segments.append(line)
    return b"\r".join((*segments, b""))


def unfolded(lines: list[str], separator: str) -> list[str]:
    """The segments of one message with each ADD joined to the one before it; one that must not be divided stays."""
    joined: list[str] = []
    for line in lines:
        if line[:3].upper() == "ADD" and joined and joined[-1][:3].upper() not in _UNDIVIDED_TEXT:
            joined[-1] += line[3:].removeprefix(separator)
        else:
            joined.append(line)
    return joined


def _lines(raw: bytes) -> list[bytes]:
    """The segments without their ends. A text line inside a segment stays with it only where CR ends segments."""
    text = raw.replace(b"\r\n", b"\r")
    if b"\r" not in text:
        text = text.replace(b"\n", b"\r")
    return [line for line in text.split(b"\r") if line.strip()]


def _value(field: bytes) -> bytes:
    value = field.strip()
    return b"" if value == b'""' else value


@lru_cache(maxsize=16)
def _last_dsc(sign: bytes) -> re.Pattern[bytes]:
    mark = re.escape(sign)
    value = rb"([^\r\n" + mark + rb"]*)"
    return re.compile(rb"[\r\n]DSC" + mark + value + rb"(?:" + mark + value + rb"[^\r\n]*)?\Z")
