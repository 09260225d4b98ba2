"""Message tables: from nodes to values. The ends of paths that the rows are keyed by become full paths here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hl7bridge.hl7v2.structure import Structure, StructureError
from hl7bridge.mapping.paths import parse_label, parse_link_key
from hl7bridge.mapping.read import Reader
from hl7bridge.mapping.schema import Label, Link, MessageTable, Place, Use
from hl7bridge.mapping.source import Fields, Items, Node, SourceFile, Text

MESSAGE_WORDS = ("message", "events", "structure", "rows", "unmapped", "note")
USE_WORDS = ("use", "into", "link", "when", "option", "note")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}_[A-Z0-9]{3}")
_EVENT = re.compile(r"[A-Z][A-Z0-9]{2}")


class MessageReader(Reader):
    """Message tables."""

    def message(self, file: SourceFile) -> MessageTable | None:
        node = file.node
        name = self.named(file, "message")
        self.words(node, MESSAGE_WORDS, "a message table")
        if _NAME.fullmatch(name) is None:
            self.mistakes.add(node.place, f"{name!r} is not a message structure, like ADT_A01")
        for word in ("events", "structure", "rows"):
            if word not in node.entries:
                self.mistakes.add(node.place, f"the word `{word}` is missing")
        structure = self.text(node.get("structure"), "`structure`")
        parsed = self._structure(structure)
        rows = self.fields(node.get("rows"), "`rows`")
        unmapped = self.reasons(node.get("unmapped"), "`unmapped`")
        full = {self._resolve(parsed, key, at) or key: (at, why) for key, (at, why) in unmapped.items()}
        return MessageTable(
            name=name,
            code=name.partition("_")[0],
            events=tuple(self._events(node.get("events"))),
            structure=structure.text if structure else "",
            uses=tuple(self._uses(rows, parsed)) if rows else (),
            place=node.place,
            unmapped={key: why for key, (_, why) in full.items()},
            unmapped_places={key: at for key, (at, _) in full.items()},
        )

    def _structure(self, text: Text | None) -> Structure | None:
        if text is None:
            return None
        try:
            return Structure(text.text)
        except StructureError as error:
            self.mistakes.add(text.at(error.position + 1), f"`structure`: {error}")
            return None

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
        note = self.string(fields.get("note"), "`note`")
        if not table or into is None:
            return None
        return Use(segment, table, into, links, place, when, when_text, option, note)

    def _links(self, node: Node | None) -> Iterator[Link]:
        for key, place, value in self.fields(node, "`link`") or ():
            target = self.parse(Text(key, place), lambda text, at=place: parse_link_key(text, at), "`link`")  # type: ignore[misc]
            for text in self.texts(value, f"the resource that {key} leads to"):
                label: Label | None = self.parse(text, parse_label, "`link`")
                if target is not None and label is not None:
                    yield Link(target[0], target[1], label, place)
