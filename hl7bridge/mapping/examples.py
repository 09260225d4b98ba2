"""The `examples:` of the tables, run: what a segment or a value becomes, held against what its author expects.

Sans-IO. `given` is one segment (further lines are its surroundings) or one value; `expect` must be part of the result:
a dictionary's keys, a list's leading items. A new resource behind a reference is shown in place of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from hl7bridge.errors import MessageError
from hl7bridge.fhir.model import model
from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.hl7v2.message import Segment, parse
from hl7bridge.mapping.compile import Compiler
from hl7bridge.mapping.convert import CONVERTERS, Invalid
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Example, Table

_HEAD = rb"MSH|^~\&|APP|FAC|||20240229101112+0100||ADT^A01|1|P|2.5.1"


class Differing(NamedTuple):
    """One place of an example's result: its path, what was expected there, what was found; as JSON."""

    path: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Difference:
    """An example that does not hold: every place where its result is not what was expected, in the example's order."""

    table: str
    example: Example
    places: tuple[Differing, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people: a sign (`-` expected, `+` found, else blank) and a line of text."""
        yield "", f"{self.example.place}: example '{self.example.name}' of {self.table} does not hold"
        given = self.example.given.strip("\r\n").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for number, line in enumerate(given):
            yield "", f"    {'given' if not number else '     '}  {line}"
        for place in self.places:
            yield "", f"    at {place.path or 'the top'}"
            yield "-", f"      - expected  {place.expected}"
            yield "+", f"      + found     {place.found}"

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())


class _Surroundings:
    """Stands in for a structure's group: every segment of the example is in sight."""

    path = ""
    parent = None

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments

    def find(self, segment_id: str) -> Segment | None:
        return next((s for s in self._segments if s.id == segment_id), None)


def run(mappings: Mappings) -> tuple[int, list[Difference]]:
    """All examples of all tables: how many were run, and those that do not hold."""
    count, differences = 0, []
    for table in (*mappings.tables.segments.values(), *mappings.tables.datatypes.values()):
        for example in table.examples:
            count += 1
            difference = _try(mappings, table, example)
            if difference is not None:
                differences.append(difference)
    return count, differences


def _try(mappings: Mappings, table: Table, example: Example) -> Difference | None:
    compiler = _with_options(mappings, example.options)
    try:
        result = apply(compiler, mappings, table, example.given)
    except (MessageError, Invalid) as error:
        failure = Differing("", _show(example.expect), f"{type(error).__name__}: {error}")
        return Difference(table.name, example, (failure,))
    found = tuple(_differing(result, example.expect, ""))
    return Difference(table.name, example, found) if found else None


def _with_options(mappings: Mappings, options: Mapping[str, str]) -> Compiler:
    if not options:
        return mappings.compiler
    tables = mappings.tables
    return Compiler(replace(tables, settings={**tables.settings, **options}), model())


def apply(compiler: Compiler, mappings: Mappings, table: Table, given: str) -> Any:
    """What one table makes of a segment or a value, with the resources it refers to in place of the references."""
    text = given.strip("\r\n").replace("\r\n", "\r").replace("\n", "\r")
    lines = text if table.kind == "segment" else "NTE|1||x"
    head = b"" if lines.startswith("MSH") else _HEAD + b"\r"
    message = parse(head + lines.encode() + b"\r", charset_fallback="utf-8")
    state = Run(message, mappings.zone, "+0100")
    surroundings: Any = _Surroundings(message.segments)
    resource = Resource(table.target, 1)
    if table.kind == "segment":
        segment = next(s for s in message.segments if s.id == table.source)
        compiler.segment(table.name)(state, segment, surroundings, resource)
    else:
        segment = message.segments[-1]
        fill = compiler.datatype(table.name)
        value = fill(state, segment, surroundings, text, resource.body, resource, False)
        if compiler.is_primitive(table.name):
            return _plain(CONVERTERS[table.target](state, value), {}) if value else value
    return _plain(resource.body, state.targets)


def _plain(value: Any, targets: Mapping[int, Resource]) -> Any:
    """As the example file would spell it: all scalars text, referenced resources in place."""
    if isinstance(value, dict):
        target = targets.get(id(value))
        if target is not None:
            inside: Body = {"resourceType": target.type, **target.body}
            return {**{n: _plain(p, targets) for n, p in value.items()}, "reference": _plain(inside, targets)}
        return {name: _plain(part, targets) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part, targets) for part in value]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _differing(found: Any, expected: Any, path: str) -> Iterator[Differing]:
    if isinstance(expected, Mapping) and isinstance(found, dict):
        for name, part in expected.items():
            at = f"{path}.{name}" if path else str(name)
            if name in found:
                yield from _differing(found[name], part, at)
            else:
                yield Differing(at, _show(part), f"nothing{_instead(found, expected)}")
    elif isinstance(expected, list) and isinstance(found, list):
        for i, part in enumerate(expected):
            if i < len(found):
                yield from _differing(found[i], part, f"{path}[{i}]")
            else:
                yield Differing(f"{path}[{i}]", _show(part), f"nothing: there are only {len(found)}")
    elif found != expected:
        yield Differing(path, _show(expected), _show(found))


def _instead(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What is there and was not asked for: often the name that was meant."""
    others = [name for name in found if name not in expected]
    return f"; there is also {', '.join(others)}" if others else ""


def _show(value: Any) -> str:
    return orjson.dumps(value, default=dict).decode()
