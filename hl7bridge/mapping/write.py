"""Writing into bodies: a table's path becomes a walk through dictionaries that creates what is missing.

Sans-IO. The repetition at hand counts at the first repeating element of a path, or where it has a star; deeper ones
have one instance per label. Instances are kept in the Context's slots, so labels belong to one table applied once.
Nothing is created before there is a value to put there, so no empty element ever arises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body, Reference, Resource
from hl7bridge.mapping.runtime import Context
from hl7bridge.mapping.schema import Path, Step

Walk = tuple[Body, Resource]
Hop = Callable[[Context, Body, Resource, int], Walk]

DATA_ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
UNKNOWN = "unknown"  # the code of many required bindings for "there is one, but it is not known"
ALTERNATE_CODES = "http://hl7.org/fhir/StructureDefinition/alternate-codes"


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension step: url and label."""

    url: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a row writes. `element` is None for `$this`; `into` names the resource behind a reference at the end."""

    hops: tuple[Hop, ...]
    name: str
    element: Element | None
    label: str
    type: str  # FHIR type of what is written
    many: bool  # the last element repeats
    counts_here: bool  # ... and is the first on the path that does
    repeats: bool  # any element of the path repeats: the row takes every repetition
    others: tuple[str, ...] = ()  # of a choice element: its other names
    into: tuple[str, str] | None = None


def one(name: str) -> Hop:
    def hop(ctx: Context, node: Body, resource: Resource, rep: int) -> Walk:
        child = node.get(name)
        if child is None:
            child = node[name] = ctx.slots[(id(node), name, "", 0)] = {}
        return child, resource

    return hop


def many(name: str, label: str, counts: bool, start: tuple[tuple[str, str], ...] = ()) -> Hop:
    deep = not label and not counts

    def hop(ctx: Context, node: Body, resource: Resource, rep: int) -> Walk:
        key = (id(node), name, label, rep if counts else 0)
        child = ctx.slots.get(key)
        if child is None:
            made = node.get(name) if deep and node is not ctx.target else None
            if made:  # by the data type table that filled the element around
                child = made[0]
            else:
                child = dict(start)
                node.setdefault(name, []).append(child)
                if start:
                    _record(ctx, child, start[0][0], fixed=True)
            ctx.slots[key] = child
        return child, resource

    return hop


def beside_one_of_many(name: str, label: str, counts: bool) -> Hop:
    """Beside one of several primitives: `_given` has a place for each of `given`, null where there is nothing."""

    def hop(ctx: Context, node: Body, resource: Resource, rep: int) -> Walk:
        values: list[Any] = node.get(name, [])
        beside: list[Any] = node.setdefault("_" + name, [])
        key = (id(node), name, label, rep if counts else 0)
        index = ctx.slots.get(key)
        if index is None:
            index = ctx.slots[key] = max(len(values), len(beside))
            if values:
                values.extend([None] * (index + 1 - len(values)))
        beside.extend([None] * (index + 1 - len(beside)))
        if beside[index] is None:
            beside[index] = {}
        return beside[index], resource

    return hop


def another(label: str) -> Hop:
    """From what a data type table fills to a further instance of it, placed by the row that applies the table."""

    def hop(ctx: Context, node: Body, resource: Resource, rep: int) -> Walk:
        return ctx.others.setdefault(label, {}), resource

    return hop


def behind(type: str) -> Hop:
    """From a Reference element to the body of the resource it leads to."""

    def hop(ctx: Context, node: Body, resource: Resource, rep: int) -> Walk:
        target = ctx.run.targets.get(id(node))
        if target is None:
            target = Resource(type, ctx.segment.position)
            attach(ctx, node, target, resource)
        return target.body, target

    return hop


def locate(ctx: Context, hops: Sequence[Hop], rep: int) -> Walk:
    node, resource = ctx.target, ctx.resource
    for hop in hops:
        node, resource = hop(ctx, node, resource, rep)
    return node, resource


class PathError(ValueError):
    """A path that the model does not know; the checker reports it before the compiler could meet it."""


def compile_path(
    model: Model, root: str, path: Path | None, on: Path | None = None, extensions: Sequence[Extension] = ()
) -> Target:
    """The Target of a row whose table's target type is `root`: first `on`, then the extensions, then `to`."""
    walker = _Walker(model, root, starred((*(on.steps if on else ()), *(path.steps if path else ()))))
    start = on or path
    if start is not None and start.another:
        walker.hops.append(another(start.another))
    if on is not None:
        walker.steps(on.steps)
        walker.enter_primitive()
    for extension in extensions:
        walker.extension(extension)
    if path is not None:
        walker.steps(path.steps)
    return walker.target()


def starred(steps: Sequence[Step]) -> bool:
    """Whether a path says itself where the repetition counts: `contact.telecom*`."""
    return any(step.each or starred(step.inner) for step in steps)


