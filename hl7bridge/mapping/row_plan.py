"""What is known of a row before its code is made: where it writes, what with, and what it takes.

Sans-IO. All rows of a table are planned before the first line is written, because how an instance is held depends on
who else writes into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hl7bridge.mapping.access import Wanted, asks_for_absence, wanted
from hl7bridge.mapping.codes import Codes
from hl7bridge.mapping.erase import governed, only_fills
from hl7bridge.mapping.placing import Slots
from hl7bridge.mapping.schema import Path, Row, Table
from hl7bridge.mapping.target import Extension, Target, compile_path

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler


class RowPlan:
    """One row of one table. `own`: the number of its field or component, 0 for the bare source."""

    def __init__(self, compiler: Compiler, table: Table, row: Row) -> None:
        self.compiler, self.table, self.row = compiler, table, row
        self.own = row.source.parts[0] if row.source.parts else 0
        self.source = str(row.source)
        self.gives = row.to is not None and row.to.text == "$value"  # the text is handed up
        self.wanted: Wanted = wanted(row.when) if row.when is not None else (None, frozenset())
        self.writes = not (row.remove or self.gives)
        self.constant = compiler.setting(row.value) if row.value is not None else ""
        self.codes = Codes(compiler.tables.codes[row.codes], table.name, self.source) if row.codes is not None else None
        self.whole = row.as_ is not None and not compiler.is_primitive(row.as_)
        if self.writes:
            self._plan_writes()

    def _plan_writes(self) -> None:
        row, model = self.row, self.compiler.model
        self.target = self._target(row.to)
        self.companions = [(self._companion(path), value) for path, value in row.set_]
        self.refuge = compile_path(model, self.table.target, row.invalid) if row.invalid is not None else None
        self.coded = row.codes is not None and self.target.type in ("CodeableConcept", "Coding")
        self.governed: tuple[str, ...] = ()
        self.fills = False
        if self.table.kind == "segment" and not row.extension:
            self.fills = row.fallback == "new" or only_fills(row, self.constant)
            self.governed = governed(model, self.table, row.to)

    def expect(self, slots: Slots) -> None:
        """Tells where the row will write."""
        if not self.writes:
            return
        slots.expect(self.target, self.own, self.whole or self.coded)
        for target, _ in self.companions:
            slots.expect(target, self.own, False)
        if self.refuge is not None:
            slots.expect(self.refuge, self.own, False)

    @property
    def needs_value(self) -> bool:
        """Whether it asks that its own field or component is valued, as most rows do."""
        return self.row.source.parts == (self.own,) and not asks_for_absence(self.row)

    def _target(self, path: Path | None) -> Target:
        row = self.row
        extensions = tuple(Extension(url, row.extension_label if i == 0 else "") for i, url in enumerate(row.extension))
        return compile_path(self.compiler.model, self.table.target, path, row.on, extensions)

    def _companion(self, path: Path) -> Target:
        """With `extension:`, `to` and so the companions start inside the extension."""
        inside = self.row.extension and path.steps and path.steps[0].name.startswith("value")
        return self._target(path) if inside else compile_path(self.compiler.model, self.table.target, path)
