"""Judges the tables for R5: every path exists on its side, and everything that R5 has not is said to go somewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hl7bridge.fhir.conversion import Conversion
from hl7bridge.fhir.conversion_values import converts
from hl7bridge.fhir.difference import EXTENSION, Move, Names
from hl7bridge.fhir.model import Element, Model
from hl7bridge.mapping.schema import Place, R5Table, Step, TableSet
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import did_you_mean, listed

FHIR_VERSION, R5 = "fhir-version", "R5"


class R5Check:
    def __init__(self, tables: TableSet, old: Model, new: Model, mistakes: Mistakes) -> None:
        self._tables, self._old, self._new, self._mistakes = tables, old, new, mistakes

    def check(self) -> None:
        """Each table; and, when R5 is asked for, that none is missing."""
        before = len(self._mistakes.found)
        for table in self._tables.r5.values():
            self._table(table)
        if len(self._mistakes.found) == before:
            self._complete()

    def _table(self, table: R5Table) -> None:
        for model, version in ((self._old, "R4"), (self._new, "R5")):
            if not model.exists(table.type):
                meant = model.suggest_type(table.type)
                hint = f"; did you mean {meant!r}?" if meant else ""
                self._mistakes.add(table.place, f"there is no type {table.type!r} in FHIR {version}{hint}")
                return
        for path, move in table.difference.moves.items():
            place = _place(table, "moves", path)
            elements = self._elements(self._old, "R4", table.type, path, place)
            if elements and move.to:
                self._move(table, path, elements, move, place)
        for path, codes in table.difference.codes.items():
            place = _place(table, "codes", path)
            for element in self._elements(self._old, "R4", table.type, path, place):
                self._codes(table, path, element, codes, place)
        for word in ("adds", "absent"):
            for path in getattr(table.difference, word):
                self._elements(self._new, "R5", table.type, path, _place(table, word, path))
        for path, text in table.difference.otherwise.items():
            self._otherwise(table, path, text, _place(table, "otherwise", path))

    def _elements(self, model: Model, version: str, type_: str, path: Names, place: Place) -> list[Element]:
        """The element a path leads to, or the elements of a choice; empty after a mistake."""
        at, found = type_, list[Element]()
        for name in path:
            elements = model.elements(at)
            found = [elements[name]] if name in elements else [elements[n] for n in model.choices(at, name)]
            if not found:
                hint = did_you_mean(name, elements)
                self._mistakes.add(place, f"{'.'.join(path)}: {at} has no element {name!r} in FHIR {version}{hint}")
                return []
            at = found[0].type
        return found

    def _move(self, table: R5Table, path: Names, elements: list[Element], move: Move, place: Place) -> None:
        targets = self._elements(self._new, "R5", table.type, move.to, place)
        for constant in move.set_:
            self._elements(self._new, "R5", table.type, constant, place)
        if not targets:
            return
        for element in elements:
            if not any(self._takes(element, target) for target in targets):
                types = listed(sorted({target.type for target in targets}))
                self._mistakes.add(
                    place, f"{'.'.join(path)} is a {element.type}, and {'.'.join(move.to)} takes {types} in FHIR R5"
                )
            elif element.type == "code" and targets[0].type == "CodeableConcept" and not move.system:
                self._mistakes.add(place, f"{'.'.join(path)} becomes a concept, so its code needs a `system`")

    def _takes(self, element: Element, target: Element) -> bool:
        if self._old.is_backbone(element.type):
            return not target.is_primitive
        return converts(element, target, self._old, self._new)

    def _codes(self, table: R5Table, path: Names, element: Element, codes: Mapping[str, str], place: Place) -> None:
        to = table.difference.home(path)
        targets = self._elements(self._new, "R5", table.type, to, place) if to else []
        for code, new in codes.items():
            if element.codes and code not in element.codes:
                self._mistakes.add(place, f"{'.'.join(path)} has no code {code!r} in FHIR R4")
            if new != EXTENSION and targets and targets[0].codes and new not in targets[0].codes:
                hint = did_you_mean(new, targets[0].codes)
                self._mistakes.add(place, f"{'.'.join(to)} has no code {new!r} in FHIR R5{hint}")

    def _otherwise(self, table: R5Table, path: Names, text: str, place: Place) -> None:
        for element in self._elements(self._old, "R4", table.type, path, place):
            if element.type != "CodeableConcept":
                self._mistakes.add(
                    place, f"`otherwise` gives concepts a code, and {'.'.join(path)} is a {element.type}"
                )
        if "|" not in text:
            self._mistakes.add(place, f"`otherwise` is written system|code, not {text!r}")

    def _complete(self) -> None:
        asked = self._tables.settings.get(FHIR_VERSION) == R5
        option = self._tables.options.get(FHIR_VERSION)
        conversion = Conversion(self._old, self._new, {t.type: t.difference for t in self._tables.r5.values()})
        for type_ in sorted({*self._tables.r5, *(self._written() if asked else ())}):
            table = self._tables.r5.get(type_)
            place = table.place if table is not None else option.place if option is not None else None
            if place is None:
                continue
            if asked and not self._new.exists(type_):
                self._mistakes.add(place, f"the tables write {type_}, which FHIR R5 does not have")
                continue
            for path in conversion.unhandled(type_):
                self._mistakes.add(
                    place, f"{'.'.join(path)} differs in FHIR R5, and r5/{path[0]}.yaml does not say how"
                )

    def _written(self) -> Iterator[str]:
        return written_types(self._tables, self._old)


def written_types(tables: TableSet, old: Model) -> Iterator[str]:
    """The resource types that the tables can write."""
    for table in (*tables.segments.values(), *tables.datatypes.values()):
        if old.is_resource(table.target):
            yield table.target
        for row in table.rows:
            for path in (row.to, row.on):
                yield from _resources(path.steps if path is not None else ())
    for message in tables.messages.values():
        yield from (use.into.type for use in message.uses if old.is_resource(use.into.type))


def _resources(steps: tuple[Step, ...]) -> Iterator[str]:
    for step in steps:
        if step.resource:
            yield step.resource
        yield from _resources(step.inner)


def _place(table: R5Table, word: str, path: Names) -> Place:
    return table.places.get((word, ".".join(path)), table.place)
