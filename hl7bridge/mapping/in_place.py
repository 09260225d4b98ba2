"""What most texts need is written in place in generated code; a call is left for the rest.

Sans-IO. Separators and the escape character are never letters or digits (header.py), so a text of nothing else is its
own leaf and valued, and no conversion to a string or code changes it. A field that is not there is "". The rules
themselves stand in runtime.py and convert.py: what is written here only says when they change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

_HEADS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"\bfields\b"), "fields", "segment.fields"),
    (re.compile(r"\bcount > "), "count", "len(fields)"),
    (re.compile(r" in odd\b"), "odd", "run.odd"),
    (re.compile(r"\brepetition (not )?in\b"), "repetition", "run.repetition"),
    (re.compile(r"\bcomponent (not )?in\b"), "component", "run.component"),
)
VALUED = "({0}[0] not in odd or run.valued({0}))"  # of a text that is not empty
_FIRST = r"run\.first\(fields, (\d+)\)"
_NAMED = r"(?<!odd or )run\.{}\(([A-Za-z_]\w*)\)"
_HEADER = r"run\.seen\(group, 'MSH', (\d+)\)"
_OF_HEADER = r"run.header(group, \1, \2)"
_LEAF_OF_HEADER = r"run.header_leaf(group, \1, \2)"
_Rewrites = tuple[tuple[str, re.Pattern[str], str], ...]


@cache
def _rewrites(plain: bool, single: bool, filled: bool) -> _Rewrites:
    """By a text that must be in the line, for speed: what is looked for, and what is written for it."""
    there = "" if filled else r"count > \1 and "
    alone = r"component not in fields[\1] and repetition not in fields[\1]" if plain else r"fields[\1].isalnum()"
    alone = r"component not in fields[\1]" if single else alone
    nothing = "" if filled else " or ''"
    first = r"fields[\1]" if single else r"(run.first(fields, \1) if repetition in fields[\1] else fields[\1])"
    return tuple(
        (call, re.compile(pattern), written)
        for call, pattern, written in (
            ("run.component_of(run.seen(group, 'MSH'", rf"run\.component_of\({_HEADER}, (\d+)\)", _LEAF_OF_HEADER),
            ("run.nth(run.seen(group, 'MSH'", rf"run\.nth\({_HEADER}, run\.component, (\d+)\)", _OF_HEADER),
            *((("run.valued(", rf"run\.valued\({_FIRST}\)", rf"({there}fields[\1])"), _VALUED) if single else ()),
            ("run.valued(seg", r"run\.valued\(segment\.id\)", "True"),
            ("run.valued(run.id", r"run\.valued\((run\.id_of\(group, '\w+'\))\)", r"\1"),
            (
                "run.leaf0(run.first(",
                rf"run\.leaf0\({_FIRST}\)",
                rf"({there}fields[\1] and (fields[\1] if {alone} else run.leaf_of(fields, \1)){nothing})",
            ),
            (
                "run.valued(run.first(",
                rf"run\.valued\({_FIRST}\)",
                rf"({there}fields[\1] and (fields[\1][0] not in odd or run.has(fields, \1)))",
            ),
            ("run.first(", _FIRST, first if filled else rf"({first} if count > \1 else '')"),
            *((("run.leaf0(", _NAMED.format("leaf0"), _UP_TO_COMPONENT), *_PARTS) if plain else ()),
            ("run.leaf", _NAMED.format("(leaf[012])"), r"(\2 if \2.isalnum() else run.\1(\2))"),
            ("run.valued(", _NAMED.format("valued"), rf"(\1 and {VALUED.format(chr(92) + '1')})"),
            ("run.valued(", r"if \((\w+ and \(\w+\[0\] not in odd or run\.valued\(\w+\)\))\):$", r"if \1:"),
        )
    )


_VALUED = ("run.valued(", r"run\.valued\(([A-Za-z_]\w*)\)", r"\1")
_UP_TO_COMPONENT = r"(\1 if component not in \1 else run.leaf0 (\1))"  # the blank keeps the next pattern from it
_TEXT = r"([A-Za-z_]\w*|fields\[\d+\])"
_PARTS = (
    (
        "run.nth(",
        rf"run\.nth\({_TEXT}, run\.component, 1\)",
        r"(\1 if component not in \1 else run.nth (\1, component, 1))",
    ),
    (
        "run.nth(",
        rf"run\.nth\({_TEXT}, run\.component, (\d+)\)",
        r"(run.nth(\1, component, \2) if component in \1 else '')",
    ),
)
_UNCHANGED = frozenset(("string", "markdown", "code"))  # types that a text of letters and digits is as it is


def in_place(line: str, plain: bool = False, single: bool = False, filled: bool = False) -> str:
    """A line of generated code, its calls of the Run preceded by what makes most of them unnecessary.

    `plain`: it reads a segment of plain texts, `single`: none of whose fields repeats (`Segment.form`); `filled`:
    `fields` has every field that is read.
    """
    if "run." in line and not line.lstrip().startswith("#"):
        for call, pattern, written in _rewrites(plain, single, filled):
            if call in line:
                line = pattern.sub(written, line)
        line = line.replace("run.leaf0 (", "run.leaf0(").replace("run.nth (", "run.nth(")
    return line


def unchanged(type_: str) -> bool:
    """Whether a plain text is a value of a FHIR type as it is."""
    return type_ in _UNCHANGED


def converted(type_: str, text: str) -> str:
    """The conversion of a text to a FHIR type, as an expression."""
    call = f"to_{type_}(run, {text})"
    return f"{text} if {text}.isalnum() else {call}" if type_ in _UNCHANGED and text.isidentifier() else call


def needed(body: Iterable[str], head: Iterable[str]) -> list[str]:
    """Lines for the function's head: the names that the body reads and `head` does not give."""
    text, given = "\n".join(body), {line.partition(" = ")[0] for line in head}
    return [f"{name} = {value}" for used, name, value in _HEADS if name not in given and used.search(text)]
