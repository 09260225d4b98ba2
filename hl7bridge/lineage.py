"""Where every element of a bundle came from, and where every field of the message went, or why nowhere.

Sans-IO. Both answers are read from the Trace of one translation; they hold paths, names of tables and places, never a
value of the message. What the bridge adds itself (fullUrl, request, resourceType, derived identifiers) is listed here
by path and named `hl7bridge`: an element that neither a row nor this list explains has the kind `unknown`, and a test
holds that there is none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hl7bridge.fhir.difference import OWN
from hl7bridge.fhir.identity import DERIVED_SYSTEM
from hl7bridge.hl7v2.message import NULL, Message, Segment
from hl7bridge.mapping.schema import MessageTable, OptionTest, Row, Table, TableSet
from hl7bridge.mapping.trace import Link, Mark, Position, Step, Trace, leaf

BRIDGE = "hl7bridge"
_OWN = re.compile(  # a patch says again what the entry before it says
    r"Bundle\.(?:resourceType|type|entry\[\d+\]\.(?:fullUrl|request\.\w+"
    r"|resource\.(?:resourceType|id|\w+\[\d+\]\.id|parameter\[.*)))"
)
_OWN_FIELDS = {  # what the bridge reads before any table is asked
    ("MSH", 1): "the field separator",
    ("MSH", 2): "the other separators",
    ("MSH", 7): "its offset is the default for times without one",
    ("MSH", 9): "chooses the message table",
    ("MSH", 18): "the character set of the message",
}
_URGENT = (  # of several reasons the one that tells most
    "refused",
    "merged",
    "value-invalid",
    "code-unmapped",
    "repetition-dropped",
    "condition",
    "nothing",
    "hl7bridge",
    "unmapped",
    "delete",
    "option",
    "not-read",
    "no-row",
)


@dataclass(frozen=True, slots=True)
class Line:
    """Lineage of one element.

    path: in the bundle; kind: `field` (a value of the message), `fixed` (a constant of the tables), `link` (a
    reference that a message table asks for), `hl7bridge` (the bridge's own) or `unknown`; source: PID[1]-5[1].1, joined
    by ` + ` where there are several; table and place: the row; codes: the code table that translated; via: the places
    of the rows above it, the segment table's first.
    """

    path: str
    source: str
    table: str
    place: str
    codes: str = ""
    kind: str = "field"
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """Why a field went nowhere: kind (of _URGENT), in words, and the place of the row or reason."""

    kind: str
    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one populated leaf of the message.

    source: PID[1]-5[1].1; at: its position; to: elements it went to; rows: places of the rows that read it, from the
    segment table down; why: when `to` is empty, the reasons, the most telling first.
    """

    source: str
    at: Position
    to: tuple[str, ...]
    rows: tuple[str, ...]
    why: tuple[Why, ...] = ()


Key = tuple[int, str | int]


class Elements:
    """Walks a bundle as it was built. `copies`: id of a written body -> of the one it was built as."""

    def __init__(self, bundle: Any, trace: Trace, copies: Mapping[int, int], moves: Mapping[Key, Key]) -> None:
        self.paths: dict[Key, str] = {}
        self.lines: list[Line] = []
        self._trace, self._copies, self._moves = trace, copies, moves
        self._segments = _segments(trace)
        self._walk(bundle, "Bundle", None)

    def _walk(self, value: Any, path: str, around: Mark | None, says_again: bool = False) -> None:
        """`says_again`: inside the operations of a patch, which repeat the resource of the entry before."""
        built = self._copies.get(id(value), id(value))
        self.paths.setdefault((built, ""), path)
        around = self._trace.marks.get((built, ""), around)
        own = isinstance(value, dict) and value.get("system") == DERIVED_SYSTEM
        says_again = says_again or (isinstance(value, dict) and value.get("resourceType") == "Parameters")
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            at = f"{path}.{name}" if isinstance(name, str) else f"{path}[{name}]"
            key = self._moves.get((built, name), (built, name))
            self.paths.setdefault(key, at)
            if isinstance(part, dict | list):
                self._walk(part, at, None if name == "resource" else around, says_again)
            elif part is not None:
                mark = self._trace.marks.get(key, around)
                ours = own or key == OWN or _OWN.fullmatch(at) or (mark is None and (says_again or name == "id"))
                self.lines.append(Line(at, "", "", "", kind=BRIDGE) if ours else self._line(at, mark))

    def _line(self, path: str, mark: Mark | None) -> Line:
        if mark is None:
            return Line(path, "", "", "", kind="unknown")
        if isinstance(mark.by, Link):
            segment = mark.by.segment
            return Line(path, f"{segment.id}[{segment.occurrence}]", mark.by.table, mark.by.place, kind="link")
        step = mark.by
        *via, _ = _chain(step)
        parts = [] if mark.fixed else [*step.reads, *step.whole]
        source = " + ".join(self._named(at) for at in parts) if step.row.concat and parts else self._named(step.at)
        codes = "" if mark.fixed else step.row.codes or ""
        kind = "fixed" if mark.fixed else "field"
        return Line(path, source, step.table.name, str(step.row.place), codes, kind, tuple(via))

    def _named(self, at: Position) -> str:
        return position_text(self._segments[at[0]], at) if at else ""


def position_text(segment: Segment, at: Position) -> str:
    """PID[1]-5[1].1.2"""
    text = f"{segment.id}[{segment.occurrence}]"
    if len(at) > 1:
        text += f"-{at[1]}"
    if len(at) > 2:
        text += f"[{at[2]}]"
    return text + "".join(f".{number}" for number in at[3:])


def _chain(step: Step) -> list[str]:
    """The places of the rows that led to a row, the segment table's first, and its own."""
    return [*(_chain(step.above) if step.above is not None else ()), str(step.row.place)]


def _segments(trace: Trace) -> dict[int, Segment]:
    return {one.segment.position: one.segment for one in trace.root.leaves} if trace.root is not None else {}


class Fields:
    """What became of the leaves of a message. `paths`: of elements by the container's id and name; `refused`: the
    message gave no bundle."""

    def __init__(
        self,
        message: Message,
        tables: TableSet,
        plan: str,
        trace: Trace,
        paths: Mapping[Key, str],
        refused: bool = False,
    ) -> None:
        self._message, self._tables, self._trace, self._paths = message, tables, trace, paths
        self._refused = refused
        self._table: MessageTable = tables.messages[plan]
        self._reads: dict[Position, list[Step]] = defaultdict(list)
        self._at: dict[Position, list[Step]] = defaultdict(list)
        for step in trace.steps:
            self._at[step.at].append(step)
            for at in {*step.reads, *step.whole}:
                self._reads[at].append(step)
        self._asked_by_use: dict[Position, str] = {}
        self._asked = {at: str(step.row.place) for step in trace.steps for at in step.asked}
        self._nodes = {one.segment.position: one.path for one in trace.root.leaves} if trace.root else {}
        self._joined = trace.joined
        self._uses = defaultdict(list)
        for segment, use, applies in trace.uses:
            self._uses[segment.position].append((use, applies))
            for ref in use.asked:
                if ref.root == segment.id and ref.parts:
                    self._asked_by_use[leaf((segment.position, ref.parts[0], 1, *ref.parts[1:]))] = str(use.place)

    def fates(self) -> Iterator[Fate]:
        """Every populated leaf in the order of the message."""
        for segment in self._message.segments:
            for at, source in leaves(self._message, segment):
                yield self.fate(segment, at, source)

    def fate(self, segment: Segment, at: Position, source: str) -> Fate:
        """What became of one leaf; a line of a text that was joined to the one before it shares that one's fate."""
        if segment.position in self._joined:
            segment = self._joined[segment.position]
            at = (segment.position, *at[1:])
        readers = [step for length in range(2, len(at) + 1) for step in self._reads.get(at[:length], ())]
        to = dict.fromkeys(path for step in readers if step.fate == "written" for path in self._written(step))
        rows = dict.fromkeys(place for step in readers for place in _chain(step))
        for asked in (self._asked, self._asked_by_use):
            if at in asked:
                rows.setdefault(asked[at])
        if to:
            return Fate(source, at, tuple(to), tuple(rows))
        found = sorted(dict.fromkeys(self._why(segment, at)), key=lambda why: _URGENT.index(why.kind))
        return Fate(source, at, (), tuple(rows), tuple(found))

    def is_read(self, segment: Segment, at: Position) -> bool:
        """Whether a row makes a value of this leaf or compares it, or the bridge needs it: without saying where to."""
        if at in self._asked or at in self._asked_by_use or (segment.id, at[1]) in _OWN_FIELDS:
            return True
        return any(at[:length] in self._reads for length in range(2, len(at) + 1)) or (
            segment.field(at[1]) == NULL and self.fate(segment, at, "").why[0].kind == "delete"
        )

    def _written(self, step: Step) -> list[str]:
        """Where a row's value ended up; where only the element around it is still there, that one."""
        found = [path for key in step.written if (path := self._paths.get(key)) is not None]
        return found if found or step.above is None else self._written(step.above)

    def _why(self, segment: Segment, at: Position) -> Iterator[Why]:
        if (segment.id, at[1]) in _OWN_FIELDS:
            yield Why(BRIDGE, _OWN_FIELDS[segment.id, at[1]])
        uses = self._uses.get(segment.position, ())
        if not self._trace.uses:
            yield Why("refused", "the message was refused before any row ran")
            return
        if any(step.fate == "written" for length in range(2, len(at) + 1) for step in self._reads.get(at[:length], ())):
            if self._refused:
                yield Why("refused", "a row took it, but the message was refused")
            else:
                yield Why(
                    "merged", "a row took it for a resource that the bundle has from elsewhere, or that says nothing"
                )
        if not uses:
            yield self._unused(segment)
            return
        field = f"{segment.id}-{at[1]}"
        if segment.field(at[1]) == NULL:
            yield Why("delete", '`""` deletes, there is no value')
        covering = [step for length in range(3, len(at) + 1) for step in self._at.get(at[:length], ())]
        covering += [step for step in self._reads.get(at, ()) if step not in covering]
        for step in covering:
            yield from self._of_step(step, at)
        for use, applies in uses:
            table = self._tables.segments[use.name]
            if not applies:
                if any(row.source.parts[:1] == at[1:2] for row in table.rows):
                    yield Why("condition", f"the use of {use.name} asks for {use.when}", str(use.place))
                continue
            if field in table.unmapped:
                yield Why("unmapped", table.unmapped[field], str(table.unmapped_places[field]))
            yield from self._switched_off(table, at[1])
        yield Why("no-row", "no row reads it")

    def _unused(self, segment: Segment) -> Why:
        """A segment that no row of the message table takes."""
        node = self._nodes.get(segment.position, "")
        if not node:
            return Why("unmapped", f"{self._table.name} has no place for this segment here", str(self._table.place))
        for key in (node, *(node.rsplit(".", count)[0] for count in range(1, node.count(".") + 1))):
            if key in self._table.unmapped:
                return Why("unmapped", self._table.unmapped[key], str(self._table.unmapped_places[key]))
        return Why("no-row", f"no row of {self._table.name} uses {segment.id} here", str(self._table.place))

    def _of_step(self, step: Step, at: Position) -> Iterator[Why]:
        row, place = step.row, str(step.row.place)
        is_reading = at in step.reads or any(at[: len(part)] == part for part in step.whole)
        if step.fate == "condition":
            yield Why("condition", f"asks for {row.when_text}", place)
        elif step.fate == "repetition":
            yield Why("repetition-dropped", f"{row.to.text if row.to else 'the element'} takes one repetition", place)
        elif "value-invalid" in step.issues and is_reading:
            yield Why("value-invalid", "no value of the type that is needed", place)
        elif "code-unmapped" in step.issues and is_reading and step.fate == "nothing":
            yield Why("code-unmapped", f"{row.codes} has no such code and drops it", place)
        elif is_reading:
            yield Why("nothing", "the row made nothing of it", place)
        elif row.as_ is not None and len(at) > len(step.at):
            yield from self._in_datatype(self._tables.datatypes[row.as_], at[len(step.at)], place)
        elif row.as_ is None and row.value is None and at != leaf(step.at):
            yield Why("not-read", "only the first component is read", place)

    def _in_datatype(self, table: Table, number: int, place: str) -> Iterator[Why]:
        key = f"{table.source}.{number}"
        if key in table.unmapped:
            yield Why("unmapped", table.unmapped[key], str(table.unmapped_places[key]))
            return
        rows = [row for row in table.rows if row.source.parts[:1] == (number,)]
        yield from self._off(rows)
        if not rows:
            yield Why("not-read", f"{table.name} has no row for {key}", place)

    def _switched_off(self, table: Table, number: int) -> Iterator[Why]:
        yield from self._off([row for row in table.rows if row.source.parts[:1] == (number,)])

    def _off(self, rows: list[Row]) -> Iterator[Why]:
        for row in rows:
            if row.option is not None and not self._is_on(row.option):
                yield Why("option", f"needs the option {row.option.name} = {row.option.value}", str(row.place))

    def _is_on(self, option: OptionTest) -> bool:
        return self._tables.settings[option.name] == option.value


def leaves(message: Message, segment: Segment) -> Iterator[tuple[Position, str]]:
    """Every populated leaf of a segment and its name, as deep as it was sent: PID[1]-8[1], PID[1]-3[2].4.1."""
    separators = message.separators
    for number, raw in enumerate(segment.fields):
        if number == 0 or not raw:
            continue
        if segment.id == "MSH" and number <= 2:
            yield (segment.position, number, 1, 1, 1), f"MSH[1]-{number}"
            continue
        for repetition, value in enumerate(separators.repetitions(raw), 1):
            if value == NULL:
                whole = (segment.position, number, repetition)
                yield leaf(whole), position_text(segment, whole)
                continue
            components = separators.components(value)
            for component, part in enumerate(components, 1):
                pieces = separators.subcomponents(part)
                for piece, text in enumerate(pieces, 1):
                    if not text.strip() or text == NULL:
                        continue
                    depth = 5 if len(pieces) > 1 else 4 if len(components) > 1 else 3
                    at = (segment.position, number, repetition, component, piece)
                    yield at, position_text(segment, at[:depth])


def element_document(line: Line) -> dict[str, Any]:
    return {
        "path": line.path,
        "kind": line.kind,
        "field": line.source,
        "table": line.table,
        "row": line.place,
        "codes": line.codes,
        "via": list(line.via),
    }


def fate_document(fate: Fate) -> dict[str, Any]:
    why = [{"kind": why.kind, "text": why.text, "row": why.place} for why in fate.why]
    return {"field": fate.source, "to": list(fate.to), "rows": list(fate.rows), "why": why}


def document(elements: Iterable[Line], fields: Iterable[Fate], error: str | None) -> dict[str, Any]:
    """The whole lineage of one translation for machines: paths, tables, places."""
    told = [element_document(line) for line in elements], [fate_document(fate) for fate in fields]
    return {"elements": told[0], "fields": told[1], "error": error}
