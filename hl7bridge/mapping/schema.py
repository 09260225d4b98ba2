"""What a mapping table is once it is read: frozen values that the checker judges and the compiler turns into code.

Sans-IO. Every value an analyst wrote keeps its Place, so that any later error can name file, line and column.
The words and their meaning: docs/mapping-reference.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from hl7bridge.fhir.difference import Difference

Otherwise = str  # "keep" | "drop" | "error" | a code
Fallback = Literal["", "yes", "new"]
Write = Literal["", "create", "patch", "replace", "delete"]  # "": as identity.yaml says


class Place(NamedTuple):
    """Where something stands: file as the analyst knows it (from its folder's own name on), line, column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a piece of a message: segment or data type, field or component, deeper parts.

    `PID` -> ("PID", ()); `PID-5.1.2` -> ("PID", (5, 1, 2)); in a data type table `XPN.1.2` -> ("XPN", (1, 2)).
    """

    root: str
    parts: tuple[int, ...] = ()

    def __str__(self) -> str:
        separator = "-" if is_segment_name(self.root) else "."
        head, rest = self.parts[:1], self.parts[1:]
        return self.root + "".join(f"{separator}{n}" for n in head) + "".join(f".{n}" for n in rest)


def is_segment_name(root: str) -> bool:
    """Segment ids have three characters, the data types that tables read have two or three; only these clash."""
    return len(root) == 3 and root not in DATATYPES_OF_THREE


DATATYPES_OF_THREE = frozenset(
    """
    CNE CNN CWE DIN DLD DLN DLT DTM DTN EIP ELD ERL ICD JCC MOC MOP MSG NDL OCD OSD OSP PIP PLN PPN
    PRL PTA QIP QSC RCD RFR RMC RPT SAD SCV SNM SPD SPS SRT UVC VID WVI WVS XAD XCN XON XPN XTN CCD
    CCP CSU AUI DDI GTS LA1 LA2
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Valued:
    """`PID-5 valued` / `PID-5 not valued`."""

    ref: Ref
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """`OBX-2 = NM`, `!=` (one value), `in [..]`, `not in [..]`. On a composite the first component is compared.

    `other` is set instead of values where both sides are fields: `PID-11.9 != PID-12`.
    """

    ref: Ref
    values: tuple[str, ...]
    negated: bool = False
    other: Ref | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """`count(OBX-5) <= 1` (repetitions that are not empty), `length(PID-7) > 8` (characters)."""

    kind: Literal["count", "length"]
    ref: Ref
    operator: Literal["<", "<=", ">", ">=", "=", "!="]
    number: int


@dataclass(frozen=True, slots=True)
class All:
    """`a and b`"""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """`a or b`"""

    parts: tuple[Condition, ...]


Condition = Valued | Compare | Measure | All | Any


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: element name, label, and the resource that a reference leads to.

    `performer#observer(PractitionerRole.practitioner)` -> Step("performer", "observer", "PractitionerRole", None,
    (Step("practitioner"),)).
    """

    name: str
    label: str = ""
    resource: str | None = None
    resource_label: str = ""
    inner: tuple[Step, ...] = ()
    each: bool = False  # `telecom*`: the repetition of the field counts here


@dataclass(frozen=True, slots=True)
class Path:
    """Where a row writes. `steps` is empty for `$this` (the resource or element itself) and `$value` (a primitive).

    `another`: the label of a further instance of what the table fills, where `steps` starts: `$another#called.given`.
    """

    text: str
    steps: tuple[Step, ...]
    place: Place
    another: str = ""


@dataclass(frozen=True, slots=True)
class Literal_:
    """A quoted part of `concat:`."""

    text: str


@dataclass(frozen=True, slots=True)
class OptionValue:
    """`value: {option: name}`: the site's decision is the value."""

    name: str


@dataclass(frozen=True, slots=True)
class FieldValue:
    """`{field: OBX-6.1}`, with `apply` where a function makes the value: what stands there, written beside a row."""

    ref: Ref
    apply: str = ""


@dataclass(frozen=True, slots=True)
class OptionTest:
    """`option: name` (on when the option is yes) or `option: name = value`."""

    name: str
    value: str = "yes"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a segment or data type table: where the value comes from, what becomes of it, where it goes."""

    source: Ref  # the key: PID-5, XPN.1, or the table's own source (a constant: once per target)
    place: Place
    to: Path | None = None
    as_: str | None = None  # data type table
    codes: str | None = None  # code table
    value: str | OptionValue | None = None
    concat: tuple[Ref | Literal_, ...] = ()
    set_: tuple[tuple[Path, str | OptionValue | FieldValue], ...] = ()
    extension: tuple[str, ...] = ()  # urls from the outside in; short names are completed when read
    extension_label: str = ""
    on: Path | None = None  # the element that carries the extension; None: the table's own target
    when: Condition | None = None
    when_text: str = ""
    option: OptionTest | None = None
    apply: str | None = None  # a built-in function by name
    invalid: Path | None = None  # where the text goes, as sent, when it cannot be converted
    invalid_with: Ref | None = None  # a field that then stands behind it, like the unit
    remove: bool = False  # `to` is taken away instead of written
    fallback: Fallback = ""  # yes: only where nothing stands yet; new: and never in a patch
    note: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """`given:` one segment or one field as text; `expect:` what must be part of the result."""

    name: str
    given: str
    expect: object
    options: Mapping[str, str]
    place: Place


@dataclass(frozen=True, slots=True)
class GuideNote:
    """What a table says of rows of the HL7 v2-to-FHIR guide: written otherwise than there, or (`unmapped`) not at all.

    `rows`: the text that names them, `PID[Patient]#58-#60`; `reason`: why.
    """

    rows: str
    reason: str
    place: Place
    unmapped: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A segment table (PID-Patient) or a data type table (XPN-HumanName, HD-uri).

    `source`: PID or XPN; `target`: FHIR type or, for a backbone element, its path (MessageHeader.source); `variant`:
    what follows (DefaultAssigner), which has no meaning but to tell tables apart.
    """

    name: str
    kind: Literal["segment", "datatype"]
    source: str
    target: str
    variant: str
    rows: tuple[Row, ...]
    unmapped: Mapping[str, str]
    examples: Sequence[Example]
    place: Place
    unmapped_places: Mapping[str, Place] = field(default_factory=dict)
    guide: tuple[GuideNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """`Patient#patient`: a resource of this message, by type and label."""

    type: str
    label: str

    def __str__(self) -> str:
        return f"{self.type}#{self.label}" if self.label else self.type


@dataclass(frozen=True, slots=True)
class Link:
    """`subject: Patient#patient`, or on another resource: `DiagnosticReport#report.result: Observation#result`.

    `match`: pairs of a field of ours and one of theirs (`OBR-26.1: OBX-3.1`); then every such resource of the message
    is meant whose fields agree, wherever it stands, and not the one that can be seen from here.
    """

    on: Label | None  # None: the resource this use makes
    path: Path
    to: Label
    place: Place
    match: tuple[tuple[Ref, FieldValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Lines:
    """`lines: {of: OBX-5, counting: [OBX-1, OBX-4], when: …}`: neighbours that differ only in these are one text."""

    field: int
    counting: tuple[int, ...]
    refs: tuple[Ref, ...]  # as written, for the check
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a segment table in a message table."""

    segment: str  # the full path of the node in the structure: PATIENT_RESULT.ORDER_OBSERVATION.OBR
    table: str
    into: Label
    links: tuple[Link, ...]
    place: Place
    when: Condition | None = None
    when_text: str = ""
    option: OptionTest | None = None
    write: Write = ""
    note: str = ""
    lines: Lines | None = None
    each: Ref | None = None  # a field: the table is used once for each of its repetitions, a resource each
    finds: bool = False  # the resource is found on the server by the identifiers this row writes
    undo: bool = False  # what the row says is taken away again


@dataclass(frozen=True, slots=True)
class MessageTable:
    """ADT_A01: which segment tables a message uses. `structure`: HL7's abstract syntax, see hl7v2/structure.py."""

    name: str
    code: str  # ADT
    events: tuple[str, ...]
    structure: str
    uses: tuple[Use, ...]
    place: Place
    unmapped: Mapping[str, str] = field(default_factory=dict)  # segments the structure names and nothing reads
    unmapped_places: Mapping[str, Place] = field(default_factory=dict)
    shares: tuple[str, ...] = ()  # the shared tables whose rows are among `uses`
    guide: tuple[GuideNote, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedTable:
    """shared/person: rows for message tables that name it in `shares`.

    A use's `segment` is the key as written, the end of a path that each message's structure has or has not.
    """

    name: str
    uses: tuple[Use, ...]
    place: Place
    unmapped: Mapping[str, str] = field(default_factory=dict)
    unmapped_places: Mapping[str, Place] = field(default_factory=dict)
    guide: tuple[GuideNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """What a v2 code becomes."""

    code: str
    system: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class CodeTable:
    """AdministrativeSex: v2 table 0001 to FHIR codes. `v2_table` may be empty for user tables."""

    name: str
    v2_table: str
    system: str
    map: Mapping[str, Code]
    otherwise: Otherwise
    place: Place
    places: Mapping[str, Place] = field(default_factory=dict)
    otherwise_place: Place | None = None
    guide: tuple[GuideNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """A decision the standard leaves to the site."""

    name: str
    default: str
    values: tuple[str, ...]  # empty: any text
    says: str
    place: Place
    decides: tuple[str, ...] = ()  # rows of the guide it decides where no row asks for it by name


@dataclass(frozen=True, slots=True)
class Identity:
    """How a resource type is identified and who may overwrite it; see docs/mapping-reference.md#identity.

    `prefer`: identifier type codes (table 0203) in order, "*" for any identifier with a system. `unique`: paths whose
    values make a resource without such an identifier the same thing (empty: one for each message). `owners`: message
    codes and events whose word replaces what the server has; `patchers`: those that change only what they say; every
    other message only creates what is not there. `keys`: what tells the parts of a list apart when it is patched.
    `keeps`: elements that stay when the resource is replaced.
    """

    type: str
    prefer: tuple[str, ...]
    unique: tuple[str, ...]
    owners: tuple[str, ...]
    collapse: str  # a reference that stands in for a resource without content of its own; "" for none
    place: Place
    patchers: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class R5Table:
    """What differs in one type between R4 and R5. `places`: by word and by path as written (`moves`, `period`)."""

    type: str
    difference: Difference
    place: Place
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableSet:
    """Everything that was loaded, overlays already laid over, checked. `version` is the content hash of all files."""

    version: str
    messages: Mapping[str, MessageTable]
    segments: Mapping[str, Table]
    datatypes: Mapping[str, Table]
    codes: Mapping[str, CodeTable]
    options: Mapping[str, Option]
    settings: Mapping[str, str]  # option name -> value in force
    identities: Mapping[str, Identity]
    shared: Mapping[str, SharedTable] = field(default_factory=dict)
    r5: Mapping[str, R5Table] = field(default_factory=dict)
