"""Judges loaded tables as a whole: every name exists, every path fits FHIR R4, every v2 field is accounted for.

Sans-IO. Overlays are already laid over, and each mistake names the file of the row that made it. What is judged where:
check_rows (segment and data type tables), check_messages (events, structure, labels, links), check_site (codes,
options, identity). `notes` are no mistakes: tables that nothing uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from hl7bridge.errors import Mistake
from hl7bridge.fhir.model import model, model_r5
from hl7bridge.mapping.check_messages import MessageCheck
from hl7bridge.mapping.check_r5 import R5Check
from hl7bridge.mapping.check_rows import RowCheck
from hl7bridge.mapping.check_site import SiteCheck
from hl7bridge.mapping.schema import OptionValue, Place, Table, TableSet
from hl7bridge.mapping.source import Mistakes

OF_THE_BRIDGE = frozenset({"time-zone", "bundle-type", "narrative", "fhir-version"})  # options that no row asks for


def check_tables(tables: TableSet, unreadable: Iterable[str] = ()) -> list[Mistake]:
    """Every mistake in the tables, sorted by file and line; empty when they are fit to be compiled.

    `unreadable`: files with mistakes of form. What they hold is not all known, so nothing is said to be missing in
    them, and no name that one of them would give is said not to exist.
    """
    mistakes = Mistakes()
    broken = frozenset(unreadable)
    fhir = model()
    site = SiteCheck(tables, fhir, mistakes)
    site.check()
    rows = RowCheck(tables, fhir, mistakes, broken)
    for table in (*tables.segments.values(), *tables.datatypes.values()):
        rows.check(table)
    R5Check(tables, fhir, model_r5(), mistakes).check()
    messages = MessageCheck(tables, fhir, mistakes, broken)
    messages.check()
    return sorted(set(mistakes.found))


def notes(tables: TableSet) -> list[Mistake]:
    """What is no mistake but worth knowing: tables and options that nothing uses."""
    found: list[tuple[Place, str]] = []
    used = {use.table for message in tables.messages.values() for use in message.uses}
    reached = [tables.segments[name] for name in used if name in tables.segments]
    names = set(used)
    codes: set[str] = set()
    options = {use.option.name for message in tables.messages.values() for use in message.uses if use.option}
    while reached:
        table = reached.pop()
        for row in table.rows:
            codes.update([row.codes] if row.codes else [])
            if row.as_ and row.as_ not in names and row.as_ in tables.datatypes:
                names.add(row.as_)
                reached.append(tables.datatypes[row.as_])
    for every in (*tables.segments.values(), *tables.datatypes.values()):
        options.update(_options_of(every))
        if every.name not in names:
            found.append((every.place, f"no table uses {every.name}"))
    sharing = {name for message in tables.messages.values() for name in message.shares}
    found += [
        (shared.place, f"no message shares {name!r}") for name, shared in tables.shared.items() if name not in sharing
    ]
    found += [
        (table.place, f"no table uses the codes {name}") for name, table in tables.codes.items() if name not in codes
    ]
    found += [
        (option.place, f"no row asks for the option {name!r}")
        for name, option in tables.options.items()
        if name not in options | OF_THE_BRIDGE
    ]
    return sorted(Mistake(place.file, place.line, place.column, message) for place, message in found)


def _options_of(table: Table) -> set[str]:
    values = [value for row in table.rows for value in (row.value, *(constant for _, constant in row.set_))]
    tests = {row.option.name for row in table.rows if row.option}
    return tests | {value.name for value in values if isinstance(value, OptionValue)}
