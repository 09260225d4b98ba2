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
from typing import Any, NamedTuple

from hl7bridge.fhir import formats
from hl7bridge.fhir.invariants import Invariant

Known = Mapping[str, str]
Check = Callable[[Any, Known], str | None]
Shapes = dict[tuple[str, ...], Check]  # the checks of one type by the names of the elements that are there

_TEXT = "{0}.__class__ is str and {0} and {0}.isprintable() and len({0}) < 1000000"
LOOKS: Mapping[Check, str] = MappingProxyType(
    {
        formats.string: _TEXT,
        formats.uri: "{0}.__class__ is str and {0} and {0}.isprintable() and ' ' not in {0} and ({0}[:4] != 'urn:'"
        " or {0}[:8] != 'urn:uuid' and {0}[:8] != 'urn:oid:')",
        formats.code: "{0}.__class__ is str and {0}.isalnum()",
        formats.boolean: "{0} is True or {0} is False",
    }
)


class Insides(NamedTuple):
    """What checks go by, so that code can look for itself. By check: the codes of a required binding; the types that a
    Reference may lead to, empty for any; the shapes that a type has met, so that the one of a known shape is called."""

    codes: dict[Check, frozenset[str]]
    targets: dict[Check, frozenset[str]]
    shapes: dict[Check, Shapes]


def unjudged(value: Any, known: Known) -> str | None:
    """Of what was judged before: resourceType, by which the check of the resource was chosen."""
    return None


def unrolled(
    names: Sequence[str],
    parts: Sequence[tuple[Check, Check | None]],
    insides: Insides,
    invariants: Sequence[Invariant],
) -> Check:
    """The check of a shape with nothing wrong in its names.

    parts: by name, the check of the value and, where it is a list, of one item. insides: of these checks.
    """
    code = _Code(insides)
    for number, (name, (check, item)) in enumerate(zip(names, parts, strict=True)):
        code.value(number, name, check, item)
    for number, invariant in enumerate(invariants):
        code.line(1, f"if not {code.named(f'i{number}', invariant.holds)}(body):")
        code.line(2, f"return {': ' + invariant.text!r}")
    return code.function(len(names))


class _Code:
    """Lines of one function, and what the names in them stand for."""

    def __init__(self, insides: Insides) -> None:
        self._insides = insides
        self._lines: list[str] = []
        self._names: dict[str, Any] = {}

    def line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def named(self, name: str, meant: Any) -> str:
        self._names[name] = meant
        return name

    def value(self, number: int, name: str, check: Check, item: Check | None) -> None:
        """One value. The items of a list are judged here; when one is wrong, the list's own check says which."""
        if check is unjudged:
            return
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
        codes, targets, shapes = (known.get(check) for known in self._insides)
        if shapes is not None:
            met, judge = self.named(f"s{number}", shapes), self.named(f"j{number}", check)
            self.line(depth, f"shape = {met}.get(tuple({value})) if {value}.__class__ is dict else None")
            self.line(depth, f"if ({judge} if shape is None else shape)({value}, known) is not None:")
        elif targets is not None:  # the usual Reference: to an entry of the bundle, and nothing beside
            leads = f"known.get(to) in {self.named(f't{number}', targets)}" if targets else "to in known"
            self.line(
                depth, f"to = {value}.get('reference') if {value}.__class__ is dict and len({value}) == 1 else None"
            )
            self.line(depth, f"if not ({_TEXT.format('to')} and {leads}):")
            self.line(depth + 1, f"if {self.named(f'j{number}', check)}({value}, known) is not None:")
            depth += 1
        elif codes is not None:
            self.line(depth, f"if not ({value}.__class__ is str and {value} in {self.named(f'b{number}', codes)}):")
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
