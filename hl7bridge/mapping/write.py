"""Writing into bodies: what the generated code of the tables calls where a line would not do.

Sans-IO. Nothing is created before there is a value to put there, so no empty element ever arises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hl7bridge.fhir.resource import Body, Reference, Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.mapping.runtime import Run

DATA_ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
UNKNOWN = "unknown"  # the code of many required bindings for "there is one, but it is not known"
ALTERNATE_CODES = "http://hl7.org/fhir/StructureDefinition/alternate-codes"


def holds(body: Body, path: Sequence[str]) -> bool:
    """Whether something stands at a path already, or beside it."""
    node: Any = body
    for name in path[:-1]:
        node = node.get(name, {})
    return bool(path) and (path[-1] in node or "_" + path[-1] in node)


def made_first(node: Body, name: str) -> Body:
    """The first part of a list that another table filled, or a new one."""
    parts: list[Body] = node.setdefault(name, [])
    if not parts:
        parts.append({})
    return parts[0]


def beside_one(node: Body, name: str, index: int | None) -> tuple[Body, int]:
    """The place beside one of several primitives, and its index. `index`: of the one that is meant, None for a new."""
    values: list[Any] = node.get(name, [])
    beside: list[Any] = node.setdefault("_" + name, [])
    if index is None:
        index = max(len(values), len(beside))
        if values:
            values.extend([None] * (index + 1 - len(values)))
    beside.extend([None] * (index + 1 - len(beside)))
    if beside[index] is None:
        beside[index] = {}
    found: Body = beside[index]
    return found, index


def put_one(node: Body, name: str, index: int | None, value: Any) -> int:
    """Puts one of several primitives at an index, at the end for None; gives the index."""
    values: list[Any] = node.setdefault(name, [])
    beside = node.get("_" + name, ())
    if index is None:
        index = max(len(values), len(beside))
    values.extend([None] * (max(index + 1, len(beside)) - len(values)))
    values[index] = value
    if beside:
        beside.extend([None] * (len(values) - len(beside)))
    return index


def extend(run: Run, carrier: Body, extension: Body) -> None:
    """Adds an extension where none with its url is."""
    held = carrier.setdefault("extension", [])
    if all(other["url"] != extension["url"] for other in held):
        held.append(extension)
        if run.trace is not None:
            run.trace.wrote(extension, "")


def put_other(run: Run, node: Body, name: str, value: Body, held: dict[Any, Body], key: object) -> None:
    """Puts a further instance that `$another` made; completes the one of the same label and repetition."""
    existing = held.get(key)
    if existing is None:
        node.setdefault(name, []).append(value)
        existing = held[key] = value
    else:
        merge(run, existing, value)
    if run.trace is not None:
        run.trace.wrote(existing, "")


def behind(run: Run, node: Body, type: str, segment: Segment, owner: Resource) -> Resource:
    """The resource that a Reference element leads to, made where there is none."""
    target = run.targets.get(id(node))
    if target is None:
        target = Resource(type, segment.position)
        attach(run, node, target, owner)
    return target


def attach(run: Run, holder: Body, to: Resource, owner: Resource, linked: bool = False) -> None:
    """Notes who a Reference element means; the reference itself is written when the bundle is laid out."""
    run.targets[id(holder)] = to
    run.references.append(Reference(holder, to, owner, linked))
    if run.trace is not None:
        run.trace.wrote(holder, "reference")


def refer(run: Run, node: Body, name: str, many: bool, holder: Body | None, made: Resource, owner: Resource) -> Body:
    """Puts a reference to a resource just filled and gives its element; completes the one `holder` refers to."""
    known = run.targets.get(id(holder)) if holder is not None else None
    if known is not None and holder is not None:
        merge(run, known.body, made.body)
        known.has_content = known.has_content or made.has_content
        for reference in run.references:
            if reference.owner is made:
                reference.owner = known
        return holder
    if holder is None:
        holder = place(node, name, many)
    attach(run, holder, made, owner)
    return holder


def place(node: Body, name: str, many: bool) -> Body:
    """A new element: one more of several, or the one there is."""
    value: Body = {}
    if many:
        node.setdefault(name, []).append(value)
    else:
        node[name] = value
    return value


def merge(run: Run, into: Body, value: Body) -> None:
    """The later value completes the earlier: lists grow, elements inside are completed, the rest is overwritten."""
    trace = run.trace
    for name, part in value.items():
        held = into.get(name)
        if isinstance(held, list) and isinstance(part, list):
            held.extend(part)
        elif isinstance(held, dict) and isinstance(part, dict):
            merge(run, held, part)
        else:
            into[name] = part
        if trace is not None:
            trace.moved(value, name, into)
