"""The text of one generated function: lines at their depth, free names, values it refers to, parts worked out once.

Sans-IO. What a row reads more than once (`OBX-2`, asked by forty conditions) is a `part`: it is written where it is
used, and when the block ends it becomes a variable at the block's head, if it is used twice and once for certain, or
often; else it stays in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

INDENT = "    "
_OFTEN = 3  # so many uses make a variable of a cheap part, even where it may not be asked for at all
_PART = re.compile("\x01([0-9]+)\x02")
_UNFIT = re.compile(r"[^A-Za-z0-9_]+")


class _Part(NamedTuple):
    """An expression that may be wanted again. `varies`: its value differs from repetition to repetition; `cheap`: it
    may be worked out where it is not asked for."""

    name: str
    expression: str
    varies: bool
    cheap: bool


class Code:
    """Lines of one function, its parameters and first line left to the caller."""

    def __init__(self, known: Mapping[str, Any], taken: frozenset[str] = frozenset()) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._depth = 1
        self._taken = {*known, *taken}
        self._parts: list[_Part] = []
        self._by_expression: dict[str, int] = {}
        self._certain: set[int] = set()
        self._heads: list[tuple[int, int]] = []  # line number and depth where parts may be worked out
        self._loops: list[tuple[int, int]] = []

    def add(self, *lines: str) -> None:
        self.lines += [INDENT * self._depth + line for line in lines]

    def comment(self, text: str) -> None:
        self.add("# " + " ".join(text.split()))

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is added meanwhile stands inside `head`; nothing at all is `pass`."""
        self.add(head)
        self._depth += 1
        before = len(self.lines)
        yield
        if all(line.lstrip().startswith("#") for line in self.lines[before:]):
            self.add("pass")
        self._depth -= 1

    @contextmanager
    def when(self, test: str) -> Iterator[None]:
        """`if test:`; without a test what is added stands where it is."""
        if not test:
            yield
            return
        before = len(self.lines)
        with self.block(f"if {test}:"):
            yield
        if len(self.lines) == before + 2 and self.lines[-1].strip() == "pass":
            del self.lines[before:]

    def name(self, wish: str) -> str:
        """An identifier like `wish` that nothing else has."""
        base = _UNFIT.sub("_", wish).strip("_") or "it"
        base = base if not base[0].isdigit() else f"at_{base}"
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}_{number}"
        self._taken.add(found)
        return found

    def constant(self, wish: str, value: Any) -> str:
        """The name of a value that stands outside of the function."""
        for name, held in self.constants.items():
            if held is value or (type(held) is type(value) and isinstance(value, tuple | frozenset) and held == value):
                return name
        name = self.name(wish)
        self.constants[name] = value
        return name

    # -- parts ----------------------------------------------------------------------------------------------------

    def part(self, wish: str, expression: str, varies: bool = False, certain: bool = True, cheap: bool = False) -> str:
        """Stands for the expression until `settle`. `certain`: it is worked out here whenever the block runs."""
        index = self._by_expression.get(expression)
        if index is None:
            index = self._by_expression[expression] = len(self._parts)
            self._parts.append(_Part(wish, expression, varies, cheap))
        if certain:
            self._certain.add(index)
        return f"\x01{index}\x02"

    def head(self) -> None:
        """Here parts may be worked out that are the same for all that follows."""
        self._heads.append((len(self.lines), self._depth))

    def loop(self) -> None:
        """Here parts may be worked out that differ from repetition to repetition."""
        self._loops.append((len(self.lines), self._depth))

    def settle(self, anew: Sequence[str] = ()) -> None:
        """Ends a block: its parts become variables or stay in place. `anew`: lines for the start of each repetition."""
        (start, depth), *_ = self._heads
        body, wanted = self.lines[start:], list[tuple[str, str, bool]]()
        for index in range(len(self._parts) - 1, -1, -1):
            part, mark = self._parts[index], f"\x01{index}\x02"
            uses = sum(text.count(mark) for text in (*body, *(expression for _, expression, _ in wanted)))
            if not uses:
                continue
            kept = uses > 1 and (index in self._certain or (part.cheap and uses >= _OFTEN))
            written = self.name(part.name) if kept else part.expression
            body = [line.replace(mark, written) for line in body]
            wanted = [(name, text.replace(mark, written), varies) for name, text, varies in wanted]
            if kept:
                wanted.append((written, part.expression, part.varies))
        wanted.reverse()
        at, loop_depth = self._loops[0] if self._loops else (start, depth)
        fixed = [INDENT * depth + f"{name} = {text}" for name, text, varies in wanted if not varies]
        varied = [INDENT * loop_depth + line for line in anew]
        varied += [INDENT * loop_depth + f"{name} = {text}" for name, text, varies in wanted if varies]
        self.lines[start:] = [*fixed, *body[: at - start], *varied, *body[at - start :]]
        self._parts.clear()
        self._by_expression.clear()
        self._certain.clear()
        self._heads.clear()
        self._loops.clear()
