"""Reading a message for the tables: references and conditions become small functions of a Context.

Sans-IO. Which repetition a reference means: the row's own field is the repetition at hand, any other field its first;
another segment's field is looked up in the innermost group around that holds such a segment.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from hl7bridge.mapping.runtime import Context
from hl7bridge.mapping.schema import All, Compare, Condition, Literal_, Measure, Ref, Row, Table, Valued

Test = Callable[[Context], bool]


class Getter(NamedTuple):
    """`raw` gives the text as sent; `level` is how deep it lies relative to the table's values (added to ctx.level)."""

    raw: Callable[[Context], str]
    absolute: bool  # level counts from the field, not from the context
    level: int


def getter(ref: Ref, table: Table, own: int) -> Getter:
    """How to read `ref` in a row of `table` whose own field (segment) or component (data type) is `own`."""
    if ref.root != table.source:
        return Getter(_foreign(ref), True, len(ref.parts) - 1 if ref.parts else 0)
    if table.kind == "segment":
        if not ref.parts:
            return Getter(lambda ctx: ctx.segment.id, True, 2)
        return Getter(_field(ref.parts, own), True, len(ref.parts) - 1)
    if not ref.parts:
        return Getter(lambda ctx: ctx.text, False, 0)
    return Getter(_component(ref.parts), False, len(ref.parts))


def _first_repetition(ctx: Context, raw: str) -> str:
    separator = ctx.run.message.separators.repetition
    return raw.partition(separator)[0] if separator else raw


def _dig(ctx: Context, raw: str, parts: tuple[int, ...], level: int) -> str:
    for number in parts:
        pieces = ctx.run.split(raw, level)
        if number > len(pieces):
            return ""
        raw = pieces[number - 1]
        level += 1
    return raw


def _field(parts: tuple[int, ...], own: int) -> Callable[[Context], str]:
    number, deeper = parts[0], parts[1:]
    if number == own:
        if not deeper:
            return lambda ctx: ctx.text
        return lambda ctx: _dig(ctx, ctx.text, deeper, 0)

    def read(ctx: Context) -> str:
        fields = ctx.parts
        if number >= len(fields):
            return ""
        raw = _first_repetition(ctx, fields[number])
        return _dig(ctx, raw, deeper, 0) if deeper else raw

    return read


def _component(parts: tuple[int, ...]) -> Callable[[Context], str]:
    number, deeper = parts[0], parts[1:]

    def read(ctx: Context) -> str:
        if number > len(ctx.parts):
            return ""
        raw = ctx.parts[number - 1]
        return _dig(ctx, raw, deeper, ctx.level + 1) if deeper else raw

    return read


def _foreign(ref: Ref) -> Callable[[Context], str]:
    def read(ctx: Context) -> str:
        segment = ctx.group.find(ref.root) if ctx.group is not None else None
        if segment is None:
            return ""
        if not ref.parts:
            return segment.id
        if ref.parts[0] >= len(segment.fields):
            return ""
        raw = segment.fields[ref.parts[0]]
        if segment.id != "MSH" or ref.parts[0] > 2:
            raw = _first_repetition(ctx, raw)
        return _dig(ctx, raw, ref.parts[1:], 0)

    return read


def reader(ref: Ref, table: Table, own: int) -> Callable[[Context], str]:
    """The leaf text at `ref`: first component of a composite, escapes resolved, "" when not valued."""
    raw, absolute, level = getter(ref, table, own)
    if absolute:
        return lambda ctx: ctx.run.leaf(raw(ctx), level)
    return lambda ctx: ctx.run.leaf(raw(ctx), ctx.level + level)


def joiner(row: Row, table: Table, own: int) -> Callable[[Context], str]:
    """`concat:`; blanks at the ends go, runs of them collapse; "" when no field part has content."""
    parts: list[tuple[bool, Callable[[Context], str]]] = []
    for part in row.concat:
        if isinstance(part, Literal_):
            parts.append((False, _constant(part.text)))
        else:
            parts.append((True, reader(part, table, own)))

    def join(ctx: Context) -> str:
        texts, valued = [], False
        for is_field, read in parts:
            text = read(ctx)
            valued = valued or (is_field and bool(text))
            texts.append(text)
        return " ".join("".join(texts).split()) if valued else ""

    return join


def _constant(text: str) -> Callable[[Context], str]:
    return lambda ctx: text


OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def tester(condition: Condition, table: Table, own: int) -> Test:
    """`when:` as a function."""
    if isinstance(condition, Valued):
        raw = getter(condition.ref, table, own).raw
        if condition.negated:
            return lambda ctx: not ctx.run.valued(raw(ctx))
        return lambda ctx: ctx.run.valued(raw(ctx))
    if isinstance(condition, Compare):
        return _compare(condition, table, own)
    if isinstance(condition, Measure):
        return _measure(condition, table, own)
    tests = [tester(part, table, own) for part in condition.parts]
    return _joined(tests, isinstance(condition, All))


def _joined(tests: list[Test], every: bool) -> Test:
    """`and` or `or` of all: pairs of functions, which cost less than a loop."""
    first, *rest = tests
    if not rest:
        return first
    others = _joined(rest, every)
    if every:
        return lambda ctx: first(ctx) and others(ctx)
    return lambda ctx: first(ctx) or others(ctx)


def _compare(condition: Compare, table: Table, own: int) -> Test:
    read = reader(condition.ref, table, own)
    negated = condition.negated
    if condition.other is not None:
        other = reader(condition.other, table, own)
        return lambda ctx: (read(ctx) == other(ctx)) is not negated
    values = frozenset(condition.values)
    return lambda ctx: (read(ctx) in values) is not negated


def _measure(condition: Measure, table: Table, own: int) -> Test:
    compare, number = OPERATORS[condition.operator], condition.number
    if condition.kind == "length":
        read = reader(condition.ref, table, own)
        return lambda ctx: compare(len(read(ctx)), number)
    ref = condition.ref
    if len(ref.parts) != 1:
        raise ValueError(f"count({ref}) counts repetitions, and only a field repeats")

    def count(ctx: Context) -> bool:
        segment = ctx.segment if ref.root == ctx.segment.id else ctx.group.find(ref.root) if ctx.group else None
        raw = segment.fields[ref.parts[0]] if segment is not None and ref.parts[0] < len(segment.fields) else ""
        separator = ctx.run.message.separators.repetition
        pieces = raw.split(separator) if separator else [raw]
        return compare(sum(1 for piece in pieces if ctx.run.valued(piece)), number)

    return count
