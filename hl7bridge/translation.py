"""bytes x mappings -> bundle + lineage: the one pure function that the daemon, the CLI, tests and users share.

Sans-IO: the same bytes and the same tables give the same bundle, always. What the tables could not carry over whole is
counted as issues (kind, table, field); what makes a bundle impossible raises one of errors.MessageError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hl7bridge.errors import MessageError
from hl7bridge.fhir.bundle import Layout, to_bytes
from hl7bridge.fhir.form import as_message, narrate
from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.hl7v2.datetime import offset_of
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.lineage import Elements, Fate, Fields, Line, document
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.runtime import Issue, Run
from hl7bridge.mapping.trace import Trace

if TYPE_CHECKING:
    from hl7bridge.fhir.tokens import Tokens

BUNDLE = "Bundle"


@dataclass(frozen=True)
class Translation:
    """What a message became.

    bundle: JSON bytes of a FHIR R4 transaction bundle; entries: how many; issues: what was counted, by kind, table and
    field; deletes: elements the sender deleted with `""`, as Type.path; mapping_version: the tables' content hash.
    """

    bundle: bytes = field(repr=False)
    entries: int
    table: str
    mapping_version: str
    issues: Mapping[Issue, int]
    deletes: tuple[str, ...]
    _again: tuple[bytes, Mappings, tzinfo | None, str | None] = field(repr=False)

    @cached_property
    def resource(self) -> dict[str, Any]:
        """The bundle as a dictionary; decimals keep their digits as decimal.Decimal."""
        return json.loads(self.bundle, parse_float=Decimal)  # type: ignore[no-any-return]

    @cached_property
    def lineage(self) -> tuple[Line, ...]:
        """Where every element came from: paths and fields, never values. Worked out when first asked for."""
        return self._story.elements

    @cached_property
    def fields(self) -> tuple[Fate, ...]:
        """Where every populated field of the message went, or why nowhere; never values."""
        return self._story.fields

    @cached_property
    def _story(self) -> Story:
        raw, mappings, zone, charset_fallback = self._again
        return explain(parse(raw, charset_fallback=charset_fallback), mappings, zone)


@dataclass(frozen=True, slots=True)
class Story:
    """What one translation did. `error`: why there is no bundle (the fields are told up to there)."""

    elements: tuple[Line, ...]
    fields: tuple[Fate, ...]
    bundle: Body | None = field(repr=False)
    error: MessageError | None = None


def explain(message: Message, mappings: Mappings, zone: tzinfo | None = None) -> Story:
    """Translates once more, noting what every row does. Raises PeerError where no table handles the message."""
    trace = Trace()
    translator = _Translator(message, mappings, zone, trace)
    bundle, error = None, None
    try:
        bundle = translator.bundle()
    except MessageError as failed:
        error = failed
    elements = Elements(bundle or {}, trace, translator.copies, translator.moves)
    fates = Fields(message, mappings.tables, translator.plan.name, trace, elements.paths, bundle is None).fates()
    return Story(tuple(elements.lines), tuple(fates), bundle, error)


def lineage_document(raw: bytes, mappings: Mappings, zone: tzinfo | None, charset_fallback: str | None) -> bytes:
    """The lineage of one message as JSON to be stored: paths, never values. Empty where it cannot be told."""
    try:
        story = explain(parse(raw, charset_fallback=charset_fallback), mappings, zone)
    except MessageError:
        return b""
    error = str(story.error) if story.error is not None else None
    return json.dumps(document(story.elements, story.fields, error), separators=(",", ":")).encode()


def followed(
    message: Message, mappings: Mappings, zone: tzinfo | None = None
) -> tuple[Trace, str, MessageError | None]:
    """Runs the rows without laying out a bundle: what they did, the message table, and the error that ended them.

    Raises PeerError where no table handles the message.
    """
    trace = Trace(elements=False)
    translator = _Translator(message, mappings, zone, trace)
    try:
        translator.plan.run(translator.run)
    except MessageError as error:
        return trace, translator.plan.name, error
    return trace, translator.plan.name, None


def translate(
    raw: bytes,
    mappings: Mappings,
    *,
    zone: tzinfo | None = None,
    charset_fallback: str | None = None,
    tokens: Tokens | None = None,
) -> Translation:
    """Translates one HL7 v2 message.

    raw: the message as sent, no MLLP bytes. zone: for times without an offset (default: the tables' `time-zone`).
    charset_fallback: a codec for bytes that do not fit what MSH-18 declares. tokens: stand in for identifiers.
    Raises PeerError (the message is at fault) or TranslationError (the tables are).
    """
    return translate_message(parse(raw, charset_fallback=charset_fallback), mappings, zone, charset_fallback, tokens)


def translate_message(
    message: Message,
    mappings: Mappings,
    zone: tzinfo | None = None,
    charset_fallback: str | None = None,
    tokens: Tokens | None = None,
) -> Translation:
    """The same for a message that is parsed already."""
    raw = message.raw
    built = build(message, mappings, zone, tokens)
    del message  # goes before the bytes are made: a large one stands in memory but once
    return Translation(
        bundle=to_bytes(built.bundle),
        entries=len(built.bundle["entry"]),
        table=built.table,
        mapping_version=mappings.version,
        issues=built.issues,
        deletes=built.deletes,
        _again=(raw, mappings, zone, charset_fallback),
    )


@dataclass(frozen=True, slots=True)
class Built:
    """A translation before it is written: as Translation, but for the bundle, which is a dictionary still.

    A decimal in it is a resource.Number, which is its digits.
    """

    bundle: Body = field(repr=False)
    table: str
    issues: Mapping[Issue, int]
    deletes: tuple[str, ...]


def build(message: Message, mappings: Mappings, zone: tzinfo | None = None, tokens: Tokens | None = None) -> Built:
    """Translates and checks; for who wants to look at the bundle rather than send it. Raises as `translate` does."""
    translator = _Translator(message, mappings, zone, tokens=tokens)
    run = translator.run
    try:
        bundle = translator.bundle()
    finally:
        run.dissolve()
    deletes = tuple(f"{gone.resource.type}.{gone.path}" for gone in run.deletes if gone.path)
    return Built(bundle, translator.plan.name, dict(run.issues), deletes)


class _Translator:
    def __init__(
        self,
        message: Message,
        mappings: Mappings,
        zone: tzinfo | None,
        trace: Trace | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.message = message
        self.tokens = tokens
        self.mappings = mappings
        self.plan = mappings.plan(message.header, traced=trace is not None)
        self.run = Run(message, zone or mappings.zone, offset_of(message.get("MSH-7")), trace)
        self.copies: dict[int, int] = {}
        self.moves: dict[tuple[int, str | int], tuple[int, str | int]] = {}

    def bundle(self) -> Body:
        run, mappings = self.run, self.mappings
        made = self.plan.run(run)
        head: Body = next((r.body for r in made if r.type == BUNDLE), {})
        roots: list[Resource] = [r for r in made if r.type != BUNDLE]
        if self.tokens is not None:  # before identities are made: conditional writes look for the token
            self.tokens.replace(made)
        layout = Layout(
            mappings.kinds,
            run.references,
            hashlib.sha256(self.message.raw).hexdigest(),
            (self.message.header.message_code, self.message.header.trigger_event),
            lambda type: run.count("identity-merged", type, ""),
            mappings.conversion,
        )
        bundle = layout.bundle(head, layout.entries(roots))
        for gone in run.deletes:
            if not gone.placed and layout.way(gone.resource) == "patch":
                run.issues[gone.issue] += 1
        self.copies, self.moves = {**layout.copies, id(bundle): id(head)}, layout.moves
        if mappings.narrates:
            narrate(bundle)
        if mappings.as_message:
            bundle = as_message(bundle)
            self.copies[id(bundle)] = id(head)
        mappings.checker.check(bundle, lambda entry: self._segment(layout.positions, bundle["entry"][entry]))
        return bundle

    def _segment(self, positions: Mapping[str, int], entry: Body) -> str:
        """`PID, segment 3`: what an entry of the bundle was made from."""
        position = positions.get(entry.get("fullUrl", ""), 0)
        return f"{self.message.segments[position - 1].id}, segment {position}" if position else "no segment"
