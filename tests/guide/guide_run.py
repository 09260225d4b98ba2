"""Runs attempts through the bridge: translates the messages, or applies a data type table alone, and judges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from guide_cases import Attempt, Cases
from guide_judge import Bundle
from guide_message import Sketch
from guide_sheet import Guide, Row

from hl7bridge import translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping import examples
from hl7bridge.mapping.codes import Codes
from hl7bridge.mapping.convert import Invalid
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.runtime import Run

_NAMED = re.compile(r"([A-Z][A-Za-z0-9_.]*(?:\[[^\]]+\])?)?\s?#(\d+)(?:\s?-\s?#?(\d+))?")


@dataclass
class Outcome:
    """How a row fared: proven (how), deviating (why), or failed (what was found)."""

    row: Row
    state: str  # proven | alone | deviates | failed
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
        self.deviations = named_in_notes(self.mappings(()))

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
            if not wrong:
                return Outcome(row, "alone" if attempt.alone else "proven", negatives=len(attempt.negatives))
            first = first or (attempt, wrong)
        if row.kind == "codesystem" and not (wrong := self._code_alone(row)):
            return Outcome(row, "alone")
        deviation = self.deviations.get(row.id)
        if deviation is not None:
            place, why = deviation
            if place and not self._fires(row, place):
                return Outcome(row, "failed", f"{place} is to stand in for it, and no message reaches that row: {why}")
            return Outcome(row, "deviates", f"{place}: {why}")
        if first is None:
            return Outcome(row, "failed", "no message can be made for it")
        return Outcome(row, "failed", first[1])

    def _fires(self, row: Row, place: str) -> bool:
        """Whether the row of ours that deviates writes something in any of the messages made for the guide's row."""
        for attempt in self.cases.attempts(row):
            if attempt.alone:
                return True  # no message reaches the table, so none can show its effect
            mappings = self.mappings(tuple(sorted(attempt.settings.items())))
            try:
                lineage = translate(attempt.positive.raw(), mappings).lineage
            except MessageError:
                continue
            if any(place in shown for line in lineage for shown in (line.place, *getattr(line, "above", ()))):
                return True
        return row.kind in ("message", "message-ref")

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


def named_in_notes(mappings: Mappings) -> Mapping[str, tuple[str, str]]:
    """Row ids that a table's `note:` names, with the place of the row that carries it and the note."""
    tables = mappings.tables
    found: dict[str, tuple[str, str]] = {}
    for table in (*tables.segments.values(), *tables.datatypes.values()):
        for row in table.rows:
            found |= dict.fromkeys(_named(row.note), (str(row.place), row.note))
    for message in tables.messages.values():
        for use in message.uses:
            found |= dict.fromkeys(_named(use.note), ("", use.note))
    return found


def _named(note: str) -> list[str]:
    """`PL[Location]#36-#38 #40` -> the four row ids."""
    name, found = "", []
    for match in _NAMED.finditer(note):
        name = match[1] or name
        found += [f"{name}#{number}" for number in range(int(match[2]), int(match[3] or match[2]) + 1)]
    return found
