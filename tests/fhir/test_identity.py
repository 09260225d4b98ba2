"""Keys of resources: the same from memory as made anew, and kept only of what is nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from hl7bridge.fhir.bundle import find
from hl7bridge.fhir.identity import Identifier, Identities, _shared, part_of
from hl7bridge.fhir.model import model
from hl7bridge.fhir.resource import Reference, Resource


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    _shared.cache_clear()
    yield
    _shared.cache_clear()


def kind(type: str, *paths: str, unowned: bool) -> Any:
    parts = tuple(part_of(model(), type, path) for path in paths)
    return SimpleNamespace(prefer=(), unique=parts, unowned=unowned)


def place(name: str) -> Resource:
    made = Resource("Location", 1)
    made.body = {"name": name}
    return made


def key(name: str, unowned: bool) -> Identifier:
    kinds = {"Location": kind("Location", "name", unowned=unowned)}
    return Identities(kinds, {}, "message").of(place(name))


def test_a_long_key_of_what_is_nobodys_is_the_same_from_memory() -> None:
    name = "Ward 'seven' \"north\" \\" * 30
    first, again, anew = key(name, True), key(name, True), key(name, False)
    assert again is first and anew is not first
    assert (first.key, first.uuid, first.search, first.derived) == (anew.key, anew.uuid, anew.search, anew.derived)
    assert first.key == f"Location!{[orjson.dumps([name]).decode()]!r}"
    assert key(name + ".", True).uuid != first.uuid


def test_no_key_is_kept_that_is_short_or_somebodys() -> None:
    key("Ward 7", True)
    key("Ward 7" * 200, False)
    assert _shared.cache_info().currsize == 0
    for number in range(200):
        key(f"{number} " * 300, True)
    assert _shared.cache_info().currsize == 128


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("effective", {"effectiveDateTime": "2024"}, '["2024"]'),
        ("effective.start", {"effectivePeriod": {"start": "2024"}}, '["2024"]'),
        (
            "effective.repeat.bounds",
            {"effectiveTiming": {"repeat": {"boundsDuration": {"value": 1}}}},
            '[{"value":1}]',
        ),
        ("code.coding.code", {"code": {"coding": [{"code": "a"}, {"display": "b"}, {"code": "c"}]}}, '["a","c"]'),
        ("code.text", {"code": {"coding": [{"code": "a"}]}}, ""),
        ("component.value", {"component": [{"valueString": "a"}, {"valueInteger": 1}]}, '["a",1]'),
        ("extension.value", {"extension": [{"url": "u", "valueCode": "a"}]}, '["a"]'),
        ("identifier", {"identifier": [{"value": "2"}, {"value": "1", "use": "old"}]}, '[["","1"],["","2"]]'),
        (
            "identifier",
            {"identifier": [{"value": n} for n in "51342"]},
            '[["","1"],["","2"],["","3"],["","4"],["","5"]]',
        ),
        ("identifier", {"identifier": [{"use": "old"}]}, ""),
        ("subject", {}, ""),
        ("subject", {"subject": {"display": "b", "type": "a"}}, '[{"display":"b","type":"a"}]'),
    ],
)
def test_a_path_of_unique_reads_what_stands_there_also_a_choice_by_its_stem(
    path: str, body: dict[str, Any], said: str
) -> None:
    resource = Resource("Observation", 1)
    resource.body = body
    assert part_of(model(), "Observation", path)(Identities({}, {}, ""), resource) == said


def test_a_reference_stands_for_the_key_of_what_it_means_wherever_it_is() -> None:
    owner, other = Resource("Observation", 1), place("here")
    holder: dict[str, Any] = {}
    deep: dict[str, Any] = {}
    owner.body = {"subject": holder, "code": {"coding": [{"extension": [{"url": "u", "valueReference": deep}]}]}}
    targets = {id(holder): other, id(deep): other}
    identities = Identities({"Location": kind("Location", "name", unowned=True)}, targets, "message")
    owner.holders = find(
        owner.body, targets, [Reference(holder, other, owner), Reference(deep, other, owner)], {"subject"}
    )
    assert [(name, each is holder, key) for name, each, key in owner.holders] == [
        ("subject", True, id(holder)),
        ("code", False, id(deep)),
    ]
    assert part_of(model(), "Observation", "subject")(identities, owner) == '[{"=":"Location![\'[\\"here\\"]\']"}]'
    assert "=" in part_of(model(), "Observation", "code")(identities, owner)


def test_a_reference_that_leads_nowhere_is_none_and_those_right_below_need_no_search() -> None:
    owner, other = Resource("Observation", 1), place("here")
    one: dict[str, Any] = {}
    two: dict[str, Any] = {}
    dead: dict[str, Any] = {}
    owner.body = {"basedOn": [one, dead], "encounter": two}
    references = [Reference(holder, other, owner) for holder in (two, one, dead)]
    found = find(owner.body, {id(one): other, id(two): other}, references, {"basedOn", "encounter"})
    assert [(name, each is one) for name, each, _ in found] == [("basedOn", True), ("encounter", False)]
