"""Finds what stands at a guide's path in a bundle, references followed; instance numbers are told apart by content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from guide_sheet import Step

_REFERENCE = ("reference", "type", "identifier", "display", "extension", "id")


class Bundle:
    """A bundle, or what one table alone made, to be asked for values at paths."""

    def __init__(self, resource: Mapping[str, Any]) -> None:
        self.top = resource
        entries = resource.get("entry", ()) if resource.get("resourceType") == "Bundle" else ()
        self.resources = [e["resource"] for e in entries if "resource" in e]
        self.by_url = {e["fullUrl"]: e["resource"] for e in entries if "resource" in e}

    def of_type(self, type_: str) -> list[Any]:
        return [self.top] if type_ == "Bundle" else [r for r in self.resources if r["resourceType"] == type_]

    def at(self, steps: Sequence[Step], start: Iterable[Any] | None = None) -> list[Any]:
        """Everything at the path. A path that starts with a type starts at all resources of it."""
        nodes = list(start) if start is not None else [self.top]
        rest = list(steps)
        if start is None and rest and rest[0].behind:
            nodes = self.of_type(rest.pop(0).name)
        for at, step in enumerate(rest):
            following = rest[at + 1].name if at + 1 < len(rest) else ""
            nodes = [found for node in nodes for found in self._step(node, step, following)]
        return nodes

    def _step(self, node: Any, step: Step, following: str) -> Iterator[Any]:
        if step.behind:
            for target in self.behind(node):
                if target.get("resourceType") in step.name.split("|") or "resourceType" not in target:
                    yield target
            return
        if not isinstance(node, Mapping):
            return
        if "reference" in node and step.name not in _REFERENCE:
            for target in self.behind(node):
                yield from self._step(target, step, following)
            return
        if following == "extension" and "_" + step.name in node:
            yield from _flat(node["_" + step.name])
        yield from _flat(node.get(step.name))

    def near(self, resource: Any) -> list[Any]:
        """The resources that a resource refers to."""
        return [target for node in _references(resource) for target in self.behind(node)]

    def behind(self, node: Any) -> list[Any]:
        """The resource a Reference leads to; of a Location also those it is part of (the levels of a place)."""
        said = node.get("reference") if isinstance(node, Mapping) else None
        found = said if isinstance(said, Mapping) else self.by_url.get(said)
        if found is None:
            return []
        reached = [found]
        while found is not None and found.get("resourceType") == "Location" and "partOf" in found:
            said = found["partOf"].get("reference")
            found = said if isinstance(said, Mapping) else self.by_url.get(said)
            if found is not None:
                reached.append(found)
        return reached


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            if part is not None:
                yield part
    elif value is not None:
        yield value


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if "reference" in value:
            yield value
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def leaves(value: Any) -> Iterator[str]:
    """Every text below."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part)
    elif value is not None:
        yield shown(value)


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
