"""Does a message keep to HL7 itself? Findings by place and table 0357 code, from hl7apy's profiles of each version.

What holds: the message is read by our own parser and held against hl7apy's definitions; hl7apy's own messages are never
passed on, because they quote values. No text here holds a value of the message. Whatever hl7apy raises is a finding.
Slow to load (a version's tables take tenths of a second) and meant for off the hot path.

Severity: E where the standard says shall and a receiver loses something; W where it is wrong but readable; I to know.
Not looked at, since a receiver shall ignore them (2.7.1): Z segments, fields and components behind the defined ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import hl7apy  # noqa: TID251 - this is the one place

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2 import charset
from hl7bridge.hl7v2.escape import unescape
from hl7bridge.hl7v2.header import Header, read_header
from hl7bridge.hl7v2.message import Segment, is_null, parse
from hl7bridge.hl7v2.segment_ids import SEGMENT_IDS

Severity = Literal["E", "W", "I"]

SEQUENCE, REQUIRED, DATA_TYPE, TABLE, CARDINALITY, VERSION, INTERNAL = "100", "101", "102", "103", "198", "203", "207"
NEAREST: Final = {"2.7.1": "2.7", "2.9": "2.8.2", "2.9.1": "2.8.2", "2.3.2": "2.3.1"}  # versions hl7apy has not
DEFAULT_VERSION: Final = "2.5.1"
_CONDITIONAL: Final = {("OBX", 2), ("OBX", 4)}  # required by some profiles, conditional in every version's text
_OWN_CHECK: Final = {"HL70125", "HL70211"}  # value types, character sets: judged here otherwise
MAX_FINDINGS: Final = 500  # of one message: a wrong version finds something in every segment
_STRUCTURES: Final = {  # the structures that several events share; an event that is not here has its own
    "ADT_A01": "A04 A08 A13", "ADT_A05": "A14 A28 A31", "ADT_A06": "A07", "ADT_A09": "A10 A11 A12",
    "ADT_A21": "A22 A23 A25 A26 A27 A29 A32 A33", "ADT_A30": "A34 A35 A36 A46 A47 A48 A49", "ADT_A39": "A40 A41 A42",
    "ADT_A43": "A44", "ADT_A50": "A51", "ADT_A52": "A53", "ADT_A54": "A55", "ADT_A61": "A62",
}  # fmt: skip
_BY_EVENT: Final = {f"ADT_{event}": name for name, events in _STRUCTURES.items() for event in events.split()}

_MONTH, _DAY = r"(0[1-9]|1[0-2])", r"(0[1-9]|[12]\d|3[01])"
_CLOCK = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,4})?)?)?"
_ZONE = r"([+-](0\d|1[0-4])[0-5]\d)?"
_MOMENT = re.compile(rf"\d{{4}}({_MONTH}({_DAY}({_CLOCK})?)?)?{_ZONE}")
_TYPES: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "NM": (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)"), "a number"),
    "SI": (re.compile(r"\d{1,4}"), "a sequence number"),
    "DT": (re.compile(rf"\d{{4}}({_MONTH}({_DAY})?)?"), "a date"),
    "TM": (re.compile(_CLOCK + _ZONE), "a time"),
    "DTM": (_MOMENT, "a date and time"),
    "TS": (_MOMENT, "a date and time"),
}
_ESCAPES: Final[dict[str, tuple[Severity, str]]] = {
    "Z": ("I", "a locally defined escape sequence"),
    "C": ("W", "a character set switch by escape sequence"),
    "M": ("W", "a character set switch by escape sequence"),
    "X": ("W", "bytes by escape sequence that the character set has not"),
    ".": ("W", "an unknown formatting command"),
    "unknown": ("W", "an escape character that opens no known sequence"),
    "unterminated": ("W", "an escape character without its counterpart"),
}
_DEVIATIONS: Final[dict[str, tuple[Severity, str]]] = {
    charset.UTF8_UNDECLARED: ("W", "MSH-18 does not say so, but the bytes are UTF-8"),
    charset.UNKNOWN_NAME: ("W", "MSH-18 names a character set that is not in table 0211"),
    charset.WINDOWS_1252: ("W", "MSH-18 says 8859/1, but there are Windows-1252 characters"),
    charset.BYTE_ORDER_MARK: ("W", "the byte order mark contradicts MSH-18"),
    charset.FALLBACK: ("W", "the bytes do not fit MSH-18, only the configured fallback"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """segment: its id, "" when that is none of HL7's; field: 0 is the whole segment; location: ERL; condition: 0357."""

    segment: str
    field: int
    location: str
    condition: str
    severity: Severity
    text: str


def check(raw: bytes, charset_fallback: str | None = None) -> list[Finding]:
    """Everything that is wrong with one message (no MLLP frame), in its order. Never raises."""
    try:
        return _Check(raw, charset_fallback).findings
    except Exception as error:
        return [Finding("", 0, "", INTERNAL, "W", f"the check itself failed ({type(error).__name__})")]


