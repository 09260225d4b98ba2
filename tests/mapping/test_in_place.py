"""What generated code writes in place says the same as the call it saves."""

from __future__ import annotations

from datetime import UTC
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.compile import HELPERS
from hl7bridge.mapping.convert import Invalid
from hl7bridge.mapping.in_place import converted, in_place, needed
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.runtime import Run

RUN = Run(parse(b"MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5\r"), UTC, None)
TEXTS = st.one_of(
    st.text('aZ9é\u0663 ^&~\\"\t\xa0\x1f.-', max_size=6), st.sampled_from(('""', '""^A', "\\F\\", "", "7.5"))
)
FIELDS = st.lists(TEXTS, min_size=1, max_size=4)


def value(expression: str, fields: list[str], text: str = "", **known: bool) -> Any:
    """Of an expression as generated code has it; `known`: of the segment, see in_place."""
    segment = SimpleNamespace(fields=fields, id="OBX")
    line = in_place(f"    return {expression}", **known)
    source = "\n".join(("def found(run, segment, text):", *(f"    {each}" for each in needed([line], ())), line))
    names: dict[str, Any] = dict(HELPERS)
    exec(source, names)
    return names["found"](RUN, segment, text)


@pytest.mark.parametrize("level", [0, 1, 2])
@given(text=TEXTS)
def test_a_leaf_is_the_same_in_place(level: int, text: str) -> None:
    assert value(f"run.leaf{level}(text)", [], text) == getattr(RUN, f"leaf{level}")(text)


@given(text=TEXTS)
def test_valued_is_the_same_in_place(text: str) -> None:
    assert bool(value("run.valued(text)", [], text)) is RUN.valued(text)


@given(fields=FIELDS, number=st.integers(0, 4))
def test_the_first_repetition_of_a_field_is_the_same_in_place(fields: list[str], number: int) -> None:
    first = RUN.first(fields, number)
    assert value(f"run.first(fields, {number})", fields) == first
    assert value(f"run.leaf0(run.first(fields, {number}))", fields) == RUN.leaf0(first)
    assert bool(value(f"run.valued(run.first(fields, {number}))", fields)) is RUN.valued(first)


PLAIN = {"plain": True}
SINGLE = {"plain": True, "single": True}
WORDS = st.sampled_from(("", "A", "a b", "7.5", "A^B", "^A", "a b^^c", "A^"))


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("known", [PLAIN, SINGLE])
@given(words=st.lists(WORDS, min_size=4, max_size=4), number=st.integers(0, 3), second=WORDS)
def test_what_is_read_of_a_plain_segment_is_the_same(
    known: dict[str, bool], filled: bool, words: list[str], number: int, second: str
) -> None:
    fields = [word.removeprefix("^") for word in words] if "single" in known else [f"{words[0]}~{second}", *words[1:]]
    text, first = fields[1], RUN.first(fields, number)

    def found(expression: str) -> Any:
        return value(expression, fields, text, filled=filled, **known)

    assert found(f"run.first(fields, {number})") == first
    assert found(f"run.leaf0(run.first(fields, {number}))") == RUN.leaf0(first)
    assert bool(found(f"run.valued(run.first(fields, {number}))")) is RUN.valued(first)
    assert found("run.leaf0(text)") == RUN.leaf0(text)
    assert bool(found("run.valued(text)")) is RUN.valued(text)
    for part in (1, 2, 3):
        assert found(f"run.nth(text, run.component, {part})") == RUN.nth(text, "^", part)


@given(text=TEXTS, number=st.integers(1, 4))
def test_a_component_in_one_go_is_the_leaf_of_the_part(text: str, number: int) -> None:
    assert RUN.component_of(text, number) == RUN.leaf1(RUN.nth(text, RUN.component, number))


@pytest.mark.parametrize("type_", ["string", "markdown", "code"])
@given(text=TEXTS)
def test_a_conversion_is_the_same_in_place(type_: str, text: str) -> None:
    try:
        wanted = HELPERS[f"to_{type_}"](RUN, text)
    except Invalid:
        wanted = Invalid
    try:
        found = value(converted(type_, "text"), [], text)
    except Invalid:
        found = Invalid
    assert found == wanted


def test_a_comment_is_left_alone() -> None:
    assert in_place("    # run.leaf0(text)") == "    # run.leaf0(text)"


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


def test_rows_that_want_values_of_one_field_stand_behind_one_test(mappings: Mappings) -> None:
    code = mappings.compiler.code("OBX-Observation")
    guard = next(line for line in code.splitlines() if line.lstrip().startswith("if text_of_OBX_2 in {"))
    rows = code[code.index(guard) :]
    inner = [line for line in rows.splitlines() if "# mappings" in line and line.index("#") > guard.index("if")]
    assert all(f"'{type_}'" in guard for type_ in ("CE", "CWE", "DT", "TM"))
    assert len(inner) >= 10
