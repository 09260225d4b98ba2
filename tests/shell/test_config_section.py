"""Sections of the configuration by themselves: what is taken, what is refused, what never shows."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest

from hl7bridge.config.section import Bound, Mistake, Reader, SecretStr, Section, conform
from hl7bridge.errors import ConfigError


def _even(given: object) -> int:
    if int(str(given)) % 2:
        raise ValueError("must be even")
    return int(str(given))


class Inner(Section):
    port: Annotated[int, Bound(ge=1, le=9)] = 5
    wait: Annotated[float, Bound(gt=0)] = 1.0


class Outer(Section):
    name: str = "x"
    on: bool = False
    mode: Literal["a", "b", "c"] = "a"
    import_: str | None = None
    secret: SecretStr | None = None
    inner: Inner = Inner()
    maybe: Inner | None = None
    inners: tuple[Inner, ...] = (Inner(),)
    counts: tuple[Annotated[int, Bound(ge=1)], ...] = (3,)
    headers: Mapping[str, str] = {}
    even: Annotated[int, Reader(_even)] = 2


def mistakes(given: object) -> list[Mistake]:
    return conform(Outer, given)[1]


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), (" 7 ", 7), ("+7", 7), ("7.0", 7), ("0_7", 7), (7, 7), (7.0, 7), (True, 1)]
)
def test_whole_numbers(text: object, number: int) -> None:
    assert Inner.of({"port": text}).port == number


@pytest.mark.parametrize("text", ["7.5", "7.", "seven", "", "0x7", "\u0667", "1__0", None, 7.5, ["7"], float("inf")])
def test_what_is_no_whole_number(text: object) -> None:
    with pytest.raises(ConfigError, match=r"^port: must be a whole number"):
        Inner(port=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "number"), [("1e-1", 0.1), ("inf", float("inf")), (2, 2.0), (" .5", 0.5)])
def test_numbers(text: object, number: float) -> None:
    assert Inner.of({"wait": text}).wait == number


@pytest.mark.parametrize("text", ["", "1,5", "\u0667", None, []])
def test_what_is_no_number(text: object) -> None:
    assert [reason[:16] for _, reason in mistakes({"inner": {"wait": text}})] == ["must be a number"]


@pytest.mark.parametrize(("text", "truth"), [("yes", True), ("ON", True), (" t ", True), ("0", False), (False, False)])
def test_truths(text: object, truth: bool) -> None:
    assert Outer.of({"on": text}).on is truth


def test_every_mistake_is_found_and_what_is_right_is_kept() -> None:
    given = {
        "name": ["x"],
        "on": "maybe",
        "mode": "d",
        "inner": {"port": "10", "wait": "3"},
        "maybe": {"wait": "nan"},
        "inners": [{"port": "1"}, "x"],
        "counts": ["4", "0"],
        "headers": {"a": "b", "c": ["d"]},
        "even": "3",
        "sekret": "x",
    }
    kept, found = conform(Outer, given)
    assert found == [
        (("name",), "must be one text"),
        (("on",), "must be true or false, not 'maybe'"),
        (("mode",), "must be a, b or c, not 'd'"),
        (("inner", "port"), "must be at most 9, not '10'"),
        (("maybe", "wait"), "must be greater than 0, not 'nan'"),
        (("inners", 1), "must hold keys, not 'x'"),
        (("counts", 1), "must be at least 1, not '0'"),
        (("headers", "c"), "must be one text"),
        (("even",), "must be even, not '3'"),
        (("sekret",), "unknown key; did you mean 'secret'?"),
    ]
    assert kept == Outer(inner=Inner(wait=3), maybe=Inner(), inners=(), counts=(), headers={"a": "b"})


def test_what_is_no_section_at_all_leaves_the_defaults() -> None:
    assert conform(Outer, ["x"]) == (Outer(), [((), "must hold keys")])
    assert mistakes({"inner": None, "inners": None, "headers": "x"}) == [
        (("inner",), "must hold keys"),
        (("inners",), "must be a list"),
        (("headers",), "must hold keys and values"),
    ]


def test_a_key_that_python_has_a_word_for() -> None:
    assert Outer.of({"import": "x"}).import_ == "x"
    assert mistakes({"import_": "x"})[0][1].startswith("unknown key")


def test_a_secret_is_never_shown_and_headers_are_never_quoted() -> None:
    outer = Outer.of({"secret": "SENTINEL"})
    assert outer.secret == SecretStr("SENTINEL")
    assert "SENTINEL" not in f"{outer} {outer!r} {outer.secret}"
    assert "SENTINEL" not in str(mistakes({"secret": ["SENTINEL"], "headers": "SENTINEL"}))


def test_sections_are_values() -> None:
    one, other = Outer(name="y"), Outer().changed({"name": "y"})
    assert one == other != Outer()
    assert hash(Inner()) == hash(Inner(port=5))
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    with pytest.raises(AttributeError, match="frozen"):
        one.name = "z"  # type: ignore[misc]


def test_two_sections_never_share_a_table_that_stands_as_default() -> None:
    assert Outer().headers is not Outer().headers


def test_a_start_loads_no_framework() -> None:
    code = "import sys, hl7bridge.bridge; print(*sorted({'pydantic', 'aiohttp', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
