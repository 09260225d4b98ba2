"""The FHIR model as data: which elements a type has, of what type, how often, with which codes and targets.

R4, and R5 for what goes out in it. Sans-IO but for reading `r4.json` and `r5.json` beside this file once, which
model_build.py and r5_build.py write from sources too slow to read at start. The checker judges the tables by it, the
compiler chooses conversions by it, the bundle checks required elements by it. Nothing here changes after loading.

A type path is a type (`Patient`, `HumanName`, `Extension`) or a backbone element's path (`Patient.contact`). An element
defined by reference to another (`Bundle.entry.link`) has that one's path as its type (`Bundle.link`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

_FILE = Path(__file__).with_name("r4.json")
MAX_ORDERS = 5000  # sets of names whose order is kept
_ALIKE = 0.6  # difflib's own default: how alike a suggestion must be


class Element(NamedTuple):
    """One element of a type.

    `type`: data type, primitive, `Resource`, or the path of a backbone element. `choice`: `value` for `valueQuantity`.
    `targets`: resource types a Reference may lead to, empty for any. `codes`: the codes of a required binding, empty
    for none; `system`: their code system where the element is a CodeableConcept. `required` on a choice: one of them
    must be there.
    """

    name: str
    type: str
    many: bool = False
    required: bool = False
    choice: str | None = None
    targets: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    system: str = ""
    is_primitive: bool = False

    @property
    def is_resource_reference(self) -> bool:
        return self.type == "Reference"


class Model:
    """The types of one version of FHIR. Immutable; elements are made from the data when a type is first asked for."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._primitives: frozenset[str] = frozenset(data["primitives"])
        self._types: Mapping[str, Any] = data["types"]
        self._elements: dict[str, Mapping[str, Element]] = {}
        self._positions: dict[str, Mapping[str, int]] = {}
        self._orders: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def elements(self, type_path: str) -> Mapping[str, Element]:
        """All elements by name, inherited ones first, in the specification's order; empty for an unknown type."""
        found = self._elements.get(type_path)
        if found is None:
            found = self._elements[type_path] = MappingProxyType(self._collect(type_path))
        return found

    def positions(self, type_path: str) -> Mapping[str, int]:
        """The place of each element in the specification's order; `_birthDate` comes right behind birthDate."""
        found = self._positions.get(type_path)
        if found is None:
            found = self._positions[type_path] = {
                name: place
                for place, name in enumerate(
                    n for element in self.elements(type_path) for n in (element, f"_{element}")
                )
            }
        return found

    def in_order(self, type_path: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of elements in the specification's order. A feed has few sets of them, so their orders are kept."""
        found = self._orders.get((type_path, names))
        if found is None:
            places = self.positions(type_path)
            found = tuple(sorted(names, key=lambda name: places.get(name, len(places))))
            if len(self._orders) < MAX_ORDERS:
                self._orders[type_path, names] = found
        return found

    def element(self, type_path: str, name: str) -> Element | None:
        return self.elements(type_path).get(name)

    def choices(self, type_path: str, choice: str) -> tuple[str, ...]:
        """The names of a choice element: `deceased` on Patient -> (`deceasedBoolean`, `deceasedDateTime`)."""
        return tuple(e.name for e in self.elements(type_path).values() if e.choice == choice)

    def required(self, type_path: str) -> tuple[tuple[str, ...], ...]:
        """What must be there: each entry names the elements of which one must be (several: a choice element)."""
        found: dict[str, tuple[str, ...]] = {}
        for element in self.elements(type_path).values():
            if element.required:
                found[element.choice or element.name] = (
                    self.choices(type_path, element.choice) if element.choice else (element.name,)
                )
        return tuple(found.values())

    def exists(self, type_path: str) -> bool:
        """Whether this is a type, a backbone path or a primitive."""
        return type_path in self._types or type_path in self._primitives

    def is_resource(self, type_: str) -> bool:
        return type_ in self.resources

    def is_primitive(self, type_: str) -> bool:
        return type_ in self._primitives

    def is_backbone(self, type_path: str) -> bool:
        return self._kind(type_path) == "backbone"

    def is_a(self, type_path: str, other: str) -> bool:
        """Whether a type is another or derived from it: Age is a Quantity, Patient is a Resource."""
        while type_path:
            if type_path == other:
                return True
            type_path = self._types[type_path]["base"] if type_path in self._types else ""
        return False

    @property
    def types(self) -> Mapping[str, Any]:
        """All types and backbone elements by path, as the data have them."""
        return self._types

    @cached_property
    def resources(self) -> frozenset[str]:
        """All resource types."""
        return frozenset(name for name, said in self._types.items() if said["kind"] == "resource")

    def suggest(self, type_path: str, wrong: str) -> str | None:
        """The element that was probably meant: the same letters in other case first, then the most alike."""
        return closest(wrong, self.elements(type_path))

    def suggest_type(self, wrong: str, resources_only: bool = False) -> str | None:
        """The type that was probably meant."""
        return closest(wrong, self.resources if resources_only else [*self._types, *self._primitives])

    def _kind(self, type_path: str) -> str:
        return str(self._types[type_path]["kind"]) if type_path in self._types else ""

    def _collect(self, type_path: str) -> dict[str, Element]:
        said = self._types.get(type_path)
        if said is None:
            return {}
        found = dict(self.elements(said["base"]))
        for name, element in said["elements"].items():
            found[name] = self._make(name, {"type": element} if isinstance(element, str) else element)
        return found

    def _make(self, name: str, said: Mapping[str, Any]) -> Element:
        written: str = said["type"]
        type_ = written.rstrip("*!")
        return Element(
            name=name,
            type=type_,
            many="*" in written,
            required="!" in written,
            choice=said.get("choice"),
            targets=tuple(said.get("targets", ())),
            codes=tuple(said.get("codes", ())),
            system=said.get("system", ""),
            is_primitive=type_ in self._primitives,
        )


def closest(wrong: str, known: Mapping[str, Any] | frozenset[str] | list[str] | tuple[str, ...]) -> str | None:
    """The known word most like a wrong one, for "did you mean"; None when none is alike.

    The same letters in other case first, then the one word that begins so, then the most alike.
    """
    if not wrong:
        return None
    for word in sorted(known):
        if word.lower() == wrong.lower():
            return word
    begun = [word for word in sorted(known) if len(wrong) > 1 and word.startswith(wrong)]
    if len(begun) == 1:
        return begun[0]
    found = difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=_ALIKE)
    return found[0] if found else None


@cache
def model() -> Model:
    """The one R4 model, read at first use."""
    return Model(orjson.loads(_FILE.read_bytes()))


@cache
def model_r5() -> Model:
    """The one R5 model, read at first use (r5_build.py writes it from the official definitions)."""
    return Model(orjson.loads(_FILE.with_name("r5.json").read_bytes()))
