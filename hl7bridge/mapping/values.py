"""What a row's text is before it is converted: constant, joined parts, function, data type table, or the leaf.

Sans-IO. Each gives an expression for generated code.
"""

from __future__ import annotations

from collections.abc import Callable

from hl7bridge.mapping.access import SEPARATORS, Reader, asks_for_absence, function
from hl7bridge.mapping.schema import Ref, Row

LINES = "lines"
NUMERIC = ("number", "comparator")  # these see all that was sent: 120^80 is no 120


def text_of(row: Row, reader: Reader, constant: str, nested: Callable[[], str]) -> str:
    """`constant`: of a row with a `value`; `nested`: calls the data type table of a row with `as`."""
    if row.value is not None:
        return repr(constant)
    if row.concat:
        return reader.concat(row)
    if row.apply is not None:
        return _applied(row, row.apply, reader)
    if row.as_ is not None:
        return nested()
    return reader.leaf(row.source)


def raises(row: Row) -> bool:
    """Whether making the text may fail: some functions refuse what they get."""
    return row.value is None and not row.concat and (row.apply is not None or row.as_ is not None)


def _applied(row: Row, name: str, reader: Reader) -> str:
    raw, called = reader.raw(row.source), function(name)
    as_sent = reader.plain and not asks_for_absence(row)
    if as_sent and (name == "text" or (name == LINES and reader.single)):
        return raw.text
    if name == "text":
        return f"run.whole({raw.text})"
    if name == "text-base64":
        return f"{function('base64')}(run.whole({raw.text}))"
    if name == LINES:
        return f"run.lines(fields[{reader.own}])"
    if name == "samples":
        return f"{called}('\\n'.join(run.leaves({raw.text}, {raw.level})))"
    if name == "identifier-system" and as_sent and raw.level:
        return f"{called}({raw.text})"  # without subcomponents it is the name alone
    if name == "identifier-system":
        return f"system_of(run.leaves({raw.text}, {raw.level}))"
    if name == "base64":
        before = Ref(row.source.root, (*row.source.parts[:-1], row.source.parts[-1] - 1))
        return f"encoded({_rest(row, reader)}, {reader.leaf(before)})"
    said = raw.text if as_sent and raw.level else reader.leaf(row.source)
    if name in NUMERIC:
        said = raw.text if as_sent else f"run.whole({raw.text})"
    return f"(said := {said}) and {called}(said)"


def _rest(row: Row, reader: Reader) -> str:
    """The component at hand and what stands behind it: data may hold separators that nobody escaped."""
    raw = reader.raw(row.source)
    if reader.table.kind != "datatype" or not row.source.parts or raw.level > len(SEPARATORS):
        return f"run.whole({raw.text})"
    separator = SEPARATORS[raw.level - 1]
    return f"run.whole({separator}.join(parts[{row.source.parts[-1] - 1}:]).rstrip({separator}))"
