"""The check of a shape that is met often, as straight-line code: one test a value, and no call where a look is enough.

Sans-IO. It decides nothing of its own: a value that a short look (LOOKS) does not find right goes to the same check as
before, which says what is wrong. Each look must be narrower than the format it stands for; the tests hold that.

    name, family, period = body.values()          # the shape: these names in this order
    if not (family.__class__ is str and …):       # a look
        problem = check_of_family(family, known)
        if problem is not None: return ".family" + problem
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hl7bridge.fhir import formats
from hl7bridge.fhir.invariants import Invariant

Known = Mapping[str, str]
Check = Callable[[Any, Known], str | None]
Shapes = dict[tuple[str, ...], Check]  # the checks of one type by the names of the elements that are there

_TEXT = "{0}.__class__ is str and {0} and {0}.isprintable() and len({0}) < 1000000"
LOOKS: Mapping[Check, str] = MappingProxyType(
    {
        formats.string: _TEXT,
        formats.uri: "{0}.__class__ is str and {0} and {0}.isprintable() and ' ' not in {0} and {0}[:4] != 'urn:'",
        formats.code: "{0}.__class__ is str and {0}.isalnum()",
        formats.boolean: "{0} is True or {0} is False",
    }
)


def unrolled(
    names: Sequence[str],
    parts: Sequence[tuple[Check, Check | None]],
    codes: Mapping[Check, frozenset[str]],
    types: Mapping[Check, Shapes],
    invariants: Sequence[Invariant],
) -> Check:
    """The check of a shape with nothing wrong in its names.

    parts: by name, the check of the value and, where it is a list, of one item. codes: those of a required binding, by
    the check that holds it. types: what the checks of types keep, so that a known shape is called at once.
    """
    code = _Code(codes, types)
    for number, (name, (check, item)) in enumerate(zip(names, parts, strict=True)):
        code.value(number, name, check, item)
    for number, invariant in enumerate(invariants):
        code.line(1, f"if not {code.named(f'i{number}', invariant.holds)}(body):")
        code.line(2, f"return {': ' + invariant.text!r}")
    return code.function(len(names))


class _Code:
    """Lines of one function, and what the names in them stand for."""

    def __init__(self, codes: Mapping[Check, frozenset[str]], types: Mapping[Check, Shapes]) -> None:
        self._codes = codes
        self._types = types
        self._lines: list[str] = []
        self._names: dict[str, Any] = {}

    def line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def named(self, name: str, meant: Any) -> str:
        self._names[name] = meant
        return name

    def value(self, number: int, name: str, check: Check, item: Check | None) -> None:
        """One value. The items of a list are judged here; when one is wrong, the list's own check says which."""
        value, whole = f"v{number}", self.named(f"c{number}", check)
        refusal = f"problem = {whole}({value}, known)", f"if problem is not None: return {'.' + name!r} + problem"
        if item is None:
            self._judge(1, number, value, check, refusal)
            return
        self.line(1, f"if {value}.__class__ is list and {value}:")
        self.line(2, f"before = {value}")
        self.line(2, f"for v in {value}:")
        self.line(3, "if v is before: continue")  # the very same: a patch deletes twenty times
        self._judge(3, number, "v", item, refusal)
        self.line(3, "before = v")
        self.line(1, "else:")
        for line in refusal:
            self.line(2, line)

    def _judge(self, depth: int, number: int, value: str, check: Check, refusal: tuple[str, str]) -> None:
        """What does not look right goes to the check of the whole value, which knows where and why."""
        if (shapes := self._types.get(check)) is not None:
            known, judge = self.named(f"s{number}", shapes), self.named(f"j{number}", check)
            self.line(depth, f"shape = {known}.get(tuple({value})) if {value}.__class__ is dict else None")
            self.line(depth, f"if ({judge} if shape is None else shape)({value}, known) is not None:")
        elif (codes := self._codes.get(check)) is not None:
            named = self.named(f"b{number}", codes)
            self.line(depth, f"if not ({value}.__class__ is str and {value} in {named}):")
        elif look := LOOKS.get(check):
            self.line(depth, f"if not ({look.format(value)}):")
        else:
            self.line(depth, f"if {self.named(f'j{number}', check)}({value}, known) is not None:")
        for line in refusal:
            self.line(depth + 1, line)

    def function(self, values: int) -> Check:
        unpacked = "".join(f"v{number}, " for number in range(values))
        source = "\n".join(["def check(body, known):", f"    {unpacked}= body.values()", *self._lines])
        exec(compile(source, "<check of a shape>", "exec"), self._names)
        made: Check = self._names["check"]
        return made
