"""What MSH says, read from the bytes before any character set is known: enough to answer a message of any state.

What holds: values that an answer repeats (MSH-10 into MSA-2, MSH-3 to 6) stay the bytes that were sent. A truncated MSH
gives what is there, missing fields are empty. MSH-9.3 is never trusted: half of real messages name a structure that
does not exist. Source: HL7 v2.9.1 chapter 2, MSH; events of v2.1 stand in EVN-1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.charset import narrow
from hl7bridge.hl7v2.escape import Separators
from hl7bridge.reasons import UNPARSABLE

_DEFAULTS = "^~\\&"
# printable ASCII signs and the three information separators that some devices use; never what frames or ends lines
_USABLE = frozenset(chr(c) for c in (0x1D, 0x1E, 0x1F, *range(0x21, 0x7F)) if not chr(c).isalnum())
_LONGEST_KEPT: Final = 512  # bytes of an MSH of which is kept what kind it is
_MSH = re.compile(rb"(?:\A|[\r\n])[ \t]*+(?:\xef\xbb\xbf[ \t]*+)?(MSH)", re.IGNORECASE)


Made = TypeVar("Made")


class Kind:
    """What a header has in common with others of its sender: all of MSH but 7 (time), 8 (security), 10 (control id),
    13 (sequence number) and 14 (continuation). Headers that differ in these alone share one object, as a rule, and
    what follows from it is worked out once (`of`).

    The names and values are those of Header.
    """

    __slots__ = (
        "_fields",
        "_made",
        "accept_ack",
        "application_ack",
        "charsets",
        "message_code",
        "processing_id",
        "separators",
        "structure",
        "trigger_event",
        "version",
    )

    def __init__(self, fields: Sequence[bytes], separators: Separators, event: str) -> None:
        """`fields`: by their numbers. `event`: where MSH-9.2 is empty."""
        self._fields = fields
        self._made: dict[tuple[Callable[..., Any], object], Any] = {}
        self.separators = separators
        codes = _codes(self.field(9), separators)
        self.message_code, trigger_event, self.structure = (*codes, "", "")[:3]
        self.trigger_event = trigger_event or event
        self.processing_id = _codes(self.field(11), separators)[0]
        self.version = _codes(self.field(12), separators)[0]
        self.accept_ack = _codes(self.field(15), separators)[0]
        self.application_ack = _codes(self.field(16), separators)[0]
        charsets = separators.repetitions(self.field(18).decode("ascii", "backslashreplace"))
        self.charsets = tuple(map(str.strip, charsets))

    def field(self, number: int) -> bytes:
        """As Header.field, of a field that they have in common."""
        return self._fields[number] if number < len(self._fields) else b""

    def of(self, make: Callable[..., Made], asked: object = None) -> Made:
        """What `make` gives of this and of `asked`, one of few; kept for the next header of this kind."""
        key = (make, asked)
        made: Made | None = self._made.get(key)
        if made is None:
            made = self._made[key] = make(self) if asked is None else make(self, asked)
        return made

    def __repr__(self) -> str:
        return "<Kind>"


class Header:
    """The fields of the first MSH. Bytes are as sent; text is for choosing what to do, upper case where codes are.

    message_code, trigger_event, structure: MSH-9.1 ADT, MSH-9.2 A01 (where it is empty EVN-1, and R01 for an ORU of a
    version that had no other), MSH-9.3 as the sender has it, for display only. processing_id: MSH-11.1 P, T or D.
    version: MSH-12.1. accept_ack, application_ack: MSH-15, MSH-16: AL, NE, ER, SU or empty. is_ack: the message holds
    an MSA segment. charsets: the repetitions of MSH-18, blanks trimmed; an empty one (the default set) keeps its place.
    """

    __slots__ = (
        "_fields",
        "accept_ack",
        "application_ack",
        "charsets",
        "control_id",
        "is_ack",
        "kind",
        "message_code",
        "processing_id",
        "separators",
        "structure",
        "trigger_event",
        "version",
    )

    def __init__(self, fields: list[bytes], kind: Kind, is_ack: bool) -> None:
        self._fields = fields
        self.kind = kind
        self.is_ack = is_ack
        self.control_id = fields[10] if len(fields) > 10 else b""
        self.separators = kind.separators
        self.message_code = kind.message_code
        self.trigger_event = kind.trigger_event
        self.structure = kind.structure
        self.processing_id = kind.processing_id
        self.version = kind.version
        self.accept_ack = kind.accept_ack
        self.application_ack = kind.application_ack
        self.charsets = kind.charsets

    @property
    def holds_block_marks(self) -> bool:
        """Whether a field or separator is a mark of MLLP's blocks (VT, FS): no answer may repeat that."""
        marks = (b"\x0b", b"\x1c")
        return any(mark in field for field in self._fields for mark in marks) or self.separators.field in "\x0b\x1c"

    def field(self, number: int) -> bytes:
        """MSH-<number> as sent, b"" when it is missing. 1 is the field separator, 2 the encoding characters."""
        return self._fields[number] if number < len(self._fields) else b""

    @property
    def segment(self) -> bytes:
        """MSH as it was sent, without its end."""
        return self.field(1).join((self._fields[0], *self._fields[2:]))

    @property
    def raw_separators(self) -> bytes:
        """MSH-1 and MSH-2 as sent: what an answer's own MSH may start with."""
        return self.field(1) + self.field(2)

    @property
    def sending_application(self) -> bytes:
        return self.field(3)

    @property
    def sending_facility(self) -> bytes:
        return self.field(4)

    @property
    def receiving_application(self) -> bytes:
        return self.field(5)

    @property
    def receiving_facility(self) -> bytes:
        return self.field(6)

    @property
    def date_time(self) -> bytes:
        return self.field(7)

    @property
    def sequence_number(self) -> bytes:
        return self.field(13)

    @property
    def continuation(self) -> bytes:
        return self.field(14)

    def __repr__(self) -> str:
        return "<Header>"  # MSH may hold names of people and places


