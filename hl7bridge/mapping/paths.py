"""Reads the small languages of a table's cells: field references, FHIR paths, labels, concatenations.

Sans-IO. Everything malformed is a `Malformed` (a ValueError) that says at which column and what was probably meant;
whether a name exists is the checker's question. Grammar: docs/mapping-reference.md.
"""

from __future__ import annotations

import re
from functools import lru_cache

from hl7bridge.mapping.schema import Label, Literal_, Path, Place, Ref, Step, is_segment_name

EXTENSION_BASE = "http://hl7.org/fhir/StructureDefinition/"

ANOTHER = "$another"  # a further instance of what a data type table fills

_MAX_DEPTH = 20  # resources behind resources: real paths have two or three

_REF = re.compile(r"([A-Z][A-Z0-9]{1,2})(?:([-.])([0-9]{1,4}(?:\.[0-9]{1,4})*))?")
_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[a-z][A-Za-z0-9]*")
_TYPE = re.compile(r"[A-Z][A-Za-z0-9]*")
_CONCAT_PART = re.compile(r'\s*(?:"([^"]*)"|([^"+\s]+))\s*')


class Malformed(ValueError):
    """A cell that cannot be read. `column` counts from 1 in the cell's own text."""

    def __init__(self, column: int, what: str) -> None:
        super().__init__(f"{what} (at character {column})")
        self.column = column
        self.what = what


def parse_ref(text: str, column: int = 1) -> Ref:
    """`PID`, `PID-5.1.2`, or in a data type table `XPN`, `XPN.1.2`."""
    read = _ref(text)
    if isinstance(read, str):
        raise Malformed(column, read)
    return read


@lru_cache(maxsize=8192)
def _ref(text: str) -> Ref | str:
    """The reference, or what is wrong with it. Tables name the same few thousand again and again."""
    match = _REF.fullmatch(text)
    if match is None:
        return f"{text!r} is not a field like PID-5.1 or a component like XPN.1{_ref_hint(text)}"
    root, separator, numbers = match[1], match[2], match[3]
    parts = tuple(int(n) for n in numbers.split(".")) if numbers else ()
    if 0 in parts:
        return f"{text!r}: fields and components are counted from 1"
    ref = Ref(root, parts)
    if separator and str(ref) != text:
        kind = "a segment, its fields are" if is_segment_name(root) else "a data type, its components are"
        return f"{text!r}: {root} is {kind} written {ref}"
    return ref


def _ref_hint(text: str) -> str:
    corrected = re.sub(r"[-._]+", ".", text.upper().replace(" ", "")).strip(".")
    match = re.fullmatch(r"([A-Z][A-Z0-9]{1,2})\.?([0-9]{1,4}(?:\.[0-9]{1,4})*)", corrected)
    if match is None or "0" in match[2].split("."):
        return ""
    return f"; did you mean {Ref(match[1], tuple(int(n) for n in match[2].split('.')))}?"


def is_ref(text: str) -> bool:
    """Whether a bare word names a field (with a number), and so cannot be a value without quotes."""
    match = _REF.fullmatch(text)
    return match is not None and match[3] is not None


def parse_path(text: str, place: Place) -> Path:
    """`name#legal.family`, `performer#x(Role.practitioner(Practitioner))`, `$this`, `$value`, `$another#x.y`."""
    steps, another = _path(text)
    return Path(text, steps, place, another)


@lru_cache(maxsize=8192)
def _path(text: str) -> tuple[tuple[Step, ...], str]:
    """The steps of a path, and the label of the further instance that it begins in."""
    if text in ("$this", "$value"):
        return (), ""
    if text.count("(") > _MAX_DEPTH:
        raise Malformed(1, "too many brackets in brackets")
    label, at = "", 0
    if text.startswith(ANOTHER):
        label, at = _label(text, len(ANOTHER))
        if not label or not text.startswith(".", at):
            raise Malformed(at + 1, f"{ANOTHER} has a label and an element behind it, like {ANOTHER}#called.given")
        at += 1
    steps, end = _steps(text, at)
    if end < len(text):
        raise _unexpected(text, end)
    return steps, label


def _steps(text: str, at: int) -> tuple[tuple[Step, ...], int]:
    steps: list[Step] = []
    while True:
        step, at = _step(text, at)
        steps.append(step)
        if step.resource is not None or not text.startswith(".", at):
            return tuple(steps), at
        at += 1


