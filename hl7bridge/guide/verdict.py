"""What may be said of a row of the guide, and where a person said it: notes, `deviations`, `unmapped`.

Sans-IO. A row is `implemented` (the tables do what it says), `deviates` (they do it otherwise, and a note or
`deviations` names the row and says why), `unmapped` (they do not, and `unmapped` says why), or `undecided`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hl7bridge.guide.names import rows_named, table_name
from hl7bridge.guide.sheet import GuideRow
from hl7bridge.mapping.schema import CodeTable, GuideNote, MessageTable, Place, SharedTable, Table, TableSet

IMPLEMENTED, DEVIATES, UNMAPPED, UNDECIDED = "implemented", "deviates", "unmapped", "undecided"
VERDICTS = (IMPLEMENTED, DEVIATES, UNMAPPED, UNDECIDED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why`: the reason somebody gave, or for an undecided row what is missing. `place`: the row of ours."""

    row: GuideRow
    verdict: str
    why: str = ""
    place: Place | None = None
    option: str = ""  # the option that decides a row of `asked` config


@dataclass(frozen=True, slots=True)
class Finding:
    """What the comparison found: the row of ours that does what the guide's row says, or what comes closest."""

    held: bool
    what: str = ""  # what differs
    place: Place | None = None
    option: str = ""


@dataclass
class Said:
    """What the tables say of the guide's rows, by row id."""

    deviations: dict[str, tuple[str, Place]] = field(default_factory=dict)
    unmapped: dict[str, tuple[str, Place]] = field(default_factory=dict)
    decides: dict[str, str] = field(default_factory=dict)  # row id -> option

    @classmethod
    def of(cls, tables: TableSet) -> Said:
        said = cls()
        for name, option in tables.options.items():
            for text in option.decides:
                said.decides.update(dict.fromkeys(rows_named(text), name))
        for note in _notes(tables):
            book = said.unmapped if note.unmapped else said.deviations
            for row_id in rows_named(note.rows):
                book.setdefault(row_id, (note.reason, note.place))
        return said

    def strangers(self, rows: Iterable[GuideRow]) -> Iterator[tuple[str, Place]]:
        """Row ids that a table names and the guide has not."""
        known = {row.id for row in rows}
        maps = {row.map for row in rows}
        for row_id, (_, place) in sorted({**self.deviations, **self.unmapped}.items()):
            if row_id not in known and row_id.partition("#")[0] in maps:
                yield row_id, place


def _notes(tables: TableSet) -> Iterator[GuideNote]:
    every: tuple[Table | CodeTable | MessageTable | SharedTable, ...] = (
        *tables.messages.values(),
        *tables.shared.values(),
        *tables.segments.values(),
        *tables.datatypes.values(),
        *tables.codes.values(),
    )
    for table in every:
        yield from table.guide
    for table in (*tables.segments.values(), *tables.datatypes.values()):
        yield from (GuideNote(row.note, row.note, row.place) for row in table.rows if row.note)
    for message in tables.messages.values():
        yield from (GuideNote(use.note, use.note, use.place) for use in message.uses if use.note)


def judge(row: GuideRow, finding: Finding, said: Said, tables: TableSet) -> Verdict:
    """The verdict on one row. A row that a site has to decide counts only under an option.

    Where a table says of the very row that it is written otherwise it deviates, though the comparison sees no
    difference: what the table narrows may lie where texts do not show it (ours is the more careful word).
    """
    option = finding.option or said.decides.get(row.id, "")
    needs_option = row.asked == "config"
    if finding.held and row.id in said.deviations and (option or not needs_option):
        reason, place = said.deviations[row.id]
        return Verdict(row, DEVIATES, reason, place, option)
    if finding.held and (option or not needs_option):
        return Verdict(row, IMPLEMENTED, "", finding.place, option)
    if row.kind.startswith("message") and row.map not in tables.messages:
        return Verdict(row, UNDECIDED, finding.what)  # a shared row may name messages that are not there
    for row_id in dict.fromkeys((row.id, row.id.partition(".ref")[0])):  # a message row speaks for its references
        for verdict, book in ((DEVIATES, said.deviations), (UNMAPPED, said.unmapped)):
            if row_id in book:
                reason, place = book[row_id]
                return Verdict(row, verdict, reason, place, option)
    reason, of = _whole_field(row, tables)
    if reason and not finding.held:
        return Verdict(row, UNMAPPED, reason, of, option)
    what = finding.what if not finding.held else "a site has to decide it, and no `option` stands over it"
    return Verdict(row, UNDECIDED, what, finding.place, option)


def _whole_field(row: GuideRow, tables: TableSet) -> tuple[str, Place | None]:
    """The reason of a field (or of a message's segment) that stands in `unmapped` as a whole."""
    if row.kind in ("segment", "datatype"):
        table = (tables.segments if row.kind == "segment" else tables.datatypes).get(table_name(row.map))
        if table is None:
            return "", None
        key = row.source
        while key:
            if key in table.unmapped:
                return table.unmapped[key], table.unmapped_places.get(key, table.place)
            key = key.rpartition(".")[0]
    elif row.kind in ("message", "message-ref") and row.map in tables.messages:
        message = tables.messages[row.map]
        segment = row.source.rpartition(".")[2]
        for key, reason in message.unmapped.items():
            if key.rpartition(".")[2].partition("@")[0] == segment and f".{key}" == row.source[len(row.map) :]:
                return reason, message.unmapped_places.get(key, message.place)
    return "", None