def _codes(field: bytes, separators: Separators) -> tuple[str, ...]:
    """The components of the first repetition, as codes are compared; at least one."""
    if not field:
        return ("",)
    first = separators.repetitions(field.decode("ascii", "backslashreplace"))[0]
    return tuple(part.strip().upper() for part in separators.components(first))


def _kind(separator: bytes, common: tuple[bytes, ...], event: str = "") -> Kind:
    """`common`: MSH-2 to 6, 9, 11, 12 and those from 15 on, as many as there are. PeerError: as `read_separators`."""
    signs, *addresses = common[:5] or (b"",)
    fields = (b"", separator, signs, *addresses, *(b"",) * (4 - len(addresses)), b"", b"", *common[5:6], b"",
              *common[6:8], b"", b"", *common[8:])  # fmt: skip
    return Kind(fields, read_separators(separator, signs), event)


_kept_kind = lru_cache(maxsize=256)(_kind)


def read_header(raw: bytes) -> Header:
    """The header of the first MSH in `raw` that starts a line.

    UTF-16 and UTF-32 are read too; the bytes in the result are then UTF-8. Raises PeerError(UNPARSABLE) when there is
    no MSH with usable separators.
    """
    start = 0
    if not raw.startswith(b"MSH"):  # else its characters are single bytes
        raw = narrow(raw)
        found = _MSH.search(raw)
        if found is None:
            raise PeerError(UNPARSABLE, "no MSH segment")
        start = found.start(1)
    end = raw.find(b"\r", start)
    end = len(raw) if end < 0 else end
    feed = raw.find(b"\n", start, end)
    line = raw[start : end if feed < 0 else feed]
    separator = line[3:4]
    fields = line.split(separator) if separator else [line]
    common = (*fields[1:6], *fields[8:9], *fields[10:12], *fields[14:])
    kind_of = _kept_kind if len(line) <= _LONGEST_KEPT else _kind
    kind = kind_of(separator, common)
    if not kind.trigger_event:
        found = _field_one(raw, b"EVN", separator)
        event = _codes(found[1], kind.separators)[0] if found else ""
        old = kind.message_code == "ORU" and kind.version in ("", "2.1", "2.2")
        event = event or ("R01" if old else "")
        if event:
            kind = kind_of(separator, common, event) if len(event) <= _LONGEST_KEPT else _kind(separator, common, event)
    fields.insert(1, separator)
    return Header(fields, kind, _holds_msa(raw, end, separator))


@lru_cache(maxsize=256)
def read_separators(field: bytes, encoding: bytes) -> Separators:
    """MSH-1 and MSH-2 as separators; one that is missing, doubled or no sign takes its default unless that clashes.

    Raises PeerError(UNPARSABLE) when MSH-1 is no separator, or MSH-2 holds letters or digits: then MSH-2 was left out
    and every field stands in the wrong place.
    """
    sign, signs = field.decode("latin-1"), encoding.decode("latin-1")
    if sign not in _USABLE:
        raise PeerError(UNPARSABLE, "MSH-1 is no separator", "MSH^1^1")
    if any(character.isalnum() and character.isascii() for character in signs[:5]):
        raise PeerError(UNPARSABLE, "MSH-2 holds no separators", "MSH^1^2")
    chosen: list[str] = []
    for character in signs[:5].ljust(5):
        chosen.append(character if character in _USABLE and character not in (sign, *chosen) else "")
    for place, default in enumerate(_DEFAULTS):
        if not chosen[place] and default != sign and default not in chosen:
            chosen[place] = default
    return Separators(sign, *chosen)


def _holds_msa(raw: bytes, end: int, separator: bytes) -> bool:
    """Is there an MSA segment? One in lower case is looked for only where it belongs, right behind MSH."""
    if b"MSA" not in raw and raw[end : end + 5].lstrip(b"\r\n")[:3].upper() != b"MSA":
        return False
    return _field_one(raw, b"MSA", separator) is not None


def _field_one(raw: bytes, segment_id: bytes, separator: bytes) -> re.Match[bytes] | None:
    """The first field of the first such segment, as group 1."""
    return _field_one_pattern(segment_id, separator).search(raw)


@lru_cache(maxsize=64)
def _field_one_pattern(segment_id: bytes, separator: bytes) -> re.Pattern[bytes]:
    sign = re.escape(separator)
    return re.compile(rb"[\r\n]" + segment_id + sign + rb"([^\r\n" + sign + rb"]*)", re.IGNORECASE)
