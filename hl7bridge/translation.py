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
from typing import Any

from hl7bridge.fhir.bundle import Layout, to_bytes
from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.hl7v2.datetime import offset_of
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.runtime import Issue, Origin, Run

BUNDLE = "Bundle"


@dataclass(frozen=True, slots=True)
class Line:
    """Lineage of one element: its path in the bundle, the field it came from, the table and the row's place."""

    path: str
    source: str
    table: str
    place: str


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
        raw, mappings, zone, charset_fallback = self._again
        translator = _Translator(parse(raw, charset_fallback=charset_fallback), mappings, zone, trace=True)
        bundle = translator.bundle()
        assert translator.run.trace is not None
        return tuple(_lineage(bundle, translator.run.trace, translator.copies, BUNDLE))


def translate(
    raw: bytes,
    mappings: Mappings,
    *,
    zone: tzinfo | None = None,
    charset_fallback: str | None = None,
) -> Translation:
    """Translates one HL7 v2 message.

    raw: the message as sent, no MLLP bytes. zone: for times without an offset (default: the tables' `time-zone`).
    charset_fallback: a codec for bytes that do not fit what MSH-18 declares.
    Raises PeerError (the message is at fault) or TranslationError (the tables are).
    """
    return translate_message(parse(raw, charset_fallback=charset_fallback), mappings, zone, charset_fallback)


def translate_message(
    message: Message, mappings: Mappings, zone: tzinfo | None = None, charset_fallback: str | None = None
) -> Translation:
    """The same for a message that is parsed already."""
    translator = _Translator(message, mappings, zone, trace=False)
    bundle = translator.bundle()
    return Translation(
        bundle=to_bytes(bundle),
        entries=len(bundle["entry"]),
        table=translator.plan.name,
        mapping_version=mappings.version,
        issues=dict(translator.run.issues),
        deletes=tuple(f"{resource.type}.{path}" for resource, path in translator.run.deletes if path),
        _again=(message.raw, mappings, zone, charset_fallback),
    )


class _Translator:
    def __init__(self, message: Message, mappings: Mappings, zone: tzinfo | None, trace: bool) -> None:
        self.message = message
        self.mappings = mappings
        self.plan = mappings.plan(message.header)
        self.run = Run(message, zone or mappings.zone, offset_of(message.get("MSH-7")), trace)
        self.copies: dict[int, int] = {}

    def bundle(self) -> Body:
        run, mappings = self.run, self.mappings
        made = self.plan.run(run)
        head: Body = next((r.body for r in made if r.type == BUNDLE), {})
        roots: list[Resource] = [r for r in made if r.type != BUNDLE]
        layout = Layout(
            mappings.model,
            mappings.tables.identities,
            run.references,
            hashlib.sha256(self.message.raw).hexdigest(),
            (self.message.header.message_code, self.message.header.trigger_event),
            lambda type: run.count("identity-merged", type, ""),
        )
        bundle = layout.bundle(head, layout.entries(roots), mappings.checker)
        self.copies = {**layout.copies, id(bundle): id(head)}
        return bundle


def _lineage(
    value: Any, trace: Mapping[tuple[int, str | int], Origin], copies: Mapping[int, int], path: str
) -> list[Line]:
    lines: list[Line] = []
    built = copies.get(id(value), id(value))
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        at = f"{path}.{name}" if isinstance(name, str) else f"{path}[{name}]"
        origin = trace.get((built, name))
        if origin is not None:
            lines.append(Line(at, origin.source, origin.table, origin.place))
        if isinstance(part, dict | list):
            lines.extend(_lineage(part, trace, copies, at))
    return lines
