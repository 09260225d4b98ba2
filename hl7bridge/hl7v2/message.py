"""A message as segments and fields, split no further than asked: bytes in, values out.

What holds: text is decoded once (charset.py), split into segments once, a segment made and split into fields when one
is asked for: a listener reads but a few. Fields stay raw text until `Message.text` resolves escapes. `""` (HL7's null:
delete what you have) stays `""` and is never the same as an empty field. A line that does not begin like a segment
continues the field before it, joined by a line feed: free text with raw line breaks is common, and must neither be lost
nor become a segment of its own. An ADD segment continues the segment before it (continuation.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.charset import decode
from hl7bridge.hl7v2.continuation import unfolded
from hl7bridge.hl7v2.escape import Separators, unescape
from hl7bridge.hl7v2.form import ANY, LARGE, form_of
from hl7bridge.hl7v2.header import Header, read_header
from hl7bridge.hl7v2.segment_ids import SEGMENT_IDS
from hl7bridge.reasons import UNPARSABLE

__all__ = ["NULL", "Message", "Segment", "Separators", "is_null", "parse"]

NULL = '""'
_ENVELOPES = frozenset(("MSH", "FHS", "BHS"))  # their field 1 is the field separator itself
_BLANKS = " \t\r\n\ufeff"
_SHORT = 4096  # characters: the line of such a segment may stay in memory beside its fields
_HEAD = itemgetter(slice(4))  # of a line: id and separator
_Z_ID = re.compile(r"Z[A-Z0-9]{2}").fullmatch
_PATH = re.compile(
    r"(?P<id>[A-Z][A-Z0-9]{2})(?:\[(?P<nth>[1-9][0-9]*)\])?-(?P<field>[1-9][0-9]*)"
    r"(?:\[(?P<repetition>[1-9][0-9]*)\])?(?:\.(?P<component>[1-9][0-9]*)(?:\.(?P<sub>[1-9][0-9]*))?)?\Z"
)


def is_null(raw: str) -> bool:
    """Is this raw field, component or subcomponent HL7's null, the order to delete (chapter 2, "Null")?"""
    return raw == NULL


class Segment:
    """One segment. `position` counts all segments of the message from 1, `occurrence` those of the same id.

    `fields`: raw, index = HL7's field number; index 0 is the id. `form`: how plain it is, see form.py; of an envelope's
    own separators it says nothing. Both are worked out when they are first asked for.
    """

    __slots__ = ("_line", "fields", "form", "id", "occurrence", "position", "separators")
    fields: list[str]
    form: int

    def __init__(self, id: str, line: str, separators: Separators, position: int, occurrence: int) -> None:
        self.id = id
        self.separators = separators
        self.position = position
        self.occurrence = occurrence
        self._line = line

    def __getattr__(self, name: str) -> Any:
        """What has not been asked for yet."""
        if name == "fields":
            self.fields = fields = self._line.split(self.separators.field)
            if len(self._line) > _SHORT:
                self._line = ""  # a document in a field stands in memory once
            fields[0] = self.id
            if self.id in _ENVELOPES:
                fields.insert(1, self.separators.field)
            return fields
        if name == "form":
            line = self._line
            if not line or self.id in _ENVELOPES:
                texts = self.fields[3 if self.id in _ENVELOPES else 1 :]
                line = "" if sum(map(len, texts)) > LARGE else self.separators.field.join(["", *texts])
            self.form = form = form_of(line, self.separators) if line else ANY  # a document is not copied for a look
            return form
        raise AttributeError(name)

    def field(self, number: int) -> str:
        """A whole field, raw, with all its repetitions; "" when the segment is shorter."""
        fields = self.fields
        return fields[number] if number < len(fields) else ""

    def repetitions(self, number: int) -> list[str]:
        """The repetitions of a field, raw; none when it is empty. MSH-1 and MSH-2 are one value each."""
        field = self.field(number)
        if self.id in _ENVELOPES and number <= 2:
            return [field]
        return self.separators.repetitions(field)

    def with_field(self, number: int, raw: str) -> Segment:
        """The same segment, in the same place, with another raw field."""
        other = Segment(self.id, "", self.separators, self.position, self.occurrence)
        other.fields = fields = [*self.fields, *[""] * (number + 1 - len(self.fields))]
        fields[number] = raw
        return other

    def __repr__(self) -> str:
        return f"<Segment {self.id} at {self.position}>"


