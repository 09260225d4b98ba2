"""Message tables become plans: which segment tables run on which segments, into which resources, with which links.

Sans-IO. A label belongs to the innermost repeating group or segment that holds all uses making it; links are written
when every segment has been read, so their order in the message does not matter.
"""

from __future__ import annotations

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
from hl7bridge.mapping.runtime import Context, Run
from hl7bridge.mapping.schema import Label, Link, MessageTable, Place, Ref, Use
from hl7bridge.mapping.write import Target, compile_path

GENTLEST = ("create", "patch", "replace", "delete")  # where two rows disagree, the one that takes least away holds


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
    write: str


@dataclass(slots=True)
class Pending:
    """Links of one use on one segment, waiting for the rest of the message."""

    use: PlannedUse
    path: str
    segment: Segment
    group: Group
    ctx: Context


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
        self.uses: dict[str, list[PlannedUse]] = {}
        settings = compiler.tables.settings
        for use in table.uses:
            if use.option is None or settings[use.option.name] == use.option.value:
                self.uses.setdefault(use.segment, []).append(self._use(use, compiler))

    def _use(self, use: Use, compiler: Compiler) -> PlannedUse:
        table = compiler.segment(use.table)
        source = compiler.tables.segments[use.table]
        test = tester(use.when, source, -1) if use.when is not None else None
        links = tuple(self._link(link, use, compiler) for link in use.links)
        asked = tuple(trace.compared(use.when))
        return PlannedUse(table, use.into, links, test, use.table, use.place, use.when_text, asked, use.write)

    def _link(self, link: Link, use: Use, compiler: Compiler) -> PlannedLink:
        root = (link.on or use.into).type
        return PlannedLink(link.on, compile_path(compiler.model, root, link.path), link.to, str(link.place))

    def run(self, run: Run) -> list[Resource]:
        """Applies every use; the resources that were made by label, in the order of the message.

        Raises PeerError(STRUCTURE) when a segment that a use reads stands where the structure has no place for it.
        """
        root = self.structure.arrange(run.message.segments)
        if run.trace is not None:
            run.trace.root = root
        self._refuse_doubles(root)
        resources: dict[tuple[Label, int], Resource] = {}
        pending: list[Pending] = []
        for path, segment, group in root.walk():
            for use in self.uses.get(path, ()):
                ctx = Context(run, _NOBODY, _NOBODY.body, segment, group, segment.fields, "", 0)
                applies = use.test is None or use.test(ctx)
                if run.trace is not None:
                    run.trace.uses.append((segment, use, applies))
                if not applies:
                    continue
                resource = self._resource(use.into, path, segment, group, resources)
                ctx = use.table.apply(run, segment, group, resource)
                if use.write:
                    resource.write = min(resource.write or use.write, use.write, key=GENTLEST.index)
                if use.links:
                    pending.append(Pending(use, path, segment, group, ctx))
        for item in pending:
            self._write_links(run, item, resources)
        for node, names in run.displaced:
            for name in names:
                node.pop(name, None)
        return list(resources.values())

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
        self, label: Label, path: str, segment: Segment, group: Group, resources: dict[tuple[Label, int], Resource]
    ) -> Resource:
        instance = self.scopes[label].instance(segment, path, group)
        key = (label, id(instance))
        if key not in resources:
            made = resources[key] = Resource(label.type, segment.position)
            made.lookup = partial(_field, group)
        return resources[key]

    def _seen(self, label: Label, item: Pending, resources: dict[tuple[Label, int], Resource]) -> Resource | None:
        instance = self.scopes[label].instance(item.segment, item.path, item.group)
        return resources.get((label, id(instance))) if instance is not None else None

    def _write_links(self, run: Run, item: Pending, resources: dict[tuple[Label, int], Resource]) -> None:
        for link in item.use.links:
            to = self._seen(link.to, item, resources)
            owner = item.ctx.resource if link.on is None else self._seen(link.on, item, resources)
            if to is None or owner is None or to is owner:
                continue
            ctx = (
                item.ctx
                if link.on is None
                else Context(run, owner, owner.body, item.segment, item.group, item.segment.fields, "", 0)
            )
            if run.trace is not None:
                run.trace.current = trace.Link(item.segment, self.name, link.place)
            write_reference(ctx, link.target, to)


_NOBODY = Resource("Basic", 0)


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
