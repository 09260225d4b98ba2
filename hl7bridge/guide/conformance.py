"""Every row of the guide against the loaded tables: a verdict each, and how many of each kind and map.

Sans-IO. Two sums are kept apart. The guide's rows with a target that R4 has are the measure: `yes` can be tested as
they stand, `config` need a decision of the site and so an option. Beside it are the rows whose target R4 does not have
(`no`): they are mended or unmapped, with a reason each. What the guide itself maps nowhere, or only proposes, is
counted, and so is what of it our tables leave unsaid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hl7bridge.fhir.model import Model
from hl7bridge.guide.messages import MessageComparison
from hl7bridge.guide.names import table_name
from hl7bridge.guide.places import Place as Place_
from hl7bridge.guide.places import path_place
from hl7bridge.guide.rows import Linked, RowComparison
from hl7bridge.guide.sheet import GuideRow
from hl7bridge.guide.verdict import UNDECIDED, Finding, Said, Verdict, judge
from hl7bridge.mapping.schema import All, Condition, Place, Table, TableSet, Valued

KINDS = ("message", "message-ref", "segment", "datatype", "codesystem")
ASKED = ("yes", "config", "no")
PROPOSED = ("local", "proposed-extension")  # the guide names a need and no element of R4


@dataclass(frozen=True, slots=True)
class Conformance:
    """`verdicts`: of every row with a target. `rest`: rows without one, by what becomes of their field here."""

    verdicts: tuple[Verdict, ...]
    rest: tuple[tuple[GuideRow, str], ...]  # read | said | unsaid
    strangers: tuple[tuple[str, Place], ...]  # row ids our tables name and the guide has not

    def count(self, kind: str, asked: Sequence[str], verdict: str | None = None) -> int:
        return sum(
            1
            for v in self.verdicts
            if v.row.kind == kind and v.row.asked in asked and (verdict is None or v.verdict == verdict)
        )

    def maps(self) -> Iterator[tuple[str, str, Counter[str]]]:
        """Kind, map, and its verdicts counted."""
        counts: dict[tuple[str, str], Counter[str]] = {}
        for v in self.verdicts:
            counts.setdefault((v.row.kind, v.row.map), Counter())[v.verdict] += 1
        yield from ((kind, name, count) for (kind, name), count in counts.items())

    def rest_of(self, kind: str) -> Counter[str]:
        return Counter(fate for row, fate in self.rest if row.kind == kind)

    @property
    def undecided(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.verdict == UNDECIDED)


def conform(rows: Iterable[GuideRow], tables: TableSet, model: Model) -> Conformance:
    """The verdicts on the rows of a guide."""
    every = tuple(rows)
    said = Said.of(tables)
    targets = [row for row in every if row.row_class == "target"]
    findings: dict[str, Finding] = {}
    for name in dict.fromkeys(row.map for row in targets):
        mine = [row for row in targets if row.map == name]
        findings.update(_map(mine, tables, model))
    return Conformance(
        tuple(judge(row, findings[row.id], said, tables) for row in targets),
        tuple((row, _fate(row, said, tables)) for row in every if row.row_class in ("unmapped", *PROPOSED)),
        tuple(said.strangers(every)),
    )


def _map(rows: list[GuideRow], tables: TableSet, model: Model) -> Iterator[tuple[str, Finding]]:
    """What is found for the rows of one map."""
    kind, name = rows[0].kind, table_name(rows[0].map)
    if kind in ("segment", "datatype"):
        table = (tables.segments if kind == "segment" else tables.datatypes).get(name)
        if table is not None:
            comparison = RowComparison(tables, table, model, rows, _linked(table, tables))
            yield from ((row.id, comparison.find(row)) for row in rows)
            return
    elif kind == "codesystem" and name in tables.codes:
        yield from ((row.id, _code(row, tables)) for row in rows)
        return
    elif kind in ("message", "message-ref") and name in tables.messages:
        message = MessageComparison(tables, tables.messages[name], rows)
        yield from [(row.id, message.find(row)) for row in rows if row.kind == "message"]
        yield from ((row.id, message.reference(row)) for row in rows if row.kind == "message-ref")
        return
    yield from ((row.id, Finding(False, f"there is no table {name}")) for row in rows)


def _linked(table: Table, tables: TableSet) -> Iterator[Linked]:
    """The tables that message tables put behind a reference of this one, from the same segment, each once."""
    seen: set[tuple[Place_, str]] = set()
    for message in tables.messages.values():
        for use in message.uses:
            if use.table != table.name:
                continue
            for other in message.uses:
                behind = tables.segments.get(other.table)
                off = other.option is not None and tables.settings.get(other.option.name) != other.option.value
                if other.segment != use.segment or behind is None or off:
                    continue
                for link in (*use.links, *other.links):
                    owner = link.on or (use.into if link in use.links else other.into)
                    key = (path_place(link.path), behind.name)
                    if owner == use.into and link.to == other.into and link.to != use.into and key not in seen:
                        seen.add(key)
                        yield Linked(key[0], behind, _without_segments(other.when))


def _without_segments(condition: Condition | None) -> Condition | None:
    """A condition without its tests for whole segments: the guide requires these where it puts one into the other."""
    if isinstance(condition, Valued) and not condition.ref.parts and not condition.negated:
        return None
    if isinstance(condition, All):
        parts = tuple(kept for part in condition.parts if (kept := _without_segments(part)) is not None)
        return All(parts) if len(parts) > 1 else parts[0] if parts else None
    return condition


def _code(row: GuideRow, tables: TableSet) -> Finding:
    """A code of the guide: the same code and system come out."""
    table = tables.codes[table_name(row.map)]
    written = row.source.partition("#")[2].strip()
    sent = written if written in table.map else _bare(written)  # some codes have quotes of their own
    system, _, code = row.path.rpartition("|")
    found = table.map.get(sent)
    if found is None:
        return Finding(False, f"the table has no code {sent!r}", table.place)
    place = table.places.get(sent, table.place)
    if found.code not in (code.strip(), _bare(code)):
        return Finding(False, f"the guide has {code}, ours {found.code}", place)
    if found.system != system:
        return Finding(False, f"the guide has the system {system}, ours {found.system or 'none'}", place)
    return Finding(True, "", place)


def _bare(text: str) -> str:
    return text.strip().strip('"')


def _fate(row: GuideRow, said: Said, tables: TableSet) -> str:
    """What becomes of a field the guide has no target for: `read` here all the same, `said` with a reason, `unsaid`."""
    if row.id in said.deviations or row.id in said.unmapped:
        return "said"
    if row.kind in ("segment", "datatype"):
        table = (tables.segments if row.kind == "segment" else tables.datatypes).get(table_name(row.map))
        if table is None:
            return "unsaid"
        if any(row.source == key or row.source.startswith(f"{key}.") for key in table.unmapped):
            return "said"
        read = {str(mine.source) for mine in table.rows}
        return "read" if any(key == row.source or key.startswith(f"{row.source}.") for key in read) else "unsaid"
    if row.kind == "codesystem":
        codes = tables.codes.get(table_name(row.map))
        # what becomes of a code that is not in the table is said by its `otherwise`
        return "unsaid" if codes is None else "read" if row.source.partition("#")[2] in codes.map else "said"
    message = tables.messages.get(row.map)
    segment = row.source.rpartition(".")[2]
    if message is None:
        return "unsaid"
    used = {use.segment.rpartition(".")[2].partition("@")[0] for use in message.uses}
    listed = {key.rpartition(".")[2].partition("@")[0] for key in message.unmapped}
    return "read" if segment in used else "said" if segment in listed else "unsaid"
