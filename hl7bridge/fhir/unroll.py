"""What is right most of the time, told without a call for each element: code for shapes that are met often.

Sans-IO. It decides nothing of its own and only ever says yes. A value that a short look (LOOKS) does not find right
goes to its plain check (plan.py), and so does a body whose shape has no code; the plain check decides, and says what is
wrong. Each look must be narrower than the format it stands for; the tests hold that.

    def t7(body, known):                                  # of a type
        if body.__class__ is dict:
            size = len(body)
            if size == 2:                                 # a shape: these names, in any order
                try: v0, v1 = body['code'], body['system']
                except KeyError: return plain(body, known) is None
                if not (v0.__class__ is str and …) and check_of_code(v0, known) is not None: return False
                …
                return True
        return plain(body, known) is None

A long shape is a function of its own, found by its names in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from types import MappingProxyType
from typing import Any, NamedTuple

from hl7bridge.fhir import formats
from hl7bridge.fhir.invariants import Invariant
from hl7bridge.fhir.resource import Number
from hl7bridge.fhir.terms import Terms

Known = Mapping[str, str]
Check = Callable[[Any, Known], str | None]
Accepts = Callable[[Any, Known], bool]

SHORT = 5  # names of a shape that is told by asking for each
MOST = 12  # short shapes of a type that have code
MAX_SYSTEMS, _LONGEST_SYSTEM = 1000, 200  # systems that are kept, and characters of one
_FILE = "<check of a type>"

_NO_BLANK = "{0} and {0}.isprintable() and ' ' not in {0}"
_TEXT = "{0}.__class__ is str and {0} and {0}.isprintable() and len({0}) < 1000000"
LOOKS: Mapping[Check, str] = MappingProxyType(
    {
        formats.string: _TEXT,
        formats.uri: "{0}.__class__ is str and ({0}[:1] == 'u' and is_uuid({0})"
        f" or {_NO_BLANK} and 'urn:oid:' not in {{0}} and 'urn:uuid:' not in {{0}})",
        formats.code: f"{{0}}.__class__ is str and ({{0}}.isalnum() or {_NO_BLANK})",
        formats.boolean: "{0} is True or {0} is False",
        formats.decimal: "{0}.__class__ is Number and {0}.isascii() and {0}[:1] in FIRST_DIGITS"
        " and {0}.replace('.', '', 1).isdigit() and {0}[-1] != '.'",
        formats.date_time: "{0}.__class__ is str and is_date_time({0})",
        formats.instant: "{0}.__class__ is str and is_instant({0})",
    }
)
NAMES: Mapping[str, Any] = MappingProxyType(  # what looks ask
    {
        "Number": Number,
        "FIRST_DIGITS": frozenset("123456789"),
        "is_uuid": formats.is_uuid,
        "is_date_time": formats.is_date_time,
        "is_instant": formats.is_instant,
    }
)


class Systems(dict[str, frozenset[str] | None]):
    """Systems that were met and are right as a uri, each with its codes, None where nothing is known of it.

    A feed has few. One that has a grammar in place of codes is not among them.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self._terms = terms

    def meets(self, system: str) -> bool:
        """Whether it is right as a uri."""
        if formats.uri(system) is not None:
            return False
        if len(self) < MAX_SYSTEMS and len(system) <= _LONGEST_SYSTEM and not self._terms.has_grammar(system):
            self[system] = self._terms.codes(system)
        return True


class Insides(NamedTuple):
    """What checks go by, so that code can look for itself. By check: the codes of a required binding; the types that a
    Reference may lead to, empty for any; the name of the code that accepts a type. `coded`: the invariants that a
    system knows its code."""

    codes: dict[Check, frozenset[str]]
    targets: dict[Check, frozenset[str]]
    types: dict[Check, str]
    coded: set[Callable[[Any], bool]]


class Shape(NamedTuple):
    """A shape with nothing wrong in its names. parts: by name, the check of the value and, where it is a list, of one
    item; invariants: those that look at values."""

    names: tuple[str, ...]
    parts: tuple[tuple[Check, Check | None], ...]
    invariants: tuple[Invariant, ...]


def unjudged(value: Any, known: Known) -> str | None:
    """Of what was judged before: resourceType, by which the check of the resource was chosen."""
    return None


class Code:
    """The code of all types; each refers to that of others by name, so that it may be made anew.

    Shared between threads: one at a time makes code (`making`), and what is made replaces what was there in one step.
    What its names stand for is never replaced: another thread may be in the middle of the code that was there.
    """

    def __init__(self, insides: Insides, systems: Systems) -> None:
        self.making = RLock()
        self._insides = insides
        self._names: dict[str, Any] = {**NAMES, "systems": systems, "meets": systems.meets}
        self._short: dict[str, tuple[Shape, ...]] = {}

    def begin(self, name: str, plain: Check) -> Accepts:
        """The code of a type that has met no shape often: all is left to its plain check.

        What is given asks the code there is when it is called.
        """
        names = self._names
        if name in names:
            raise ValueError(f"{name} has code already")
        names[f"{name}_plain"] = plain
        names[f"{name}_long"] = {}
        self._short[name] = ()
        self._make(_of_type(name, (), self._insides))
        return lambda body, known: names[name](body, known)

    def put(self, name: str, accepts: Accepts) -> None:
        """Gives a type other code than that of shapes."""
        self._names[name] = accepts

    def long(self, name: str) -> dict[tuple[str, ...], Accepts]:
        """The code of a type's long shapes, by their names."""
        found: dict[tuple[str, ...], Accepts] = self._names[f"{name}_long"]
        return found

    def add(self, name: str, shape: Shape) -> None:
        """A shape of the type is met often."""
        with self.making:
            if len(shape.names) > SHORT:
                long = self.long(name)
                if shape.names not in long:
                    function = f"{name}_{len(long)}"
                    self._make(_of_long(function, shape, self._insides))
                    long[shape.names] = self._names[function]
                return
            held = self._short[name]
            if len(held) < MOST and all(set(shape.names) != set(other.names) for other in held):
                self._short[name] = held = (*held, shape)
                self._make(_of_type(name, held, self._insides))

    def _make(self, lines: _Lines) -> None:
        self._names.update(lines.meant)
        exec(compile("\n".join(lines.text), _FILE, "exec"), self._names)


