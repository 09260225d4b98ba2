"""docs/faults.md: each of the seventy rows has a test that exists, or the reason why it does not apply."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = 70
_ROW = re.compile(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w./]+\.py)::(\w+)`")


def rows() -> dict[int, tuple[str, str, str]]:
    found = _ROW.findall((ROOT / "docs" / "faults.md").read_text())
    assert len(found) == len({number for number, *_ in found}), "a number stands there once"
    return {int(number): (what, holds, tests) for number, what, holds, tests in found}


@cache
def names_in(file: Path) -> frozenset[str]:
    """The names of all test functions of a file, methods too; a state machine of hypothesis counts by its name."""
    tree = ast.parse(file.read_text())
    named = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(name for name in named | assigned if name.startswith(("test_", "Test")))


def test_all_rows_are_there() -> None:
    assert sorted(rows()) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("number", range(1, ROWS + 1))
def test_a_row_has_its_tests_or_says_why_it_has_none(number: int) -> None:
    what, holds, held_by = rows()[number]
    assert what and holds
    named = _TEST.findall(held_by)
    if holds.startswith("does not apply: "):
        assert not named
        return
    assert named, "no test, and no reason why not"
    assert held_by == "<br>".join(f"`{file}::{name}`" for file, name in named), (
        "anything else hides a test that is misspelt"
    )
    for file, name in named:
        assert (ROOT / "tests" / file).is_file(), f"there is no tests/{file}"
        assert name in names_in(ROOT / "tests" / file), f"there is no {name} in tests/{file}"
