"""The code of a whole table: its rows in order, grouped by field or component, in one function.

Sans-IO. The names that every row's code may use: `run`, `segment`, `group` (around it), `resource`, `body` (what the
table fills); in a segment table `fields`, `count`, `raw` (the field), `text` (the repetition at hand) and `rep` (its
number from 0); in a data type table `raw` (the whole value), `parts`, `count`, `part_3` and `strict` (a value that
cannot be converted ends it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hl7bridge.mapping.access import UNSPLIT, Reader, asks_for_absence, component
from hl7bridge.mapping.code import INDENT, Code
from hl7bridge.mapping.condition import refs_of
from hl7bridge.mapping.erase import erasures
from hl7bridge.mapping.in_place import in_place, needed
from hl7bridge.mapping.placing import Slots
from hl7bridge.mapping.row_plan import RowPlan
from hl7bridge.mapping.rows import RowCode
from hl7bridge.mapping.schema import FieldValue, Ref, Row, Table
from hl7bridge.mapping.show import row_text

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler

_NAMES = (
    "run segment group resource body fields count raw text rep odd repetition component "
    "said has_value done deleted further label other"
)
SEGMENT_NAMES = frozenset(_NAMES.split())
DATATYPE_NAMES = SEGMENT_NAMES | {"parts", "strict", "others", "further", "value"}
_FIELDS = 6  # so many stand together, before a test that answers for all behind them
_MANY = 6  # a table that reads so many fields has all it reads, blank ones too
_ABREAST = 4  # variables begun in one line
_TOGETHER = 4  # so many rows that want values of one field get a test of their own


class TableCode:
    """What segment and data type tables have in common.

    before: what is between the number of a field or component and its place in the list. filled: so many fields are
    there, blank ones too, that each may be read without a look at how many were sent; 0 where they are not.
    """

    before = 0

    def __init__(
        self, compiler: Compiler, table: Table, name: str, known: Mapping[str, Any], slots: Slots, level: int = 0
    ) -> None:
        names = SEGMENT_NAMES if table.kind == "segment" else DATATYPE_NAMES
        self.compiler, self.table, self.name = compiler, table, name
        self.code = Code(known, names | {component(number) for number in range(1, 100)} | {name})
        self.slots = slots
        self.level = level
        self.filled = 0
        self.fields: dict[int, list[RowPlan]] = {}
        for row in table.rows:
            if compiler.switched_on(row):
                plan = RowPlan(compiler, table, row)
                plan.expect(slots)
                self.fields.setdefault(plan.own, []).append(plan)

    @property
    def constants(self) -> dict[str, Any]:
        return self.code.constants

    def _source(self, parameters: str, head: Iterable[str], result: str) -> str:
        """The whole function, with the variables that hold instances begun at its head."""
        code, slots, compiler = self.code, self.slots, self.compiler
        single = compiler.single and self.table.kind == "segment"
        body = [in_place(line, compiler.plain, single, self.filled > 0) for line in code.lines] or [f"{INDENT}pass"]
        lines = [*head, *needed(body, head)]
        if self.filled:
            lines += [f"if count < {self.filled}:", f"{INDENT}fields = [*fields, *BLANKS[count:{self.filled}]]"]
        held = list(slots.variables.values())
        lines += [f"{' = '.join(held[at : at + _ABREAST])} = None" for at in range(0, len(held), _ABREAST)]
        lines += [f"{name} = {{}}" for name in slots.shared.values()]
        lines += ["further = {}"] if any(", further, " in line for line in body) else []
        tail = [f"{INDENT}return {result}"] if result else []
        about = f'"""{self.table.name}, {self.table.place.file}"""'
        said = [f"def {self.name}({parameters}):", *(INDENT + line for line in (about, *lines)), *body, *tail]
        return "\n".join(said) + "\n"

    def _grouped(self, fields: Sequence[tuple[int, list[RowPlan]]], size: int) -> None:
        """The fields or components in order. Behind so many of them one test answers for all the others at once."""
        together = max([size, *(at + 1 for at, (number, plans) in enumerate(fields) if not number or without(plans))])
        if len(fields) < together + 2:
            together = len(fields)
        for number, plans in fields[:together]:
            self._field(number, plans)
        if rest := fields[together:]:
            least = min(number for number, _ in rest)
            with self.code.block(f"if count > {least - self.before}:"):
                self._grouped(rest, size)

    def _field(self, number: int, plans: list[RowPlan]) -> None:
        raise NotImplementedError

    def _reader(self, number: int) -> Reader:
        single = self.compiler.single and self.table.kind == "segment"
        return Reader(self.code, self.table, number, self.level, self.compiler.plain, single)

    def _rows(self, plans: Sequence[RowPlan], reader: Reader, rep: str, valued: str) -> None:
        """The rows in order; neighbours that need a value share its test. `valued`: "" where it is known."""
        at = 0
        while at < len(plans):
            here = at
            while at < len(plans) and (not valued or plans[at].needs_value) and not self.compiler.traced:
                at += 1
            if at > here + 1:
                with self.code.when(valued):
                    self._neighbours(plans[here:at], reader, rep)
                continue
            at = max(at, here + 1)
            self._row(plans[here], reader, rep, valued if plans[here].needs_value else "")

    def _neighbours(self, plans: Sequence[RowPlan], reader: Reader, rep: str) -> None:
        """Rows in order; those that want values of the same field stand together behind a test for any of these."""
        at = 0
        while at < len(plans):
            here, ref = at, plans[at].wanted[0]
            while at < len(plans) and ref is not None and plans[at].wanted[0] == ref:
                at += 1
            at = max(at, here + 1)
            self._wanting(plans[here:at], ref, reader, rep)

    def _wanting(self, plans: Sequence[RowPlan], ref: Ref | None, reader: Reader, rep: str) -> None:
        if ref is None or len(plans) < _TOGETHER:
            for plan in plans:
                self._row(plan, reader, rep, "")
            return
        reader.certain = True
        values = sorted({value for plan in plans for value in plan.wanted[1]})
        with self.code.block(f"if {reader.leaf(ref)} in {{{', '.join(map(repr, values))}}}:"):
            half = len(plans) // 2
            self._wanting(plans[:half], ref, reader, rep)
            self._wanting(plans[half:], ref, reader, rep)

    def _row(self, plan: RowPlan, reader: Reader, rep: str, valued: str) -> None:
        self.code.comment(f"{plan.row.place} {plan.source}: {row_text(plan.row)}")
        RowCode(plan, self.code, reader, self.slots, rep).add(valued)


class SegmentCode(TableCode):
    """def PID_Patient(run, segment, group, resource): gives the instances that links ask for."""

    def __init__(
        self, compiler: Compiler, table: Table, name: str, known: Mapping[str, Any], asked: frozenset[str]
    ) -> None:
        super().__init__(compiler, table, name, known, Slots(not compiler.single, asked))
        read = {ref.parts[0] for row in table.rows for ref in (row.source, *refs_in(row)) if self._is_field(ref)}
        self.filled = max(read) + 1 if len(read) >= _MANY else 0
        self._grouped(list(self.fields.items()), _FIELDS)
        head = ["body = resource.body", "fields = segment.fields", "count = len(fields)"]
        self.source = self._source("run, segment, group, resource", head, self.slots.result())

    @property
    def _unsplit(self) -> tuple[int, ...]:
        return (1, 2) if self.table.source in UNSPLIT else ()

    def _is_field(self, ref: Ref) -> bool:
        return ref.root == self.table.source and bool(ref.parts)

    def _field(self, number: int, plans: list[RowPlan]) -> None:
        code = self.code
        if not number:
            code.head()
            self._rows(plans, self._reader(0), "0", "")
            code.settle()
            return
        absent = without(plans)
        deleted = "raw[0] == '\"' and only_deletes(raw, run.repetition)"
        if not absent:
            if self.compiler.single and number not in self._unsplit:
                self._only(number, plans)
                return
            there = f"raw := fields[{number}]"
            with code.block(f"if {there}:" if self.filled else f"if count > {number} and ({there}):"):
                if self.compiler.plain:
                    self._repetitions(number, plans)
                    return
                with code.block(f"if {deleted}:"):
                    self._deletion(plans)
                with code.block("else:"):
                    self._repetitions(number, plans)
            return
        if self.compiler.single:
            self._only(number, plans)
            with code.block("else:"):
                code.head()
                self._rows(absent, self._reader(number), "0", "")
                code.settle()
            return
        code.add(f"raw = fields[{number}]" + ("" if self.filled else f" if count > {number} else ''"))
        if not self.compiler.plain:
            code.add(f"deleted = bool(raw) and {deleted}")
        with code.block("if raw:" if self.compiler.plain else "if raw and not deleted:"):
            self._repetitions(number, plans)
        with code.block("else:"):
            if not self.compiler.plain:
                with code.block("if deleted:"):
                    self._deletion(plans)
            code.add("text = ''")
            code.head()
            self._rows(absent, self._reader(number), "0", "")
            code.settle()

    def _deletion(self, plans: list[RowPlan]) -> None:
        """`""` takes away what the field's rows write."""
        compiler, first, code = self.compiler, plans[0], self.code
        gone = erasures(compiler.model, compiler.tables, self.table, [plan.row for plan in plans])
        path = first.row.to.text if first.row.to else ""
        issue = f"Issue('deletion-kept', {self.table.name!r}, {first.source!r})"
        code.add(f"run.deletes.append(Deletion(resource, {path!r}, {bool(gone)}, {issue}))")
        if gone:
            code.add(f"resource.erased += {code.constant('gone', gone)}")

    def _only(self, number: int, plans: list[RowPlan]) -> None:
        """The rows of a field that does not repeat."""
        code, there = self.code, f"text := fields[{number}]"
        if not self.filled:
            there = f"count > {number} and ({there})"
        if any(asks_for_absence(plan.row) for plan in plans) and not self.filled:
            code.add(f"text = fields[{number}] if count > {number} else ''")
            there = "text"
        with code.block(f"if {there}:"):
            code.head()
            self._rows(plans, self._reader(number), "0", "")
            code.settle()

    def _repetitions(self, number: int, plans: list[RowPlan]) -> None:
        code, reader = self.code, self._reader(number)
        if number in self._unsplit:
            code.add("text = raw", f"has_value = run.valued(fields[{number}])")
            code.head()
            self._rows(plans, reader, "0", "has_value")
            code.settle()
            return
        code.head()
        parts = "enumerate(raw.split(repetition)) if repetition in raw else ((0, raw),)"
        with code.block(f"for rep, text in {parts}:"):
            valued = "run.valued(text)"
            if all(plan.needs_value for plan in plans) and not self.compiler.traced:
                with code.block(f"if {valued}:"):
                    code.loop()
                    self._rows(plans, reader, "rep", "")
            else:
                with code.block("if rep and not text:"):
                    code.add("continue")
                code.loop()
                code.add(f"has_value = {valued}")
                self._rows(plans, reader, "rep", "has_value")
        code.settle([f"{name} = None" for name in self.slots.of_field(number)])


def without(plans: Iterable[RowPlan]) -> list[RowPlan]:
    """The rows that run where their field is not there."""
    return [plan for plan in plans if asks_for_absence(plan.row)]


def refs_in(row: Row) -> list[Ref]:
    """Every reference a row makes beside its source."""
    found = [part for part in row.concat if isinstance(part, Ref)]
    found += refs_of(row.when) if row.when is not None else ()
    found += [value.ref for _, value in row.set_ if isinstance(value, FieldValue)]
    found += [row.invalid_with] if row.invalid_with is not None else []
    if row.apply == "base64":
        found.append(Ref(row.source.root, (*row.source.parts[:-1], row.source.parts[-1] - 1)))
    return found
