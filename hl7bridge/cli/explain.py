"""`hl7bridge explain`: where every element of a bundle came from, and where every field of the message went.

What holds: without --values only paths, field names, files and lines are printed, never what stood there. With it the
values go to standard output and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from hl7bridge.cli.inputs import Input, Unusable, messages
from hl7bridge.cli.terminal import table
from hl7bridge.cli.translate import CHARSET, SET, TABLES, ZONE, settings_of, zone_of
from hl7bridge.errors import EXIT_FAILED, Hl7BridgeError
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.lineage import BRIDGE, Fate, Line, element_document, fate_document
from hl7bridge.mapping.absent import there_is_none
from hl7bridge.mapping.mappings import load_mappings
from hl7bridge.translation import Story, explain

_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]\.resource\.(.*)")
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")
_FIELD = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+)(?:\[(\d+)\])?(?:\.(\d+)(?:\.(\d+))?)?)?")
SHOWN = 3  # elements a field went to that are listed in a line


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--path", metavar="PATH", help="Only elements at or below: Patient.name, Observation@7, Bundle.type.")
@click.option("--field", metavar="FIELD", help="Only what came from, or stood in: PID-5, PID-3.4, OBX[2]-5, NK1.")
@click.option("--message", "number", type=click.IntRange(min=1), default=1, help="Which message of FILE.  [default: 1]")
@click.option("--nowhere", is_flag=True, help="Only the fields that went nowhere, and why.")
@click.option("--values", is_flag=True, help="Show the values too: patient data, unless the message is a made-up one.")
@TABLES
@SET
@ZONE
@CHARSET
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def command(
    file: str,
    path: str | None,
    field: str | None,
    number: int,
    nowhere: bool,
    values: bool,
    folders: tuple[str, ...],
    settings: tuple[str, ...],
    zone: str | None,
    charset: str | None,
    as_json: bool,
) -> None:
    """Say where every element of a bundle came from, and where every field of the message went.

    For each element: the field, the code table, and the file and line of the row; behind it the rows that led there.
    For each populated field: the elements it went to, or why nowhere: its table says so (unmapped), a condition is
    false, an option is off, a repetition has no room, a value or code does not fit. Both as paths; values are not
    shown unless --values asks for them. FILE may be - for standard input.

    \b
    Examples:
      hl7bridge explain samples/adt_a01_admit.hl7 --path Patient.name
      hl7bridge explain samples/adt_a01_admit.hl7 --field PID-5
      hl7bridge explain samples/adt_a01_admit.hl7 --nowhere
      hl7bridge explain message.hl7 --tables sites/north --json | jq '.fields[] | select(.to == [])'

    Exit codes: 0 explained, 1 the message cannot be translated (its fields are still told, as far as it came), 2 wrong
    usage, 3 the tables do not load.
    """
    chosen = _field(field) if field else None
    raw = _message(file, number).raw
    mappings = load_mappings(*folders, settings=settings_of(settings))
    message = parse(raw, charset_fallback=charset)
    story = explain(message, mappings, zone_of(zone))
    view = View(story, message, values)
    elements = () if nowhere else tuple(line for line in story.elements if view.has(line, path, chosen))
    fields = tuple(fate for fate in story.fields if view.went(fate, path, chosen) and not (nowhere and fate.to))
    if as_json:
        click.echo(json.dumps(view.document(elements, fields), indent=1, ensure_ascii=False))
    else:
        view.show(elements, fields)
        if not elements and not fields:
            why = " and ".join(filter(None, map(there_is_none, filter(None, (field and field.upper(), path)))))
            click.echo(f"Nothing in this message matches{': ' if why else '.'}{why}", err=True)
    if story.error is not None:
        click.echo(f"hl7bridge: {file}: message {number}: {story.error}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _message(file: str, number: int) -> Input:
    for item in messages([file]):
        if isinstance(item, Unusable):
            raise Hl7BridgeError(f"{item.name}: {item.why}")
        if item.number == number:
            return item
    raise Hl7BridgeError(f"{file} holds no message {number}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A field as --field names it: 0 for any."""

    segment: str
    occurrence: int = 0
    numbers: tuple[int, ...] = (0, 0, 0, 0)  # field, repetition, component, subcomponent

    def covers(self, source: str) -> bool:
        """Whether one of the fields in `source` is it or stands in it."""
        return any(self._one(part) for part in source.split(" + "))

    def _one(self, source: str) -> bool:
        other = _FIELD.fullmatch(source)
        if other is None or other[1] != self.segment:
            return False
        found = [int(group or 0) for group in other.groups()[1:]]
        return all(mine in (0, theirs) for mine, theirs in zip((self.occurrence, *self.numbers), found, strict=True))


def _field(text: str) -> Chosen:
    found = _FIELD.fullmatch(text.upper())
    if found is None:
        raise click.BadParameter(f"{text!r} is no field like PID-5, PID-3.4 or OBX[2]-5", param_hint="--field")
    occurrence, *numbers = (int(group or 0) for group in found.groups()[1:])
    return Chosen(found[1], occurrence, tuple(numbers))


