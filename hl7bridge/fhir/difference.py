"""What differs between R4 and R5, as tables say it (mappings/r5/), and what is noted while a resource becomes R5.

Sans-IO, values only. `Changes` notes for lineage which written element is which built one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hl7bridge.fhir.resource import Body

EXTENSION = "extension"  # in place of a path: FHIR's extension for what R5 has not
CROSS_VERSION = "http://hl7.org/fhir/4.0/StructureDefinition/extension-"
Names = tuple[str, ...]
Origin = tuple[int, str | int]
OWN: Origin = (0, "hl7bridge")  # the origin of what R5 asks for and the message did not say


@dataclass(frozen=True, slots=True)
class Move:
    """Where an element stands in R5, from the resource down; empty: in FHIR's extension. `set_`: constants beside it
    (paths and texts; `system|code` for a concept); `system`: of a code that becomes a concept."""

    to: Names
    set_: Mapping[Names, str] = field(default_factory=dict)
    system: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in one type: `moves` by R4 path, `codes` by R4 path and R4 code ("extension": there is none in R5),
    `adds` by R5 path where nothing says it, `absent`: R5 paths that say so where nothing says it. `otherwise`, by R4
    path: the coding of a concept that has none of its system. `extensions`: urls in R4 and R5, of those right in the
    type."""

    moves: Mapping[Names, Move] = field(default_factory=dict)
    codes: Mapping[Names, Mapping[str, str]] = field(default_factory=dict)
    adds: Mapping[Names, str] = field(default_factory=dict)
    absent: frozenset[Names] = frozenset()
    otherwise: Mapping[Names, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)

    def home(self, path: Names) -> Names:
        """Where an R4 path leads in R5: it follows what is around it; () for an extension."""
        for count in range(len(path), 0, -1):
            move = self.moves.get(path[:count])
            if move is not None:
                return (*move.to, *path[count:]) if move.to else ()
        return path


class Changes(NamedTuple):
    """`copies`: id of a written body -> of the one it was built as; `moves`: written element -> built element;
    `leads_to`: the type a Reference leads to, "" where unknown."""

    copies: dict[int, int]
    moves: dict[Origin, Origin]
    leads_to: Callable[[Body], str]

    def built(self, part: Any) -> int:
        return self.copies.get(id(part), id(part))

    def note(self, holder: Any, name: str | int, origin: Origin) -> None:
        self.moves[self.built(holder), name] = self.moves.get(origin, origin)
