"""Text of a v2 value to a FHIR R4 primitive, by the primitive's type.

Sans-IO. Each converter takes the run (for the time zone) and text with escapes resolved, and gives what goes into the
JSON, or raises Invalid. Formats: FHIR R4 "Data Types", primitive regexes. Nothing is rounded, padded or guessed: a
decimal keeps its digits, a date its precision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from hl7bridge.fhir.resource import Number
from hl7bridge.hl7v2 import datetime as v2time
from hl7bridge.mapping.functions import is_oid
from hl7bridge.mapping.remember import remembered
from hl7bridge.mapping.runtime import Run


class Invalid(ValueError):
    """The text is no value of the type. Carries no text of the message."""


Converter = Callable[[Run, str], Any]

_DECIMAL = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*))?\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,10}\Z", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")
_PLAIN_URI = re.compile(r"[A-Za-z0-9_.\-~!#$%&'()*+,/:;=?@\[\]|]*\Z")  # nothing in it to quote
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
OID = "urn:oid:"
_INT_MAX = 2**31 - 1
_BOOLEANS = {"true": True, "false": False, "Y": True, "N": False, "1": True, "0": False}


def _string(run: Run, text: str) -> str:
    if not text.isprintable() and _FORBIDDEN.search(text):
        run.count("character-removed", "", "")
        text = _FORBIDDEN.sub("", text)
    text = text.strip()
    if not text:
        raise Invalid("no printable text")
    return text


def _code(run: Run, text: str) -> str:
    text = " ".join(text.split())  # which is all that the type's regex asks: no blank at the ends, none beside another
    if not text:
        raise Invalid("not a code")
    return text


def _uri(run: Run, text: str) -> str:
    return _written_uri(text)


@remembered
def _written_uri(text: str) -> str:
    text = text.strip()
    if text.startswith(OID) and not is_oid(text.removeprefix(OID)):
        return f"urn:id:{quote(text.removeprefix(OID), safe='')}"
    return text if _PLAIN_URI.match(text) else quote(text, safe="!#$%&'()*+,/:;=?@[]~|")


def _id(run: Run, text: str) -> str:
    if not _ID.match(text):
        raise Invalid("not an id")
    return text


def _boolean(run: Run, text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise Invalid("neither true nor false") from None


def _decimal(run: Run, text: str) -> Number:
    match = _DECIMAL.match(text)
    if not match or not (match[2] or match[3] or text.lstrip("+-").startswith("0")):
        raise Invalid("not a number")
    digits = (match[2] or "0") + (f".{match[3]}" if match[3] else "")
    return Number(("-" if match[1] == "-" else "") + digits)


def _integer(low: int) -> Converter:
    def convert(run: Run, text: str) -> int:
        if not _INTEGER.match(text) or not low <= int(text) <= _INT_MAX:
            raise Invalid("not a whole number in range")
        return int(text)

    return convert


def _base64(run: Run, text: str) -> str:
    if text and not len(text) % 4 and _BASE64.match(text):
        return text
    text = "".join(text.split())
    if not text or len(text) % 4 or not _BASE64.match(text):
        raise Invalid("not base64")
    return text


def _time(convert: Callable[[Run, str], str]) -> Converter:
    def checked(run: Run, text: str) -> str:
        found = run.times.get((convert, text))  # one time stands in many segments of a message
        if found is None:
            try:
                found = run.times[convert, text] = convert(run, text)
            except ValueError as error:
                raise Invalid(str(error)) from None
        return found

    return checked


CONVERTERS: Mapping[str, Converter] = {
    "string": _string,
    "markdown": _string,
    "code": _code,
    "uri": _uri,
    "url": _uri,
    "canonical": _uri,
    "oid": _uri,
    "uuid": _uri,
    "id": _id,
    "boolean": _boolean,
    "decimal": _decimal,
    "integer": _integer(-(2**31)),
    "unsignedInt": _integer(0),
    "positiveInt": _integer(1),
    "base64Binary": _base64,
    "date": _time(lambda run, text: v2time.to_date(text)),
    "dateTime": _time(lambda run, text: v2time.to_datetime(text, run.zone, run.offset)),
    "instant": _time(lambda run, text: v2time.to_instant(text, run.zone, run.offset)),
    "time": _time(lambda run, text: v2time.to_time(text)),
}

NEVER_FAIL = frozenset(("uri", "url", "canonical", "oid", "uuid"))
OF_THE_RUN = frozenset(("dateTime", "instant"))  # a constant of these still depends on the message's time zone
