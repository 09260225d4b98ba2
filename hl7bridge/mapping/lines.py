"""Neighbouring segments that are the lines of one text become one segment whose field repeats.

Sans-IO. Radiology and pathology often send a report as one OBX a line. Read one by one, a corrected report with fewer
lines would leave the last lines of the old one standing as results of their own. Joined is only what differs in nothing
but the text and in numbers that count up; `lines:` of a message table says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping.compile import Test
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Lines

_NUMBER = re.compile(r"[0-9]{1,9}")
Walk = Iterable[tuple[str, Segment, Group]]
Further = Sequence[tuple[Segment, Group]]  # the segments that were joined to one, with their groups
Rule = tuple[Lines, tuple[Test, ...]]


@dataclass(slots=True)
class _Place:
    """A segment that may have lines behind it, the rules for it, and what was joined to it by which of them."""

    path: str
    segment: Segment
    group: Group
    rules: Iterable[Rule]
    rule: Lines | None = None
    further: list[tuple[Segment, Group]] = field(default_factory=list)

    def takes(self, run: Run, segment: Segment, group: Group) -> bool:
        """Joins the segment if it is the next line. What a rule asks of the first segment is asked last, and once."""
        before = self.further[-1][0] if self.further else self.segment
        if segment.position != before.position + 1:
            return False
        if self.rule is None:
            if not any(_continues(before, segment, lines) for lines, _ in self.rules):
                return False
            self.rule = next((lines for lines, tests in self.rules if self._fit(run, tests)), None)
            if self.rule is None:
                return False
        if not _continues(before, segment, self.rule):
            return False
        self.further.append((segment, group))
        return True

    def _fit(self, run: Run, tests: Iterable[Test]) -> bool:
        return all(test(run, self.segment, self.group) for test in tests)

    def whole(self) -> tuple[str, Segment, Group, Further]:
        if self.rule is None or not self.further:
            return self.path, self.segment, self.group, ()
        number = self.rule.field
        texts = [segment.field(number) for segment in (self.segment, *(segment for segment, _ in self.further))]
        joined = self.segment.separators.repetition.join(texts)
        return self.path, self.segment.with_field(number, joined), self.group, self.further


def join(run: Run, walk: Walk, rules: Mapping[str, list[Rule]]) -> Iterator[tuple[str, Segment, Group, Further]]:
    """The segments of the message in their order; those that are lines of the one before them are joined to it."""
    if not run.message.separators.repetition:
        rules = {}
    held: _Place | None = None
    for path, segment, group in walk:
        if held is not None:
            if held.path == path and held.takes(run, segment, group):
                continue
            yield held.whole()
            held = None
        if path in rules:
            held = _Place(path, segment, group, rules[path])
        else:
            yield path, segment, group, ()
    if held is not None:
        yield held.whole()


def _continues(before: Segment, segment: Segment, rule: Lines) -> bool:
    """Whether the segment differs from the one before in the text alone, but for numbers one higher."""
    counted = list[tuple[str, str]]()
    for number, (one, other) in enumerate(zip_longest(before.fields, segment.fields, fillvalue="")):
        if one != other and number != rule.field:
            if number not in rule.counting:
                return False
            counted.append((one, other))
    return all(_counts_up(one, other) for one, other in counted)


def _counts_up(one: str, other: str) -> bool:
    return all(_NUMBER.fullmatch(text) for text in (one, other)) and int(other) == int(one) + 1
