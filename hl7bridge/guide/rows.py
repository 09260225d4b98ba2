"""Segment and data type rows: does one of our rows do what the guide's row says?

Sans-IO. Every row of ours is written out into what it writes, companions and all (`writes_of`: the guide's columns),
and a row of the guide is held when one of these has its field, its place, its constant or join or data type map, its
code table and its condition. What differs first, in this order, is what is said of the closest one.

The guide writes a resource behind a reference inside the map of the one that refers to it; where a message table links
two tables of ours instead, the writes of the linked one are taken for writes behind that link (`Linked`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hl7bridge.fhir.model import Model
from hl7bridge.guide.instances import Instances
from hl7bridge.guide.logic import asks_absence, same
from hl7bridge.guide.names import table_name
from hl7bridge.guide.places import (
    Hop,
    Place,
    Slots,
    companion_place,
    extensions_of,
    names,
    own_place,
    unquoted,
)
from hl7bridge.guide.sheet import GuideRow
from hl7bridge.guide.verdict import Finding
from hl7bridge.mapping.condition import parse_condition
from hl7bridge.mapping.paths import Malformed, parse_concat, parse_ref
from hl7bridge.mapping.schema import All, Condition, FieldValue, Literal_, OptionValue, Ref, Row, Table, TableSet

_BARE = re.compile(r"[A-Za-z0-9._-]+")
_LIST = re.compile(r"\[([^\]]*)\]")
STEPS = ("place", "value", "map", "codes", "condition", "option", "instance", "")  # how far the comparison came


@dataclass(frozen=True, slots=True)
class Write:
    """One thing that a row of ours writes: `value` is its constant, if it has one."""

    row: Row
    place: Place
    value: str | OptionValue | None
    companion: bool
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Linked:
    """`path`: the place of a reference; `table`: what a message table writes behind it, `when` it does."""

    path: Place
    table: Table
    when: Condition | None


def writes_of(table: Table) -> Iterator[Write]:
    """A table written out: each row, and each of its companions."""
    for row in table.rows:
        yield Write(row, own_place(row), row.value, False, row.when)
        for path, constant in row.set_:
            fixed = None if isinstance(constant, FieldValue) else constant
            yield Write(row, companion_place(row, path), fixed, True, row.when)


def linked_writes(linked: Linked) -> Iterator[Write]:
    """The same for a table behind a reference."""
    behind = (*linked.path, Hop(f"({linked.table.target})"))
    for write in writes_of(linked.table):
        parts = tuple(part for part in (linked.when, write.when) if part is not None)
        when = All(parts) if len(parts) > 1 else parts[0] if parts else None
        yield replace(write, place=(*behind, *write.place), when=when)


def guide_condition(row: GuideRow) -> Condition | None:
    """The guide's condition. Raises Malformed for one that is not in our grammar.

    A component named by its data type (`XAD-7`, `CX.5`) is the component of the row's own field.
    """
    if not row.condition:
        return None
    text = _LIST.sub(_quoted_list, row.condition)
    if row.kind != "segment" or not row.source_type or "-" not in row.source:
        return parse_condition(text)
    own = parse_ref(row.source)
    named = re.sub(
        rf"\b{re.escape(row.source_type)}[-.](\d+)", lambda m: str(Ref(own.root, (*own.parts, int(m[1])))), text
    )
    return parse_condition(named)


def _quoted_list(match: re.Match[str]) -> str:
    values = (value.strip().strip('"') for value in match[1].split(","))
    return "[" + ", ".join(value if _BARE.fullmatch(value) else f'"{value}"' for value in values) + "]"


class RowComparison:
    """The rows of one map of the guide against the table of ours that has its name."""

    def __init__(
        self, tables: TableSet, table: Table, model: Model, rows: list[GuideRow], linked: Iterable[Linked] = ()
    ) -> None:
        self.tables = tables
        self.table = table
        self.slots = Slots(rows, table.target)
        self.instances = Instances(model, table.target)
        self.writes = list(writes_of(table))
        for each in linked:
            self.writes += linked_writes(each)

    def find(self, row: GuideRow) -> Finding:
        """The row of ours that holds this one; else what the closest one does otherwise."""
        place = self.slots.place(row)
        if place is None:
            return Finding(False, f"{row.path} is no path")
        best: tuple[int, str, Write | None] = (-1, "", None)
        for write in self.writes:
            if str(write.row.source) != (row.source or self.table.source):
                continue
            at = self._reached(row, place, write)
            if at is None:
                continue
            step, what = self._compare(row, write)
            if not what and not self.instances.fit(place, at):
                step, what = STEPS.index("instance"), "another instance than the rows with the same number write"
            if not what:
                self.instances.take(place, at)
                return Finding(True, "", write.row.place, self._option(write))
            if step > best[0]:
                best = (step, what, write)
        if best[2] is not None:
            return Finding(False, best[1], best[2].row.place, self._option(best[2]))
        return Finding(False, self._missing(row, place))

    def _reached(self, row: GuideRow, place: Place, write: Write) -> Place | None:
        """The place of ours that the row's place is compared with, or None when they differ."""
        if self.slots.is_url(row):
            return next((at for at in extensions_of(write.place) if names(at) == names(place)), None)
        if names(write.place) == names(place):
            return write.place
        # `practitioner` with XCN[Practitioner]: the map makes the resource that the path leaves out
        implied = f"({table_name(row.datatype_map).partition('-')[2]})"
        return write.place[:-1] if names(write.place) == (*names(place), implied) else None

    def _missing(self, row: GuideRow, place: Place) -> str:
        source = row.source or self.table.source
        there = [w for w in self.writes if names(w.place) == names(place)]
        also = f"; {there[0].row.source} does (line {there[0].row.place.line})" if there else ""
        return f"no row of {source} writes {row.path}{also}"

    def _compare(self, row: GuideRow, write: Write) -> tuple[int, str]:
        """How far the two agree, and what differs first."""
        checks = (
            ("value", self._value(row, write)),
            ("map", self._map(row, write)),
            ("codes", self._codes(row, write)),
            ("condition", self._condition(row, write)),
            ("option", self._switched_off(row, write)),
        )
        for step, what in checks:
            if what:
                return STEPS.index(step), what
        return len(STEPS), ""

    def _value(self, row: GuideRow, write: Write) -> str:
        said, ours = row.assignment, write.value
        if self.slots.is_url(row):
            return "" if unquoted(said) in write.row.extension else f"the guide has the url {unquoted(said)}"
        if said.startswith("/") or row.reason.startswith("assignment"):
            return ""
        concat = _concat(said, row)
        if concat is not None:
            return "" if write.row.concat == concat and ours is None else f"the guide joins {said}"
        if said:
            if isinstance(ours, OptionValue):
                return "" if row.asked == "config" else f"the guide has {unquoted(said)}, ours is an option"
            return "" if ours == unquoted(said) else f"the guide has {unquoted(said)}, not {ours or 'what was sent'}"
        if ours is not None:
            return "" if row.asked == "config" and isinstance(ours, OptionValue) else "ours is a constant"
        alone = write.row.concat == (write.row.source,)
        return "" if not write.row.concat or alone else "ours is joined"

    def _map(self, row: GuideRow, write: Write) -> str:
        if self.slots.is_url(row) or row.assignment:
            return ""
        guide, ours = table_name(row.datatype_map), write.row.as_ or ""
        if guide == ours or (self._plain(guide, row) and self._plain(ours, row)):
            return ""
        if not guide and ours in (f"{row.source_type}-{row.type}", f"CWE-{row.type}"):
            return ""  # the sheet is silent where one map only can be meant
        return f"the guide uses {row.datatype_map or 'no data type map'}, not {ours or 'none'}"

    def _plain(self, name: str, guide: GuideRow) -> bool:
        """A table that hands the text on as it was sent, or by the guide row's own code table, is as good as none."""
        table = self.tables.datatypes.get(name)
        if table is None:
            return not name
        if len(table.rows) != 1:
            return False
        row = table.rows[0]
        plain = row.to is not None and row.to.text == "$value" and row.source.parts in ((), (1,))
        by_row = row.codes in (None, table_name(guide.vocab_map))
        return plain and by_row and not (row.when or row.value or row.concat or row.apply or row.as_)

    def _codes(self, row: GuideRow, write: Write) -> str:
        if self.slots.is_url(row) or row.assignment:
            return ""
        guide, ours = table_name(row.vocab_map), write.row.codes or ""
        if guide == ours:
            return ""
        return f"the guide translates with {row.vocab_map or 'nothing'}, not {ours or 'nothing'}"

    def _condition(self, row: GuideRow, write: Write) -> str:
        own = write.row.source
        try:
            theirs = guide_condition(row)
        except (Malformed, ValueError):
            return f"its condition cannot be read: {row.condition}"
        if theirs is None and row.asked == "config":
            return ""  # the option stands for the words of the sheet
        given = () if asks_absence(theirs, own) or asks_absence(write.when, own) else (own,)
        if same(theirs, write.when, (*given, Ref(own.root)) if self.table.kind == "segment" else given):
            return ""
        return f"the guide asks {row.condition or 'nothing'}, ours {write.row.when_text or 'nothing'}"

    def _switched_off(self, row: GuideRow, write: Write) -> str:
        option = write.row.option
        if option is None or row.asked == "config" or self.tables.settings.get(option.name) == option.value:
            return ""
        return f"only when the option {option.name} is {option.value}"

    def _option(self, write: Write) -> str:
        if write.row.option is not None:
            return write.row.option.name
        return write.value.name if isinstance(write.value, OptionValue) else ""


def _concat(text: str, row: GuideRow) -> tuple[Ref | Literal_, ...] | None:
    """The guide's join of fields; a field alone is one too. `MSG.1` in a row of MSH-9 is MSH-9.1."""
    try:
        parts = parse_concat(text) if "+" in text else (parse_ref(text),)
        own = parse_ref(row.source) if row.source else None
    except (Malformed, ValueError):
        return None
    if own is not None and row.kind == "segment":
        parts = tuple(
            Ref(own.root, (*own.parts, *part.parts)) if isinstance(part, Ref) and part.root == row.source_type else part
            for part in parts
        )
    return parts if any(isinstance(part, Ref) and part.parts for part in parts) else None
