"""What a change can reach: a message that is called untouched gives the same bundle with both versions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.errors import MessageError
from hl7bridge.fhir.model import model
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.reach import Touched
from hl7bridge.mapping.schema import CodeTable, Row, Table, TableSet
from hl7bridge.translation import translate_message

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def tables() -> TableSet:
    return dataclasses.replace(load_tables(), version="same")


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    found = []
    for file in sorted(SAMPLES.glob("*.hl7")):
        for piece in split(file.read_bytes()):
            found.append(parse(piece.raw))
    return found


def outcome(message: Message, mappings: Mappings) -> Any:
    try:
        return translate_message(message, mappings).bundle
    except MessageError as error:
        return error.reason


def changed(tables: TableSet, kind: str, name: str, **parts: Any) -> TableSet:
    folder: Mapping[str, Any] = getattr(tables, kind)
    return dataclasses.replace(tables, **{kind: {**folder, name: dataclasses.replace(folder[name], **parts)}})


def changes(tables: TableSet) -> Iterator[TableSet]:
    """One row, one code or one use less; one option set otherwise."""
    chance = random.Random(20)
    for kind in ("segments", "datatypes"):
        every: list[tuple[Table, Row]] = [(t, row) for t in getattr(tables, kind).values() for row in t.rows]
        for table, row in chance.sample(every, 8):
            yield changed(tables, kind, table.name, rows=tuple(other for other in table.rows if other is not row))
    codes: list[CodeTable] = [table for table in tables.codes.values() if table.map]
    for table_ in chance.sample(codes, 4):
        yield changed(tables, "codes", table_.name, map={})
    for message in chance.sample(list(tables.messages.values()), 4):
        use = chance.choice(message.uses)
        labels = [other.into for other in message.uses]
        if labels.count(use.into) > 1:  # without its only use a label that others link to would not exist
            yield changed(tables, "messages", message.name, uses=tuple(u for u in message.uses if u is not use))
    for option in chance.sample(sorted(tables.options.values(), key=lambda option: option.name), 5):
        for value in option.values:
            yield dataclasses.replace(tables, settings={**tables.settings, option.name: value})


def test_what_is_called_untouched_is_the_same(tables: TableSet, messages: list[Message]) -> None:
    before = Mappings(tables, model())
    old = [outcome(message, before) for message in messages]
    untouched = differing = 0
    for new in changes(tables):
        touched = Touched(tables, new)
        after = Mappings(new, model())
        for message, was in zip(messages, old, strict=True):
            now = outcome(message, after)
            differing += was != now
            if not touched(message):
                untouched += 1
                assert now == was, message.header
    assert untouched > 300 and differing > 10


def test_the_same_tables_read_twice_touch_nothing(tables: TableSet, messages: list[Message]) -> None:
    touched = Touched(tables, load_tables())
    assert not any(map(touched, messages))


def test_a_changed_field_touches_only_messages_that_have_it(tables: TableSet) -> None:
    table = tables.segments["PID-Patient"]
    new = changed(tables, "segments", "PID-Patient", rows=tuple(r for r in table.rows if r.source.parts[:1] != (9,)))
    touched = Touched(tables, new)
    head = b"MSH|^~\\&|ADT|NORTH|||20240501120000||ADT^A01|C1|P|2.5\rPID|1||12345^^^NORTH^MR||"
    assert not touched(parse(head + b"EVERYWOMAN^EVE\r"))
    assert touched(parse(head + b"EVERYWOMAN^EVE||||EVY^^^\r"))
    assert touched(parse(head + b'EVERYWOMAN^EVE||||""\r'))


def test_a_changed_code_table_touches_only_fields_that_lead_to_it(tables: TableSet) -> None:
    new = changed(tables, "codes", "AdministrativeSex", map={})
    touched = Touched(tables, new)
    head = b"MSH|^~\\&|ADT|NORTH|||20240501120000||ADT^A01|C1|P|2.5\rPID|1||12345^^^NORTH^MR||EVERYWOMAN^EVE||1980|"
    assert touched(parse(head + b"F\r"))
    assert not touched(parse(head + b"\r"))


def test_a_changed_identity_touches_everything(tables: TableSet, messages: list[Message]) -> None:
    new = changed(tables, "identities", "Patient", prefer=("PI",))
    assert all(map(Touched(tables, new), [m for m in messages if m.header.message_code in ("ADT", "ORU")]))