class Message:
    """A parsed message. `charset`: the Python codec that decoded it; `charset_deviation`: "" or how that departs from
    MSH-18 (the constants of charset.py)."""

    __slots__ = (
        "_escape",
        "_parts",
        "_places",
        "_segments",
        "charset",
        "charset_deviation",
        "header",
        "raw",
        "separators",
    )

    def __init__(
        self, raw: bytes, header: Header, charset: str, charset_deviation: str, lines: list[str], ids: Sequence[str]
    ) -> None:
        self.raw = raw
        self.header = header
        self.separators = separators = header.separators
        self.charset = charset
        self.charset_deviation = charset_deviation
        self._escape = separators.escape
        self._parts: list[str | Segment] = [*lines]  # a line until its segment is asked for
        self._places: dict[str, list[int]] = {}  # by id, where in them its segments stand
        self._segments: list[Segment] | None = None
        places = self._places
        for place, segment_id in enumerate(ids):
            if segment_id in places:
                places[segment_id].append(place)
            else:
                places[segment_id] = [place]

    @property
    def segments(self) -> list[Segment]:
        """All segments, in order."""
        if self._segments is None:
            self._segments = self.among(self._places)
        return self._segments

    def text(self, raw: str) -> str:
        """A raw value with its escape sequences resolved. HL7's null is still `""`."""
        if self._escape not in raw:
            return raw
        return unescape(raw, self.separators, self.charset)

    def first(self, segment_id: str) -> Segment | None:
        """The first segment of this id."""
        return self._nth(segment_id, 1)

    def all(self, segment_id: str) -> list[Segment]:
        """Every segment of this id, in order."""
        return self.among((segment_id,))

    def among(self, segment_ids: Iterable[str]) -> list[Segment]:
        """Every segment of these ids, in the order of the message."""
        found = [
            self._segment(segment_id, nth, place)
            for segment_id in segment_ids
            for nth, place in enumerate(self._places.get(segment_id, ()), 1)
        ]
        found.sort(key=_position)
        return found

    def count(self, segment_id: str) -> int:
        """How many segments of this id there are."""
        return len(self._places.get(segment_id, ()))

    def repetitions(self, path: str) -> list[str]:
        """The raw repetitions of a field: `PID-3`, `OBX[2]-5` (the second OBX). ValueError for a deeper path."""
        segment_id, nth, field, repetition, component, _ = _parse_path(path)
        if repetition or component:
            raise ValueError(f"not the path of a field: {path}")
        segment = self._nth(segment_id, nth)
        return segment.repetitions(field) if segment else []

    def get(self, path: str) -> str:
        """The text at `PID-5.1`, `PID-3[2].4.1` (second repetition), `OBX[2]-5`; "" when it is not there.

        Without a repetition the first. A component of a primitive value: the first is the value itself (chapter 2,
        backward compatibility). A path that stops above the leaves gives their text with the separators between.
        """
        segment_id, nth, field, repetition, component, sub = _parse_path(path)
        places = self._places.get(segment_id)
        if places is None or nth > len(places):
            return ""
        part = self._parts[places[nth - 1]]
        segment = self._segment(segment_id, nth, places[nth - 1]) if part.__class__ is str else part
        fields: list[str] = segment.fields  # type: ignore[union-attr] # a Segment, no line
        if field >= len(fields):
            return ""
        value = fields[field]
        if not value:
            return ""
        if field <= 2 and segment_id in _ENVELOPES:
            return value if not repetition and component <= 1 and sub <= 1 else ""
        separators = self.separators
        if repetition > 1 or separators.repetition in value:
            value = _item(separators.repetitions(value), repetition or 1)
        if component > 1 or (component and separators.component in value):
            value = _item(separators.components(value), component)
        if sub > 1 or (sub and separators.subcomponent in value):
            value = _item(separators.subcomponents(value), sub)
        return value if self._escape not in value else self.text(value)

    def _nth(self, segment_id: str, nth: int) -> Segment | None:
        places = self._places.get(segment_id, ())
        return self._segment(segment_id, nth, places[nth - 1]) if nth <= len(places) else None

    def _segment(self, segment_id: str, nth: int, place: int) -> Segment:
        part = self._parts[place]
        if isinstance(part, str):
            part = self._parts[place] = Segment(segment_id, part, self.separators, place + 1, nth)
        return part

    def __repr__(self) -> str:
        return f"<Message of {len(self._parts)} segments>"


