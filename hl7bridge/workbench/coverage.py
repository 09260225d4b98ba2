"""What a feed holds and the tables do not take: counts by sender and message type, for `hl7bridge coverage`.

Sans-IO. Each message is translated once with rows that note what they do. What is counted:
- fields: every populated field, component or subcomponent, once for each time it occurs. It is read when a row makes a
  value of it, the condition of another field's row compares it, or the bridge itself needs it (MSH-1, 2, 7, 9, 18).
- codes: what a code table was asked for and has not.
- rows: which rows of the tables that these messages use wrote something at least once.
Only counts leave here. A code is named only when it looks like one (LOOKS_LIKE_A_CODE) and occurs in enough messages:
free text, a name or a number of a patient may stand where a code belongs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import NamedTuple

from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.definitions import Definitions
from hl7bridge.hl7v2.header import Header
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.lineage import Fields, Why, leaves
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.schema import Place, Row, Table, TableSet
from hl7bridge.mapping.trace import Position, Trace
from hl7bridge.translation import followed

LOOKS_LIKE_A_CODE = re.compile(
    r"(?=[A-Za-z0-9])(?!\d{6,}$)[A-Za-z0-9._/+-]{1,12}"
)  # 6 digits alone may be an identifier
ENOUGH = 5  # messages a code must occur in to be named, unless told otherwise
Group = tuple[str, str]  # sender (MSH-3|MSH-4), type (ADT^A01)


@dataclass
class Counts:
    """Of one sender and type. `fields`: populated, `unread`: of these not read, `why`: the first reason met for each;
    `codes`: messages by (code table, code); `rows`: places that wrote; `refused`: messages by reason code."""

    messages: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    why: dict[str, Why] = field(default_factory=dict)
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: set[Place] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    structures: set[str] = field(default_factory=set)

    def add(self, other: Counts) -> None:
        self.messages += other.messages
        for mine, theirs in (
            (self.fields, other.fields),
            (self.unread, other.unread),
            (self.codes, other.codes),
            (self.refused, other.refused),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        self.why = {**other.why, **self.why}
        self.rows |= other.rows
        self.structures |= other.structures

    @property
    def share(self) -> float:
        """Percent of the populated fields that are read; 100 where there is none."""
        populated = self.fields.total()
        return 100.0 * (populated - self.unread.total()) / populated if populated else 100.0


Coverage = dict[Group, Counts]


def merged(parts: Iterable[Coverage]) -> Coverage:
    whole: Coverage = defaultdict(Counts)
    for part in parts:
        for group, counts in part.items():
            whole[group].add(counts)
    return dict(whole)


def total(coverage: Coverage) -> Counts:
    """All senders and types as one."""
    counts = Counts()
    for part in coverage.values():
        counts.add(part)
    return counts


class Counting:
    """Counts messages. `definitions`: tell which fields are composites, so that names are the same in all messages."""

    def __init__(self, definitions: Definitions) -> None:
        self.coverage: Coverage = defaultdict(Counts)
        self._names = Names(definitions)

    def message(self, raw: bytes, mappings: Mappings, zone: tzinfo | None = None, charset: str | None = None) -> None:
        """One message; what cannot be read or has no table is counted with its reason."""
        try:
            message = parse(raw, charset_fallback=charset)
        except MessageError as unreadable:
            counts = self.coverage["", ""]
            counts.messages += 1
            counts.refused[unreadable.reason.code] += 1
            return
        counts = self.coverage[group_of(message.header)]
        counts.messages += 1
        try:
            trace, plan, error = followed(message, mappings, zone)
        except MessageError as refused:
            counts.refused[refused.reason.code] += 1
            return
        if error is not None:
            counts.refused[error.reason.code] += 1
        counts.structures.add(plan)
        counts.codes.update(set(trace.codes))
        for step in trace.steps:
            if step.fate == "written":
                counts.rows.add(step.row.place)
        counts.rows.update(use.place for _, use, applies in trace.uses if applies)
        self._fields(message, mappings.tables, plan, trace, counts)

    def _fields(self, message: Message, tables: TableSet, plan: str, trace: Trace, counts: Counts) -> None:
        fates = Fields(message, tables, plan, trace, {})
        for segment in message.segments:
            for at, source in leaves(message, segment):
                name = self._names.of(segment.id, at)
                counts.fields[name] += 1
                if not fates.is_read(segment, at):
                    counts.unread[name] += 1
                    if name not in counts.why:
                        counts.why[name] = fates.fate(segment, at, source).why[0]


def group_of(header: Header) -> Group:
    sender = b"|".join((header.sending_application, header.sending_facility)).decode("utf-8", "replace")
    event = header.trigger_event
    return sender, f"{header.message_code}^{event}" if event else header.message_code


class Names:
    """PID-8, PID-5.1, PID-3.4.2: components where the standard has them, subcomponents from the second on."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._known: dict[tuple[str, int, int, int], str] = {}

    def of(self, segment_id: str, at: Position) -> str:
        _, number, _, component, piece = at
        key = (segment_id, number, component, piece)
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = self._made(*key)
        return name

    def _made(self, segment_id: str, number: int, component: int, piece: int) -> str:
        found = self._definitions.field(segment_id, number)
        composite = found is not None and bool(self._definitions.components(found.type))
        name = f"{segment_id}-{number}"
        if composite or component > 1 or piece > 1:
            name += f".{component}"
        return f"{name}.{piece}" if piece > 1 else name


def named_codes(codes: Mapping[tuple[str, str], int], enough: int) -> tuple[list[tuple[str, str, int]], int]:
    """Codes that may be shown, most frequent first, as (code table, code, messages); and how many others there are."""
    shown = [
        (table, code, count)
        for (table, code), count in sorted(codes.items(), key=lambda item: (-item[1], item[0]))
        if count >= enough and LOOKS_LIKE_A_CODE.fullmatch(code)
    ]
    return shown, len(codes) - len(shown)


class Reachable(NamedTuple):
    """A row that could run for certain messages: where it stands, its table, its key."""

    place: Place
    table: str
    key: str


def reachable(tables: TableSet, structures: Iterable[str]) -> list[Reachable]:
    """Every row of the message tables and of the tables they lead to, that no option switches off; in file order."""
    found: dict[Place, Reachable] = {}
    waiting: list[Table] = []
    seen: set[str] = set()
    for name in sorted(set(structures) & set(tables.messages)):
        for use in tables.messages[name].uses:
            if use.option is None or tables.settings[use.option.name] == use.option.value:
                found[use.place] = Reachable(use.place, name, f"{use.segment.rpartition('.')[2]}: {use.table}")
                waiting.append(tables.segments[use.table])
    while waiting:
        table = waiting.pop()
        if table.name in seen:
            continue
        seen.add(table.name)
        for row in _switched_on(table, tables.settings):
            found[row.place] = Reachable(row.place, table.name, str(row.source))
            if row.as_ is not None:
                waiting.append(tables.datatypes[row.as_])
    return [found[place] for place in sorted(found)]


def _switched_on(table: Table, settings: Mapping[str, str]) -> Iterator[Row]:
    return (row for row in table.rows if row.option is None or settings[row.option.name] == row.option.value)
