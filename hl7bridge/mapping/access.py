"""Reading a message for the tables: references and conditions become Python expressions.

Sans-IO. Which repetition a reference means: the row's own field is the repetition at hand, any other field its first;
another segment's field is looked up in the innermost group around that holds such a segment. The names the expressions
use: compile.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from hl7bridge.mapping.code import Code
from hl7bridge.mapping.schema import All, Compare, Condition, FieldValue, Literal_, Measure, Ref, Row, Table, Valued
from hl7bridge.mapping.schema import Any as AnyOf

UNSPLIT = ("MSH", "FHS", "BHS")  # their fields 1 and 2 are the separators themselves
SEPARATORS = ("run.component", "run.subcomponent")
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_SEVERAL = {(">", 1): True, (">=", 2): True, ("<=", 1): False, ("<", 2): False}
Wanted = tuple[Ref | None, frozenset[str]]
_NOTHING: Wanted = (None, frozenset())


class Raw(NamedTuple):
    """An expression for text as sent, how deep it lies (0: a repetition, 1: a component, 2: a subcomponent) and
    whether it differs from repetition to repetition. `part`: the repetition it is a component of, and which."""

    text: str
    level: int
    varies: bool
    part: tuple[str, int] | None = None


class Reader:
    """Reads for the rows of one field or component of a table.

    own: the number of that field or component, -1 where no row is at work; level: of the whole value that a data type
    table reads, 0 for a segment table; plain, single: for segments of that form (hl7v2/form).
    """

    def __init__(
        self, code: Code, table: Table, own: int, level: int = 0, plain: bool = False, single: bool = False
    ) -> None:
        self.code, self.table, self.own, self.level = code, table, own, level
        self.plain, self.single = plain, single
        self.certain = True  # what is read now is read whenever the block runs

    def raw(self, ref: Ref) -> Raw:
        """The text at `ref` as sent."""
        parts = ref.parts
        if ref.root != self.table.source:
            if not parts:
                return Raw(f"run.id_of(group, {ref.root!r})", 0, False)
            return self._deeper(f"run.seen(group, {ref.root!r}, {parts[0]})", parts[1:], 0, False)
        if self.table.kind == "datatype":
            if not parts:
                return Raw("raw", self.level, False)
            return self._deeper(component(parts[0]), parts[1:], self.level + 1, False)
        if not parts:
            return Raw("segment.id", 2, False)
        if parts[0] == self.own:
            return self._deeper("text", parts[1:], 0, True)
        fields = "segment.fields" if parts[0] <= 2 and self.table.source in UNSPLIT else "fields"
        first = self.code.part(f"first_{parts[0]}", f"run.first({fields}, {parts[0]})", False, self.certain)
        return self._deeper(first, parts[1:], 0, False)

    def _deeper(self, text: str, parts: tuple[int, ...], level: int, varies: bool) -> Raw:
        part: tuple[str, int] | None = None
        for number in parts:
            part = (text, number) if level == 0 else None
            if level < len(SEPARATORS):
                text = f"run.nth({text}, {SEPARATORS[level]}, {number})"
            elif number > 1:
                text = "''"
            level += 1
        return Raw(text, level, varies, part)

    def leaf(self, ref: Ref) -> str:
        """The leaf text at `ref`: first component of a composite, escapes resolved, "" when not valued."""
        raw = self.raw(ref)
        if self.plain and self.is_own(ref) and raw.level:
            return self._as_sent(ref, raw)
        return self.code.part(f"text_of_{ref}", leaf_of(raw), raw.varies, self.certain, self._cheap(ref))

    def valued(self, ref: Ref) -> str:
        raw = self.raw(ref)
        if self.plain and self.is_own(ref) and raw.level:
            return self._as_sent(ref, raw)
        return self.code.part(f"has_{ref}", f"run.valued({raw.text})", raw.varies, self.certain, self._cheap(ref))

    def is_own(self, ref: Ref) -> bool:
        """Of the segment at hand or of the value that a data type table reads."""
        return ref.root == self.table.source

    def _as_sent(self, ref: Ref, raw: Raw) -> str:
        """A component of a plain segment is its own leaf, and valued where it is not empty."""
        if raw.text.isidentifier():
            return raw.text
        return self.code.part(f"part_of_{ref}", raw.text, raw.varies, self.certain)

    def _cheap(self, ref: Ref) -> bool:
        """A whole field of the segment at hand: often empty, or letters and digits."""
        return self.is_own(ref) and self.table.kind == "segment" and len(ref.parts) == 1

    def test(self, condition: Condition) -> str:
        """`when:` as an expression."""
        if isinstance(condition, Valued):
            return f"not {self.valued(condition.ref)}" if condition.negated else self.valued(condition.ref)
        if isinstance(condition, Compare):
            return self._compare(condition)
        if isinstance(condition, Measure):
            return self._measure(condition)
        tests, certain = list[str](), self.certain
        for part in condition.parts:
            tests.append(f"({self.test(part)})" if isinstance(part, All | AnyOf) else self.test(part))
            self.certain = False  # what follows may not be looked at
        self.certain = certain
        return (" and " if isinstance(condition, All) else " or ").join(tests)

    def _compare(self, condition: Compare) -> str:
        found = self.leaf(condition.ref)
        if condition.other is not None:
            return f"{found} {'!=' if condition.negated else '=='} {self.leaf(condition.other)}"
        if len(condition.values) == 1:
            return f"{found} {'!=' if condition.negated else '=='} {condition.values[0]!r}"
        return f"{found} {'not in' if condition.negated else 'in'} {{{', '.join(map(repr, condition.values))}}}"

    def _measure(self, condition: Measure) -> str:
        ref, sign = condition.ref, {"=": "=="}.get(condition.operator, condition.operator)
        if condition.kind == "length":
            return f"len({self.leaf(ref)}) {sign} {condition.number}"
        if len(ref.parts) != 1:
            raise ValueError(f"count({ref}) counts repetitions, and only a field repeats")
        where = "segment" if ref.root == self.table.source else f"run.at(segment, group, {ref.root!r})"
        counted = f"run.count_of({where}, {ref.parts[0]})"
        if where == "segment" and (sign, condition.number) in _SEVERAL:
            several = f"run.repeats(segment, {ref.parts[0]})"
            several = self.code.part(f"several_{ref}", several, False, self.certain)
            return several if _SEVERAL[sign, condition.number] else f"not {several}"
        return f"{self.code.part(f'count_of_{ref}', counted, False, self.certain)} {sign} {condition.number}"

    def concat(self, row: Row) -> str:
        """`concat:`; blanks at the ends go, runs of them collapse; "" when no field part has content."""
        parts = [repr(part.text) if isinstance(part, Literal_) else self.leaf(part) for part in row.concat]
        fields = [text for text, part in zip(parts, row.concat, strict=True) if isinstance(part, Ref)]
        if len(parts) == 1:
            return f"' '.join({parts[0]}.split())"
        return f"(' '.join(({' + '.join(parts)}).split()) if {' or '.join(fields)} else '')"

    def field(self, value: FieldValue) -> str:
        """`{field: OBX-6.1, apply: ucum}`"""
        found = self.leaf(value.ref)
        return f"({found} and {function(value.apply)}({found}))" if value.apply else found


def leaf_of(raw: Raw) -> str:
    """The leaf of a text; of a repetition's component in one go."""
    if raw.part is not None:
        whole, number = raw.part
        return f"run.component_of({whole}, {number})"
    return f"run.leaf{min(raw.level, 2)}({raw.text})"


def component(number: int) -> str:
    """The variable that holds a component of what a data type table reads."""
    return f"part_{number}"


def function(name: str) -> str:
    """The name of a built-in function in generated code."""
    return "apply_" + name.replace("-", "_")


def asks_for_absence(row: Row) -> bool:
    """Whether the condition is about the row's own field not being there: only then does the row run without it."""
    return row.when is not None and _absence(row.when, row.source)


def _absence(condition: Condition, source: Ref) -> bool:
    if isinstance(condition, Valued):
        return condition.negated and condition.ref == source
    if isinstance(condition, All | AnyOf):
        return any(_absence(part, source) for part in condition.parts)
    return False


def wanted(condition: Condition) -> Wanted:
    """A field, the first the condition names, and the values of which it needs one; None where it needs none."""
    if isinstance(condition, Compare) and not condition.negated and condition.other is None:
        return condition.ref, frozenset(condition.values)
    if isinstance(condition, All):
        return next((found for found in map(wanted, condition.parts) if found[0] is not None), _NOTHING)
    if isinstance(condition, AnyOf):
        parts = [wanted(part) for part in condition.parts]
        if len({ref for ref, _ in parts}) == 1:
            return parts[0][0], frozenset().union(*(values for _, values in parts))
    return _NOTHING
