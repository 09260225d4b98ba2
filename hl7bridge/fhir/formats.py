"""What a primitive value must look like: one function a type, None or `: what is wrong with it`. Never the value.

Sans-IO. A format is called like every check of an element (plan.py), with what references may lead to, and needs none
of it. What Python calls printable holds no control character and no blank but the space, so it needs no pattern.
Source: the regular expressions and rules of FHIR R4 and R5, Data Types, and what the official validator holds a value
for wrong; the same in both versions but for integer64. A `Number` is a decimal by its digits (resource.py).
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from hl7bridge.fhir.resource import Number

Format = Callable[[Any, object], str | None]

LONGEST = 1024 * 1024  # characters of a string
_ID_LENGTH = 64
_INT_MAX, _INT64_MAX = 2**31 - 1, 2**63 - 1
_FEBRUARY = 2

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]").search
_CODE = re.compile(r"[^\s\x00-\x1f]+( [^\s\x00-\x1f]+)*").fullmatch
_ID = re.compile(r"[A-Za-z0-9\-.]+").fullmatch
_URI = re.compile(r"[^\s\x00-\x1f]+").fullmatch
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*)){2,}").fullmatch
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_YEAR, _DAY = r"(?!0000)([0-9]{4})", r"(0[1-9]|[12][0-9]|3[01])"
_MONTH = r"(0[1-9]|1[0-2])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
_ZONE = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DATE = re.compile(f"{_YEAR}(-{_MONTH}(-{_DAY})?)?").fullmatch
_DATE_TIME = re.compile(f"{_YEAR}(-{_MONTH}(-{_DAY}(T{_CLOCK}{_ZONE})?)?)?").fullmatch
_INSTANT = re.compile(f"{_YEAR}-{_MONTH}-{_DAY}T{_CLOCK}{_ZONE}").fullmatch
_TIME = re.compile(_CLOCK).fullmatch
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}").fullmatch
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_DIV = re.compile(r'<div xmlns="http://www\.w3\.org/1999/xhtml"[^<>]*>.*\S.*</div>', re.DOTALL).fullmatch
_UNSAFE = re.compile(r"<\s*/?\s*(script|form|input|iframe|object|embed|link|style|base|head|body)\b|\son\w+\s*=", re.I)


def string(value: Any, known: object = None) -> str | None:
    if value.__class__ is not str:
        return ": is no text"
    if not value:
        return ": is an empty text"
    if not value.isprintable() and _CONTROL(value):
        return ": holds a control character"
    return ": is longer than 1 MB" if len(value) > LONGEST else None


def code(value: Any, known: object = None) -> str | None:
    if value.__class__ is not str:
        return ": is no text"
    return (
        None
        if value.isalnum() or _CODE(value)
        else ": is no code: it is empty, or has blanks at an end or two in a row"
    )


def uri(value: Any, known: object = None) -> str | None:
    if value.__class__ is not str:
        return ": is no text"
    if (" " in value or not value or not value.isprintable()) and not _URI(value):
        return ": is no uri: it is empty or holds a blank"
    if value.startswith("urn:"):
        if value.startswith("urn:oid:") and not _OID(value):
            return ": is no object identifier"
        if value.startswith("urn:uuid:") and not _UUID(value):
            return ": is no uuid in lower case"
    return None


def is_uuid(value: str) -> bool:
    """Whether a text is a uri that is a uuid."""
    return _UUID(value) is not None


def identifier(value: Any, known: object = None) -> str | None:
    if value.__class__ is str and len(value) <= _ID_LENGTH and _ID(value):
        return None
    return ": is no id: letters, digits, - and ., at most 64"


def _in_calendar(match: re.Match[str] | None, year: int, month: int, day: int) -> bool:
    if match is None:
        return False
    said = match[day]
    if said is None or said < "29":
        return True
    return int(said) <= monthrange(int(match[year]), int(match[month]))[1]


def date(value: Any, known: object = None) -> str | None:
    good = value.__class__ is str and _in_calendar(_DATE(value), 1, 3, 5)
    return None if good else ": is no date: 2024, 2024-03 or 2024-03-05"


def date_time(value: Any, known: object = None) -> str | None:
    good = value.__class__ is str and _in_calendar(_DATE_TIME(value), 1, 3, 5)
    return None if good else ": is no dateTime: a date, or a date and a time with seconds and an offset"


def instant(value: Any, known: object = None) -> str | None:
    good = value.__class__ is str and _in_calendar(_INSTANT(value), 1, 2, 3)
    return None if good else ": is no instant: date, time with seconds, offset"


@lru_cache(maxsize=32)
def is_date_time(value: str) -> bool:
    """The verdict on a text, kept for a short while: a message says the same moment many times."""
    return date_time(value) is None


@lru_cache(maxsize=32)
def is_instant(value: str) -> bool:
    """The same of an instant."""
    return instant(value) is None


def time(value: Any, known: object = None) -> str | None:
    return None if value.__class__ is str and _TIME(value) else ": is no time: 14:30:00"


def boolean(value: Any, known: object = None) -> str | None:
    return None if value.__class__ is bool else ": is neither true nor false"


def decimal(value: Any, known: object = None) -> str | None:
    kind = value.__class__
    if kind is Number:
        return None if _NUMBER(value) else ": is no number"
    return None if kind is int or kind is float or (kind is Decimal and value.is_finite()) else ": is no number"


def whole(least: int, most: int) -> Format:
    def check(value: Any, known: object = None) -> str | None:
        if value.__class__ is not int:
            return ": is no whole number"
        return None if least <= value <= most else f": is a number outside {least} to {most}"

    return check


def base64(value: Any, known: object = None) -> str | None:
    if value.__class__ is str and value and not len(value) % 4 and _BASE64(value):
        return None
    return ": is no base64"


def xhtml(value: Any, known: object = None) -> str | None:
    if value.__class__ is not str or not _DIV(value):
        return ": is no xhtml div with content"
    return ": holds what a narrative may not hold" if _UNSAFE.search(value) else None


def prefixed(kind: Callable[[str], re.Match[str] | None], text: str) -> Format:
    return lambda value, known: None if value.__class__ is str and kind(value) else text


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "base64Binary": base64,
        "boolean": boolean,
        "canonical": uri,
        "code": code,
        "date": date,
        "dateTime": date_time,
        "decimal": decimal,
        "id": identifier,
        "instant": instant,
        "integer": whole(-_INT_MAX - 1, _INT_MAX),
        "integer64": whole(-_INT64_MAX - 1, _INT64_MAX),
        "markdown": string,
        "oid": prefixed(_OID, ": is no object identifier"),
        "positiveInt": whole(1, _INT_MAX),
        "string": string,
        "time": time,
        "unsignedInt": whole(0, _INT_MAX),
        "uri": uri,
        "url": uri,
        "uuid": prefixed(_UUID, ": is no uuid in lower case"),
        "xhtml": xhtml,
    }
)
