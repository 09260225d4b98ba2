"""The guide numbers instances, we label them: rows with one number must have one label, other numbers other labels.

Sans-IO. Only elements that repeat count, and only where the guide gives a number (`identifier[2]`, not `identifier`).
The first row that is found decides which label stands for a number.
"""

from __future__ import annotations

from hl7bridge.fhir.model import Model
from hl7bridge.guide.places import EXTENSION, Place
from hl7bridge.mapping.paths import ANOTHER

_Key = tuple[tuple[str, str], ...]


class Instances:
    """The numbers and labels of one map, as its rows are found."""

    def __init__(self, model: Model, target: str) -> None:
        self.model = model
        self.target = target
        self._ours: dict[_Key, _Key] = {}
        self._theirs: dict[_Key, _Key] = {}

    def fit(self, guide: Place, ours: Place) -> bool:
        """Whether nothing that was taken before speaks against the two being one place."""
        return all(self._ours.get(g, o) == o and self._theirs.get(o, g) == g for g, o in self._pairs(guide, ours))

    def take(self, guide: Place, ours: Place) -> None:
        for theirs, own in self._pairs(guide, ours):
            self._ours.setdefault(theirs, own)
            self._theirs.setdefault(own, theirs)

    def _pairs(self, guide: Place, ours: Place) -> list[tuple[_Key, _Key]]:
        pairs: list[tuple[_Key, _Key]] = []
        theirs: list[tuple[str, str]] = []
        own: list[tuple[str, str]] = []
        type_: str | None = self.target
        for hop, mine in zip(guide, ours, strict=True):
            type_, many = self._step(type_, hop.name)
            numbered = many and hop.label.isdigit()
            theirs.append((hop.name, hop.label if numbered else ""))
            own.append((hop.name, mine.label if numbered else ""))
            if numbered:
                pairs.append((tuple(theirs), tuple(own)))
        return pairs

    def _step(self, type_: str | None, name: str) -> tuple[str | None, bool]:
        """The type after a hop, and whether the element repeats."""
        if name == ANOTHER:
            return type_, True
        if name.startswith("("):
            return name.strip("()"), False
        if name.startswith(f"{EXTENSION} "):
            return "Extension", True
        element = self.model.element(type_, name) if type_ else None
        return (element.type, element.many) if element else (None, False)