class _Lines:
    """Lines of one function, and what the names in them stand for."""

    def __init__(self, function: str, insides: Insides, made: int = 0) -> None:
        """`made`: how much code the function had before."""
        self.text = [f"def {function}(body, known):"]
        self.meant: dict[str, Any] = {}
        self.insides = insides
        self._prefix = f"{function}_{made}_of"

    def add(self, depth: int, text: str) -> None:
        self.text.append("    " * depth + text)

    def named(self, meant: Any) -> str:
        name = f"{self._prefix}_{len(self.meant)}_"
        self.meant[name] = meant
        return name


def _of_type(name: str, shapes: Sequence[Shape], insides: Insides) -> _Lines:
    """A type: its short shapes by their size, its long ones by their names."""
    lines = _Lines(name, insides, len(shapes))
    lines.add(1, "if body.__class__ is dict:")
    lines.add(2, "size = len(body)")
    for size in sorted({len(shape.names) for shape in shapes}):
        lines.add(2, f"if size == {size}:")
        alike = [shape for shape in shapes if len(shape.names) == size]
        for shape in alike:
            others = [other.names for other in alike if other is not shape]
            own = [n for n in shape.names if any(n not in other for other in others)]
            lines.add(3, f"if {' and '.join(f'{n!r} in body' for n in own) or 'True'}:")
            _short(lines, shape, f"{name}_plain")
        lines.add(3, f"return {name}_plain(body, known) is None")
    lines.add(2, f"if size > {SHORT}:")
    lines.add(3, f"accepts = {name}_long.get(tuple(body))")
    lines.add(3, "if accepts is not None: return accepts(body, known)")
    lines.add(1, f"return {name}_plain(body, known) is None")
    return lines


def _short(lines: _Lines, shape: Shape, plain: str) -> None:
    wanted = [(f"v{n}", name) for n, name in enumerate(shape.names)]
    values = ", ".join(value for value, _ in wanted)
    lines.add(4, f"try: {values} = {', '.join(f'body[{name!r}]' for _, name in wanted)}")
    lines.add(4, f"except KeyError: return {plain}(body, known) is None")
    _judge_all(lines, 4, shape)


def _of_long(name: str, shape: Shape, insides: Insides) -> _Lines:
    """A long shape: its names are in their order."""
    lines = _Lines(name, insides)
    lines.add(1, "".join(f"v{n}, " for n in range(len(shape.names))) + "= body.values()")
    _judge_all(lines, 1, shape)
    return lines


def _judge_all(lines: _Lines, depth: int, shape: Shape) -> None:
    for number, (name, (check, item)) in enumerate(zip(shape.names, shape.parts, strict=True)):
        value = f"v{number}"
        if check is unjudged:
            continue
        if item is None:
            _judge(lines, depth, value, name, check)
            continue
        lines.add(depth, f"if {value}.__class__ is list and {value}:")
        lines.add(depth + 1, f"before = {value}")
        lines.add(depth + 1, f"for v in {value}:")
        lines.add(depth + 2, "if v is before: continue")  # the very same: a patch deletes twenty times
        _judge(lines, depth + 2, "v", name, item, f"{lines.named(check)}({value}, known)")
        lines.add(depth + 2, "before = v")
        lines.add(depth, f"elif {lines.named(check)}({value}, known) is not None: return False")
    for invariant in shape.invariants:
        holds = f"{lines.named(invariant.holds)}(body)"
        if invariant.holds in lines.insides.coded and {"system", "code"} <= set(shape.names):
            system, code = (f"v{shape.names.index(name)}" for name in ("system", "code"))
            lines.add(depth, f"codes = systems.get({system}, 0)")
            holds = f"(codes is None or codes and {code} in codes or {holds})"
        lines.add(depth, f"if not {holds}: return False")
    lines.add(depth, "return True")


def _judge(lines: _Lines, depth: int, value: str, name: str, check: Check, whole: str = "") -> None:
    """One value, or one item of a list. `whole`: how the list is judged as such, where an item does not look right."""
    insides = lines.insides
    plainly = f"{whole or f'{lines.named(check)}({value}, known)'} is not None"
    if (accepts := insides.types.get(check)) is not None:
        lines.add(depth, f"if not {accepts}({value}, known): return False")
    elif (targets := insides.targets.get(check)) is not None:  # the usual Reference: to an entry, and nothing beside
        leads = f"known.get(to) in {lines.named(targets)}" if targets else "to in known"
        lines.add(depth, f"to = {value}.get('reference') if {value}.__class__ is dict and len({value}) == 1 else None")
        lines.add(depth, f"if not (to.__class__ is str and {leads}) and {plainly}: return False")
    elif (codes := insides.codes.get(check)) is not None:
        named = lines.named(codes)
        lines.add(depth, f"if not ({value}.__class__ is str and {value} in {named}) and {plainly}: return False")
    elif name == "system" and check is formats.uri:
        lines.add(
            depth,
            f"if not ({value}.__class__ is str and ({value} in systems or meets({value}))) and {plainly}: return False",
        )
    elif look := LOOKS.get(check):
        lines.add(depth, f"if not ({look.format(value)}) and {plainly}: return False")
    else:
        lines.add(depth, f"if {plainly}: return False")
