"""Message tables and the rows they share: from nodes to values. The ends of paths in them become full paths here.

A shared table is read once; each message that names it takes the rows its structure has a place for and leaves out
those it says something else about. A link of a shared row to a resource that the message does not make is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hl7bridge.fhir.model import closest
from hl7bridge.hl7v2.structure import Structure, StructureError
from hl7bridge.mapping.overlay import ADDED
from hl7bridge.mapping.paths import parse_label, parse_link_key, parse_ref
from hl7bridge.mapping.read import Reader
from hl7bridge.mapping.schema import (
    FieldValue,
    Label,
    Lines,
    Link,
    MessageTable,
    Path,
    Place,
    Ref,
    SharedTable,
    Use,
    Write,
)
from hl7bridge.mapping.source import Fields, Items, Node, SourceFile, Text
from hl7bridge.mapping.walk import did_you_mean, listed

MESSAGE_WORDS = (
    "message",
    "events",
    "structure",
    "segments",
    "shares",
    "rows",
    "also",
    "unmapped",
    "deviations",
    "note",
)
SHARED_WORDS = ("shared", "rows", "unmapped", "deviations", "note")
USE_WORDS = ("use", "into", "each", "link", "lines", "write", "finds", "undo", "when", "option", "note")
WRITES: dict[str, Write] = {"create": "create", "patch": "patch", "replace": "replace", "delete": "delete"}
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}_[A-Z0-9]{3}")
_EVENT = re.compile(r"[A-Z][A-Z0-9]{2}")


class MessageReader(Reader):
    """Message tables, and shared tables."""

    def shared(self, file: SourceFile) -> SharedTable:
        node = file.node
        self.words(node, SHARED_WORDS, "a shared table")
        rows = self.fields(node.get("rows"), "`rows`")
        unmapped, unwritten = self.unmapped(node.get("unmapped"))
        self._one_spelling({**{key: at for key, at, _ in rows or ()}, **{key: at for key, (at, _) in unmapped.items()}})
        return SharedTable(
            name=self.named(file, "shared"),
            uses=tuple(self._uses(rows, None)) if rows else (),
            place=node.place,
            unmapped={key: why for key, (_, why) in unmapped.items()},
            unmapped_places={key: at for key, (at, _) in unmapped.items()},
            guide=self.guide("", unwritten, node.get("deviations")),
        )

    def _one_spelling(self, keys: Mapping[str, Place]) -> None:
        """`PID` and `PATIENT.PID` may be one segment: a site's row for one would stand beside the rows of the other."""
        for key, place in keys.items():
            longer = next((other for other in keys if other.endswith("." + key)), None)
            if longer is not None:
                self.mistakes.add(place, f"{key} and {longer} may be the same segment: both are spelled one way")

    def message(self, file: SourceFile, shared: Mapping[str, SharedTable]) -> MessageTable | None:
        node = file.node
        name = self.named(file, "message")
        self.words(node, MESSAGE_WORDS, "a message table")
        if _NAME.fullmatch(name) is None:
            self.mistakes.add(node.place, f"{name!r} is not a message structure, like ADT_A01")
        for word in ("events", "structure") if "shares" in node.entries else ("events", "structure", "rows"):
            if word not in node.entries:
                self.mistakes.add(node.place, f"the word `{word}` is missing")
        structure = self.text(node.get("structure"), "`structure`")
        parsed = self._structure(structure)
        self._not_added(node.get("segments"), parsed)
        rows = self.fields(node.get("rows"), "`rows`")
        unmapped, unwritten = self.unmapped(node.get("unmapped"))
        full = {self._resolve(parsed, key, at) or key: (at, why) for key, (at, why) in unmapped.items()}
        table = MessageTable(
            name=name,
            code=name.partition("_")[0],
            events=tuple(self._events(node.get("events"))),
            structure=structure.text if structure else "",
            uses=tuple(self._uses(rows, parsed)) if rows else (),
            place=node.place,
            unmapped={key: why for key, (_, why) in full.items()},
            unmapped_places={key: at for key, (at, _) in full.items()},
            guide=self.guide(name, unwritten, node.get("deviations")),
        )
        shares = tuple(self._shares(node.get("shares"), shared))
        also = self.fields(node.get("also"), "`also`")
        beside = tuple(self._uses(also, parsed)) if also else ()
        return _with_shared(table, parsed, [shared[name] for name in shares], beside) if parsed is not None else table

    def _shares(self, node: Node | None, shared: Mapping[str, SharedTable]) -> Iterator[str]:
        for text in self.texts(node, "`shares`") if node is not None else ():
            if text.text in shared:
                yield text.text
            elif not any(mistake.file.endswith(f"/shared/{text.text}.yaml") for mistake in self.mistakes.found):
                meant = closest(text.text, shared)
                hint = f"; did you mean {meant!r}?" if meant else ""
                self.mistakes.add(text.place, f"there is no shared table {text.text!r}{hint}")

    def _structure(self, text: Text | None) -> Structure | None:
        if text is None:
            return None
        try:
            return Structure(text.text)
        except StructureError as error:
            self.mistakes.add(text.at(error.position + 1), f"`structure`: {error}")
            return None

    def _not_added(self, node: Node | None, structure: Structure | None) -> None:
        """What stands under `segments` and could not be put into the structure: see overlay.py."""
        for text in self.texts(node, "`segments`") if node is not None else ():
            found = ADDED.fullmatch(text.text)
            if found is None:
                said = "which segment comes after which, like ZPI after PID or {ZIN} after IN1"
                self.mistakes.add(text.place, f"`segments` says {said}, not {text.text!r}")
            elif structure is not None:
                try:
                    structure.with_segment(found[2], found[3])
                except ValueError as error:
                    names = dict.fromkeys(path.rpartition(".")[2] for path in structure.nodes)
                    hint = "" if found[3] in names else did_you_mean(found[3], names)
                    self.mistakes.add(text.place, f"`segments`: {error}{hint}")

    def _events(self, node: Node | None) -> Iterator[str]:
        for text in self.texts(node, "an event") if node is not None else ():
            if _EVENT.fullmatch(text.text) is None:
                self.mistakes.add(text.place, f"{text.text!r} is not a trigger event, like A01")
            else:
                yield text.text

    def _resolve(self, structure: Structure | None, key: str, place: Place) -> str | None:
        """The full path of the node that a key means."""
        if structure is None:
            return None
        try:
            return structure.resolve(key)
        except ValueError as error:
            self.mistakes.add(place, str(error))
            return None

    def _uses(self, rows: Fields, structure: Structure | None) -> Iterator[Use]:
        for key, place, node in rows:
            segment = self._resolve(structure, key, place)
            for item in node.items if isinstance(node, Items) else (node,):
                use = self._use(segment or key, item, item.place if isinstance(node, Items) else place)
                if use is not None:
                    yield use

    def _use(self, segment: str, node: Node, place: Place) -> Use | None:
        fields = self.fields(node, f"a row of {segment}")
        if fields is None:
            return None
        self.words(fields, USE_WORDS, f"a row of {segment}")
        for word in ("use", "into"):
            if word not in fields.entries:
                self.mistakes.add(place, f"the row of {segment} has no `{word}`")
        when, when_text = self.condition(self.text(fields.get("when"), "`when`"))
        table = self.string(fields.get("use"), "`use`")
        into = self.parse(self.text(fields.get("into"), "`into`"), parse_label, "`into`")
        links = tuple(self._links(fields.get("link")))
        option = self.option(self.text(fields.get("option"), "`option`"))
        write = self._write(self.text(fields.get("write"), "`write`"))
        note = self.string(fields.get("note"), "`note`")
        lines = self._lines(fields.get("lines"))
        finds, undo = self.yes(fields.get("finds"), "`finds`"), self.yes(fields.get("undo"), "`undo`")
        if not table or into is None:
            return None
        each = self.parse(self.text(fields.get("each"), "`each`"), parse_ref, "`each`")
        return Use(segment, table, into, links, place, when, when_text, option, write, note, lines, each, finds, undo)

    def _write(self, text: Text | None) -> Write:
        """How the resource is written, where the row says it."""
        if text is None:
            return ""
        if text.text not in WRITES:
            hint = did_you_mean(text.text, WRITES)
            self.mistakes.add(text.place, f"`write` is {listed(tuple(WRITES))}, not {text.text!r}{hint}")
        return WRITES.get(text.text, "")

    def _lines(self, node: Node | None) -> Lines | None:
        """`{of: OBX-5, counting: [OBX-1, OBX-4], when: OBX-2 = TX}`."""
        fields = self.fields(node, "`lines`")
        if fields is None:
            return None
        self.words(fields, ("of", "counting", "when"), "`lines`")
        of = self.field(fields.get("of"), "the `of` of `lines`")
        if "of" not in fields.entries:
            self.mistakes.add(fields.place, "`lines` has no `of`: the field that holds the text")
        counting = [
            self.parse(text, parse_ref, "the `counting` of `lines`")
            for text in (self.texts(fields.get("counting"), "`counting`") if "counting" in fields.entries else ())
        ]
        refs = tuple(ref for ref in (of, *counting) if ref is not None)
        if of is None or any(len(ref.parts) != 1 for ref in refs):
            if of is not None:
                self.mistakes.add(fields.place, "`lines` names whole fields, like OBX-5")
            return None
        when, _ = self.condition(self.text(fields.get("when"), "the `when` of `lines`"))
        return Lines(of.parts[0], tuple(ref.parts[0] for ref in refs[1:]), refs, when)

    def _links(self, node: Node | None) -> Iterator[Link]:
        for key, place, value in self.fields(node, "`link`") or ():
            target = self.parse(Text(key, place), lambda text, at=place: parse_link_key(text, at), "`link`")  # type: ignore[misc]
            for item in value.items if isinstance(value, Items) else (value,):
                if isinstance(item, Fields):
                    if (link := self._matched(item, target, place)) is not None:
                        yield link
                    continue
                text = self.text(item, f"the resource that {key} leads to")
                label: Label | None = self.parse(text, parse_label, "`link`")
                if target is not None and label is not None:
                    yield Link(target[0], target[1], label, place)

    def _matched(self, fields: Fields, target: tuple[Label | None, Path] | None, place: Place) -> Link | None:
        """`{to: Observation#result, match: {OBR-26.1: OBX-3.1}}`: those of the message whose fields agree with ours."""
        self.words(fields, ("to", "match"), "`link`")
        for word in ("to", "match"):
            if word not in fields.entries:
                self.mistakes.add(fields.place, f"`link` has no `{word}`: it is a resource, or {{to: …, match: …}}")
        label = self.parse(self.text(fields.get("to"), "the `to` of `link`"), parse_label, "`link`")
        pairs: list[tuple[Ref, FieldValue]] = []
        for key, at, value in self.fields(fields.get("match"), "`match`") or ():
            ours = self.parse(Text(key, at), parse_ref, "`match`")
            theirs = self.field_value(value, f"the field that {key} is compared with")
            if ours is not None and theirs is not None:
                pairs.append((ours, theirs))
        if target is None or label is None or not pairs:
            return None
        return Link(target[0], target[1], label, place, tuple(pairs))