class _Walker:
    """Collects hops while going down a path; the last element is held back for the write itself."""

    def __init__(self, model: Model, root: str, starred: bool) -> None:
        self.model = model
        self.starred = starred
        self.type = self.parent = root
        self.hops: list[Hop] = []
        self.repeats = False
        self.pending: tuple[Element, str, bool] | None = None  # element, label, counts
        self.into: tuple[str, str] | None = None

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._flush()
            element = self.model.element(self.type, step.name)
            if element is None:
                raise PathError(f"{self.type} has no element '{step.name}'")
            counts = element.many and (step.each if self.starred else not self.repeats)
            self.repeats = self.repeats or element.many
            self.pending = (element, step.label, counts)
            self.parent, self.type = self.type, element.type
            if step.resource is not None:
                self.into = (step.resource, step.resource_label)
                self.type = step.resource
                if step.inner:
                    self.steps(step.inner)

    def _flush(self) -> None:
        if self.pending is not None:
            element, label, counts = self.pending
            self.hops.append(many(element.name, label, counts) if element.many else one(element.name))
            self.pending = None
        if self.into is not None:
            self.hops.append(behind(self.into[0]))
            self.into = None

    def enter_primitive(self) -> None:
        """The carrier of an extension: `_birthDate` beside a primitive, the element itself otherwise."""
        if self.pending is None:
            return
        element, label, counts = self.pending
        if element.is_primitive:
            hop = beside_one_of_many(element.name, label, counts) if element.many else one("_" + element.name)
            self.hops.append(hop)
            self.pending = None
        else:
            self._flush()

    def extension(self, extension: Extension) -> None:
        self._flush()
        counts = not self.repeats and not self.starred
        self.repeats = True
        key = f"{extension.url}#{extension.label}"
        self.hops.append(many("extension", key, counts, (("url", extension.url),)))
        self.type = "Extension"

    def target(self) -> Target:
        if self.pending is None:
            return Target(tuple(self.hops), "", None, "", self.type, False, False, self.repeats)
        element, label, counts = self.pending
        others: tuple[str, ...] = ()
        if element.choice is not None:
            others = tuple(name for name in self.model.choices(self.parent, element.choice) if name != element.name)
        hops = tuple(self.hops)
        return Target(
            hops, element.name, element, label, self.type, element.many, counts, self.repeats, others, self.into
        )


def holds(body: Body, path: Sequence[str]) -> bool:
    """Whether something stands at a path already, or beside it."""
    node: Any = body
    for name in path[:-1]:
        node = node.get(name, {})
    return bool(path) and (path[-1] in node or "_" + path[-1] in node)


def slot(node: Body, target: Target, rep: int) -> tuple[int, str, str, int]:
    """The key of the instance a target means in a body; an element that occurs once has one, whatever its label."""
    if target.many:
        return id(node), target.name, target.label, rep if target.counts_here else 0
    return id(node), target.name, "", 0


def place(node: Body, target: Target, value: Body) -> Body:
    """Puts an element where the target says: one more of several, or the one there is."""
    if target.many:
        node.setdefault(target.name, []).append(value)
    else:
        node[target.name] = value
    return value


def put_primitive(ctx: Context, target: Target, value: Any, rep: int, content: bool = True) -> None:
    """Puts a converted value. `content`: it came from the message, constants alone make no resource."""
    node, resource = locate(ctx, target.hops, rep)
    resource.has_content = resource.has_content or content
    if target.many:
        key = slot(node, target, rep)
        values = node.setdefault(target.name, [])
        index = ctx.slots.get(key)
        beside = node.get("_" + target.name, ())
        if index is None:
            ctx.slots[key] = index = max(len(values), len(beside))
        values.extend([None] * (max(index + 1, len(beside)) - len(values)))
        values[index] = value
        if beside:
            beside.extend([None] * (len(values) - len(beside)))
        _record(ctx, values, index, fixed=not content)
    else:
        node[target.name] = value
        _record(ctx, node, target.name, fixed=not content)


def beside_primitive(ctx: Context, target: Target, extension: Body, rep: int) -> None:
    """An extension in place of a value: `_status`, or a place in `_category`.

    A required binding is not kept by an extension: its code is `unknown` where it has that, with the extension beside
    it; where it has not, the element around carries the extension.
    """
    node, resource = locate(ctx, target.hops, rep)
    resource.has_content = True
    allowed = target.element.codes if target.element is not None else ()
    if allowed and (target.many or UNKNOWN not in allowed):
        carrier = node
    elif allowed:
        node[target.name] = UNKNOWN
        carrier = node.setdefault("_" + target.name, {})
    elif target.many:
        carrier = beside_one_of_many(target.name, target.label, target.counts_here)(ctx, node, resource, rep)[0]
    else:
        carrier = node.setdefault("_" + target.name, {})
    held = carrier.setdefault("extension", [])
    if all(other["url"] != extension["url"] for other in held):
        held.append(extension)
        _record(ctx, extension, "")


def put_complex(ctx: Context, target: Target, value: Body, rep: int) -> Body:
    """Puts a filled element; completes the one this context already made at the same place."""
    node, resource = locate(ctx, target.hops, rep)
    resource.has_content = True
    key = slot(node, target, rep)
    existing: Body | None = ctx.slots.get(key)
    if existing is None and node is not ctx.target and not target.many:
        existing = node.get(target.name)  # made by the data type table that filled the element around
    if existing is None:
        existing = ctx.slots[key] = place(node, target, value)
    else:
        merge(ctx, existing, value)
    _record(ctx, existing, "")
    return existing


def attach(ctx: Context, holder: Body, to: Resource, owner: Resource, linked: bool = False) -> None:
    """Notes who a Reference element means; the reference itself is written when the bundle is laid out."""
    ctx.run.targets[id(holder)] = to
    ctx.run.references.append(Reference(holder, to, owner, linked))
    _record(ctx, holder, "reference")


def merge(ctx: Context, into: Body, value: Body) -> None:
    """The later value completes the earlier: lists grow, elements inside are completed, the rest is overwritten."""
    trace = ctx.run.trace
    for name, part in value.items():
        held = into.get(name)
        if isinstance(held, list) and isinstance(part, list):
            held.extend(part)
        elif isinstance(held, dict) and isinstance(part, dict):
            merge(ctx, held, part)
        else:
            into[name] = part
        if trace is not None:
            trace.moved(value, name, into)


def _record(ctx: Context, container: Any, name: str | int, fixed: bool = False) -> None:
    if ctx.run.trace is not None:
        ctx.run.trace.wrote(container, name, fixed)
