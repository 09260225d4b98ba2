"""Conditions read back as printed, and say what is wrong where."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.mapping.condition import parse_condition, print_condition, refs_of
from hl7bridge.mapping.schema import All, Any, Compare, Condition, Measure, Ref, Valued

OBX2, OBX5 = Ref("OBX", (2,)), Ref("OBX", (5,))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("OBX-2 = NM", Compare(OBX2, ("NM",))),
        ('OBX-5.1 != "<>"', Compare(Ref("OBX", (5, 1)), ("<>",), True)),
        ("OBX-5 valued", Valued(OBX5)),
        ("OBX-5 not valued", Valued(OBX5, True)),
        ("ORC valued", Valued(Ref("ORC"))),
        ("XPN.1.2 valued", Valued(Ref("XPN", (1, 2)))),
        ("OBX-2 in [ST, FT]", Compare(OBX2, ("ST", "FT"))),
        ('OBX-2 not in [":", "/"]', Compare(OBX2, (":", "/"), True)),
        ("count(OBX-5) > 1", Measure("count", OBX5, ">", 1)),
        ("length(OBX-5)<=8", Measure("length", OBX5, "<=", 8)),
        ("PID-11.9 != PID-12", Compare(Ref("PID", (11, 9)), (), True, Ref("PID", (12,)))),
        ('OBX-2 = "PID-12"', Compare(OBX2, ("PID-12",))),
        ("OBX-2 = 2.16.840", Compare(OBX2, ("2.16.840",))),
        (
            "OBX-2 = NM or OBX-5 valued and OBX-2 = SN",
            Any((Compare(OBX2, ("NM",)), All((Valued(OBX5), Compare(OBX2, ("SN",)))))),
        ),
        (
            "(OBX-2 = NM or OBX-5 valued) and OBX-2 = SN",
            All((Any((Compare(OBX2, ("NM",)), Valued(OBX5))), Compare(OBX2, ("SN",)))),
        ),
    ],
)
def test_each_predicate_reads_as_what_it_means(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition
    assert parse_condition(print_condition(condition)) == condition


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the condition is empty (at character 1)"),
        ("OBX-2", "the condition ends too early: expected `valued`, `=`, `!=`, `in` after OBX-2 (at character 6)"),
        ("OBX-2 == NM", "found '=='; did you mean `=`? (at character 7)"),
        ("OBX-2 = NM AND OBX-5 valued", "expected `and` or `or`, found 'AND'; did you mean `and`? (at character 12)"),
        ("OBX-2 is NM", "found 'is'; did you mean `valued` or `=`?"),
        ("OBX-2 empty", "did you mean `not valued`?"),
        ("OBX-2 notvalued", "did you mean `not valued`?"),
        ("OBX-2 not = NM", "after OBX-2 expected `valued`, `in`, found '='"),
        ('OBX-2 = ""', 'nothing is equal to ""; did you mean `not valued`?'),
        ("OBX-2 = [A, B]", "several values are compared with `in [..]`"),
        ("OBX-2 in ST, FT", "expected [ after in, found 'ST'"),
        ("OBX-2 in [ST FT]", "expected ] or , after a value, found 'FT'"),
        ("OBX.2 = NM", "'OBX.2': OBX is a segment, its fields are written OBX-2"),
        ("XPN-2 = NM", "'XPN-2': XPN is a data type, its components are written XPN.2"),
        ("OBX2 = NM", "did you mean OBX-2?"),
        ("obx-2 = NM", "did you mean OBX-2?"),
        ("OBX-0 valued", "counted from 1"),
        ("(OBX-2 = NM", "expected ) to close the bracket"),
        ("OBX-2 = NM)", "expected `and` or `or`, found ')'"),
        ("count(OBX-5) = many", "expected a number, found 'many'"),
        ("count(OBX-5) in [1]", "after count(OBX-5) expected < <= > >= = !=, found 'in'"),
        ('OBX-2 = "NM', 'a value is not closed by "'),
        ("OBX-2 = a+b", "unexpected '+'"),
        ('"NM" = OBX-2', "a predicate starts with a field"),
        ("OBX-2 = and", "such values stand in double quotes"),
        ("(" * 60 + "OBX-2 = NM" + ")" * 60, "too many brackets"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_meant(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_condition(text)
    assert says in str(caught.value)


@given(st.text(max_size=60) | st.text("OBX-25. =!<>()[]\"'andortvlu, count", max_size=60))
def test_any_text_is_a_condition_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_condition(print_condition(parse_condition(text))) == parse_condition(text)


REFS = st.builds(Ref, st.sampled_from(["PID", "OBX", "XPN", "CX"]), st.lists(st.integers(1, 40), max_size=3).map(tuple))
VALUES = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1)
PREDICATES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Valued, REFS, st.booleans()),
    st.builds(Compare, REFS, st.lists(VALUES, min_size=1).map(tuple), st.booleans()),
    st.builds(Compare, REFS, st.just(()), st.booleans(), REFS.filter(lambda ref: bool(ref.parts))),
    st.builds(
        Measure,
        st.sampled_from(["count", "length"]),
        REFS,
        st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
        st.integers(0, 10**9 - 1),
    ),
)


def both(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        several.map(lambda p: All(tuple(x for x in p))).filter(lambda c: not any(isinstance(p, All) for p in c.parts)),
        several.map(lambda p: Any(tuple(x for x in p))).filter(lambda c: not any(isinstance(p, Any) for p in c.parts)),
    )


@given(st.recursive(PREDICATES, both, max_leaves=8))
def test_a_printed_condition_reads_back_as_itself(condition: Condition) -> None:
    assert parse_condition(print_condition(condition)) == condition


def test_all_references_of_a_condition_are_found() -> None:
    assert refs_of(parse_condition("PID-1 valued and (PID-2 = A or PID-3 != PID-4)")) == tuple(
        Ref("PID", (n,)) for n in (1, 2, 3, 4)
    )
