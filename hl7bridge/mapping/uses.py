"""The rows of a message table, resolved: what is applied when, which labels are seen from there, which links wait.

Sans-IO. Conditions, tables and links are compiled when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping import trace
from hl7bridge.mapping.compile import Apply, Compiler, Fill, KeyOf, Test, WriteLinks
from hl7bridge.mapping.match import Match
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Link, Use
from hl7bridge.mapping.target import Target

if TYPE_CHECKING:
    from hl7bridge.mapping.messages import MessagePlan

Key = tuple[int, int, int]  # number of the label, id() of the group or segment it belongs to, repetition with `each`
GENTLEST = ("create", "patch", "replace", "delete")  # where two rows disagree, the one that takes least away holds
ITSELF = -1  # a label of which each segment has one


class Sight(NamedTuple):
    """A label as it is seen from a segment. `up`: from the segment's group to the one it belongs to, or ITSELF."""

    number: int
    up: int
    parted: bool  # one for each repetition with `each`

    @property
    def key(self) -> str:
        """The Key, as an expression of the segment, its group, and the repetition."""
        return f"({self.number}, {self.home}, {'rep' if self.parted else 0})"

    @property
    def home(self) -> str:
        """What the label belongs to, as an expression of its id."""
        return f"id({'segment' if self.up < 0 else 'group' + '.parent' * self.up})"


class PlannedLink:
    """A link as it is seen from its use. `on`: None for the resource that the use makes; `to`: None with `match`;
    `said`: in short, for people."""

    def __init__(self, plan: MessagePlan, link: Link, use: Use) -> None:
        self.place = str(link.place)
        self.said = f"{f'{link.on}.' if link.on is not None else ''}{link.path.text}: {link.to}"
        self.on = plan.sight(link.on, use.segment) if link.on is not None else None
        self.to = plan.sight(link.to, use.segment) if not link.match else None
        self.number = plan.number(link.to)
        self.parted = use.each is not None  # read from a segment with one repetition alone in it
        self._plan, self._link, self._use = plan, link, use
        element = link.path.steps[-1].name
        self.element = element

    @cached_property
    def match(self) -> Match | None:
        plan = self._plan
        table = plan.compiler.tables.segments[self._use.table]
        return Match(self._link, table, plan.tables[self._link.to], plan.compiler) if self._link.match else None

    @cached_property
    def target(self) -> Target:
        """Where the reference stands in its owner."""
        return self._plan.compiler.target((self._link.on or self._use.into).type, self._link.path)

    @cached_property
    def many(self) -> bool:
        return self.target.many


class PlannedUse:
    """One use of a segment table. `when`: the condition's text; `asked`: the fields it compares; `plain`: the table is
    all there is to it."""

    def __init__(self, plan: MessagePlan, use: Use, sight: Sight) -> None:
        self.said, self.name, self.into, self.place = use, use.table, use.into, use.place
        self.when, self.asked = use.when_text, tuple(trace.compared(use.when))
        self.each = use.each.parts[0] if use.each is not None else 0  # of whose repetitions each makes a resource
        self.sight = sight
        self.links = [PlannedLink(plan, link, use) for link in use.links if link.match or plan.sees(link, use)]
        self.plain = not (use.write or use.undo or use.finds)
        self._plan, self._compiler = plan, plan.compiler

    @cached_property
    def key(self) -> KeyOf:
        """Which resource of its label it writes."""
        return self._compiler.key(self.sight)

    @cached_property
    def matched(self) -> bool:
        """Whether a link looks for what it makes in the whole message."""
        return self.sight.number in self._plan.matched

    @cached_property
    def write_links(self) -> WriteLinks:
        return self._compiler.links(self.links, self._plan.name, f"links of {self.name}")

    @cached_property
    def fills(self) -> list[Fill]:
        """What applies the table, by the form of the segment."""
        return self._compiler.fills(self.name)

    @cached_property
    def test(self) -> Test | None:
        table = self._compiler.tables.segments[self.name]
        return self._compiler.test(self.said.when, table) if self.said.when is not None else None

    def holds(self, run: Run, part: Segment, group: Group) -> bool:
        return self.test is None or bool(self.test(run, part, group))

    def parts(self, segment: Segment) -> Sequence[tuple[int, Segment]]:
        """What a table with `each` is applied to, numbered from 1: the segment with one repetition alone in it."""
        sent = enumerate(segment.repetitions(self.each), 1)
        return [(number, segment.with_field(self.each, text)) for number, text in sent if text]

    def apply(self, run: Run, segment: Segment, group: Group, resource: Resource) -> tuple[Resource, Body]:
        """Writes what a use that is not plain says into the resource, and notes how it is found and written.

        Gives the resource that was written and the instances that links ask for.
        """
        fill, said = self.fills[segment.form], self.said
        if said.write:  # of several rows that say it the gentlest holds
            resource.write = min(resource.write or said.write, said.write, key=GENTLEST.index)
        if said.undo:
            undone = resource.to_undo()
            return undone, fill(run, segment, group, undone)
        before = len(resource.body.get("identifier", ()))
        slots = fill(run, segment, group, resource)
        if said.finds:
            resource.known_by = resource.body.get("identifier", [])[before:]
        return resource, slots


class PlannedPath:
    """The uses of the segments at one path, in their order."""

    def __init__(self, uses: Sequence[PlannedUse], path: str, compiler: Compiler) -> None:
        self.uses = uses
        self._path, self._compiler = path, compiler

    @cached_property
    def apply(self) -> Apply:
        """Applies those whose condition holds: what several conditions ask is read once."""
        return self._compiler.apply(self.uses, self._compiler.tables.segments[self.uses[0].name], self._path)
