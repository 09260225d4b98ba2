"""Neighbouring segments that are the lines of one text become one segment whose field repeats.

Sans-IO. Radiology and pathology often send a report as one OBX a line. Read one by one, a corrected report with fewer
lines would leave the last lines of the old one standing as results of their own. Joined is only what differs in nothing
but the text and in numbers that count up; `lines:` of a message table says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping.compile import Test
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Lines

_NUMBER = re.compile(r"[0-9]{1,9}")
Walk = Iterable[tuple[str, Segment, Group]]
Rule = tuple[Lines, tuple[Test, ...]]


@dataclass(slots=True)
class Place:
    """A segment in its place, and the further segments that were joined to it."""

    path: str
    segment: Segment
    group: Group
    further: list[tuple[Segment, Group]] = field(default_factory=list)


def join(run: Run, walk: Walk, rules: Mapping[str, list[Rule]]) -> Iterator[Place]:
    """The segments of the message in their order; those that are lines of the one before them are joined to it."""
    held: Place | None = None
    rule: Lines | None = None
    for path, segment, group in walk:
        if held is not None and rule is not None and held.path == path and _continues(held, segment, rule):
            held.further.append((segment, group))
            continue
        if held is not None:
            yield _whole(held, rule)
        held, rule = Place(path, segment, group), _rule(run, segment, group, rules.get(path, ()))
    if held is not None:
        yield _whole(held, rule)


def _rule(run: Run, segment: Segment, group: Group, rules: Iterable[Rule]) -> Lines | None:
    if not segment.separators.repetition:
        return None
    return next((lines for lines, tests in rules if all(test(run, segment, group) for test in tests)), None)


def _continues(held: Place, segment: Segment, rule: Lines) -> bool:
    """Whether the segment follows at once and differs in the text alone, but for numbers one higher."""
    before = held.further[-1][0] if held.further else held.segment
    if segment.position != before.position + 1:
        return False
    for number in range(1, max(len(before.fields), len(segment.fields))):
        one, other = before.field(number), segment.field(number)
        if one == other or number == rule.field:
            continue
        if number not in rule.counting or not _counts_up(one, other):
            return False
    return True


def _counts_up(one: str, other: str) -> bool:
    return all(_NUMBER.fullmatch(text) for text in (one, other)) and int(other) == int(one) + 1


def _whole(place: Place, rule: Lines | None) -> Place:
    if rule is None or not place.further:
        return place
    texts = [segment.field(rule.field) for segment in (place.segment, *(segment for segment, _ in place.further))]
    joined = place.segment.separators.repetition.join(texts)
    return Place(place.path, place.segment.with_field(rule.field, joined), place.group, place.further)
