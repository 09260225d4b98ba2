"""Segment and data type tables become functions: each row one closure, each table its rows grouped by field.

Sans-IO. Everything that does not depend on the message is decided here, once: paths, types, converters, code tables,
options, functions. A field that is empty costs one test unless one of its rows has a condition.
"""

from __future__ import annotations

from typing import NamedTuple

from hl7bridge.fhir.model import Model
from hl7bridge.fhir.resource import Body, Erasure, Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping.erase import erasures
from hl7bridge.mapping.rows import Apply, RowCompiler, asks_for_absence
from hl7bridge.mapping.runtime import NULL, Context, Deletion, Issue, Run
from hl7bridge.mapping.schema import OptionValue, Row, Table, TableSet

MAPPING_VERSION = "mapping-version"  # the option whose value the version of the tables is written behind


class Field(NamedTuple):
    """The rows of one field or component."""

    number: int  # 0: the bare source, applied once
    rows: tuple[Apply, ...]
    absent: tuple[Apply, ...]  # those whose condition asks for the field not being valued
    path: str  # the first row's path, for recording a deletion
    erasures: tuple[Erasure, ...]  # what a deletion takes away
    source: str


class Compiler:
    """Compiles the tables of one TableSet; data type tables are compiled when first needed. `traced`: see trace.py."""

    def __init__(self, tables: TableSet, model: Model, traced: bool = False) -> None:
        self.traced = traced
        self.tables = tables
        self.model = model
        self._segments: dict[str, SegmentTable] = {}
        self._datatypes: dict[str, DatatypeTable] = {}

    def segment(self, name: str) -> SegmentTable:
        if name not in self._segments:
            table = self.tables.segments[name]
            self._segments[name] = compiled = SegmentTable(table)
            compiled.fields = self._fields(table)
        return self._segments[name]

    def datatype(self, name: str) -> DatatypeTable:
        if name not in self._datatypes:
            table = self.tables.datatypes[name]
            primitive = self.model.is_primitive(table.target)
            self._datatypes[name] = compiled = DatatypeTable(table, primitive)
            compiled.fields = self._fields(table)
        return self._datatypes[name]

    def setting(self, value: str | OptionValue) -> str:
        """A constant, or the site's; behind `mapping-version` stands the version of the tables themselves."""
        if not isinstance(value, OptionValue):
            return value
        said = self.tables.settings[value.name]
        return f"{said}:{self.tables.version}" if value.name == MAPPING_VERSION else said

    def _switched_on(self, row: Row) -> bool:
        return row.option is None or self.tables.settings[row.option.name] == row.option.value

    def _fields(self, table: Table) -> tuple[Field, ...]:
        grouped: dict[int, list[tuple[Row, Apply]]] = {}
        for row in table.rows:
            if self._switched_on(row):
                number = row.source.parts[0] if row.source.parts else 0
                grouped.setdefault(number, []).append((row, RowCompiler(self, table, row).compile()))
        return tuple(
            Field(
                number,
                tuple(apply for _, apply in rows),
                tuple(apply for row, apply in rows if asks_for_absence(row)),
                rows[0][0].to.text if rows[0][0].to else "",
                erasures(self.model, self.tables, table, [row for row, _ in rows]),
                str(rows[0][0].source),
            )
            for number, rows in grouped.items()
        )


class SegmentTable:
    """A compiled segment table."""

    __slots__ = ("fields", "name", "source", "type")

    def __init__(self, table: Table) -> None:
        self.name, self.source, self.type = table.name, table.source, table.target
        self.fields: tuple[Field, ...] = ()

    def apply(self, run: Run, segment: Segment, group: Group | None, resource: Resource) -> Context:
        """Writes what the segment says into the resource's body."""
        fields = segment.fields
        ctx = Context(run, resource, resource.body, segment, group, fields, "", 0)
        count = len(fields)
        separator = run.message.separators.repetition
        for field in self.fields:
            number = field.number
            ctx.index, ctx.rep = number, 0
            raw = fields[number] if number < count else ""
            if number == 0:
                ctx.text = ""
                for apply in field.rows:
                    apply(ctx)
            elif not raw or raw == NULL or (raw[:2] == NULL and only_deletes(raw, separator)):
                ctx.text = ""
                if raw:
                    issue = Issue("deletion-kept", self.name, field.source)
                    run.deletes.append(Deletion(resource, field.path, bool(field.erasures), issue))
                    resource.erased += field.erasures
                for apply in field.absent:
                    apply(ctx)
            elif not separator or separator not in raw or (number <= 2 and segment.id in ("MSH", "FHS", "BHS")):
                ctx.text, ctx.valued = raw, run.valued(raw)
                for apply in field.rows:
                    apply(ctx)
            else:
                for rep, text in enumerate(raw.split(separator)):
                    ctx.text, ctx.rep, ctx.valued = text, rep, run.valued(text)
                    if text or rep == 0:
                        for apply in field.rows:
                            apply(ctx)
        return ctx


def only_deletes(raw: str, separator: str) -> bool:
    """Whether every repetition says `""`."""
    return bool(separator) and all(part == NULL for part in raw.split(separator))


class DatatypeTable:
    """A compiled data type table: `text` for a primitive's, `fill` for every other."""

    __slots__ = ("fields", "name", "primitive", "type")

    def __init__(self, table: Table, primitive: bool) -> None:
        self.name, self.type, self.primitive = table.name, table.target, primitive
        self.fields: tuple[Field, ...] = ()

    def fill(
        self, parent: Context, raw: str, level: int, target: Body, resource: Resource, strict: bool
    ) -> dict[str, Body]:
        """Fills `target`; gives the further instances that rows with `$another` made, by label."""
        ctx = self._context(parent, raw, level, target, resource, strict)
        parts = ctx.parts
        count = len(parts)
        valued = parent.run.valued
        for field in self.fields:
            number = field.number
            ctx.index = number
            part = (parts[number - 1] if number <= count else "") if number else raw
            if part and part != NULL:
                rows, ctx.valued = field.rows, valued(part)
            else:
                rows = field.absent
            for apply in rows:
                apply(ctx)
        return ctx.others

    def text(self, parent: Context, raw: str, level: int) -> str:
        holder: Body = {}
        self.fill(parent, raw, level, holder, parent.resource, parent.strict)
        text: str = holder.get("$value", "")
        return text

    def _context(
        self, parent: Context, raw: str, level: int, target: Body, resource: Resource, strict: bool
    ) -> Context:
        run = parent.run
        parts = run.split(raw, level)
        return Context(run, resource, target, parent.segment, parent.group, parts, raw, level, parent, strict)
