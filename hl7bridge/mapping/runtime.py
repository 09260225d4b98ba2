"""What one translation carries along: the message, what was built so far, what was counted on the way.

Sans-IO. A Run belongs to one message; a Context to one table applied to one segment or one value. Nothing here
prints or stores a value of the message outside the bodies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hl7bridge.fhir.resource import Body, Reference, Resource
from hl7bridge.hl7v2.message import Message, Segment
from hl7bridge.hl7v2.structure import Arrangement, Group

if TYPE_CHECKING:
    from hl7bridge.mapping.trace import Trace

NULL = '""'
LARGE = 100_000  # characters of a value whose parts are kept: several rows read a document, and it must not be copied

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


NOBODY = Resource("Basic", 0)  # whose turn it is while a message table's condition is tested


class Run:
    """One translation. `offset` is MSH-7's offset, the default for times without one; `zone` the next resort."""

    __slots__ = (
        "_large",
        "arrangement",
        "blank",
        "deletes",
        "displaced",
        "issues",
        "linked",
        "message",
        "offset",
        "references",
        "separators",
        "targets",
        "text",
        "trace",
        "zone",
    )

    def __init__(self, message: Message, zone: tzinfo, offset: str | None, trace: Trace | None = None) -> None:
        self.message = message
        s = message.separators
        self.separators = (s.component, s.subcomponent)
        self.blank = s.component + s.subcomponent + s.repetition + " "
        self.text: Callable[[str], str] = message.text
        self.zone = zone
        self.offset = offset
        self.issues: Counter[Issue] = Counter()
        self.deletes: list[Deletion] = []
        self.displaced: list[tuple[Body, tuple[str, ...]]] = []  # names of a choice that an `invalid:` path replaced
        self.references: list[Reference] = []
        self.targets: dict[int, Resource] = {}  # who a Reference element means, by its id()
        self.linked: set[tuple[int, str, int]] = set()  # links written so far
        self.trace = trace
        self.arrangement: Arrangement | None = None  # the message's groups, once its segments are in their places
        self._large: dict[tuple[str, str], list[str]] = {}

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

    def split(self, raw: str, level: int) -> list[str]:
        """Parts of a value: level 0 a field repetition into components, 1 a component into subcomponents, 2 a leaf."""
        separator = self.separators[level] if level < 2 else ""
        if len(raw) < LARGE:
            return raw.split(separator) if separator else [raw]
        if (raw, separator) not in self._large:
            self._large[raw, separator] = raw.split(separator) if separator else [raw]
        return self._large[raw, separator]

    def leaf(self, raw: str, level: int) -> str:
        """The first subcomponent of the first component, escapes resolved; "" when not valued."""
        component, subcomponent = self.separators
        if level < 1 and component and component in raw:
            raw = raw.partition(component)[0]
        if level < 2 and subcomponent and subcomponent in raw:
            raw = raw.partition(subcomponent)[0]
        if not raw or raw == NULL:
            return ""
        return self.text(raw).strip()

    def dissolve(self) -> None:
        """The translation is over: lets go of what would wait for the collector."""
        if self.arrangement is not None:
            self.arrangement.dissolve()

    def count(self, kind: IssueKind, table: str, source: str) -> None:
        self.issues[Issue(kind, table, source)] += 1
        if self.trace is not None:
            self.trace.issue(kind)


class Context:
    """One table applied once.

    parts: a segment's fields (index is the field number) or a value's parts (index 0 is component 1); `text`: the
    repetition (segment table) or whole value (data type table) at hand; `level`: 0 for a field, 1 for a component, 2
    for a subcomponent; `slots`: the instances of repeating elements made so far, by label.
    """

    __slots__ = (
        "group",
        "index",
        "level",
        "others",
        "parent",
        "parts",
        "rep",
        "resource",
        "run",
        "segment",
        "slots",
        "strict",
        "target",
        "text",
        "valued",
    )

    def __init__(
        self,
        run: Run,
        resource: Resource,
        target: Body,
        segment: Segment,
        group: Group | None,
        parts: list[str],
        text: str,
        level: int,
        parent: Context | None = None,
        strict: bool = False,
    ) -> None:
        self.run = run
        self.resource = resource
        self.target = target
        self.segment = segment
        self.group = group
        self.parts = parts
        self.text = text
        self.level = level
        self.rep = 0
        self.index = 0  # the field or component whose rows are being applied
        self.valued = False  # whether the repetition or component at hand is, worked out once for all its rows
        self.parent = parent
        self.strict = strict
        self.slots: dict[tuple[int, str, str, int], Any] = {}
        self.others: dict[str, Body] = {}  # further instances of what the table fills, by label
