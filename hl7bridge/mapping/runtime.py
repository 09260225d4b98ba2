"""What one translation carries along: the message, what was built so far, what was counted on the way.

Sans-IO. A Run belongs to one message; the generated code of the tables (compile.py) reads through it. Nothing here
prints or stores a value of the message outside the bodies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import tzinfo
from typing import TYPE_CHECKING, Literal, NamedTuple

from hl7bridge.fhir.resource import Body, Reference, Resource
from hl7bridge.hl7v2.message import Message, Segment
from hl7bridge.hl7v2.structure import Arrangement, Group

if TYPE_CHECKING:
    from hl7bridge.mapping.trace import Trace

NULL = '""'
LARGE = 100_000  # characters of a value whose parts are kept: several rows read a document, and it must not be copied
NEVER = "\udfff"  # in place of a separator that the message has not: no decoder gives a lone surrogate

IssueKind = Literal[
    "value-invalid", "code-unmapped", "repetition-dropped", "character-removed", "identity-merged", "deletion-kept"
]


class Issue(NamedTuple):
    """Something the tables could not carry over whole: kind, table, and the field (never its value)."""

    kind: IssueKind
    table: str
    source: str


class Deletion(NamedTuple):
    """A field that says `""`: the path of its first row, and whether it is known what a server has to take away."""

    resource: Resource
    path: str
    placed: bool
    issue: Issue


class Run:
    """One translation. `offset` is MSH-7's offset, the default for times without one; `zone` the next resort.

    `odd`: the characters with which a text may begin that is not valued.
    """

    __slots__ = (
        "_header",
        "_large",
        "arrangement",
        "blank",
        "component",
        "deletes",
        "displaced",
        "escape",
        "issues",
        "linked",
        "message",
        "odd",
        "offset",
        "references",
        "repetition",
        "subcomponent",
        "targets",
        "text",
        "times",
        "trace",
        "zone",
    )

    def __init__(self, message: Message, zone: tzinfo, offset: str | None, trace: Trace | None = None) -> None:
        self.message = message
        s = message.separators
        self.component, self.subcomponent = s.component or NEVER, s.subcomponent or NEVER
        self.repetition, self.escape = s.repetition or NEVER, s.escape or NEVER
        self.blank = s.component + s.subcomponent + s.repetition + " "
        self.odd = self.blank + NULL[0]
        self.text: Callable[[str], str] = message.text
        self.zone = zone
        self.offset = offset
        self.issues: Counter[Issue] = Counter()
        self.deletes: list[Deletion] = []
        self.displaced: list[tuple[Body, tuple[str, ...]]] = []  # names of a choice that an `invalid:` path replaced
        self.references: list[Reference] = []
        self.targets: dict[int, Resource] = {}  # who a Reference element means, by its id()
        self.times: dict[tuple[object, str], str] = {}  # what dates and times became, by converter and text
        self.linked: set[tuple[int, str, int]] = set()  # links written so far
        self.trace = trace
        self.arrangement: Arrangement | None = None  # the message's groups, once its segments are in their places
        self._header: dict[
            tuple[int, int], str
        ] = {}  # components of MSH, which many rows read; their leaves by the negative number
        self._large: dict[tuple[str, str], list[str]] = {}

    # -- texts ----------------------------------------------------------------------------------------------------

    def valued(self, raw: str) -> bool:
        """Populated: neither empty, nor only separators and blanks, nor the HL7 null `""`."""
        return (
            bool(raw)
            and raw != NULL
            and (
                raw[0] not in self.blank
                or bool(raw[:100].strip(self.blank) or raw.strip(self.blank))  # not of megabytes
            )
        )

    def leaf0(self, raw: str) -> str:
        """Of a repetition: the first subcomponent of its first component, escapes resolved; "" when not valued."""
        if self.component in raw:
            raw = raw[: raw.index(self.component)]
        if self.subcomponent in raw:
            raw = raw[: raw.index(self.subcomponent)]
        if not raw or raw == NULL:
            return ""
        return raw.strip() if self.escape not in raw else self.text(raw).strip()

    def leaf1(self, raw: str) -> str:
        """Of a component."""
        if self.subcomponent in raw:
            raw = raw[: raw.index(self.subcomponent)]
        if not raw or raw == NULL:
            return ""
        return raw.strip() if self.escape not in raw else self.text(raw).strip()

    def leaf2(self, raw: str) -> str:
        """Of a subcomponent."""
        if not raw or raw == NULL:
            return ""
        return raw.strip() if self.escape not in raw else self.text(raw).strip()

    def whole(self, raw: str) -> str:
        """Everything that was sent, separators too, escapes resolved."""
        return self.text(raw).strip() if self.valued(raw) else ""

    def lines(self, raw: str) -> str:
        """All repetitions of a field, a line each (v2 chapter 2A, TX), escapes resolved; an empty one is a blank."""
        return "\n".join(self.text(t).rstrip() if self.valued(t) else "" for t in raw.split(self.repetition))

    def split(self, raw: str, separator: str) -> list[str]:
        """The parts of a value. Of a large one they are kept."""
        if len(raw) < LARGE:
            return raw.split(separator)
        if (raw, separator) not in self._large:
            self._large[raw, separator] = raw.split(separator)
        return self._large[raw, separator]

    def component_of(self, raw: str, number: int) -> str:
        """The leaf of a component of a repetition."""
        if not raw:
            return ""
        pieces = raw.split(self.component) if len(raw) < LARGE else self.split(raw, self.component)
        return self.leaf1(pieces[number - 1]) if number <= len(pieces) else ""

    def nth(self, raw: str, separator: str, number: int) -> str:
        """A part of a value, counted from 1; "" where there is none."""
        pieces = raw.split(separator) if len(raw) < LARGE else self.split(raw, separator)
        return pieces[number - 1] if number <= len(pieces) else ""

    def leaves(self, raw: str, level: int) -> list[str]:
        """The parts of a value at a level, each by its leaf."""
        if level > 1:
            return [self.leaf2(raw)]
        pieces = self.split(raw, self.subcomponent if level else self.component)
        return list(map(self.leaf2 if level else self.leaf1, pieces))

    def read_before(self, raw: str, rep: int) -> bool:
        """Whether a repetition before this one had content."""
        return any(map(self.valued, raw.split(self.repetition)[:rep]))

    # -- fields ---------------------------------------------------------------------------------------------------

    def first(self, fields: list[str], number: int) -> str:
        """The first repetition of a field."""
        if number >= len(fields):
            return ""
        raw = fields[number]
        return raw if self.repetition not in raw else raw.partition(self.repetition)[0]

    def has(self, fields: list[str], number: int) -> bool:
        """Whether the first repetition of a field is valued."""
        return self.valued(self.first(fields, number))

    def leaf_of(self, fields: list[str], number: int) -> str:
        """The leaf of the first repetition of a field."""
        return self.leaf0(self.first(fields, number))

    def seen(self, group: Group | None, segment_id: str, number: int) -> str:
        """The first repetition of a field of the segment that is seen from a group."""
        segment = group.find(segment_id) if group is not None else None
        if segment is None:
            return ""
        return segment.field(number) if segment_id == "MSH" and number <= 2 else self.first(segment.fields, number)

    def header(self, group: Group | None, number: int, component: int) -> str:
        """The same of a component of MSH, of which a message has one."""
        if group is None:
            return ""
        found = self._header.get((number, component))
        if found is None:
            found = self._header[number, component] = self.nth(
                self.seen(group, "MSH", number), self.component, component
            )
        return found

    def header_leaf(self, group: Group | None, number: int, component: int) -> str:
        """Its leaf."""
        if group is None:
            return ""
        found = self._header.get((number, -component))
        if found is None:
            found = self._header[number, -component] = self.leaf1(self.header(group, number, component))
        return found

    def id_of(self, group: Group | None, segment_id: str) -> str:
        """The id of a segment that is seen, else ""."""
        return segment_id if group is not None and group.find(segment_id) is not None else ""

    def at(self, segment: Segment, group: Group | None, segment_id: str) -> Segment | None:
        """The segment at hand or the one that is seen."""
        return segment if segment.id == segment_id else group.find(segment_id) if group is not None else None

    def count_of(self, segment: Segment | None, number: int) -> int:
        """How many repetitions of a field have content."""
        if segment is None:
            return 0
        raw = segment.field(number)
        if self.repetition not in raw:
            return int(self.valued(raw))
        return sum(map(self.valued, raw.split(self.repetition)))

    def repeats(self, segment: Segment, number: int) -> bool:
        """Whether more than one repetition of a field has content."""
        return self.repetition in segment.field(number) and self.count_of(segment, number) > 1

    def dissolve(self) -> None:
        """The translation is over: lets go of what would wait for the collector."""
        if self.arrangement is not None:
            self.arrangement.dissolve()

    def count(self, kind: IssueKind, table: str, source: str) -> None:
        self.issues[Issue(kind, table, source)] += 1
        if self.trace is not None:
            self.trace.issue(kind)


def only_deletes(raw: str, separator: str) -> bool:
    """Whether every repetition says `""`."""
    return all(part == NULL for part in raw.split(separator))