class _Check:
    """One message's run through all checks."""

    def __init__(self, raw: bytes, fallback: str | None) -> None:
        self.findings: list[Finding] = []
        try:
            header = read_header(raw)
            self._separators(header)
            message = parse(raw, charset_fallback=fallback)
        except PeerError as error:
            place = (error.location or "").split("^")
            number = int(place[2]) if len(place) > 2 else 0
            self._note(place[0], number, error.location or "", error.reason.condition, "E", error.detail)
            return
        if message.charset_deviation:
            severity, text = _DEVIATIONS.get(message.charset_deviation, ("W", "the bytes do not fit MSH-18"))
            self._note("MSH", 18, "MSH^1^18", DATA_TYPE, severity, text)
        self._message = message
        self._version = self._library(header.version)
        self._guarded("structure", lambda: self._structure(header))
        for segment in message.segments:
            if len(self.findings) >= MAX_FINDINGS:
                self._note("", 0, "", SEQUENCE, "I", "there is more; the check stopped here")
                break
            self._guarded("segment", lambda segment=segment: self._segment(segment))  # type: ignore[misc]

    def _note(self, segment: str, number: int, location: str, condition: str, severity: Severity, text: str) -> None:
        self.findings.append(Finding(segment, number, location, condition, severity, text))

    def _guarded(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._note("", 0, "", INTERNAL, "W", f"a {what} could not be checked ({type(error).__name__})")

    # -- the header

    def _separators(self, header: Header) -> None:
        """MSH-2 has four characters, five from 2.7, all different from each other and from MSH-1."""
        encoding = header.field(2)
        if len(set(encoding + header.field(1))) != len(encoding) + 1:
            self._note("MSH", 2, "MSH^1^2", DATA_TYPE, "E", "a separator of MSH-2 is not unique")
        if len(encoding) < 4:
            self._note("MSH", 2, "MSH^1^2", DATA_TYPE, "E", "MSH-2 has fewer than four separators")
        elif len(encoding) > 5:
            self._note("MSH", 2, "MSH^1^2", DATA_TYPE, "W", "MSH-2 has more than five separators")

    def _library(self, version: str) -> str:
        known = hl7apy.SUPPORTED_LIBRARIES
        if version in known:
            return version
        if version in NEAREST:
            text = f"checked as {NEAREST[version]}, the nearest version with a profile"
            self._note("MSH", 12, "MSH^1^12", VERSION, "I", text)
            return NEAREST[version]
        if version:  # an empty MSH-12 is found as a required field
            self._note("MSH", 12, "MSH^1^12", VERSION, "E", "MSH-12 is no version of HL7 v2")
        return DEFAULT_VERSION

    # -- the message's segments

    def _structure(self, header: Header) -> None:
        library = hl7apy.load_library(self._version)
        messages = library.MESSAGES
        own = f"{header.message_code}_{header.trigger_event}"
        candidates = (own, _BY_EVENT.get(own, ""), header.structure)
        name = next((candidate for candidate in candidates if candidate in messages), None)
        if header.structure and header.structure not in messages:
            text = f"MSH-9.3 names no structure of version {self._version}"
            self._note("MSH", 9, "MSH^1^9^1^3", TABLE, "W", text)
        if name is None:
            if header.message_code:
                text = f"version {self._version} has no structure for this event: segments were not checked"
                self._note("MSH", 9, "MSH^1^9", TABLE, "W", text)
            return
        _, children = messages[name]
        present = Counter(segment.id for segment in self._message.segments)
        everywhere = Counter(_segment_ids(children))
        self._children(children, present, everywhere, repeats=False)
        for segment in self._message.segments:
            if segment.id not in everywhere and segment.id in library.SEGMENTS:
                text = f"{segment.id} is not part of {name} in version {self._version}"
                self._note(segment.id, 0, f"{segment.id}^{segment.occurrence}", SEQUENCE, "W", text)

    def _children(
        self, children: Sequence[Any], present: Counter[str], everywhere: Counter[str], repeats: bool
    ) -> None:
        """What these children of a present group require."""
        for name, reference, (least, most), kind in children:
            if kind == "SEG":
                if least and not present[name]:
                    self._note(name, 0, f"{name}^1", SEQUENCE, "E", f"the required segment {name} is missing")
                if most == 1 and not repeats and everywhere[name] == 1 and present[name] > 1:
                    self._note(name, 0, f"{name}^2", CARDINALITY, "E", f"{name} may occur once")
            elif reference and reference[0] != "choice":
                inner = reference[1]
                # an optional group is there when a segment is that can stand nowhere else
                own = Counter(_segment_ids(inner))
                if least or any(present[id] and everywhere[id] == count for id, count in own.items()):
                    self._children(inner, present, everywhere, repeats or most != 1)

    # -- one segment's fields

    def _segment(self, segment: Segment) -> None:
        definition = hl7apy.load_library(self._version).SEGMENTS.get(segment.id)
        if definition is None:
            if not segment.id.startswith("Z"):
                text = f"segment {segment.position} of the message has an id that version {self._version} has not"
                known = segment.id if segment.id in SEGMENT_IDS else ""
                self._note(known, 0, f"{known}^{segment.occurrence}" if known else "", SEQUENCE, "W", text)
        else:
            for field in definition[1]:
                self._field(segment, field)
            if segment.id == "OBX":
                self._observation(segment)
        self._escapes(segment)

    def _field(self, segment: Segment, definition: Sequence[Any]) -> None:
        name, reference, (least, most), _ = definition
        number = int(name.split("_")[1])
        value = segment.field(number)
        if not value:
            if least and (segment.id, number) not in _CONDITIONAL:
                text = f"{_called(segment, number, reference)} is required in version {self._version}"
                self._at(segment, number, REQUIRED, "E", text)
            return
        if segment.id == "MSH" and number <= 2:
            return
        repetitions = segment.repetitions(number)
        if most == 1 and len(repetitions) > 1:
            self._at(segment, number, CARDINALITY, "E", f"{_called(segment, number, reference)} does not repeat")
        self._values(segment, number, _type(reference), repetitions)
        self._table(segment, number, reference, repetitions)

    def _values(self, segment: Segment, number: int, datatype: str, repetitions: list[str]) -> None:
        """Primitive values have the form of their data type."""
        form, meaning = _TYPES.get(datatype, (None, ""))
        if form is None:
            return
        for place, raw in enumerate(repetitions, 1):
            value = self._message.separators.components(raw)[0].strip()
            if value and not is_null(value) and not form.fullmatch(value):
                self._at(segment, number, DATA_TYPE, "E", f"{segment.id}-{number} is not {meaning}", place)

    def _table(self, segment: Segment, number: int, reference: Sequence[Any], repetitions: list[str]) -> None:
        """A code of type ID is in its HL7 table. A warning: sites extend even these."""
        if _type(reference) != "ID" or len(reference) < 5 or not reference[4]:
            return
        # the profiles before 2.4 have no tables
        table = getattr(hl7apy.load_library(self._version), "TABLES", {}).get(reference[4])
        if not table or reference[4] in _OWN_CHECK or not table[1] or any(code in ("...", "…") for code in table[1]):
            return
        for place, raw in enumerate(repetitions, 1):
            if raw and not is_null(raw) and self._message.text(raw) not in table[1]:
                text = f"the code in {segment.id}-{number} is not in table {reference[4].removeprefix('HL7')}"
                self._at(segment, number, TABLE, "W", text, place)

    def _observation(self, segment: Segment) -> None:
        """OBX-5 is of the type that OBX-2 names; OBX-2 names a data type, and is there when OBX-5 is."""
        datatype = segment.field(2)
        if not datatype and segment.field(5):
            self._at(segment, 2, REQUIRED, "E", "OBX-2 (value type) is required where OBX-5 has a value")
        elif datatype and not _is_type(datatype, self._version):
            self._at(segment, 2, TABLE, "E", f"OBX-2 names no data type of version {self._version}")
        self._values(segment, 5, datatype, segment.repetitions(5))

    def _escapes(self, segment: Segment) -> None:
        separators = self._message.separators
        if not separators.escape:
            return
        for number, value in enumerate(segment.fields):
            if separators.escape not in value or (segment.id == "MSH" and number <= 2):
                continue
            kinds: list[str] = []
            unescape(value, separators, self._message.charset, kinds.append)
            for kind in dict.fromkeys(kinds):
                severity, text = _ESCAPES.get(kind, ("W", "an escape sequence that is not HL7's"))
                self._at(segment, number, DATA_TYPE, severity, text)

    def _at(
        self, segment: Segment, number: int, condition: str, severity: Severity, text: str, repetition: int = 1
    ) -> None:
        known = segment.id if segment.id in SEGMENT_IDS or segment.id.startswith("Z") else ""
        location = f"{known}^{segment.occurrence}^{number}"
        self._note(
            known, number, location if repetition == 1 else f"{location}^{repetition}", condition, severity, text
        )


def _is_type(name: str, version: str) -> bool:
    library = hl7apy.load_library(version)
    return name in library.DATATYPES_STRUCTS or library.is_base_datatype(name) or name in _TYPES


def _type(reference: Sequence[Any]) -> str:
    return str(reference[2]) if len(reference) > 2 and reference[2] else ""


def _called(segment: Segment, number: int, reference: Sequence[Any]) -> str:
    """PID-3 (patient identifier list): the standard's name of the field."""
    name = str(reference[3]).replace("_", " ").lower() if len(reference) > 3 and reference[3] else ""
    return f"{segment.id}-{number} ({name})" if name else f"{segment.id}-{number}"


def _segment_ids(children: Sequence[Any]) -> Iterator[str]:
    """Every segment of a structure, as often as it can stand somewhere."""
    for name, reference, _, kind in children:
        if kind == "SEG":
            yield str(name)
        elif reference:
            yield from _segment_ids(reference[1])
