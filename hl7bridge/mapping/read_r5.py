"""Tables of what differs between R4 and R5: from nodes to values."""

from __future__ import annotations

from hl7bridge.fhir.difference import EXTENSION, Difference, Move, Names
from hl7bridge.mapping.paths import EXTENSION_BASE
from hl7bridge.mapping.read import Reader
from hl7bridge.mapping.schema import Place, R5Table
from hl7bridge.mapping.source import Fields, Items, Node, SourceFile, Text

R5_WORDS = ("r5", "moves", "codes", "adds", "absent", "otherwise", "extensions", "note")
MOVE_WORDS = ("to", "set", "system", "note")


class R5Reader(Reader):
    """`r5/Encounter.yaml`."""

    def table(self, file: SourceFile) -> R5Table | None:
        node = file.node
        type_ = self.named(file, "r5")
        self.words(node, R5_WORDS, "a table for R5")
        places: dict[tuple[str, str], Place] = {}
        moves = {names(key): self._move(key, value) for key, value in self._of(node, "moves", places)}
        adds = {names(key): self.string(value, f"what {key} gets") for key, value in self._of(node, "adds", places)}
        codes = {names(key): self._codes(key, value) for key, value in self._of(node, "codes", places)}
        otherwise = {
            names(key): self.string(value, f"what {key} gets") for key, value in self._of(node, "otherwise", places)
        }
        extensions = {
            extension_url(key): extension_url(self.string(value, f"what {key} becomes"))
            for key, value in self._of(node, "extensions", places)
        }
        said = node.get("absent")
        absent = (
            self.texts(said, "`absent`") if said is not None and (not isinstance(said, Items) or said.items) else ()
        )
        places.update({("absent", text.text): text.place for text in absent})
        difference = Difference(
            moves={key: move for key, move in moves.items() if move is not None},
            codes=codes,
            adds=adds,
            absent=frozenset(names(text.text) for text in absent),
            otherwise=otherwise,
            extensions=extensions,
        )
        return R5Table(type_, difference, node.place, places)

    def _of(self, node: Fields, word: str, places: dict[tuple[str, str], Place]) -> list[tuple[str, Node]]:
        fields = self.fields(node.get(word), f"`{word}`")
        entries = [(key, place, value) for key, place, value in fields or ()]
        places.update({(word, key): place for key, place, _ in entries})
        return [(key, value) for key, _, value in entries]

    def _move(self, key: str, node: Node) -> Move | None:
        if isinstance(node, Text):
            return Move(() if node.text == EXTENSION else names(node.text))
        fields = self.fields(node, f"where {key} goes")
        if fields is None:
            return None
        self.words(fields, MOVE_WORDS, f"where {key} goes")
        to = self.string(fields.get("to"), "`to`")
        if not to:
            self.mistakes.add(fields.place, f"where {key} goes has no `to`")
            return None
        set_ = self.fields(fields.get("set"), "`set`")
        constants = {names(path): self.string(value, f"what {path} gets") for path, _, value in set_ or ()}
        return Move(names(to), constants, self.string(fields.get("system"), "`system`"))

    def _codes(self, key: str, node: Node) -> dict[str, str]:
        fields = self.fields(node, f"the codes of {key}")
        return {code: self.string(value, f"what {code!r} becomes") for code, _, value in fields or ()}


def extension_url(text: str) -> str:
    return text if ":" in text else EXTENSION_BASE + text


def names(path: str) -> Names:
    """`participant.actor` -> ("participant", "actor")"""
    return tuple(path.split("."))