def _with_shared(
    table: MessageTable, structure: Structure, shared: Iterable[SharedTable], beside: tuple[Use, ...]
) -> MessageTable:
    """The message with what it shares. Its own word on a segment, or on a group around it, comes before the shared;
    `beside` (the rows under `also`) replaces nothing.
    """
    own = (*(use.segment for use in table.uses), *table.unmapped)
    uses, unmapped, places = list(table.uses), dict(table.unmapped), dict(table.unmapped_places)
    names: list[str] = []
    taken: set[Place] = set()
    for part in shared:
        names.append(part.name)
        for use in part.uses:
            for path in _open(structure, use.segment, own):
                uses.append(replace(use, segment=path))
                taken.add(use.place)
        for key, why in part.unmapped.items():
            for path in _open(structure, key, own):
                unmapped.setdefault(path, why)
                places.setdefault(path, part.unmapped_places[key])
    uses += beside
    made = {use.into for use in uses}
    uses = [_linked(use, made) if use.place in taken else use for use in uses]
    return replace(table, uses=tuple(uses), unmapped=unmapped, unmapped_places=places, shares=tuple(names))


def _open(structure: Structure, key: str, own: Iterable[str]) -> list[str]:
    """The paths that end with `key` and that the message itself says nothing about."""
    return [p for p in structure.ends(key) if not any(p == said or p.startswith(said + ".") for said in own)]


def _linked(use: Use, made: set[Label]) -> Use:
    """A shared use with those of its links whose resources the message makes."""
    links = tuple(link for link in use.links if link.to in made and (link.on is None or link.on in made))
    return replace(use, links=links)
