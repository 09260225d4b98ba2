"""What one translation did, row by row: which row ran on which part of the message, what it read, what it wrote.

Sans-IO. Tables are compiled for tracing beside those that serve (`Mappings.traced_plans`): the same rows make the same
code, with calls of a Watch around each; the code that serves knows nothing of it and loses no time. Positions and
places only: nothing here holds a value of the message but the codes no table has, and those only when asked for. A
Trace keeps what it names alive, because it knows elements by their id().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hl7bridge.mapping.schema import All, Compare, Condition, Measure, Ref, Row, Table
from hl7bridge.mapping.schema import Any as AnyOf

if TYPE_CHECKING:
    from hl7bridge.hl7v2.message import Segment
    from hl7bridge.hl7v2.structure import Arrangement, Group
    from hl7bridge.mapping.runtime import Run
    from hl7bridge.mapping.uses import PlannedUse

Position = tuple[int, ...]  # segment (absolute, from 1), field, repetition, component, subcomponent; shorter: a whole
DEPTH = 5
Where = Callable[["At"], Position | None]


class Step:
    """One row on one part of the message. `above`: the row whose data type table this row belongs to.

    `fate`: written, condition (false), repetition (dropped), or nothing; `issues`: kinds counted meanwhile; `reads` and
    `whole`: leaves, and parts with all in them, that became the value; `asked`: leaves of other fields that its
    condition compares; `written`: what is no constant, as (id of a container, name or index), name "" for the container
    itself.
    """

    __slots__ = ("above", "asked", "at", "fate", "issues", "reads", "row", "table", "whole", "written")

    def __init__(self, row: Row, table: Table, at: Position, above: Step | None) -> None:
        self.row, self.table, self.at, self.above = row, table, at, above
        self.fate = "condition"
        self.reads: list[Position] = []
        self.whole: list[Position] = []
        self.asked: list[Position] = []
        self.issues: list[str] = []
        self.written: list[tuple[int, str | int]] = []


class At(NamedTuple):
    """Where a row is at work: segment, its group, the repetition from 0, the row above."""

    segment: Segment
    group: Group | None
    rep: int
    above: Step | None


class Link(NamedTuple):
    """A reference that a message table's `link` wrote."""

    segment: Segment
    table: str
    place: str


class Mark(NamedTuple):
    """Who wrote an element; `fixed`: a constant of the tables."""

    by: Step | Link
    fixed: bool


class Trace:
    """Everything one translation did. `codes`: (code table, code) pairs that no table maps, one for each time.

    `elements`: note who wrote which element too; rows alone take less time.
    """

    def __init__(self, elements: bool = True) -> None:
        self._elements = elements
        self.root: Arrangement | None = None
        self.steps: list[Step] = []
        self.current: Step | Link | None = None
        self.marks: dict[tuple[int, str | int], Mark] = {}
        self.uses: list[tuple[Segment, PlannedUse, bool]] = []
        self.codes: list[tuple[str, str]] = []
        self.joined: dict[int, Segment] = {}  # position of a further line of a text -> the segment it was joined to
        self._alive: list[Any] = []

    def wrote(self, container: Any, name: str | int, fixed: bool = False) -> None:
        """An element was written by the row or link at work."""
        if self.current is None or not self._elements:
            return
        self._alive.append(container)
        self.marks[id(container), name] = Mark(self.current, fixed)
        if isinstance(self.current, Step) and not fixed:
            self.current.written.append((id(container), name))

    def moved(self, source: Any, name: str | int, target: Any) -> None:
        """An element went from one container into another."""
        mark = self.marks.get((id(source), name))
        if mark is None:
            return
        self._alive.append(target)
        self.marks[id(target), name] = mark
        if isinstance(mark.by, Step) and not mark.fixed:
            mark.by.written.append((id(target), name))

    def issue(self, kind: str) -> None:
        if isinstance(self.current, Step):
            self.current.issues.append(kind)


