"""The code of what is applied to a segment: the rows of a message table for one place, in their order.

Sans-IO. A row's resource is looked up by its label's key, written out, and made where there is none; then its table
runs, in the code for the segment's form. The names the code may use: `run`, `segment`, `group`, `further` (what was
joined to the segment) and `made` (messages.Made).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hl7bridge.mapping.access import Reader
from hl7bridge.mapping.code import INDENT, Code
from hl7bridge.mapping.in_place import in_place, needed
from hl7bridge.mapping.schema import Table

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler
    from hl7bridge.mapping.uses import PlannedUse

_PARAMETERS = "run, segment, group, further, made"
_NAMES = frozenset((*_PARAMETERS.split(", "), "uses", "form", "key", "resource", "slots", "fields", "count", "odd"))
_HEAD = ("form = segment.form",)


class UsesCode:
    """def uses(…): applies the rows of one place. `table`: one of the tables, to read the segment by."""

    def __init__(self, compiler: Compiler, uses: Sequence[PlannedUse], table: Table, known: Mapping[str, Any]) -> None:
        self._code = code = Code(known, _NAMES)
        reader = Reader(code, table, -1)
        code.head()
        for use in uses:
            code.comment(f"{use.place} {use.name} into {use.into}{f'; when {use.when}' if use.when else ''}")
            named = code.constant(f"use_{use.name}", use)
            if use.each:
                code.add(f"made.each({named}, segment, group, further)")
                continue
            with code.when(reader.test(use.said.when) if use.said.when is not None else ""):
                if use.plain:
                    self._applied(use, named)
                else:
                    code.add(f"made.apply({named}, segment, segment, group, 0, further)")
        code.settle()
        body = [in_place(line) for line in code.lines]
        head = [f"def uses({_PARAMETERS}):", *(INDENT + line for line in (*_HEAD, *needed(body, _HEAD)))]
        self.source = "\n".join((*head, *body)) + "\n"

    @property
    def constants(self) -> dict[str, Any]:
        return self._code.constants

    def _applied(self, use: PlannedUse, named: str) -> None:
        code = self._code
        code.add(f"key = {use.sight._replace(parted=False).key}", "resource = made.resources.get(key)")
        with code.block("if resource is None:"):
            code.add(f"resource = made.begin(key, {use.into.type!r}, segment, group)")
        with code.block("if further:"):
            code.add(f"made.share({named}, further, resource)")
        if use.matched:
            code.add(f"made.find({use.sight.number}, resource, segment, group)")
        fills = code.constant(f"apply_{use.name}", use.fills)
        applied = f"{fills}[form](run, segment, group, resource)"
        if not use.links:
            code.add(applied)
            return
        code.add(f"slots = {applied}")
        code.add(f"made.pending.append(({named}, segment, segment, group, 0, resource, slots))")
