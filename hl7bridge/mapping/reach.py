"""What a change of the tables can reach: for which messages two versions may give different bundles. Sans-IO.

What holds: the answer errs on one side only. A message that is called untouched gives the same bundle with both
versions, because everything its own segments and fields lead to is the same: rows, conditions, data types, codes,
options, identities. What is not understood (a new word in the tables, a changed structure, a label that lives
elsewhere now) touches every message of the event.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from hl7bridge.hl7v2.header import Header
from hl7bridge.hl7v2.message import Message
from hl7bridge.mapping.access import asks_for_absence
from hl7bridge.mapping.schema import MessageTable, OptionTest, OptionValue, Place, Row, Table, TableSet, Use

# what does not change a bundle: places, and what is said to people and to the checker
_ASIDE = frozenset({"place", "places", "otherwise_place", "note", "says", "when_text", "examples"}) | {
    "unmapped",
    "unmapped_places",
    "deviations",
}
_WHOLE = frozenset({0})  # in place of field numbers: any segment of this id

_COUNTED = ("rows", "uses", "codes", "options", "identities")

Print = Hashable  # equal prints: equal meaning
Fields = frozenset[int]


class Touched:
    """Answers for two versions of the tables. Comparing costs milliseconds an event, asking microseconds a message."""

    def __init__(self, old: TableSet, new: TableSet) -> None:
        loose = set(old.settings) | set(new.settings)
        loose -= _options_of_rows(old) | _options_of_rows(new)
        self._old, self._new = _Prints(old, loose), _Prints(new, loose)
        self._everything = self._old.rest() != self._new.rest()
        self._watched: dict[tuple[str, str], Mapping[str, Fields] | None] = {}

    def __call__(self, message: Message) -> bool:
        """May the two versions give different bundles (or failures) for this message?"""
        watched = self.watched(message.header)
        if watched is None:
            return True
        for segment in message.segments:
            numbers = watched.get(segment.id)
            if numbers is None:
                continue
            fields = segment.fields
            if numbers is _WHOLE or any(number < len(fields) and fields[number] for number in numbers):
                return True
        return False

    def watched(self, header: Header) -> Mapping[str, Fields] | None:
        """Segments and the fields in them (0: all) that lead to something changed; None: all messages of the event."""
        event = (header.message_code, header.trigger_event)
        if event not in self._watched:
            self._watched[event] = self._compare(event)
        return self._watched[event]

    def _compare(self, event: tuple[str, str]) -> Mapping[str, Fields] | None:
        old, new = self._old.messages.get(event), self._new.messages.get(event)
        if old is None and new is None:
            return {}  # neither has a table: both refuse it
        if old is None or new is None or self._everything or self._old.frame(old) != self._new.frame(new):
            return None
        mine, theirs = _by_use(old.uses), _by_use(new.uses)
        common = [key for key in mine if key in theirs]
        if common != [key for key in theirs if key in mine] or _moved_labels(old, new):
            return None
        watched: dict[str, Fields] = {}
        for key in {**mine, **theirs}:
            if key not in mine or key not in theirs:
                numbers: Fields = _WHOLE
            else:
                numbers = self._changed(mine[key], theirs[key])
            if numbers:
                _watch(watched, _segment_of(key[0]), numbers)
        return watched

    def _changed(self, old: Use, new: Use) -> Fields:
        """The fields whose rows differ."""
        if self._old.full(old) != self._new.full(new):
            return _WHOLE
        before, after = self._old.table(old.table), self._new.table(new.table)
        if before is None or after is None or before.frame != after.frame:
            return _WHOLE
        common = [number for number in before.fields if number in after.fields]
        if common != [number for number in after.fields if number in before.fields]:
            return _WHOLE
        numbers = {
            number
            for number in {*before.fields, *after.fields}
            if before.fields.get(number) != after.fields.get(number)
        }
        if not numbers.isdisjoint({0} | before.unasked | after.unasked):
            return _WHOLE
        return frozenset(numbers)


def _watch(watched: dict[str, Fields], segment_id: str, numbers: Fields) -> None:
    known = watched.get(segment_id, frozenset())
    watched[segment_id] = _WHOLE if numbers is _WHOLE or known is _WHOLE else known | numbers


def _by_use(uses: Iterable[Use]) -> dict[tuple[str, str, str, int], Use]:
    found: dict[tuple[str, str, str, int], Use] = {}
    for use in uses:
        key = (use.segment, use.table, str(use.into))
        count = sum(1 for known in found if known[:3] == key)
        found[(*key, count)] = use
    return found


def _moved_labels(old: MessageTable, new: MessageTable) -> bool:
    """Where a label lives follows from all uses that make it: has one got others?"""

    def homes(table: MessageTable) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for use in table.uses:
            found.setdefault(str(use.into), []).append(use.segment)
        return found

    before, after = homes(old), homes(new)
    return any(before[label] != after[label] for label in before if label in after)


def _segment_of(path: str) -> str:
    """PATIENT_RESULT.VISIT.ROL@PV1 -> ROL"""
    return path.rpartition(".")[2].partition("@")[0]


@dataclasses.dataclass(frozen=True, slots=True)
class _TablePrint:
    """`fields`: the print of each field's rows, in order; `unasked`: fields with a row that runs without a value."""

    frame: Print
    fields: Mapping[int, Print]
    unasked: frozenset[int]


