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

    def segment_ids(self) -> Iterator[str]:
        """All segments, in alphabetical order."""
        return iter(self._segments)

    def has_segment(self, segment_id: str) -> bool:
        return segment_id in self._segments

    def has_datatype(self, name: str) -> bool:
        return name in self._datatypes

    def fields(self, segment_id: str) -> tuple[Field, ...]:
        """The fields of a segment, by number; there may be gaps."""
        return tuple(Field(*row) for row in self._segments.get(segment_id, ()))

    def field(self, segment_id: str, number: int) -> Field | None:
        return next((field for field in self.fields(segment_id) if field.number == number), None)

    def components(self, datatype: str) -> tuple[Component, ...]:
        """The components of a data type, by number; none for a primitive."""
        return tuple(Component(*row) for row in self._datatypes.get(datatype, ()))

    def component(self, datatype: str, number: int) -> Component | None:
        return next((component for component in self.components(datatype) if component.number == number), None)


def load_definitions() -> Definitions:
    """Reads the data file of the package: a few milliseconds; keep the result."""
    return Definitions(json.loads(Path(__file__).with_name("definitions.json").read_bytes()))
