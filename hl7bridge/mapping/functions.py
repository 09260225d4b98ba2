"""The built-in functions of `apply:`, by name. Pure: texts in, one text out ("" writes nothing), or a ValueError.

How the compiler calls them: `identifier-system` with the three texts of the HD (namespace, universal id, its type);
`base64` with the data and the component before it, which names the encoding (ED.5 and ED.4); `lines` with the
repetitions of the field, a line each; every other with the text at the row's source. All texts have their escapes
resolved. A ValueError's text holds nothing of the message.
"""

from __future__ import annotations

import base64 as _base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from urllib.parse import quote

from hl7bridge.fhir.ucum import SYSTEM as UCUM
from hl7bridge.fhir.ucum import is_ucum
from hl7bridge.mapping.coding_systems import CODING_SYSTEMS
from hl7bridge.mapping.remember import remembered

V2_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-"
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_SHORTEST_OID = 4  # where the last dot stands at the earliest; validators hold a shorter one for a mistake
_OF_SYSTEMS = "0396"  # the table of coding systems itself: a result, a relation or a plan is never coded in it
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_UUID_LENGTH = 36
_URI = re.compile(r"(?:https?://|ftp://|urn:[A-Za-z0-9][A-Za-z0-9-]+:)\S+", re.IGNORECASE)
_HL7_TABLE = re.compile(r"HL7[ _-]?([0-9]{4})")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_DIGITS = r"[+-]?[0-9]+(?:\.[0-9]+)?"
_COMPARED = re.compile(rf"\s*(<=|>=|<|>)?\s*({_DIGITS})\s*")
_RANGE = re.compile(rf"({_DIGITS})\s*(?:-|\u2013|\.\.|to)\s*({_DIGITS})")
_LIMIT = re.compile(rf"(<=|>=|<|>|\u2264|\u2265)\s*({_DIGITS})")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")  # nothing in it to quote
_URI_SAFE = "!#$%&'()*+,/:;=?@[]~|"


@remembered
def coding_system(text: str) -> str:
    """The uri of a coding system: a name of table 0396, an OID, a UUID or a uri; `urn:id:<name>` for any other name."""
    name = text.strip()
    if not name:
        return ""
    known = CODING_SYSTEMS.get(name.upper())
    if known is not None:
        return known
    table = _HL7_TABLE.fullmatch(name.upper())
    return V2_SYSTEM + table[1] if table and table[1] != _OF_SYSTEMS else _uri_of(name) or _named(name)


def identifier_system(namespace: str, universal_id: str = "", universal_id_type: str = "") -> str:
    """The uri of an HD. The universal id counts where it is there; an id that is not what its type says is a name."""
    universal, kind = universal_id.strip(), universal_id_type.strip().upper()
    if universal:
        if kind in ("URI", "URL") and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", universal):
            return quote(universal, safe=_URI_SAFE)
        return _uri_or_name(universal)
    return _uri_or_name(namespace.strip())


@remembered
def _uri_or_name(text: str) -> str:
    return _uri_of(text) or _named(text)


def is_oid(text: str) -> bool:
    """An object identifier that can name an authority; `1.2.3` has the form but nobody could own it."""
    return _OID.fullmatch(text) is not None and text.rfind(".") >= _SHORTEST_OID


def _uri_of(text: str) -> str:
    """What is a uri by its form: an OID, a UUID, a URL, a URN."""
    if text[:1] in "012" and is_oid(text):
        return f"urn:oid:{text}"
    if len(text) == _UUID_LENGTH and _UUID.fullmatch(text):
        return f"urn:uuid:{text.lower()}"
    return quote(text, safe=_URI_SAFE) if ":" in text and _URI.fullmatch(text) else ""


def _named(name: str) -> str:
    return f"urn:id:{name if _PLAIN.fullmatch(name) else quote(name, safe='')}" if name else ""


def base64(data: str, encoding: str = "A") -> str:
    """Base64 of data that comes `A` (as is, taken as UTF-8), `Hex` or `Base64` (table 0299)."""
    kind = encoding.strip().lower() or "a"
    if kind not in ("a", "hex", "base64"):
        raise ValueError("an encoding that is not A, Hex or Base64")
    try:
        if kind == "a":
            content = data.encode("utf-8")
        elif kind == "hex":
            content = bytes.fromhex(data)
        elif len(data) % 4 == 0 and _BASE64.fullmatch(data) and _is_plain(data[-4:]):
            return data  # as it should be: a document of megabytes is not taken apart
        else:
            digits = "".join(data.split()).rstrip("=")
            content = _base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)  # padding is often forgotten
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise ValueError("data that is not in the encoding it names") from None
    return _base64.b64encode(content).decode("ascii")


