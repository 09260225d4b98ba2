"""Loaded and compiled tables, ready to translate: what `load_mappings()` gives.

Immutable once made: a reload makes a new one and swaps it, so a message keeps the tables it started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from functools import cached_property
from pathlib import Path
from typing import Any

from hl7bridge import reasons, zone
from hl7bridge.errors import PeerError
from hl7bridge.fhir.check import Checker
from hl7bridge.fhir.conversion import Conversion
from hl7bridge.fhir.form import MESSAGE
from hl7bridge.fhir.invariants import R5 as R5_INVARIANTS
from hl7bridge.fhir.kinds import Kinds
from hl7bridge.fhir.model import Model, model, model_r5
from hl7bridge.fhir.terms import terms
from hl7bridge.hl7v2.header import Header
from hl7bridge.mapping.check_r5 import FHIR_VERSION, R5
from hl7bridge.mapping.compile import Compiler
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.messages import MessagePlan
from hl7bridge.mapping.schema import TableSet

BUNDLE_TYPE = "bundle-type"
NARRATIVE = "narrative"
TIME_ZONE = "time-zone"  # the option that names the zone of times without an offset


class Mappings:
    """`events`: (message_code, trigger_event) pairs that have a table; `version`: the tables' content hash."""

    def __init__(self, tables: TableSet, fhir: Model) -> None:
        self.tables = tables
        self.model = fhir
        self.version = tables.version
        self.conversion = conversion_to_r5(tables, fhir) if tables.settings.get(FHIR_VERSION) == R5 else None
        self.checker = Checker(fhir) if self.conversion is None else checker_of_r5(self.conversion.model)
        self.compiler = Compiler(tables, fhir)
        self.kinds = Kinds(fhir, tables.identities)
        self.zone: tzinfo = zone.named(tables.settings.get(TIME_ZONE, zone.MACHINE))
        self.as_message = tables.settings.get(BUNDLE_TYPE) == MESSAGE
        self.narrates = tables.settings.get(NARRATIVE) == "generated"
        self._plans = _plans(tables, self.compiler)

    def __repr__(self) -> str:
        return f"<Mappings {self.version}: {len(self._plans)} events>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, it is compiled again there: what is compiled are functions."""
        return _again, (self.tables,)

    @property
    def events(self) -> frozenset[tuple[str, str]]:
        return frozenset(self._plans)

    @cached_property
    def traced_plans(self) -> dict[tuple[str, str], MessagePlan]:
        """The same plans once more, of rows that note what they do; those that serve lose no time to it."""
        return _plans(self.tables, Compiler(self.tables, self.model, traced=True))

    def plan(self, header: Header, traced: bool = False) -> MessagePlan:
        """The plan for a message. Raises PeerError(UNSUPPORTED_TYPE | UNSUPPORTED_EVENT)."""
        plan = (self.traced_plans if traced else self._plans).get((header.message_code, header.trigger_event))
        if plan is not None:
            return plan
        if not any(code == header.message_code for code, _ in self._plans):
            raise PeerError(reasons.UNSUPPORTED_TYPE, location="MSH^1^9^1^1")
        raise PeerError(reasons.UNSUPPORTED_EVENT, location="MSH^1^9^1^2")


def _again(tables: TableSet) -> Mappings:
    return Mappings(tables, model())


def _plans(tables: TableSet, compiler: Compiler) -> dict[tuple[str, str], MessagePlan]:
    """By message_code and trigger_event."""
    return {
        (table.code, event): plan
        for table in tables.messages.values()
        for plan in [MessagePlan(table, compiler)]
        for event in table.events
    }


def conversion_to_r5(tables: TableSet, fhir: Model) -> Conversion:
    """What makes R5 of a finished resource, by the tables in r5/."""
    return Conversion(fhir, model_r5(), {type_: table.difference for type_, table in tables.r5.items()})


def checker_of_r5(fhir: Model) -> Checker:
    return Checker(fhir, R5_INVARIANTS, terms().with_codes_of(fhir))


def load_mappings(*folders: str | Path, shipped: bool = True, settings: Mapping[str, str] | None = None) -> Mappings:
    """Loads, checks and compiles the shipped tables with `folders` laid over them, in order.

    `settings`: options by name, over those the folders set. Raises TablesError with every mistake at once.
    """
    tables = load_tables(*(Path(folder) for folder in folders), shipped=shipped, settings=settings)
    return Mappings(tables, model())