class View:
    """One story for a reader. Resources are named by type, with `@entry` where there are several of it."""

    def __init__(self, story: Story, message: Message, values: bool) -> None:
        self.story, self.message, self.values = story, message, values
        entries = (story.bundle or {}).get("entry", ())
        types = [entry.get("resource", {}).get("resourceType", "") for entry in entries]  # a DELETE has no resource
        several = Counter(types)
        self._names = [f"{t}@{n}" if several[t] > 1 else t for n, t in enumerate(types)]
        self._types = types

    def has(self, line: Line, path: str | None, chosen: Chosen | None) -> bool:
        if chosen is not None and not chosen.covers(line.source):
            return False
        return path is None or self._below(line.path, path)

    def went(self, fate: Fate, path: str | None, chosen: Chosen | None) -> bool:
        if chosen is not None and not chosen.covers(fate.source):
            return False
        return path is None or any(self._below(to, path) for to in fate.to)

    def _below(self, full: str, path: str) -> bool:
        """Whether an element is the one named or below it; indices may be left out."""
        entry = _ENTRY.fullmatch(full)
        spellings = [full]
        if entry:
            number = int(entry[1])
            spellings += [f"{self._types[number]}.{entry[2]}", f"{self._types[number]}@{number}.{entry[2]}"]
        wanted = path.rstrip(".")
        for spelling in spellings:
            for text in (spelling, re.sub(r"\[\d+\]", "", spelling)):
                if text == wanted or text.startswith((f"{wanted}.", f"{wanted}[")):
                    return True
        return False

    def short(self, full: str) -> str:
        """Patient.name[0].family; entries' own elements and the bundle's keep their path."""
        entry = _ENTRY.fullmatch(full)
        return f"{self._names[int(entry[1])]}.{entry[2]}" if entry else full

    # ---- for people ----

    def show(self, elements: Sequence[Line], fields: Sequence[Fate]) -> None:
        if elements:
            head = ("ELEMENT", "FIELD", "CODES", "ROW", *(["VALUE"] if self.values else []))
            click.echo(table([head, *(self._element(line) for line in elements)]))
        if elements and fields:
            click.echo()
        if fields:
            head = ("FIELD", "WENT TO", "ROW", *(["VALUE"] if self.values else []))
            click.echo(table([head, *(row for fate in fields for row in self._fate(fate))]))
        if not elements and not fields:
            return
        went = sum(bool(fate.to) for fate in fields)
        counted = f"{len(elements)} element{'s' * (len(elements) != 1)}"
        click.echo(f"{counted}; {went} of {len(fields)} populated fields went somewhere", err=True)

    def _element(self, line: Line) -> tuple[str, ...]:
        via = "".join(f" < {_row(place)}" for place in reversed(line.via))
        source = {"fixed": f"(fixed) {line.source}", "link": f"(link) {line.source}", BRIDGE: "(hl7bridge)"}
        row = (self.short(line.path), source.get(line.kind, line.source), line.codes, f"{_row(line.place)}{via}")
        return (*row, json.dumps(self._value(line.path), ensure_ascii=False, default=str)) if self.values else row

    def _fate(self, fate: Fate) -> Iterator[tuple[str, ...]]:
        value = (self._text(fate),) if self.values else ()
        if fate.to:
            rows = ", ".join(map(_row, fate.rows[:SHOWN]))
            yield (fate.source, self.short(fate.to[0]), rows, *value)
            for path in fate.to[1:SHOWN]:
                yield ("", self.short(path), "", *([""] if self.values else []))
            if len(fate.to) > SHOWN:
                yield ("", f"and {len(fate.to) - SHOWN} more", "", *([""] if self.values else []))
            return
        first, *others = fate.why
        more = f" (and {len(others)} more)" if others and first.kind == "condition" else ""
        yield (fate.source, f"nowhere: {first.kind}: {first.text}{more}", _row(first.place), *value)

    # ---- for machines ----

    def document(self, elements: Sequence[Line], fields: Sequence[Fate]) -> dict[str, Any]:
        return {
            "elements": [element_document(line) | self._with(self._value, line.path) for line in elements],
            "fields": [fate_document(fate) | self._with(self._text, fate) for fate in fields],
            "error": str(self.story.error) if self.story.error is not None else None,
        }

    def _with(self, value: Any, of: Any) -> dict[str, Any]:
        return {"value": json.loads(json.dumps(value(of), default=str))} if self.values else {}

    # ---- values: only when asked for ----

    def _value(self, path: str) -> Any:
        value: Any = self.story.bundle
        for step in _STEP.findall(path)[1:]:
            value = value[int(step[1:-1])] if step[0] == "[" else value[step]
        return value

    def _text(self, fate: Fate) -> str:
        segment, field, *deeper = fate.at
        found = self.message.segments[segment - 1]
        if found.id == "MSH" and field <= 2:
            return found.field(field)
        repetition, component, piece = deeper
        value = found.repetitions(field)[repetition - 1]
        part = self.message.separators.components(value)[component - 1]
        return self.message.text(self.message.separators.subcomponents(part)[piece - 1])


def _row(place: str) -> str:
    """segments/PID-Patient.yaml:7 for the shipped tables, with the folder's name for a site's."""
    return place.removeprefix("mappings/")