def _is_plain(last: str) -> bool:
    """Whether the last four digits are what an encoder writes: no bits beside those of the bytes."""
    return _base64.b64encode(_base64.b64decode(last)) == last.encode("ascii")


def ucum(text: str) -> str:
    """UCUM's system for a unit that is UCUM, "" for any other."""
    return UCUM if ucum_code(text) else ""


@remembered
def ucum_code(text: str) -> str:
    """The unit itself where it is UCUM, "" for any other: a code must not claim a system that does not know it."""
    unit = text.strip()
    return unit if is_ucum(unit) else ""


def samples(text: str) -> str:
    """The numbers of an NA for SampledData.data: joined by blanks, E (no valid value) where one is missing.

    Source: FHIR R4, SampledData.data. The compiler hands the parts over joined by line feeds.
    """
    parts = [part.strip() for part in text.split("\n")]
    if not all(_NUMBER.fullmatch(part) for part in parts if part):
        raise ValueError("samples that are no numbers")
    return " ".join(part or "E" for part in parts) if any(parts) else ""


def comparator(text: str) -> str:
    """`<` of `<5`: the comparator in front of a number; "" where there is none, or no number behind it."""
    found = _COMPARED.fullmatch(text)
    return found[1] or "" if found else ""


def number(text: str) -> str:
    """`5` of `<5`: the number without its comparator; any other text as it is, for the conversion to judge."""
    found = _COMPARED.fullmatch(text)
    return found[2] if found else text


def range_low(text: str) -> str:
    """The lower end of a reference range of numbers, "" where it has none or is none: `3.5` of `3.5 - 5.0`, `>3.5`."""
    return _ends(text)[0]


def range_high(text: str) -> str:
    """The upper end of a reference range of numbers, "" where it has none or is none: `5.0` of `3.5 - 5.0`, `<=5.0`."""
    return _ends(text)[1]


@remembered
def _ends(text: str) -> tuple[str, str]:
    """Both ends. What is not wholly a range of numbers has none: a unit or a sex in it may change what it means."""
    inner = text.strip()
    if inner[:1] in ("[", "(") and inner[-1:] in ("]", ")"):
        inner = inner[1:-1].strip()
    if (both := _RANGE.fullmatch(inner)) is not None:
        low, high = both[1], both[2]
        return (low, high) if Decimal(low) <= Decimal(high) else ("", "")
    if (limit := _LIMIT.fullmatch(inner)) is not None:
        return ("", limit[2]) if limit[1] in ("<", "<=", "\u2264") else (limit[2], "")
    return "", ""


def outer_sub_id(text: str) -> str:
    """The sub-id that a sub-id belongs to: `1` of `1.2`, `1.2` of `1.2.1`; "" for one without a dot."""
    return text.strip().rpartition(".")[0]


def positive(text: str) -> str:
    """A number as it is where it is greater than zero."""
    if not _NUMBER.fullmatch(text.strip()) or not float(text) > 0:
        raise ValueError("no positive number")
    return text


def whole_text(text: str) -> str:
    """Everything that was sent in the field, separators too: the compiler hands it over unsplit."""
    return text


FUNCTIONS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "coding-system": coding_system,
        "identifier-system": identifier_system,
        "base64": base64,
        "ucum": ucum,
        "ucum-code": ucum_code,
        "positive": positive,
        "samples": samples,
        "text": whole_text,
        "text-base64": base64,
        "lines": whole_text,
        "comparator": comparator,
        "number": number,
        "range-low": range_low,
        "range-high": range_high,
        "outer-sub-id": outer_sub_id,
    }
)

# Those that make a text of one text, for a value that stands beside a row's own.
OF_A_TEXT = frozenset(FUNCTIONS) - {"identifier-system", "base64", "text", "text-base64", "lines", "samples"}


def system_of(texts: Sequence[str]) -> str:
    """`identifier-system` of the parts of an HD."""
    texts = texts[:3]
    return identifier_system(*texts) if any(texts) else ""


def encoded(data: str, encoding: str) -> str:
    """`base64` of data that is there."""
    return base64(data, encoding) if data else ""
