"""Runs attempts through the bridge: translates the messages, or applies a data type table alone, and judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

from guide_cases import Attempt, Cases
from guide_judge import Bundle
from guide_message import Sketch
from guide_sheet import Guide, Row

from hl7bridge import translate
from hl7bridge.errors import MessageError
from hl7bridge.guide.verdict import Said
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping import examples
from hl7bridge.mapping.codes import Codes
from hl7bridge.mapping.convert import Invalid
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.runtime import Run


@dataclass
class Outcome:
    """How a row fared: proven (how), deviating (why), or failed (what was found)."""

    row: Row
    state: str  # proven | alone | deviates | behind | failed
    detail: str = ""
    negatives: int = 0


@dataclass
class Prover:
    """Proves rows against the shipped tables (or those of `load`)."""

    guide: Guide
    load: Any = load_mappings
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cases = Cases(self.guide)
        self.mappings = cache(self._mappings)
        tables = self.mappings(()).tables
        self.said = Said.of(tables)
        rows = [r for t in (*tables.segments.values(), *tables.datatypes.values()) for r in t.rows]
        self.places = {str(r.place) for r in rows}
        self.switches = {str(r.place): {r.option.name: r.option.value} for r in rows if r.option}

    def _mappings(self, settings: tuple[tuple[str, str], ...]) -> Mappings:
        made: Mappings = self.load(settings=dict(settings))
        return made

    def prove(self, row: Row) -> Outcome:
        outcome = self._prove(row)
        self.outcomes[row.id] = outcome
        return outcome

    def _prove(self, row: Row) -> Outcome:
        first: tuple[Attempt, str] | None = None
        for attempt in self.cases.attempts(row):
            wrong = self._wrong(attempt)
            if not wrong and not attempt.alone:
                wrong = self._passes_by(row, attempt)
            if not wrong:
                return Outcome(row, "alone" if attempt.alone else "proven", negatives=len(attempt.negatives))
            first = first or (attempt, wrong)
        if row.kind == "codesystem" and not (wrong := self._code_alone(row)):
            return Outcome(row, "alone")
        excuse, state = self._excuse(row), "deviates"
        if excuse is None and first is not None and row.kind.startswith("message"):
            excuse, state = self._excuse(first[0].probe), "behind"
        if excuse is not None:
            place, why = excuse
            if place in self.places and not self._fires(row, place):
                return Outcome(row, "failed", f"{place} is to stand in for it, and no message reaches that row: {why}")
            return Outcome(row, state, f"{place}: {why}")
        if first is None:
            return Outcome(row, "failed", "no message can be made for it")
        return Outcome(row, "failed", first[1])

    def _passes_by(self, row: Row, attempt: Attempt) -> str:
        """A segment table may do by itself what a data type's row says: the row's own table must have written, too."""
        file = f"datatypes/{table_name(row.map)}.yaml:"
        mappings = self.mappings(tuple(sorted(attempt.settings.items())))
        table = mappings.tables.datatypes.get(table_name(row.map))
        if row.kind != "datatype" or table is None or mappings.model.is_primitive(table.target):
            return ""  # of a primitive's table lineage keeps no line: its text is written by the row above
        lineage = translate(attempt.positive.raw(), mappings).lineage
        used = any(file in place for line in lineage for place in (line.place, *line.via))
        return "" if used else f"the message passes by the table\n{show(attempt, attempt.positive)}"

    def _excuse(self, row: Row) -> tuple[str, str] | None:
        """Where and why the tables say that they do it otherwise, or not at all; a message row speaks for its references."""
        for row_id in (row.id, row.id.partition(".ref")[0]):
            for book in (self.said.deviations, self.said.unmapped):
                if row_id in book:
                    why, place = book[row_id]
                    return str(place), why
        tables = self.mappings(()).tables
        table = tables.segments.get(table_name(row.map)) or tables.datatypes.get(table_name(row.map))
        if table is not None and row.v2_path in table.unmapped:
            return str(table.unmapped_places.get(row.v2_path, table.place)), table.unmapped[row.v2_path]
        return None

    def _fires(self, row: Row, place: str) -> bool:
        """Whether the row of ours that deviates writes something in any of the messages made for the guide's row."""
        switch = self.switches.get(place, {})
        siblings = [r for r in self.guide.maps[row.map] if r.kind == row.kind and r.testable == "yes" and r is not row]
        siblings.sort(key=lambda r: r.v2_path != row.v2_path)
        near = sum(r.v2_path == row.v2_path for r in siblings)
        others = (a for sibling in siblings[: max(8, near)] for a in islice(self.cases.attempts(sibling), 2))
        for attempt in (*self.cases.attempts(row), *others):
            if attempt.alone:
                return True  # no message reaches the table, so none can show its effect
            mappings = self.mappings(tuple(sorted({**attempt.settings, **switch}.items())))
            for sketch in (attempt.positive, *self.cases.enriched(attempt)):
                try:
                    lineage = translate(sketch.raw(), mappings).lineage
                except MessageError:
                    continue
                if any(place in shown for line in lineage for shown in (line.place, *line.via)):
                    return True
        return False

    def _code_alone(self, row: Row) -> str:
        """A code of a table that no row uses with this code: the table itself is asked."""
        table = self.mappings(()).tables.codes.get(table_name(row.map))
        if table is None:
            return f"there is no code table {table_name(row.map)}"
        system, _, code = row.fhir_path.partition("|")
        run: Any = Run(parse(b"MSH|^~\\&|A\r"), self.mappings(()).zone, None, trace=False)
        found = Codes(table, "", "").coding(run, {"code": row.v2_path.partition("#")[2]}) or {}
        if (found.get("code"), found.get("system", "")) != (code, system):
            return f"expected {code} of {system}, found {found}"
        return ""

    def _wrong(self, attempt: Attempt) -> str:
        settings = tuple(sorted(attempt.settings.items()))
        found = self._made(attempt, attempt.positive, settings)
        if isinstance(found, str):
            return f"{found}\n{show(attempt, attempt.positive)}"
        if not attempt.expectation.met(found):
            return f"expected {attempt.expectation}\n{show(attempt, attempt.positive)}"
        for negative in attempt.negatives:
            found = self._made(attempt, negative, settings)
            if not isinstance(found, str) and attempt.expectation.met(found):
                return f"found although its condition is false: {attempt.expectation}\n{show(attempt, negative)}"
        if attempt.off:
            off = tuple(sorted({**attempt.settings, **attempt.off}.items()))
            found = self._made(attempt, attempt.positive, off)
            if not isinstance(found, str) and attempt.expectation.met(found):
                return f"found although its option is off: {attempt.expectation}\n{show(attempt, attempt.positive)}"
        return ""

    def _made(self, attempt: Attempt, sketch: Sketch, settings: tuple[tuple[str, str], ...]) -> Bundle | str:
        mappings = self.mappings(settings)
        try:
            if attempt.alone:
                table = mappings.tables.datatypes.get(attempt.alone)
                if table is None:
                    return f"there is no table {attempt.alone}"
                value = examples.apply(mappings.compiler, mappings, table, attempt.given(sketch))
                if isinstance(value, dict) and mappings.model.is_resource(table.target):
                    value = {"resourceType": table.target, **value}
                return Bundle(value if isinstance(value, dict) else {"$value": value})
            return Bundle(translate(sketch.raw(), mappings).resource)
        except (MessageError, Invalid) as error:
            return f"{type(error).__name__}: {error}"


def table_name(map: str) -> str:
    """`HD[MessageHeader.source-name]` -> HD-MessageHeader.source-name, the guide's name in our files."""
    return map.replace("[", "-").replace("]", "")


def show(attempt: Attempt, sketch: Sketch) -> str:
    text = attempt.given(sketch) if attempt.alone else sketch.raw().decode().replace("\r", "\n  ")
    return f"  route {' > '.join(r.id for r in attempt.route)}\n  {text}"
