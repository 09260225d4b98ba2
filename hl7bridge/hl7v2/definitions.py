"""Which fields a segment has and which components a data type, over all versions of HL7 v2: what tables are checked by.

The data stand in definitions.json, made by definitions_build.py. Withdrawn fields are there too, as last defined:
senders go on sending them and tables must be able to read them. Z segments are not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Field(NamedTuple):
    """name: the standard's, in lower case; type: a data type (`varies` for OBX-5); max_repetitions None: unlimited."""

    number: int
    name: str
    type: str
    max_repetitions: int | None
    required: bool


class Component(NamedTuple):
    number: int
    name: str
    type: str


class Definitions:
    """Look-ups by name; None or empty for what the standard has not."""

    def __init__(self, data: dict[str, dict[str, list[list[Any]]]]) -> None:
        self._segments = data["segments"]
        self._datatypes = data["datatypes"]
        self._fields: dict[str, dict[int, Field]] = {}  # of the segments that were asked for
        self._components: dict[str, dict[int, Component]] = {}

    def segment_ids(self) -> Iterator[str]:
        """All segments, in alphabetical order."""
        return iter(self._segments)

    def has_segment(self, segment_id: str) -> bool:
        return segment_id in self._segments

    def has_datatype(self, name: str) -> bool:
        return name in self._datatypes

    def fields(self, segment_id: str) -> tuple[Field, ...]:
        """The fields of a segment, by number; there may be gaps."""
        return tuple(self._fields_of(segment_id).values())

    def field(self, segment_id: str, number: int) -> Field | None:
        return self._fields_of(segment_id).get(number)

    def components(self, datatype: str) -> tuple[Component, ...]:
        """The components of a data type, by number; none for a primitive."""
        return tuple(self._components_of(datatype).values())

    def component(self, datatype: str, number: int) -> Component | None:
        return self._components_of(datatype).get(number)

    def _fields_of(self, segment_id: str) -> dict[int, Field]:
        found = self._fields.get(segment_id)
        if found is None:
            found = {row[0]: Field(*row) for row in self._segments.get(segment_id, ())}
            if found:  # of what the standard has, so that no text from outside is kept
                self._fields[segment_id] = found
        return found

    def _components_of(self, datatype: str) -> dict[int, Component]:
        found = self._components.get(datatype)
        if found is None:
            found = {row[0]: Component(*row) for row in self._datatypes.get(datatype, ())}
            if found:
                self._components[datatype] = found
        return found


def load_definitions() -> Definitions:
    """Reads the data file of the package: a few milliseconds; keep the result."""
    return Definitions(json.loads(Path(__file__).with_name("definitions.json").read_bytes()))