def _step(text: str, at: int) -> tuple[Step, int]:
    name = _NAME.match(text, at)
    if name is None:
        raise _unexpected(text, at)
    at = name.end()
    each = text.startswith("*", at)
    label, at = _label(text, at + each)
    if not text.startswith("(", at):
        return Step(name[0], label, each=each), at
    type_ = _TYPE.match(text, at + 1)
    if type_ is None:
        raise Malformed(at + 2, "in ( ) stands a resource type, like performer(Practitioner)")
    resource_label, at = _label(text, type_.end())
    inner: tuple[Step, ...] = ()
    if text.startswith(".", at):
        inner, at = _steps(text, at + 1)
    if not text.startswith(")", at):
        raise Malformed(at + 1, f"the bracket after {name[0]!r} is not closed by )")
    return Step(name[0], label, type_[0], resource_label, inner, each), at + 1


def _label(text: str, at: int) -> tuple[str, int]:
    if not text.startswith("#", at):
        return "", at
    match = _LABEL.match(text, at + 1)
    if match is None:
        raise Malformed(at + 2, "after # stands a label of letters, digits, - and _")
    return match[0], match.end()


def _unexpected(text: str, at: int) -> Malformed:
    rest = text[at:]
    if not rest:
        return Malformed(at + 1, f"the path {text!r} ends too early" if text else "the path is empty")
    if rest.startswith("[x]"):
        return Malformed(at + 1, "[x] is spelled out with the type: valueString, deceasedBoolean")
    if rest.startswith("["):
        return Malformed(at + 1, "instances are told apart by labels, not numbers: name#legal")
    if rest.startswith("$"):
        return Malformed(at + 1, "$this and $value stand alone")
    if rest.startswith(")"):
        return Malformed(at + 1, "there is a ) without its (")
    if _TYPE.match(rest):
        return Malformed(at + 1, f"a path starts inside the table's target with an element in lower case, not {rest!r}")
    if text[:at].endswith(")"):
        return Malformed(at + 1, "after ) the path has ended: what is written in the resource stands inside the ( )")
    return Malformed(at + 1, f"unexpected {rest[0]!r} in the path {text!r}")


def parse_label(text: str) -> Label:
    """`Patient#patient`, or a type alone."""
    match = re.fullmatch(r"([A-Z][A-Za-z]*)(?:#([A-Za-z0-9_-]+))?", text)
    if match is None:
        raise Malformed(1, f"{text!r} is not a resource type with a label, like Patient#patient")
    return Label(match[1], match[2] or "")


def parse_link_key(text: str, place: Place) -> tuple[Label | None, Path]:
    """The key of a link: `subject`, or on another resource `DiagnosticReport#report.result`."""
    if not text[:1].isupper():
        return None, parse_path(text, place)
    head, dot, rest = text.partition(".")
    if not dot:
        raise Malformed(1, f"{text!r} names a resource but no element of it: {head}.element")
    return parse_label(head), parse_path(rest, place)


def parse_concat(text: str) -> tuple[Ref | Literal_, ...]:
    """`OBX-5.1 + "-" + OBX-5.2`: fields and quoted texts."""
    parts: list[Ref | Literal_] = []
    at = 0
    while True:
        match = _CONCAT_PART.match(text, at)
        if match is None:
            if text[at:].lstrip().startswith('"'):
                raise Malformed(at + 1, 'a text is not closed by "')
            raise Malformed(at + 1, 'expected a field or a text in " " here')
        start = match.start(1) if match[1] is not None else match.start(2)
        parts.append(Literal_(match[1]) if match[1] is not None else _concat_ref(match[2], start + 1))
        at = match.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != "+":
            raise Malformed(at + 1, "parts are joined with +")
        at += 1


def _concat_ref(text: str, column: int) -> Ref:
    if _REF.fullmatch(text) is None and not _ref_hint(text):
        raise Malformed(column, f'{text!r} is not a field; a text stands in double quotes: "{text}"')
    return parse_ref(text, column)


def parse_extension(texts: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The urls from the outside in and the label of the outermost.

    A short name stands for HL7's own extension of that name. Inside an extension urls are relative as the extension's
    definition gives them (`[patient-citizenship, code]`), so only the outermost is completed.
    """
    urls: list[str] = []
    label = ""
    for at, text in enumerate(texts):
        url, hash_, said = text.partition("#")
        if hash_ and (at > 0 or not _LABEL.fullmatch(said)):
            raise Malformed(len(url) + 1, "a label stands at the outermost extension, of letters, digits, - and _")
        if not url or re.search(r"\s", url):
            raise Malformed(1, f"{text!r} is not the url or short name of an extension")
        label = label or said
        urls.append(url if at > 0 or ":" in url else EXTENSION_BASE + url)
    if not urls:
        raise Malformed(1, "the list of extensions is empty")
    return tuple(urls), label
