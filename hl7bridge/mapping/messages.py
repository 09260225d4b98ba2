"""Message tables become plans: which segment tables run on which segments, into which resources, with which links.

Sans-IO. A label belongs to the innermost repeating group or segment that holds all uses making it; links are written
when every segment has been read, so their order in the message does not matter. Where a label lives, seen from a
segment, is worked out once: how many groups up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial

from hl7bridge import reasons
from hl7bridge.errors import PeerError
from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Arrangement, Group, Structure
from hl7bridge.mapping.compile import Compiler
from hl7bridge.mapping.lines import Further, Rule, join
from hl7bridge.mapping.match import Found, Matches
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Label, Link, MessageTable, Table, Use
from hl7bridge.mapping.uses import ITSELF, Key, PlannedPath, PlannedUse, Sight


class MessagePlan:
    """A message table, resolved; what it uses is compiled at its first message."""

    def __init__(self, table: MessageTable, compiler: Compiler) -> None:
        self.name = table.name
        self.compiler = compiler
        self._text = table.structure
        self._table = table
        self.tables: dict[Label, Table] = {
            use.into: compiler.tables.segments[use.table] for use in reversed(table.uses)
        }

    @cached_property
    def structure(self) -> Structure:
        return Structure(self._text)

    @cached_property
    def _scopes(self) -> dict[Label, tuple[int, str | None]]:
        """By label its number, and the path of the repeating group or segment it lives in, None for the message."""
        made: dict[Label, list[str]] = {}
        for use in self._table.uses:
            made.setdefault(use.into, []).append(use.segment)
        return {
            label: (number, self.structure.innermost_repeating(paths))
            for number, (label, paths) in enumerate(made.items())
        }

    @cached_property
    def _whole(self) -> frozenset[Label]:
        """Labels of which a segment makes one, however often a field repeats."""
        return frozenset(use.into for use in self._table.uses if use.each is None)

    def sees(self, link: Link, use: Use) -> bool:
        """Whether both ends of a link can be seen from the use's segment: else it is never written."""
        return all(self._up(label, use.segment) is not None for label in (link.on, link.to) if label is not None)

    def number(self, label: Label) -> int:
        return self._scopes[label][0]

    def sight(self, label: Label, path: str) -> Sight | None:
        up = self._up(label, path)
        return Sight(self.number(label), up, label not in self._whole) if up is not None else None

    def _up(self, label: Label, path: str) -> int | None:
        _, home = self._scopes[label]
        if home == path:
            return ITSELF
        at, up = self.structure.nodes[path].parent, 0
        while (at or None) != home:
            if not at:
                return None
            at, up = self.structure.nodes[at].parent, up + 1
        return up

    @cached_property
    def uses(self) -> Mapping[str, list[PlannedUse]]:
        """By the path of the segment."""
        found: dict[str, list[PlannedUse]] = {}
        settings = self.compiler.tables.settings
        for use in self._table.uses:
            sight = self.sight(use.into, use.segment)
            assert sight is not None  # a label is seen from where it is made
            if use.option is None or settings[use.option.name] == use.option.value:
                found.setdefault(use.segment, []).append(PlannedUse(self, use, sight))
        return found

    @cached_property
    def _paths(self) -> Mapping[str, PlannedPath]:
        return {path: PlannedPath(uses, path, self.compiler) for path, uses in self.uses.items()}

    @cached_property
    def _lines(self) -> Mapping[str, list[Rule]]:
        """What makes segments the lines of one text: the row's condition and the one of `lines`, by path."""
        found: dict[str, list[Rule]] = {}
        for path, uses in self.uses.items():
            for use in uses:
                if (said := use.said.lines) is not None:
                    also = self.compiler.test(said.when, self.tables[use.into]) if said.when is not None else None
                    tests = tuple(test for test in (use.test, also) if test is not None)
                    found.setdefault(path, []).append((said, tests))
        return found

    @cached_property
    def matched(self) -> frozenset[int]:
        """The labels that a link looks for in the whole message."""
        return frozenset(
            link.number for uses in self.uses.values() for use in uses for link in use.links if not link.to
        )

    def run(self, run: Run) -> list[Resource]:
        """Applies every use; the resources that were made by label, in the order of the message.

        Raises PeerError(STRUCTURE) when a segment that a use reads stands where the structure has no place for it.
        """
        root = run.arrangement = self.structure.arrange(run.message.segments)
        traced = run.trace
        if traced is not None:
            traced.root = root
        self._refuse_doubles(root)
        made = Made(run, self.matched)
        paths = self._paths
        for path, segment, group, further in self._walk(run, root):
            planned = paths.get(path)
            if planned is None:
                continue
            if traced is None:
                planned.apply(run, segment, group, further, made)
                continue
            for use in planned.uses:
                made.each(use, segment, group, further)
        made.link()
        for node, names in run.displaced:
            for name in names:
                node.pop(name, None)
        return list(made.resources.values())

    def _walk(self, run: Run, root: Arrangement) -> Iterable[tuple[str, Segment, Group, Further]]:
        """The segments in their places; those that are lines of one text as one."""
        if not self._lines:
            return ((path, segment, group, ()) for path, segment, group in root.walk())
        found = join(run, root.walk(), self._lines)
        if run.trace is None:
            return found
        walked = list(found)
        for _, segment, _, further in walked:
            run.trace.joined.update((joined.position, segment) for joined, _ in further)
        return walked

    def _refuse_doubles(self, root: Arrangement) -> None:
        for problem in root.problems:
            if problem.path in self.uses:
                raise PeerError(
                    reasons.STRUCTURE,
                    f"{problem.segment_id} stands again as segment {problem.position}, where {self.name} has it once: "
                    "the two cannot be told apart",
                    problem.segment_id,
                )


