"""Bytes to text by MSH-18 (table 0211 and the spellings real senders use), never with a silent substitute.

What holds: every byte either decodes under the set that is declared, or under one that the bytes themselves prove
(a byte order mark, valid UTF-8 where ASCII or nothing usable was declared), or under the configured fallback; each
departure from what was declared is named in `Decoded.deviation` so that it can be counted. Anything else is a
PeerError(CHARSET). The whole message is decoded before it is split, because a trail byte of Big5 or GB 18030 may look
like a separator.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hl7bridge.errors import PeerError
from hl7bridge.reasons import CHARSET

UTF8_BOM = b"\xef\xbb\xbf"
LOCATION = "MSH^1^18"

# what Decoded.deviation may say
UTF8_UNDECLARED = "utf-8-undeclared"  # ASCII, nothing or a wide set declared, the bytes are UTF-8
UNKNOWN_NAME = "unknown-name"  # MSH-18 names no set we know; the bytes are ASCII or UTF-8
WINDOWS_1252 = "windows-1252"  # 8859/1 declared, the bytes 80-9F are Windows letters, not control characters
BYTE_ORDER_MARK = "byte-order-mark"  # the mark says another set than MSH-18
FALLBACK = "fallback"  # charset_fallback of the listener or sender


class Decoded(NamedTuple):
    """The text without its byte order mark, the Python codec that gave it, and how it departs from MSH-18 ("": not)."""

    text: str
    codec: str
    deviation: str


def _table() -> dict[str, str]:
    """Names reduced to letters and digits -> Python codec. CNS 11643-1992 is not here: Python has no such codec."""
    names = {
        "": "ascii",
        "ASCII": "ascii",
        "USASCII": "ascii",
        "ISOIR6": "ascii",
        "UTF8": "utf-8",
        "UNICODEUTF8": "utf-8",
        "UNICODE": "utf-8",  # as bytes that read as MSH| it cannot be UCS-2
        "UNICODEUTF16": "utf-16",
        "UTF16": "utf-16",
        "UNICODEUTF32": "utf-32",
        "UTF32": "utf-32",
        "ISOIR14": "iso2022_jp_ext",  # JIS X 0201
        "ISOIR13": "iso2022_jp_ext",
        "ISOIR87": "iso2022_jp",  # JIS X 0208
        "ISOIR159": "iso2022_jp_ext",  # JIS X 0212
        "ISO2022JP": "iso2022_jp",
        "SHIFTJIS": "cp932",
        "WINDOWS31J": "cp932",
        "EUCJP": "euc_jp",
        "GB180302000": "gb18030",
        "GB18030": "gb18030",
        "GBK": "gb18030",
        "GB2312": "gb18030",
        "KSX1001": "cp949",
        "EUCKR": "cp949",
        "BIG5": "big5",
        "ISOIR100": "iso8859-1",
        "ISOIR101": "iso8859-2",
        "ISOIR109": "iso8859-3",
        "ISOIR110": "iso8859-4",
        "ISOIR144": "iso8859-5",
        "ISOIR127": "iso8859-6",
        "ISOIR126": "iso8859-7",
        "ISOIR138": "iso8859-8",
        "ISOIR148": "iso8859-9",
        "ISOIR166": "tis-620",
        "ISOIR192": "utf-8",
        "LATIN1": "iso8859-1",
        "ANSI": "cp1252",
    }
    for part in (*range(1, 12), 13, 14, 15, 16):
        for name in ("8859", "ISO8859", "UNICODE8859", "ISOIEC8859"):
            names[f"{name}{part}"] = f"iso8859-{part}"
    for page in range(1250, 1259):
        for name in ("", "WINDOWS", "CP", "WIN", "MS", "MSWINDOWS"):
            names[f"{name}{page}"] = f"cp{page}"
    return names


_NAMES = _table()
_SIGNS = re.compile(r"[^A-Z0-9]+")
_C1 = re.compile(rb"[\x80-\x9f]")
_WIDE = (  # the longer marks first: FF FE begins both; without a mark, MSH itself shows the width
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"M\x00\x00\x00S\x00\x00\x00", "utf-32-le"),
    (b"\x00\x00\x00M\x00\x00\x00S", "utf-32-be"),
    (b"M\x00S\x00", "utf-16-le"),
    (b"\x00M\x00S", "utf-16-be"),
)
_WIDE_STARTS = frozenset(start[:2] for start, _ in _WIDE)


@lru_cache(maxsize=256)
def codec_of(name: str) -> str | None:
    """The Python codec for one name of MSH-18, None for an unknown one. Empty means ASCII (HL7 v2 table 0211)."""
    return _NAMES.get(_SIGNS.sub("", name.upper()))


@lru_cache(maxsize=256)
def fallback_codec(name: str) -> str:
    """The codec for a configured `charset_fallback`: a name of table 0211 or of Python. ValueError for another."""
    if _SIGNS.sub("", name.upper()) and (known := codec_of(name)):
        return known
    try:
        info = codecs.lookup(name)
        b"A".decode(info.name)  # refuses codecs that are not for text
    except (LookupError, ValueError):
        raise ValueError("charset_fallback names no known character set") from None
    return info.name


@lru_cache(maxsize=256)
def declared_codec(names: tuple[str, ...]) -> str | None:
    """The codec for all repetitions of MSH-18: the first is the default, the others may be switched to (MSH-20).

    A Japanese set (ISO 2022-1994 by escape sequences) beside an ASCII default is one Python codec that knows both.
    """
    known = [codec_of(name) for name in names] or ["ascii"]
    japanese = [name for name in known if name and name.startswith("iso2022")]
    if known[0] != "ascii" or not japanese:
        return known[0]
    return japanese[0] if len(set(japanese)) == 1 else "iso2022_jp_ext"


def wide_codec(raw: bytes) -> str | None:
    """utf-16-le and its like if the bytes are two or four to a character, else None."""
    if raw[:2] not in _WIDE_STARTS:
        return None
    return next((codec for start, codec in _WIDE if raw.startswith(start)), None)


def narrow(raw: bytes) -> bytes:
    """UTF-16 and UTF-32 as UTF-8 (with what does not decode replaced), anything else as it is.

    Only for finding MSH and message borders before the character set is known: `decode` is what judges the bytes.
    """
    codec = wide_codec(raw)
    return raw if codec is None else raw.decode(codec, "replace").encode("utf-8")


def decode(raw: bytes, declared: Sequence[str], fallback: str | None = None) -> Decoded:
    """Text of a message whose MSH-18 repetitions are `declared`.

    Raises PeerError(CHARSET) for bytes that fit nothing allowed; ValueError for a fallback that is no character set.
    """
    wide = wide_codec(raw)
    if wide:
        return _wide(raw, wide, declared, fallback)
    codec = declared_codec(tuple(declared))
    if raw.startswith(UTF8_BOM):
        deviation = "" if codec == "utf-8" else BYTE_ORDER_MARK
        return _strictly(raw[3:], "utf-8", deviation) or _fallback(raw[3:], fallback)
    if codec in ("utf-16", "utf-32"):  # declared, but these are single bytes
        return _strictly(raw, "utf-8", UTF8_UNDECLARED) or _fallback(raw, fallback)
    if raw.isascii() and not (codec and codec.startswith("iso2022")):
        return Decoded(raw.decode("ascii"), codec or "ascii", "" if codec else UNKNOWN_NAME)
    if codec == "ascii":
        return _strictly(raw, "utf-8", UTF8_UNDECLARED) or _fallback(raw, fallback)
    if codec is None:
        return _strictly(raw, "utf-8", UNKNOWN_NAME) or _fallback(raw, fallback)
    if codec == "iso8859-1" and _C1.search(raw):
        windows = _strictly(raw, "cp1252", WINDOWS_1252)
        if windows:
            return windows
    return _strictly(raw, codec, "") or _fallback(raw, fallback)


def _strictly(raw: bytes, codec: str, deviation: str) -> Decoded | None:
    try:
        return Decoded(raw.decode(codec), codec, deviation)
    except ValueError:
        return None


def _fallback(raw: bytes, fallback: str | None) -> Decoded:
    decoded = _strictly(raw, fallback_codec(fallback), FALLBACK) if fallback else None
    if decoded is None:
        raise PeerError(CHARSET, location=LOCATION)
    return decoded


def _wide(raw: bytes, wide: str, declared: Sequence[str], fallback: str | None) -> Decoded:
    deviation = "" if any("UNICODE" in name.upper() or "UTF" in name.upper() for name in declared) else BYTE_ORDER_MARK
    decoded = _strictly(raw, wide, deviation) or _fallback(raw, fallback)
    return decoded._replace(text=decoded.text.removeprefix("\ufeff"))
