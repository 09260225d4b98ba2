"""The code of a data type table: the value is split once for its level, its components are read where rows want them.

Sans-IO. The names its rows may use: table_code.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hl7bridge.mapping.access import SEPARATORS, component
from hl7bridge.mapping.in_place import VALUED
from hl7bridge.mapping.placing import Slots
from hl7bridge.mapping.row_plan import RowPlan
from hl7bridge.mapping.runtime import LARGE
from hl7bridge.mapping.schema import Table
from hl7bridge.mapping.table_code import TableCode, refs_in, without

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler

_COMPONENTS = 3  # so many stand together, before a test that answers for all behind them


class DatatypeCode(TableCode):
    """def XPN_HumanName(run, segment, group, raw, body, resource, strict): gives the further instances that rows with
    `$another` made, by label; of a table for a primitive the text."""

    before = 1

    def __init__(self, compiler: Compiler, table: Table, name: str, known: Mapping[str, Any], level: int) -> None:
        super().__init__(compiler, table, name, known, Slots(False), level)
        self._shared = self._read_elsewhere()
        self._grouped(list(self.fields.items()), _COMPONENTS)
        head = [_split(SEPARATORS[level], compiler.plain) if level < 2 else "parts = [raw]"]
        head.append("count = len(parts)")
        head += [
            f"{component(n)} = parts[{n - 1}]" + (f" if count > {n - 1} else ''" if n > 1 else "")
            for n in sorted(self._shared)
        ]
        result = ""
        if compiler.is_primitive(table.name):
            head, result = ["value = ''", *head], "value"
        elif compiler.makes_others(table.name):
            head, result = ["others = {}", *head], "others"
        self.source = self._source("run, segment, group, raw, body, resource, strict", head, result)

    def _read_elsewhere(self) -> set[int]:
        """The components that rows of other components read."""
        return {
            ref.parts[0]
            for plans in self.fields.values()
            for plan in plans
            for ref in refs_in(plan.row)
            if ref.root == self.table.source and ref.parts[:1] not in ((), (plan.own,))
        }

    def _field(self, number: int, plans: list[RowPlan]) -> None:
        code, reader = self.code, self._reader(number)
        absent = without(plans)
        part = component(number) if number else "raw"
        found = f"{part} and"
        if number and number not in self._shared:
            found = f"count > {number - 1} and ({part} := parts[{number - 1}]) and"
            if absent:
                code.add(f"{part} = parts[{number - 1}] if count > {number - 1} else ''")
                found = f"{part} and"
        simple = not absent and all(plan.needs_value for plan in plans) and not self.compiler.traced
        valued, there = VALUED.format(part), f"{part} != NULL"
        if number and self.compiler.plain:
            valued, there, found = part, "", found.removesuffix(" and")
        with code.block(f"if {found} {valued if simple and valued != part else there}".rstrip() + ":"):
            code.head()
            if not simple and any(plan.needs_value for plan in plans):
                code.add(f"has_value = {valued}")
            self._rows(plans, reader, "0", "" if simple else "has_value")
            code.settle()
        if absent:
            with code.block("else:"):
                code.head()
                self._rows(absent, reader, "0", "")
                code.settle()


def _split(separator: str, plain: bool) -> str:
    """The parts of a value; those of a document, which no plain segment holds, are kept."""
    if plain:
        return f"parts = raw.split({separator})"
    return f"parts = raw.split({separator}) if len(raw) < {LARGE} else run.split(raw, {separator})"
