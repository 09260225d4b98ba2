"""What an analyst meant where YAML cannot be read: the parser's error in the words of tables.

The parser names the place where it gave up, often not the place of the mistake: a quote that is never closed is
noticed at the end of the file. Both parsers of PyYAML say the same in different words, so kinds are told by what they
were reading (`context`) and by the line itself.
"""

from __future__ import annotations

import yaml

QUOTES = "a value with ': ' or a leading * & ! % @ [ { \" is put in quotes"


def meant(error: yaml.MarkedYAMLError, text: str) -> tuple[int, int, str]:
    """Line and column, counted from 1, and what is wrong there."""
    lines = text.splitlines()
    line, column = _place(error.problem_mark or error.context_mark)
    context, problem = error.context or "", error.problem or ""
    began = _place(error.context_mark) if error.context_mark else (line, column)
    if "quoted scalar" in context:
        return *began, "the quote that opens here is not closed in its line"
    if "mapping values" in problem:
        return (
            line,
            column,
            "a second ': ' in the line: several words of a row stand in braces, {to: …, as: …}; " + QUOTES,
        )
    if "flow" in context:
        return _flow(lines, began, (line, column))
    if "parsing a block" in context and line > began[0]:
        return line, column, _block(lines, line)
    if "parsing a block" in context:
        return line, column, "what stands here belongs to no row: a bracket, brace or quote too many?"
    return line, column, f"not readable as YAML: {problem}; {QUOTES}"


def _flow(lines: list[str], began: tuple[int, int], stopped: tuple[int, int]) -> tuple[int, int, str]:
    """Inside { } or [ ]."""
    line = lines[began[0] - 1]
    for opening, closing in ("{}", "[]"):
        if line.count(opening) > line.count(closing):
            return began[0], line.index(opening) + 1, f"the {opening} that opens here has no {closing} in its line"
    return *stopped, "between two words of a row stands a comma; " + QUOTES


def _block(lines: list[str], number: int) -> str:
    """Between rows: mostly a line that begins in another column than its neighbours."""
    line = lines[number - 1] if number <= len(lines) else ""
    column = _indent(line)
    above = next((one for one in reversed(lines[: number - 1]) if one.strip() and not one.lstrip().startswith("#")), "")
    if column != _indent(above):
        return (
            f"this line begins in column {column + 1}, the one above in column {_indent(above) + 1}: "
            "rows of one table, and words of one row, begin in the same column"
        )
    return f"not readable as YAML here: {QUOTES}"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _place(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