class Watch:
    """Notes what one row does; the code of tables compiled for tracing calls it around the row's own lines."""

    def __init__(self, row: Row, table: Table, own: int) -> None:
        self._row, self._table = row, table
        self._where = position(row.source, table, own)
        others = [ref for ref in compared(row.when) if (ref.root, ref.parts[:1]) != (table.source, (own,))]
        self._asked = [position(ref, table, own) for ref in others]
        self._reads, self._whole = _reads(row, table, own)

    def begin(self, run: Run, segment: Segment, group: Group | None, rep: int) -> Step:
        """The row is looked at; nothing is noted yet."""
        outer = run.trace.current if run.trace is not None else None
        at = At(segment, group, rep, outer if self._table.kind == "datatype" and isinstance(outer, Step) else None)
        step = Step(self._row, self._table, self._where(at) or (), at.above)
        step.asked = [leaf(found) for find in self._asked if (found := find(at))]
        return step

    def enter(self, run: Run, step: Step, segment: Segment, group: Group | None, rep: int) -> Step | Link | None:
        """Its condition holds; gives what was at work before."""
        trace, at = run.trace, At(segment, group, rep, step.above)
        assert trace is not None
        step.fate = "nothing"
        step.reads = [leaf(found) for find in self._reads if (found := find(at))]
        step.whole = [found[:DEPTH] for find in self._whole if (found := find(at))]
        trace.steps.append(step)
        outer, trace.current = trace.current, step
        return outer

    def leave(self, step: Step, written: bool) -> None:
        """It ran to its end."""
        if written:
            step.fate = "written"
        elif "repetition-dropped" in step.issues:
            step.fate, step.reads, step.whole = "repetition", [], []
        elif "value-invalid" in step.issues and self._row.invalid is not None:
            step.whole.append(step.at[:DEPTH])


def position(ref: Ref, table: Table, own: int) -> Where:
    """Where in the message `ref` points, for a row of `table` whose own field is `own`; as access.Reader reads it."""
    parts = ref.parts
    if ref.root != table.source:

        def foreign(at: At) -> Position | None:
            segment = at.group.find(ref.root) if at.group is not None else None
            if segment is None:
                return None
            return (segment.position, parts[0], 1, *parts[1:]) if parts else (segment.position,)

        return foreign
    if table.kind == "datatype":
        return lambda at: (*at.above.at, *parts) if at.above is not None else None
    if not parts:
        return lambda at: (at.segment.position,)
    number, deeper = parts[0], parts[1:]
    if number == own:
        return lambda at: (at.segment.position, number, at.rep + 1, *deeper)
    return lambda at: (at.segment.position, number, 1, *deeper)


def leaf(at: Position) -> Position:
    """The leaf that stands for a part: the first component, the first subcomponent."""
    return (*at, *[1] * (DEPTH - len(at)))[:DEPTH] if len(at) > 1 else at


def _reads(row: Row, table: Table, own: int) -> tuple[list[Where], list[Where]]:
    """Leaves and wholes that become the row's value. What a data type table reads, its own rows say."""
    if row.value is not None:
        return [], []
    if row.concat:
        return [position(part, table, own) for part in row.concat if isinstance(part, Ref)], []
    if row.as_ is not None:
        return [], []
    source = row.source
    if row.apply in ("text", "text-base64"):
        return [], [position(source, table, own)]
    if row.apply == "lines":
        return [], [lambda at: (at.segment.position, own)]
    if row.apply == "identifier-system":
        return [position(Ref(source.root, (*source.parts, number)), table, own) for number in (1, 2, 3)], []
    found = [position(source, table, own)]
    if row.apply == "base64":
        before = Ref(source.root, (*source.parts[:-1], source.parts[-1] - 1))
        found.append(position(before, table, own))
    return found, []


def compared(condition: Condition | None) -> list[Ref]:
    """The fields whose value a condition looks at; `valued` and `count` only ask whether something is there."""
    if isinstance(condition, Compare):
        return [condition.ref] if condition.other is None else [condition.ref, condition.other]
    if isinstance(condition, Measure) and condition.kind == "length":
        return [condition.ref]
    if isinstance(condition, All | AnyOf):
        return [ref for part in condition.parts for ref in compared(part)]
    return []
