"""A table that YAML cannot read: the place of the mistake and what was meant, whichever of PyYAML's parsers is there."""

from __future__ import annotations

import pytest
import yaml

from hl7bridge.mapping.unreadable import meant

PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if hasattr(yaml, "CSafeLoader") else [])]


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("rows:\n  PID-5: {to: a}\n   PID-8: {to: b}\n", 3, 4, "begins in column 4, the one above in column 3"),
        ("rows:\n  PID-5: {to: a}\n PID-8: {to: b}\n", 3, 2, "begins in column 2, the one above in column 3"),
        ("rows:\n  PID-5:\n    - {to: a}\n   - {to: b}\n", 4, 4, "begins in column 4, the one above in column 5"),
        ('rows:\n  PID-8: {value: "male, when: P}\n  PID-7: {to: b}\n', 2, 18, "the quote that opens here"),
        ("rows:\n  PID-8: {when: 'a = b}\n", 2, 17, "the quote that opens here"),
        ("rows:\n  PID-8: {to: a\n  PID-7: {to: b}\n", 2, 10, "the { that opens here has no }"),
        ("rows:\n  PID-8: {when: PID-8 in [a, b}\n", 2, 26, "the [ that opens here has no ]"),
        ("rows:\n  PID-8: {to: a as: B}\n", 2, 19, "stands a comma"),
        ('rows:\n  PID-8: {note: "a" b}\n', 2, 21, "stands a comma"),
        ("rows:\n  PID-7:  to: b\n", 2, 13, "stand in braces"),
        ("rows:\n  PID-7: {to: b}}\n", 2, 17, "too many"),
        ("rows:\n  PID-7: {to: b, value: @x}\n", 2, 25, "put in quotes"),
        ("rows:\n  PID-7: {to: b, value: *}\n", 2, 26, "put in quotes"),
    ],
)
def test_the_place_of_the_mistake_and_what_was_meant(
    parser: type[yaml.SafeLoader], text: str, line: int, column: int, words: str
) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        yaml.compose(text, Loader=parser)
    *place, wrong = meant(caught.value, text)
    assert place == [line, column] and words in wrong
