"""Message tables become plans: which segment tables run on which segments, into which resources, with which links.

Sans-IO. A label belongs to the innermost repeating group or segment that holds all uses making it; links are written
when every segment has been read, so their order in the message does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from hl7bridge import reasons
from hl7bridge.errors import PeerError
from hl7bridge.fhir.resource import Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Arrangement, Group, Structure
from hl7bridge.mapping import trace, write
from hl7bridge.mapping.access import Test, tester
from hl7bridge.mapping.compile import Compiler, SegmentTable
from hl7bridge.mapping.lines import join
from hl7bridge.mapping.match import Index, Made, Match
from hl7bridge.mapping.runtime import NOBODY, Context, Run
from hl7bridge.mapping.schema import Label, Lines, Link, MessageTable, Place, Ref, Use
from hl7bridge.mapping.write import Target, compile_path

Key = tuple[Label, int, int]  # label, id() of the group or segment it belongs to, the repetition with `each`
GENTLEST = ("create", "patch", "replace", "delete")  # where two rows disagree, the one that takes least away holds
Further = Sequence[tuple[Segment, Group]]  # the segments that were joined to one, with their groups


class Scope(NamedTuple):
    """Where a label lives: the path of a repeating group or segment, None for the whole message."""

    path: str | None

    def instance(self, segment: Segment, own_path: str, group: Group) -> object | None:
        """The group or segment whose label is meant from here; None where the label cannot be seen."""
        if self.path == own_path:
            return segment
        at: Group | None = group
        while at is not None:
            if (at.path or None) == self.path:
                return at
            at = at.parent
        return None


@dataclass(frozen=True, slots=True)
class PlannedLink:
    on: Label | None
    target: Target
    to: Label
    place: str
    match: Match | None = None


@dataclass(frozen=True, slots=True)
class PlannedUse:
    table: SegmentTable
    into: Label
    links: tuple[PlannedLink, ...]
    test: Test | None
    name: str
    place: Place
    when: str  # the condition's text
    asked: tuple[Ref, ...]  # the fields it compares
    each: int  # the field of whose repetitions each makes a resource; 0: the segment makes one
    said: Use

    def parts(self, segment: Segment) -> Iterator[tuple[int, Segment]]:
        """What the table is applied to, numbered from 1 with `each`: the segment with one repetition alone in it."""
        if not self.each:
            yield 0, segment
            return
        for number, text in enumerate(segment.repetitions(self.each), 1):
            if text:
                yield number, segment.with_field(self.each, text)


@dataclass(slots=True)
class Pending:
    """Links of one use on one segment, waiting for the rest of the message."""

    use: PlannedUse
    path: str
    segment: Segment
    group: Group
    ctx: Context
    rep: int


class MessagePlan:
    """A compiled message table."""

    def __init__(self, table: MessageTable, compiler: Compiler) -> None:
        self.name = table.name
        self.structure = Structure(table.structure)
        self.scopes: dict[Label, Scope] = {}
        made: dict[Label, list[str]] = {}
        for use in table.uses:
            made.setdefault(use.into, []).append(use.segment)
        for label, paths in made.items():
            self.scopes[label] = Scope(self.structure.innermost_repeating(paths))
        self.parted = frozenset(made) - {use.into for use in table.uses if use.each is None}  # one for each repetition
        self.uses: dict[str, list[PlannedUse]] = {}
        self.lines: dict[str, list[tuple[Lines, tuple[Test, ...]]]] = {}
        self._tables = {use.into: compiler.tables.segments[use.table] for use in reversed(table.uses)}
        settings = compiler.tables.settings
        for use in table.uses:
            if use.option is None or settings[use.option.name] == use.option.value:
                planned = self._use(use, compiler)
                self.uses.setdefault(use.segment, []).append(planned)
                if use.lines is not None:
                    self.lines.setdefault(use.segment, []).append((use.lines, self._tests(use, planned)))
        self._matched = {link.to for uses in self.uses.values() for use in uses for link in use.links if link.match}

    def _use(self, use: Use, compiler: Compiler) -> PlannedUse:
        table = compiler.segment(use.table)
        source = compiler.tables.segments[use.table]
        test = tester(use.when, source, -1) if use.when is not None else None
        links = tuple(self._link(link, use, compiler) for link in use.links)
        asked = tuple(trace.compared(use.when))
        each = use.each.parts[0] if use.each is not None else 0
        return PlannedUse(table, use.into, links, test, use.table, use.place, use.when_text, asked, each, use)

    def _tests(self, use: Use, planned: PlannedUse) -> tuple[Test, ...]:
        """What a segment must fulfil to be a line of a text: the row's condition and the one of `lines`."""
        assert use.lines is not None
        also = tester(use.lines.when, self._tables[use.into], -1) if use.lines.when is not None else None
        return tuple(test for test in (planned.test, also) if test is not None)

    def _link(self, link: Link, use: Use, compiler: Compiler) -> PlannedLink:
        root = (link.on or use.into).type
        match = Match(link, compiler.tables.segments[use.table], self._tables[link.to]) if link.match else None
        return PlannedLink(link.on, compile_path(compiler.model, root, link.path), link.to, str(link.place), match)

    def run(self, run: Run) -> list[Resource]:
        """Applies every use; the resources that were made by label, in the order of the message.

        Raises PeerError(STRUCTURE) when a segment that a use reads stands where the structure has no place for it.
        """
        root = run.arrangement = self.structure.arrange(run.message.segments)
        if run.trace is not None:
            run.trace.root = root
        self._refuse_doubles(root)
        resources: dict[Key, Resource] = {}
        pending: list[Pending] = []
        made: dict[Label, list[Made]] = {label: [] for label in self._matched}
        for path, segment, group, further in self._walk(run, root):
            for use in self.uses.get(path, ()):
                for rep, part in use.parts(segment):
                    if not self._applies(run, use, part, group):
                        continue
                    resource = self._resource(use.into, path, segment, group, rep, resources)
                    self._same(use.into, path, further, resource, resources)
                    ctx = _apply(use, run, part, group, resource)
                    if use.into in made:
                        made[use.into].append(Made(resource, ctx))
                    if use.links:
                        pending.append(Pending(use, path, segment, group, ctx, rep))
        indexes: dict[int, Index] = {}
        for item in pending:
            self._write_links(run, item, resources, made, indexes)
        for node, names in run.displaced:
            for name in names:
                node.pop(name, None)
        return list(resources.values())

    def _applies(self, run: Run, use: PlannedUse, segment: Segment, group: Group) -> bool:
        ctx = Context(run, NOBODY, NOBODY.body, segment, group, segment.fields, "", 0)
        applies = use.test is None or use.test(ctx)
        if run.trace is not None:
            run.trace.uses.append((segment, use, applies))
        return applies

    def _walk(self, run: Run, root: Arrangement) -> Iterator[tuple[str, Segment, Group, Further]]:
        """The segments in their places; those that are lines of one text as one."""
        if not self.lines:
            yield from ((path, segment, group, ()) for path, segment, group in root.walk())
            return
        for place in join(run, root.walk(), self.lines):
            if run.trace is not None:
                for segment, _ in place.further:
                    run.trace.joined[segment.position] = place.segment
            yield place.path, place.segment, place.group, place.further

    def _same(
        self,
        label: Label,
        path: str,
        further: Further,
        resource: Resource,
        resources: dict[Key, Resource],
    ) -> None:
        """What else stands beside a joined line, like its notes, belongs to the resource of the first."""
        for segment, group in further:
            instance = self.scopes[label].instance(segment, path, group)
            resources.setdefault((label, id(instance), 0), resource)

    def _refuse_doubles(self, root: Arrangement) -> None:
        for problem in root.problems:
            if problem.path in self.uses:
                raise PeerError(
                    reasons.STRUCTURE,
                    f"{problem.segment_id} stands again as segment {problem.position}, where {self.name} has it once: "
                    "the two cannot be told apart",
                    problem.segment_id,
                )

    def _resource(
        self, label: Label, path: str, segment: Segment, group: Group, rep: int, resources: dict[Key, Resource]
    ) -> Resource:
        instance = self.scopes[label].instance(segment, path, group)
        key = (label, id(instance), rep if label in self.parted else 0)
        if key not in resources:
            made = resources[key] = Resource(label.type, segment.position)
            made.lookup = partial(_field, group)
        return resources[key]

    def _seen(self, label: Label, item: Pending, resources: dict[Key, Resource]) -> Resource | None:
        instance = self.scopes[label].instance(item.segment, item.path, item.group)
        rep = item.rep if label in self.parted else 0
        return resources.get((label, id(instance), rep)) if instance is not None else None

    def _write_links(
        self,
        run: Run,
        item: Pending,
        resources: dict[Key, Resource],
        made: Mapping[Label, list[Made]],
        indexes: dict[int, Index],
    ) -> None:
        for link in item.use.links:
            owner = item.ctx.resource if link.on is None else self._seen(link.on, item, resources)
            if owner is None:
                continue
            if link.match is not None:
                index = indexes.get(id(link.match))
                if index is None:
                    index = indexes[id(link.match)] = link.match.index(made[link.to])
                found = link.match.among(item.ctx, index)
            else:
                seen = self._seen(link.to, item, resources)
                found = [seen] if seen is not None else []
            found = [to for to in found if to is not owner]
            if not found or (link.match is not None and not link.target.many and self._cannot(owner, link, found)):
                continue
            ctx = (
                item.ctx
                if link.on is None
                else Context(run, owner, owner.body, item.segment, item.group, item.segment.fields, "", 0)
            )
            if run.trace is not None:
                run.trace.current = trace.Link(item.segment, self.name, link.place)
            for to in found:
                write_reference(ctx, link.target, to)

    def _cannot(self, owner: Resource, link: PlannedLink, found: list[Resource]) -> bool:
        """An element that occurs once takes a match only where there is one, and what a row wrote stays."""
        return len(found) > 1 or link.target.name in owner.body


def _apply(use: PlannedUse, run: Run, segment: Segment, group: Group, resource: Resource) -> Context:
    """Writes what the use says into the resource, and notes how the resource is found and written."""
    said = use.said
    if said.write:  # of several rows that say it the gentlest holds
        resource.write = min(resource.write or said.write, said.write, key=GENTLEST.index)
    if said.undo:
        return use.table.apply(run, segment, group, resource.to_undo())
    before = len(resource.body.get("identifier", ()))
    ctx = use.table.apply(run, segment, group, resource)
    if said.finds:
        resource.known_by = resource.body.get("identifier", [])[before:]
    return ctx


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


def write_reference(ctx: Context, target: Target, to: Resource) -> None:
    """One reference from the context's resource; the same one twice is written once."""
    run = ctx.run
    node, owner = write.locate(ctx, target.hops, 0)
    key = (id(node), target.name, id(to))
    if key in run.linked:
        return
    run.linked.add(key)
    write.attach(ctx, write.place(node, target, {}), to, owner, linked=True)