def parse(raw: bytes, *, charset_fallback: str | None = None, header: Header | None = None) -> Message:
    """One message, without its MLLP frame, from its bytes. header: of these bytes, where it was read already.

    Raises PeerError: UNPARSABLE (MSH is not first, has no usable separators, or there are two), CHARSET; ValueError for
    a `charset_fallback` that is needed and is no character set.
    """
    header = header or read_header(raw)
    text, codec, deviation = decode(raw, header.charsets, charset_fallback)
    if not text.startswith("MSH"):
        text = text.lstrip(_BLANKS)
        if text[:3].upper() != "MSH":
            raise PeerError(UNPARSABLE, "MSH is not the first segment")
    separator = header.separators.field
    lines, ids = _lines(text, separator)
    if "ADD" in text:
        lines, ids = unfolded(lines, separator), None
    message = Message(raw, header, codec, deviation, lines, ids or [line[:3].upper() for line in lines])
    if message.count("MSH") > 1:
        raise PeerError(UNPARSABLE, "more than one MSH segment", "MSH^2")
    return message


def _position(segment: Segment) -> int:
    return segment.position


def _lines(text: str, separator: str) -> tuple[list[str], list[str] | None]:
    """The text of each segment, continuation lines joined to it by line feeds; and the segments' ids, where known."""
    if "\n" not in text:
        lines = text.split("\r")
        while not lines[-1]:
            lines.pop()
        ids = _ids(lines, separator)
        if ids is not None:
            return lines, ids
    text = text.rstrip("\r\n")
    pattern = _segment_start(separator)
    if "\n" in text:
        text = text.replace("\r\n", "\r")
        if "\r" not in text:
            text = text.replace("\n", "\r")
        elif "\n" in text:
            pattern = _segment_start_mixed(separator)
    lines = pattern.split(text)
    if "\n" not in text and len(lines) - 1 == text.count("\r"):
        return lines, None
    return [line.rstrip("\r\n").replace("\r", "\n") for line in lines], None


def _ids(lines: list[str], separator: str) -> list[str] | None:
    """The ids, where each line begins with one that HL7 has or a Z id, and a separator: as nearly all messages are."""
    heads = list(map(_HEAD, lines))
    found = list(map(_heads(separator).get, heads))
    if None not in found:
        return found  # type: ignore[return-value] # no None is in it
    ids: list[str] = []
    for head, known in zip(heads, found, strict=True):
        if known is None and (head[3:] != separator or not _Z_ID(head[:3])):
            return None
        ids.append(known or head[:3])
    return ids


@lru_cache(maxsize=64)
def _heads(separator: str) -> Mapping[str, str]:
    """What a line of a segment begins with: `PID|`, and its id."""
    return {segment_id + separator: segment_id for segment_id in SEGMENT_IDS}


@lru_cache(maxsize=64)
def _segment_start(separator: str) -> re.Pattern[str]:
    """A carriage return before a segment: id and separator; or, for ids that the standard has and Z ids, in lower case
    too and with nothing behind."""
    return re.compile(rf"\r(?={_start(separator)}|{_known()}(?:[\r\n]|\Z))")


@lru_cache(maxsize=64)
def _segment_start_mixed(separator: str) -> re.Pattern[str]:
    """The same where carriage returns end segments and line feeds are there too: these need the separator."""
    return re.compile(rf"\r(?={_start(separator)}|{_known()}(?:[\r\n]|\Z))|\n(?={_start(separator)})")


def _start(separator: str) -> str:
    return rf"(?:[A-Z][A-Z0-9]{{2}}|{_known()}){re.escape(separator)}"


def _known() -> str:
    return rf"(?i:{'|'.join(sorted(SEGMENT_IDS))}|Z[A-Z0-9]{{2}})"


def _item(values: list[str], number: int) -> str:
    return values[number - 1] if number <= len(values) else ""


@lru_cache(maxsize=1024)
def _parse_path(path: str) -> tuple[str, int, int, int, int, int]:
    """Segment id, its occurrence (default 1), field, and repetition, component, subcomponent (0: not given)."""
    found = _PATH.match(path)
    if found is None:
        raise ValueError(f"not a path like PID-5.1 or PID-3[2].4.1: {path}")
    number = [int(found[name] or 0) for name in ("nth", "field", "repetition", "component", "sub")]
    return found["id"], number[0] or 1, *number[1:]  # type: ignore[return-value]