class _Prints:
    """Prints of one version, worked out when asked for."""

    def __init__(self, tables: TableSet, loose: set[str]) -> None:
        self._tables, self._loose = tables, loose
        self._named: dict[str, Print] = {}
        self._below: dict[str, frozenset[str]] = {}
        self._segments: dict[str, _TablePrint] = {}
        self.messages = {(table.code, event): table for table in tables.messages.values() for event in table.events}

    def rest(self) -> Print:
        """All that belongs to no table: identities, options that no row asks for, and whatever else a set may hold."""
        apart = {"version", "messages", "shared", "segments", "datatypes", "codes", "options", "settings"}
        loose = tuple(sorted((name, value) for name, value in self._tables.settings.items() if name in self._loose))
        others = (
            (part.name, self.value(getattr(self._tables, part.name)))
            for part in dataclasses.fields(self._tables)
            if part.name not in apart
        )
        return (loose, tuple(others))

    def frame(self, table: MessageTable) -> Print:
        """A message table without its uses."""
        return self._plain(table, {"uses", "events", "name"})

    def table(self, name: str) -> _TablePrint | None:
        if name not in self._tables.segments:
            return None
        if name not in self._segments:
            self._segments[name] = self._table(self._tables.segments[name])
        return self._segments[name]

    def _table(self, table: Table) -> _TablePrint:
        grouped: dict[int, list[Row]] = {}
        for row in table.rows:
            grouped.setdefault(row.source.parts[0] if row.source.parts else 0, []).append(row)
        return _TablePrint(
            self._plain(table, {"rows"}),
            {number: self.full(tuple(rows)) for number, rows in grouped.items()},
            frozenset(number for number, rows in grouped.items() if any(map(asks_for_absence, rows))),
        )

    def full(self, value: Any) -> Print:
        """The print of rows or uses, with those of all tables they lead to, directly or through others."""
        print_ = self.value(value)
        reached: set[str] = set()
        todo = [word for word in _words(print_) if self._is_table(word)]
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += self._next(name)
        return (print_, frozenset((name, self._named[name]) for name in reached))

    def _is_table(self, word: str) -> bool:
        return word in self._tables.datatypes or word in self._tables.codes

    def _next(self, name: str) -> frozenset[str]:
        """The data type and code tables that a table names."""
        if name not in self._named:
            kinds: tuple[Mapping[str, Any], ...] = (self._tables.datatypes, self._tables.codes)
            print_ = tuple(self._plain(kind[name], ()) for kind in kinds if name in kind)
            self._named[name] = print_
            self._below[name] = frozenset(word for word in _words(print_) if self._is_table(word))
        return self._below[name]

    def value(self, value: Any) -> Print:
        """The print of anything that tables are made of, other tables by their names."""
        if isinstance(value, OptionTest | OptionValue):
            return (type(value).__name__, *self._option(value))
        if isinstance(value, Place):
            return None
        if dataclasses.is_dataclass(value):
            return self._plain(value, ())
        if isinstance(value, Mapping):
            return tuple((key, self.value(part)) for key, part in value.items())
        if isinstance(value, list | tuple):
            return tuple(self.value(part) for part in value)
        return value if isinstance(value, Hashable) else repr(value)

    def _option(self, value: OptionTest | OptionValue) -> tuple[Print, ...]:
        setting = self._tables.settings.get(value.name)
        return (setting == value.value,) if isinstance(value, OptionTest) else (setting,)

    def _plain(self, value: Any, without: Iterable[str]) -> Print:
        left_out = {*_ASIDE, *without}
        parts = ((part.name, getattr(value, part.name)) for part in dataclasses.fields(value))
        return (type(value).__name__, *(self.value(part) for name, part in parts if name not in left_out))


def _words(print_: Print) -> Iterator[str]:
    if isinstance(print_, str):
        yield print_
    elif isinstance(print_, tuple):
        for part in print_:
            yield from _words(part)


def _options_of_rows(tables: TableSet) -> set[str]:
    """Options that rows and uses ask for; every other setting is somebody else's, and may mean anything."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, OptionTest | OptionValue):
            found.add(value.name)
        elif dataclasses.is_dataclass(value):
            for part in dataclasses.fields(value):
                if part.name not in _ASIDE:
                    look(getattr(value, part.name))
        elif isinstance(value, Mapping):
            for part in value.values():
                look(part)
        elif isinstance(value, list | tuple):
            for part in value:
                look(part)

    for kind in (tables.messages, tables.segments, tables.datatypes):
        look(kind)
    return found


def counts(old: TableSet, new: TableSet) -> str:
    """How much differs, in one line: `rows +1 -0 ~2, codes +3`. Empty when nothing does."""
    parts = []
    for what, before, after in zip(
        ("rows", "uses", "codes", "options", "identities"), _units(old), _units(new), strict=True
    ):
        added, removed = len(after.keys() - before.keys()), len(before.keys() - after.keys())
        changed = sum(before[key] != after[key] for key in before.keys() & after.keys())
        signs = ((added, "+"), (removed, "-"), (changed, "~"))
        if told := " ".join(f"{sign}{count}" for count, sign in signs if count):
            parts.append(f"{what} {told}")
    return ", ".join(parts)


def _units(tables: TableSet) -> tuple[dict[Any, Print], ...]:
    """What is counted, by its key: the rows of a field, a use, a code, an option's setting, an identity."""
    prints = _Prints(tables, set())
    rows: dict[Any, Print] = {}
    for table in (*tables.segments.values(), *tables.datatypes.values()):
        for row in table.rows:
            key = (table.kind, table.name, str(row.source))
            rows[key] = (rows.get(key), prints.value(row))
    uses = {(t.name, *key): prints.value(use) for t in tables.messages.values() for key, use in _by_use(t.uses).items()}
    codes = {(t.name, name): prints.value(code) for t in tables.codes.values() for name, code in t.map.items()}
    identities = {name: prints.value(identity) for name, identity in tables.identities.items()}
    return rows, uses, codes, dict(tables.settings), identities