class Made:
    """What a message made so far: resources by label, and the links that wait for the rest of the message."""

    def __init__(self, run: Run, matched: Iterable[int]) -> None:
        self._run = run
        self.resources: dict[Key, Resource] = {}
        self.pending: list[tuple[PlannedUse, Segment, Segment, Group, int, Resource, Body]] = []
        self._matches = Matches(matched)

    def begin(self, key: Key, type: str, segment: Segment, group: Group) -> Resource:
        """The resource of a label that has none yet."""
        resource = self.resources[key] = Resource(type, segment.position)
        resource.lookup = partial(_field, group)
        return resource

    def share(self, use: PlannedUse, further: Further, resource: Resource) -> None:
        """What stands beside a joined line belongs to the first's resource."""
        for other, around in further:
            self.resources.setdefault(use.key(other, around, 0), resource)

    def find(self, number: int, resource: Resource, part: Segment, group: Group) -> None:
        """A link will look for what is made here."""
        self._matches.made[number].append(Found(resource, self._run, part, group))

    def each(self, use: PlannedUse, segment: Segment, group: Group, further: Further) -> None:
        """Applies a use where its condition holds, one with `each` to each repetition."""
        run = self._run
        for rep, part in use.parts(segment) if use.each else ((0, segment),):
            holds = use.holds(run, part, group)
            if run.trace is not None:
                run.trace.uses.append((part, use, holds))
            if holds:
                self.apply(use, segment, part, group, rep, further)

    def apply(self, use: PlannedUse, segment: Segment, part: Segment, group: Group, rep: int, further: Further) -> None:
        """`segment`: in its place; `part`: what the table is applied to; `further`: what was joined to it."""
        run, resources = self._run, self.resources
        key = use.key(segment, group, rep)
        resource = resources.get(key)
        if resource is None:
            resource = self.begin(key, use.into.type, segment, group)
        if further:
            self.share(use, further, resource)
        if use.matched:
            self.find(use.sight.number, resource, part, group)
        if use.plain:
            slots = use.fills[part.form](run, part, group, resource)
        else:
            resource, slots = use.apply(run, part, group, resource)
        if use.links:
            self.pending.append((use, segment, part, group, rep, resource, slots))

    def link(self) -> None:
        run, resources, matches = self._run, self.resources, self._matches
        for use, segment, part, group, rep, resource, slots in self.pending:
            use.write_links(run, segment, part, group, rep, resource, slots, resources, matches)


def _field(group: Group, ref: str) -> str:
    """A v2 field or component for `unique`, as sent: OBR-3 of the order that this group belongs to, IN1-2.1."""
    segment_id, _, place = ref.partition("-")
    segment = group.find(segment_id)
    if segment is None:
        return ""
    number, _, component = place.partition(".")
    if not component:
        return segment.field(int(number)).strip()
    parts = segment.separators.components((*segment.repetitions(int(number)), "")[0])
    return parts[int(component) - 1].strip() if int(component) <= len(parts) else ""
