"""Which element of a resource goes when a field says `""` or a row says `remove: yes`.

Sans-IO, decided once when the tables load. A field deletes what its own rows write and nothing else: the whole element
where it occurs once; in a list the parts that carry the row's label, known on a server by the constants that the table
gives them (telecom#home by `use: home`; identity.yaml's `keys` say which elements count). Where the label has none and
another field writes the same list, nothing can be said: the deletion is counted as `deletion-kept`. And what no patch
may write: constants that only fill what FHIR requires.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hl7bridge.fhir.model import Model
from hl7bridge.fhir.patch import goes_into
from hl7bridge.fhir.resource import Erasure
from hl7bridge.mapping.schema import All, Condition, FieldValue, OptionValue, Path, Row, Step, Table, TableSet, Valued


def erasures(model: Model, tables: TableSet, table: Table, rows: Sequence[Row]) -> tuple[Erasure, ...]:
    """What a deletion by these rows of one field takes away, each once; empty where that cannot be told."""
    found = (_erasure(model, tables, table, row) for row in rows)
    return tuple(dict.fromkeys(erasure for erasure in found if erasure is not None))


def _erasure(model: Model, tables: TableSet, table: Table, row: Row) -> Erasure | None:
    if row.extension:
        return None if row.on else Erasure(("extension",), (("url", row.extension[0]),))
    if row.to is None or not row.to.steps:
        return None
    names: list[str] = []
    type_ = table.target
    for step in row.to.steps:
        element = model.element(type_, step.name)
        if element is None:
            return None
        names.append(element.name)
        if element.many:
            where = _where(tables, table, row, step) if len(names) == 1 else _alone(table, row, tuple(names))
            return None if where is None else Erasure(tuple(names), where)
        if not goes_into(model, element):
            break
        type_ = element.type
    return Erasure(tuple(names))


def governed(model: Model, table: Table, path: Path | None) -> tuple[str, ...]:
    """The element that a patch writes whole when a row writes to a path: class of class.code, period.end itself."""
    names: list[str] = []
    type_ = table.target
    for step in path.steps if path is not None else ():
        element = model.element(type_, step.name)
        if element is None:
            break
        names.append(element.name)
        if not goes_into(model, element):
            break
        type_ = element.type
    return tuple(names[:2])


def only_fills(row: Row, constant: str) -> bool:
    """Whether a row gives what FHIR requires where the message has nothing: status unknown, `… not valued`."""
    return row.value is not None and (constant in ("unknown", "UNK") or _because_absent(row.when))


def _because_absent(condition: Condition | None) -> bool:
    if isinstance(condition, Valued):
        return condition.negated
    return isinstance(condition, All) and any(_because_absent(part) for part in condition.parts)


def _where(tables: TableSet, table: Table, row: Row, step: Step) -> tuple[tuple[str, str], ...] | None:
    """What tells the parts with this label from the others of the list; () for all of them, None when nothing does."""
    identity = tables.identities.get(table.target)
    keys = identity.keys.get(step.name, ()) if identity is not None else ()
    constants = dict(_constants(tables, table, step))
    known = tuple((key, constants[key]) for key in keys if key in constants)
    return known or _alone(table, row, (step.name,))


def _alone(table: Table, row: Row, names: tuple[str, ...]) -> tuple[tuple[str, str], ...] | None:
    """() where no other field of the table writes the list."""
    others = (other for other in table.rows if other.source.parts[:1] != row.source.parts[:1] and other.source.parts)
    return None if any(_names(other.to)[: len(names)] == names for other in others) else ()


def _names(path: Path | None) -> tuple[str, ...]:
    return tuple(step.name for step in path.steps) if path is not None else ()


def _constants(tables: TableSet, table: Table, step: Step) -> Iterator[tuple[str, str]]:
    """The constants that the table's rows put into the part with this label: (use, home), (type.coding.code, ATND)."""
    for row in table.rows:
        if row.extension:
            continue
        written = [(row.to, row.value)] if row.to is not None and row.value is not None else []
        for path, value in (*written, *row.set_):
            if isinstance(value, FieldValue):
                continue  # not the same for every message
            if len(path.steps) > 1 and (path.steps[0].name, path.steps[0].label) == (step.name, step.label):
                yield (
                    ".".join(inner.name for inner in path.steps[1:]),
                    tables.settings[value.name] if isinstance(value, OptionValue) else str(value),
                )
