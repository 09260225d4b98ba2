"""Whether the pieces of a message that tables name exist in HL7 v2: segments, fields, components."""

from __future__ import annotations

from functools import cache

from hl7bridge.fhir.model import closest
from hl7bridge.hl7v2.definitions import Definitions, load_definitions
from hl7bridge.mapping.condition import measures_of, refs_of
from hl7bridge.mapping.schema import Condition, Literal_, Place, Ref, Row, Table, is_segment_name
from hl7bridge.mapping.source import Mistakes

ANY_TYPES = ("varies", "CM", "NA")  # CM: composites of old versions; NA: as many values as are sent


@cache
def definitions() -> Definitions:
    """HL7 v2's own definitions, read at first use."""
    return load_definitions()


class RefCheck:
    """Judges references; a Z segment has no definition, so anything in it may exist."""

    def __init__(self, mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        self.standard = definitions()
        self._right: set[Ref] = set()  # tables name the same fields again and again

    def row(self, table: Table, row: Row) -> None:
        """The key of a row, its condition and its joined parts."""
        if row.source.root != table.source:
            self.mistakes.add(row.place, f"the table reads {table.source}, so {row.source} cannot be the key of a row")
            return
        self.ref(row.source, row.place)
        if row.when is not None:
            self.condition(row.when, row.place, table)
        for part in row.concat:
            if not isinstance(part, Literal_):
                self.ref(part, row.place, "`concat`: ")
                self._in_table(part, table, row.place, "`concat`: ")

    def condition(self, condition: Condition, place: Place, table: Table | None) -> None:
        for ref in refs_of(condition):
            self.ref(ref, place, "`when`: ")
            if table is not None:
                self._in_table(ref, table, place, "`when`: ")
        for measure in measures_of(condition):
            if measure.kind == "count" and (len(measure.ref.parts) != 1 or not is_segment_name(measure.ref.root)):
                self.mistakes.add(place, f"`when`: count({measure.ref}) counts repetitions, and only a field repeats")

    def _in_table(self, ref: Ref, table: Table, place: Place, what: str) -> None:
        """A data type is only read by its own table: elsewhere its name says nothing about where in the message."""
        if not is_segment_name(ref.root) and ref.root != table.source:
            self.mistakes.add(place, f"{what}{ref} is a component of {ref.root}, and the table reads {table.source}")

    def ref(self, ref: Ref, place: Place, what: str = "") -> None:
        if ref in self._right:
            return
        before = len(self.mistakes.found)
        if is_segment_name(ref.root):
            self._segment(ref, place, what)
        else:
            self._datatype(ref.root, ref, ref.parts, place, what)
        if len(self.mistakes.found) == before:
            self._right.add(ref)

    def _segment(self, ref: Ref, place: Place, what: str) -> None:
        if ref.root.startswith("Z"):
            return
        if not self.standard.has_segment(ref.root):
            meant = closest(ref.root, tuple(self.standard.segment_ids()))
            hint = f"; did you mean {meant}?" if meant else ""
            self.mistakes.add(place, f"{what}HL7 v2 has no segment {ref.root}{hint}")
        elif ref.parts:
            field = self.standard.field(ref.root, ref.parts[0])
            if field is None:
                last = self.standard.fields(ref.root)[-1].number
                self.mistakes.add(place, f"{what}{ref.root} has no field {ref.parts[0]}: its last is {ref.root}-{last}")
            else:
                self._datatype(field.type, ref, ref.parts[1:], place, what)

    def _datatype(self, datatype: str, ref: Ref, parts: tuple[int, ...], place: Place, what: str) -> None:
        """Whether a data type has these components; one that varies or is not known has any.

        A primitive has one: what was a composite in another version (TS and DTM, CE and ID) is still read by its first.
        """
        if not parts or datatype in ANY_TYPES or not self.standard.has_datatype(datatype):
            return
        components = self.standard.components(datatype)
        component = self.standard.component(datatype, parts[0])
        if component is not None:
            self._datatype(component.type, ref, parts[1:], place, what)
        elif components:
            last = f"{datatype}.{components[-1].number}"
            self.mistakes.add(place, f"{what}{ref}: {datatype} has no component {parts[0]}: its last is {last}")
        elif parts != (1,):
            self.mistakes.add(place, f"{what}{ref}: {datatype} has no components")
