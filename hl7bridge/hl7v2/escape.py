r"""Separators, and the escape sequences that stand for them in text (HL7 v2 chapter 2, "Use of escape sequences").

What holds: `unescape` never raises and never loses text: what it cannot resolve stays as sent and its kind is
reported; `unescape(escape(text)) == text` for every text. Escapes do not nest. Real feeds hold many backslashes that
nobody escaped (paths, RTF), so a pair of escape characters around nothing known is text, and the second of the pair may
open the next sequence.

    \F\ \S\ \T\ \R\ \E\ \P\   the separators           \Xhh..\          bytes in the message's character set
    \.br\ \.ce\ \.sp<n>\      line breaks              \.sk<n>\         blanks
    \H\ \N\ \.in \.ti \.fi \.nf                        dropped: highlighting and layout have no place in FHIR text
    \Zxx\ \Cxxyy\ \Mxxyyzz\                            kept as sent, reported
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

MAX_BLANKS = 200  # of one \.sp\ or \.sk\: a number from outside must not decide how much memory we take
DEFAULT_TRUNCATION = "#"
_NEWLINE_COMMANDS = frozenset(("br", "ce"))
_LAYOUT_COMMANDS = frozenset(("in", "ti", "fi", "nf"))
_COMMAND = re.compile(r"\.([A-Za-z]{2}) ?([+-]?[0-9]{0,4})\Z")
_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)\Z")
_KEPT = re.compile(r"(?:Z[0-9A-Za-z]{1,30}|C[0-9A-Fa-f]{4}|M[0-9A-Fa-f]{4}(?:[0-9A-Fa-f]{2})?)\Z")


class Separators(NamedTuple):
    r"""MSH-1 and MSH-2. An empty string: this message has no such separator. Usually `|`, `^~\&` and, from 2.7, `#`."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str
    truncation: str = ""

    def repetitions(self, field: str) -> list[str]:
        """The repetitions of a field, raw; an empty field has none."""
        if not field:
            return []
        separator = self.repetition
        return field.split(separator) if separator and separator in field else [field]

    def components(self, repetition: str) -> list[str]:
        """The components of one repetition, raw; at least one."""
        separator = self.component
        return repetition.split(separator) if separator and separator in repetition else [repetition]

    def subcomponents(self, component: str) -> list[str]:
        """The subcomponents of one component, raw; at least one."""
        separator = self.subcomponent
        return component.split(separator) if separator and separator in component else [component]


DEFAULT = Separators("|", "^", "~", "\\", "&")


def unescape(
    text: str,
    separators: Separators = DEFAULT,
    codec: str = "utf-8",
    unknown: Callable[[str], object] | None = None,
) -> str:
    r"""`text` with its escape sequences resolved.

    codec: Python codec for \X..\ (the message's). unknown: is called with the kind of every sequence that stays as
    sent: "Z", "C", "M", "X" (bytes the character set has not), "." (an unknown command), "unknown" or "unterminated";
    never with the text itself.
    """
    mark = separators.escape
    if not mark or mark not in text:
        return text
    out: list[str] = []
    report = unknown or _ignore
    at = 0
    while True:
        start = text.find(mark, at)
        if start < 0:
            break
        out.append(text[at:start])
        end = text.find(mark, start + 1)
        if end < 0:
            report("unterminated")
            at = start
            break
        body = text[start + 1 : end]
        if body.startswith("X") and (joined := _hex_run(text, start, mark)):
            digits, end = joined
            resolved = _characters(digits, codec)
            if resolved is None:
                report("X")
                resolved = text[start : end + 1]
            out.append(resolved)
        elif (plain := _resolve(body, separators)) is not None:
            out.append(plain)
        elif kind := _kind_kept(body):
            report(kind)
            out.append(text[start : end + 1])
        else:  # not a sequence: the mark is text, and the next mark may open one
            report("unknown")
            out.append(mark)
            at = start + 1
            continue
        at = end + 1
    out.append(text[at:])
    return "".join(out)


def escape(text: str, separators: Separators = DEFAULT) -> str:
    r"""`text` fit to stand in a component: separators as \F\ and so on, control characters (but tab) as \X..\.

    ValueError when the message has no escape character and the text needs one.
    """
    if separators.escape:
        return text.translate(_escapes(separators))
    if any(ord(character) in _escapes(separators) for character in text):
        raise ValueError("these separators have no escape character")
    return text


@lru_cache(maxsize=64)
def _escapes(separators: Separators) -> dict[int, str]:
    mark = separators.escape
    table = {code: f"{mark}X{code:02X}{mark}" for code in range(0x20) if code != 0x09}
    letters = zip("FSRET", separators[:5], strict=True)
    table.update({ord(character): f"{mark}{letter}{mark}" for letter, character in letters if character})
    if separators.truncation:
        table[ord(separators.truncation)] = f"{mark}P{mark}"
    return table


@lru_cache(maxsize=64)
def _characters_of(separators: Separators) -> dict[str, str]:
    return {
        "F": separators.field,
        "S": separators.component,
        "R": separators.repetition,
        "E": separators.escape,
        "T": separators.subcomponent,
        "P": separators.truncation or DEFAULT_TRUNCATION,
        "H": "",
        "N": "",
    }


def _resolve(body: str, separators: Separators) -> str | None:
    """What a separator, highlighting or formatting sequence gives; None for any other."""
    simple = _characters_of(separators).get(body)
    if simple is not None:
        return simple
    command = _COMMAND.match(body)
    if command is None:
        return None
    name, number = command[1].lower(), command[2]
    if name in _NEWLINE_COMMANDS:
        return "\n"
    if name in _LAYOUT_COMMANDS:
        return ""
    if name not in ("sp", "sk"):
        return None
    count = int(number) if number.lstrip("+-") else 1
    return ("\n" if name == "sp" else " ") * min(max(count, 0), MAX_BLANKS)


def _kind_kept(body: str) -> str:
    """The kind of a well-formed sequence that stays as sent, "" if the body is none."""
    if _KEPT.match(body):
        return body[0]
    return "." if _COMMAND.match(body) else ""


def _hex_run(text: str, start: int, mark: str) -> tuple[str, int] | None:
    r"""Hex digits of the \X..\ at `start` and of those directly behind it, and where the last one ends.

    Together, because some senders write one byte a sequence: \XC3\\XBC\ is one character.
    """
    digits, last = "", -1
    while text.startswith(mark + "X", start):
        end = text.find(mark, start + 1)
        found = _HEX.match(text, start + 1, end) if end > 0 else None
        if found is None:
            break
        digits, last, start = digits + found[1], end, end + 1
    return (digits, last) if digits else None


def _characters(digits: str, codec: str) -> str | None:
    data = bytes.fromhex(digits)
    if codec.startswith(("utf-16", "utf-32")):
        codec = "utf-8"  # a sequence gives bytes of a byte set; the width of the message says nothing about them
    for name in (codec, "utf-8"):  # senders under ASCII write UTF-8 bytes this way
        try:
            return data.decode(name)
        except ValueError:
            continue
    return None


def _ignore(kind: str) -> None:
    """For callers that do not count what stays as sent."""
