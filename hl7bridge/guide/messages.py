"""Message rows and the references they state: is there a use of the same segment map, into the same resource?

Sans-IO. The guide's `Patient[1]` is a number within one message: the first use that is found decides which of our
labels stands for it. A segment that the guide requires in its message is taken to be there. A statement about a
reference (`Encounter.subject.reference = Patient[1].id`) is held by a `link` of a use of the same segment map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hl7bridge.guide.logic import same
from hl7bridge.guide.names import table_name
from hl7bridge.guide.places import guide_place, names, path_place, unquoted
from hl7bridge.guide.rows import guide_condition
from hl7bridge.guide.sheet import GuideRow
from hl7bridge.guide.verdict import Finding
from hl7bridge.hl7v2.structure import Structure
from hl7bridge.mapping.paths import Malformed
from hl7bridge.mapping.schema import All, Condition, Label, Link, MessageTable, Ref, TableSet, Use

_TARGET = re.compile(r"([A-Z][A-Za-z]*)(?:\[(\w+)\])?")
_BEHIND = re.compile(r"\(([A-Z][A-Za-z]*)(?:\[(\w+)\])?\)$")


@dataclass
class MessageComparison:
    """The rows of one message of the guide against our message table."""

    tables: TableSet
    message: MessageTable
    rows: list[GuideRow]
    structure: Structure = field(init=False)
    labels: dict[tuple[str, str], Label] = field(default_factory=dict)  # (Patient, 1) -> Patient#patient
    required: set[Ref] = field(default_factory=set)
    matched: dict[str, Use] = field(default_factory=dict)  # row id -> our use, conditions aside

    def __post_init__(self) -> None:
        self.structure = Structure(self.message.structure)
        for row in self.rows:
            path = row.source.partition(".")[2]
            if row.kind == "message" and row.required and path and "." not in path and ":" not in row.source:
                self.required.add(Ref(path))

    # -- rows -----------------------------------------------------------------------------------------------------

    def find(self, row: GuideRow) -> Finding:
        """The use of ours that holds a message row."""
        closest: tuple[int, str, Use | None] = (-1, "", None)
        for use in self.message.uses:
            if use.table != table_name(row.segment_map) or not self._stands_at(use, row):
                continue
            step, what = self._compare(row, use)
            if step > closest[0]:
                closest = (step, what, use)
        step, what, found = closest
        if found is None:
            return Finding(False, f"no row of {_segment(row)} uses {table_name(row.segment_map)}")
        if step > 0:
            self.matched[row.id] = found
            key = _target(row.path)
            if key is not None and key[1]:
                self.labels.setdefault(key, found.into)
        return Finding(not what, what, found.place, found.option.name if found.option else "")

    def _compare(self, row: GuideRow, use: Use) -> tuple[int, str]:
        """How far the use agrees: 1 target, 2 label, 3 condition, 4 option."""
        key = _target(row.path)
        if key is None or key[0] != use.into.type:
            return 0, f"the guide makes {row.path}, ours {use.into}"
        if key[1] and not self._fits(key, use.into) and not self._unrolled(use):
            return 1, f"the guide's {row.path} is {self.labels.get(key, 'another resource')}, not {use.into}"
        if (what := self._condition(row, use.when, use.when_text)) and row.asked != "config":
            return 2, what
        if what and row.condition:
            return 2, what
        if row.asked != "config" and use.option and self.tables.settings.get(use.option.name) != use.option.value:
            return 3, f"only when the option {use.option.name} is {use.option.value}"
        return 4, ""

    def _fits(self, key: tuple[str, str], label: Label) -> bool:
        if key in self.labels:
            return self.labels[key] == label
        return not any(taken == label and of[0] == key[0] for of, taken in self.labels.items())

    def _condition(self, row: GuideRow, when: Condition | None, text: str) -> str:
        try:
            theirs = guide_condition(row)
        except (Malformed, ValueError):
            return f"its condition cannot be read: {row.condition}"
        given = {Ref(_segment(row)), Ref(_read(row)), *self.required}
        if same(theirs, when, given):
            return ""
        return f"the guide asks {row.condition or 'nothing'}, ours {text or 'nothing'}"

    def _link_condition(self, row: GuideRow, use: Use) -> str:
        """Another use of the same resource may write the reference more often than the row asks: it is one resource."""
        what = self._condition(row, use.when, use.when_text)
        if not what or use.table == table_name(row.segment_map):
            return what
        theirs = guide_condition(row)
        both = tuple(part for part in (theirs, use.when) if part is not None)
        return "" if not self._condition(row, All(both), "") else what

    def _stands_at(self, use: Use, row: GuideRow) -> bool:
        """Whether the use's segment is where the guide has it: same segment, and our groups are some of its groups."""
        ours = use.segment.split(".")
        name, _, after = ours[-1].partition("@")
        if name != _read(row):
            return False
        if name != _segment(row):  # EVN is there, and MSH is read: MSH[Provenance-Operator]
            return "." not in use.segment
        head, _, rest = row.source.partition(":follow:")
        if rest:
            followed = rest.split(".")[-2]
            return after in ("", followed) and self._first_at(use.segment, followed)
        around = ours[1:-1] if self._unrolled(use) else ours[:-1]
        theirs = head.split(".")[1:-1]
        groups = iter(theirs)
        return all(group in groups for group in around) and self._innermost(around, theirs)

    def _unrolled(self, use: Use) -> bool:
        """A17 has two patients: the guide writes their segments out twice, our structure has a group that repeats."""
        outer = use.segment.partition(".")[0]
        return "." in use.segment and self.structure.nodes[outer].repeats and outer not in self._guide_groups()

    def _guide_groups(self) -> set[str]:
        return {name for row in self.rows for name in row.source.split(".")[1:-1]}

    def _innermost(self, ours: list[str], theirs: list[str]) -> bool:
        """The guide's innermost group is ours too, or one that our structure writes without a group."""
        return not theirs or (bool(ours) and ours[-1] == theirs[-1]) or theirs[-1] not in self._groups()

    def _groups(self) -> set[str]:
        return {name for path in self.structure.nodes for name in path.split(".")[:-1]}

    def _first_at(self, path: str, followed: str) -> bool:
        """`ADT_A01:follow:PID.ROL`: of several places without a mark the one after that segment."""
        if "@" in path:
            return True
        before = [node.rpartition(".")[2].partition("@")[0] for node in list(self.structure.nodes)]
        at = list(self.structure.nodes).index(path)
        return followed in before[:at]

    # -- references -----------------------------------------------------------------------------------------------

    def reference(self, row: GuideRow) -> Finding:
        """The link of ours that holds a statement about a reference. Rows come first: they settle the labels."""
        if not row.assignment.endswith(".id"):
            return self._constant(row)
        owner, path = _reference_path(_inside(row.path))
        target = _target(row.assignment.removesuffix(".id"))
        if owner is None or target is None:
            return Finding(False, f"{row.path} = {row.assignment} names no element")
        found: Finding | None = None
        for use in self._uses_of(row):
            for link, on in _links(use):
                if on.type != owner[0] or link.to.type != target[0] or names(path_place(link.path)) != path:
                    continue
                what = self._link_labels(owner, on, target, link.to)
                if row.condition or row.asked == "yes":
                    what = what or self._link_condition(row, use)
                if row.asked == "yes":
                    what = what or self._switched_off(use)
                option = self._option(use, link)
                if not what:
                    return Finding(True, "", link.place, option)
                found = found or Finding(False, what, link.place, option)
        return found or Finding(False, f"no link of {_segment(row)} writes {row.path} = {row.assignment}")

    def _uses_of(self, row: GuideRow) -> Iterator[Use]:
        """Uses of the row's own table first, then what else the segment is used for."""
        here = [
            use
            for use in self.message.uses
            if self._stands_at(use, row) or use.segment.rpartition(".")[2] == _segment(row) != _read(row)
        ]
        yield from sorted(here, key=lambda use: use.table != table_name(row.segment_map))

    def _option(self, use: Use, link: Link) -> str:
        """The option of the use, or of what makes the resource that the link leads to."""
        makers = [other.option for other in self.message.uses if other.into == link.to]
        always = [option.name for option in makers if option is not None]
        return use.option.name if use.option else always[0] if always and len(always) == len(makers) else ""

    def _link_labels(self, owner: tuple[str, str], on: Label, target: tuple[str, str], to: Label) -> str:
        for key, label in ((owner, on), (target, to)):
            known = self.labels.get(key)
            if key[1].isdigit() and known is not None and known != label:
                return f"the guide's {key[0]}[{key[1]}] is {known}, not {label}"
        return ""

    def _switched_off(self, use: Use) -> str:
        option = use.option
        if option is None or self.tables.settings.get(option.name) == option.value:
            return ""
        return f"only when the option {option.name} is {option.value}"

    def _constant(self, row: GuideRow) -> Finding:
        """`Provenance[1].entity.role = "source"`: a segment table used here writes it."""
        owner, path = _reference_path(row.path)
        value = unquoted(row.assignment)
        for use in self.message.uses:
            table = self.tables.segments.get(use.table)
            if owner is None or table is None or use.into.type != owner[0] or _segment(row) != table.source:
                continue
            for mine in table.rows:
                written = [(mine.to, mine.value), *mine.set_]
                if any(to is not None and names(path_place(to)) == path and said == value for to, said in written):
                    wrong = self._link_labels(owner, use.into, ("", ""), use.into)
                    option = mine.option or use.option
                    return Finding(not wrong, wrong, mine.place, option.name if option else "")
        return Finding(False, f"nothing writes {row.path} = {row.assignment}")


def _links(use: Use) -> Iterator[tuple[Link, Label]]:
    for link in use.links:
        yield link, link.on or use.into


def _segment(row: GuideRow) -> str:
    return row.source.rpartition(".")[2]


def _read(row: GuideRow) -> str:
    """The segment that the row's map reads: nearly always the one it stands at."""
    return row.segment_map.partition("[")[0] or _segment(row)


def _target(path: str) -> tuple[str, str] | None:
    """`Patient[1]` -> (Patient, 1); `Provenance[1].entity.what(Device)` -> (Device, "")."""
    behind = _BEHIND.search(path)
    match = behind or _TARGET.match(path)
    return (match[1], match[2] or "") if match else None


def _reference_path(path: str) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """`Encounter[1].participant.individual.reference` -> (Encounter, 1), (participant, individual)."""
    head, _, rest = path.partition(".")
    place = names(guide_place(rest.removesuffix(")").removesuffix(".reference").removesuffix(".id"), "") or ())
    return _target(head), place


def _inside(path: str) -> str:
    """`DiagnosticReport.specimen(Specimen.collection.collector.reference)` -> the path in the Specimen."""
    match = re.fullmatch(r"[^()]+\(([^()]+)\)", path)
    return match[1] if match else path
