"""What most texts need is written in place in generated code; a call is left for the rest.

Sans-IO. Separators and the escape character are never letters or digits (header.py), so a text of nothing else is its
own leaf and valued, and no conversion to a string or code changes it. A field that is not there is "". The rules
themselves stand in runtime.py and convert.py: what is written here only says when they change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_HEADS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"\bfields\b"), "fields", "segment.fields"),
    (re.compile(r"\bcount > "), "count", "len(fields)"),
    (re.compile(r" in odd\b"), "odd", "run.odd"),
)
VALUED = "({0}[0] not in odd or run.valued({0}))"  # of a text that is not empty
_FIRST = r"run\.first\(fields, (\d+)\)"
_NAMED = r"(?<!odd or )run\.{}\(([A-Za-z_]\w*)\)"
_REWRITES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (call, re.compile(pattern), written)
    for call, pattern, written in (
        ("run.valued(seg", r"run\.valued\(segment\.id\)", "True"),
        ("run.valued(run.id", r"run\.valued\((run\.id_of\(group, '\w+'\))\)", r"\1"),
        (
            "run.leaf0(run.first(",
            rf"run\.leaf0\({_FIRST}\)",
            r"(count > \1 and fields[\1] and (fields[\1] if fields[\1].isalnum() else run.leaf_of(fields, \1)) or '')",
        ),
        (
            "run.valued(run.first(",
            rf"run\.valued\({_FIRST}\)",
            r"(count > \1 and fields[\1] != '' and (fields[\1][0] not in odd or run.has(fields, \1)))",
        ),
        (
            "run.first(",
            _FIRST,
            r"((run.first(fields, \1) if run.repetition in fields[\1] else fields[\1]) if count > \1 else '')",
        ),
        ("run.leaf", _NAMED.format("(leaf[012])"), r"(\2 if \2.isalnum() else run.\1(\2))"),
        ("run.valued(", _NAMED.format("valued"), rf"(\1 and {VALUED.format(chr(92) + '1')})"),
        ("run.valued(", r"if \((\w+ and \(\w+\[0\] not in odd or run\.valued\(\w+\)\))\):$", r"if \1:"),
    )
)
_UNCHANGED = frozenset(("string", "markdown", "code"))  # types that a text of letters and digits is as it is


def in_place(line: str) -> str:
    """A line of generated code, its calls of the Run preceded by what makes most of them unnecessary."""
    if "run." in line and not line.lstrip().startswith("#"):
        for call, pattern, written in _REWRITES:
            if call in line:
                line = pattern.sub(written, line)
    return line


def converted(type_: str, text: str) -> str:
    """The conversion of a text to a FHIR type, as an expression."""
    call = f"to_{type_}(run, {text})"
    return f"{text} if {text}.isalnum() else {call}" if type_ in _UNCHANGED and text.isidentifier() else call


def needed(body: Iterable[str], head: Iterable[str]) -> list[str]:
    """Lines for the function's head: the names that the body reads and `head` does not give."""
    text, given = "\n".join(body), {line.partition(" = ")[0] for line in head}
    return [f"{name} = {value}" for used, name, value in _HEADS if name not in given and used.search(text)]
