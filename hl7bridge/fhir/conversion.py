"""From a finished R4 resource to the same in R5: what tables of differences say, and what follows from the two models.

Sans-IO. The tables (mappings/r5/) name what moved; this file knows what FHIR's own change of types means: a value where
R5 has a list becomes a list of one, a Coding a CodeableConcept, a CodeableConcept or Reference a CodeableReference.
Nothing is lost: what R5 has no place for becomes the extension that FHIR defines for it
(http://hl7.org/fhir/4.0/StructureDefinition/extension-<path>; source: R5 versions.html#extensions).

Decided once a type (`_Plan`); types that are the same in both are passed on as they are. `Changes` notes for lineage
which written element is which built one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body, Erasure

EXTENSION = "extension"  # in place of a path: FHIR's extension for what R5 has not
CROSS_VERSION = "http://hl7.org/fhir/4.0/StructureDefinition/extension-"
ABSENT = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
ALWAYS = frozenset({"id", "extension", "modifierExtension"})  # of an element
Names = tuple[str, ...]
Origin = tuple[int, str | int]
OWN: Origin = (0, "hl7bridge")  # the origin of what R5 asks for and the message did not say
_SAME_CONTAINER = frozenset({"Extension", "Reference", "Meta", "Narrative"})


@dataclass(frozen=True, slots=True)
class Move:
    """Where an element stands in R5, from the resource down; empty: in FHIR's extension. `set_`: constants beside it
    (paths and texts; `system|code` for a concept); `system`: of a code that becomes a concept."""

    to: Names
    set_: Mapping[Names, str] = field(default_factory=dict)
    system: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in one type: `moves` by R4 path, `codes` by R4 path and R4 code ("extension": there is none in R5),
    `adds` by R5 path where nothing says it, `absent`: R5 paths that say so where nothing says it. `otherwise`, by R4
    path: the coding of a concept that has none of its system. `extensions`: urls in R4 and R5, of those right in the
    type."""

    moves: Mapping[Names, Move] = field(default_factory=dict)
    codes: Mapping[Names, Mapping[str, str]] = field(default_factory=dict)
    adds: Mapping[Names, str] = field(default_factory=dict)
    absent: frozenset[Names] = frozenset()
    otherwise: Mapping[Names, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)

    def home(self, path: Names) -> Names:
        """Where an R4 path leads in R5: it follows what is around it; () for an extension."""
        for count in range(len(path), 0, -1):
            move = self.moves.get(path[:count])
            if move is not None:
                return (*move.to, *path[count:]) if move.to else ()
        return path


class Changes(NamedTuple):
    """`copies`: id of a written body -> of the one it was built as; `moves`: written element -> built element;
    `leads_to`: the type a Reference leads to, "" where unknown."""

    copies: dict[int, int]
    moves: dict[Origin, Origin]
    leads_to: Callable[[Body], str]

    def built(self, part: Any) -> int:
        return self.copies.get(id(part), id(part))

    def note(self, holder: Any, name: str | int, origin: Origin) -> None:
        self.moves[self.built(holder), name] = self.moves.get(origin, origin)


class _Frame(NamedTuple):
    """A body being written: its R5 path, its type in R5, and the one around it."""

    home: Names
    type: str
    body: Body
    above: _Frame | None


def converts(r4: Element, r5: Element, old: Model, new: Model) -> bool:
    """Whether a value of the one type becomes one of the other by itself."""
    if r4.type == r5.type or (old.is_backbone(r4.type) and new.is_backbone(r5.type)):
        return True
    if r4.is_primitive and r5.is_primitive:
        return r4.type != "url" or r5.type in ("uri", "url")
    return (r4.type, r5.type) in _WRAPS


_WRAPS: Mapping[tuple[str, str], Names] = {
    ("Coding", "CodeableConcept"): ("coding",),
    ("CodeableConcept", "CodeableReference"): ("concept",),
    ("Reference", "CodeableReference"): ("reference",),
    ("string", "CodeableConcept"): ("text",),
    ("string", "Identifier"): ("value",),
    ("id", "Identifier"): ("value",),
    ("code", "CodeableConcept"): ("coding", "code"),
}


class Conversion:
    """For one pair of models and one set of tables. Shared between threads: a plan is made once, in one step."""

    def __init__(self, old: Model, new: Model, differences: Mapping[str, Difference]) -> None:
        self.old, self.model = old, new
        self._differences = differences
        self._plans: dict[tuple[str, str, Names], _Plan] = {}
        self._differing = _differing(old, new, differences)

    def resource(self, body: Body, changes: Changes) -> Body:
        """The resource in R5, its elements in the specification's order."""
        type_ = body["resourceType"]
        made = self.part(type_, type_, body, changes, (), None)
        order = self.model.positions(type_)
        names = sorted(made, key=lambda name: (order.get(name.lstrip("_"), len(order)), name[0] == "_"))
        written = {"resourceType": type_, **{name: made[name] for name in names if name != "resourceType"}}
        changes.copies[id(written)] = changes.built(made)
        if made is not body:
            changes.copies.pop(id(made), None)
        return written

    def erasure(self, type_: str, erasure: Erasure) -> Erasure:
        """Where what is to be deleted stands in R5; a list that is no list in R4 goes whole."""
        difference = self._differences.get(type_, Difference())
        home: Names = ()
        for count in range(len(erasure.path), 0, -1):
            names = erasure.path[:count]
            move = difference.moves.get(names)
            if move is None:
                continue
            if not move.to:
                url = CROSS_VERSION + ".".join((type_, *names))
                above = self.erasure(type_, Erasure(names[:-1])).path if names[:-1] else ()
                return Erasure((*above, "extension"), (("url", url),), erasure.said)
            home = (*move.to, *erasure.path[count:])
            break
        names = self._up_to_list(type_, home or erasure.path)
        return Erasure(names, erasure.where, erasure.said)

    def fillers(self, type_: str, fillers: set[Names]) -> set[Names]:
        """The elements that only fill what FHIR requires, R5's own among them."""
        difference = self._differences.get(type_, Difference())
        own = {path for path in (*difference.adds, *difference.absent) if len(path) <= 2}
        return {self.erasure(type_, Erasure(names)).path for names in fillers} | own

    def _up_to_list(self, type_: str, names: Names) -> Names:
        at = type_
        for count, name in enumerate(names, 1):
            element = self.model.element(at, name)
            choice = self.model.choices(at, name)
            if element is None and choice:
                element = self.model.elements(at)[choice[0]]
                names = (*names[: count - 1], choice[0], *names[count:])
            if element is None or element.many:
                return names[:count]
            at = element.type
        return names

    def part(self, old: str, new: str, body: Body, changes: Changes, home: Names, above: _Frame | None) -> Body:
        """One body of an R4 type as one of an R5 type."""
        if old == "Resource":
            return self.resource(body, changes)
        plan = self.plan(old, new, home)
        if plan is None:
            return body
        made: Body = {}
        changes.copies[id(made)] = changes.built(body)
        frame = _Frame(home, new, made, above)
        if "resourceType" in body:
            made["resourceType"] = body["resourceType"]
        plan.fill(body, frame, changes)
        plan.complete(made, changes)
        return made

    def plan(self, old: str, new: str, home: Names = ()) -> _Plan | None:
        """None: the type is the same in both."""
        if old == new and old not in self._differing:
            return None
        found = self._plans.get((old, new, home))
        if found is None:
            found = self._plans[old, new, home] = _Plan(self, old, new, home)
        return found

    def difference(self, type_path: str) -> tuple[Difference, Names]:
        root, *names = type_path.split(".")
        return self._differences.get(root, Difference()), tuple(names)

    def unhandled(self, type_: str) -> list[Names]:
        """The R4 elements of a type for which R5 has no place and the tables say none, from the type down."""
        plan = self.plan(type_, type_)
        return sorted(set(plan.unhandled())) if plan is not None else []


def _differing(old: Model, new: Model, differences: Mapping[str, Difference]) -> frozenset[str]:
    """The types of R4 whose bodies may not be passed on as they are."""
    known = [type_ for type_ in old.types if not old.is_resource(type_) or new.is_resource(type_)]
    found = {type_ for type_ in known if type_ in differences or not _alike(type_, old, new)} - _SAME_CONTAINER
    found |= {
        ".".join((type_, *path[:count]))
        for type_, difference in differences.items()
        for path in difference.otherwise
        for count in range(1, len(path))
    }
    while True:
        more = {
            type_
            for type_ in known
            if type_ not in found
            and type_ not in _SAME_CONTAINER
            and any(e.type in found or e.type == "Resource" for e in old.elements(type_).values())
        }
        if not more:
            return frozenset(found)
        found |= more


def _alike(type_: str, old: Model, new: Model) -> bool:
    for name, element in old.elements(type_).items():
        other = new.element(type_, name)
        if other is None or other.many != element.many:
            return False
        if other.type != element.type and not (
            element.is_primitive and other.is_primitive and other.type != "integer64"
        ):
            return False
        if not set(element.codes) <= set(other.codes or element.codes):
            return False
        if other.targets and not set(element.targets) <= set(other.targets):
            return False
    return not any(e.required for n, e in new.elements(type_).items() if not _required(old.element(type_, n)))


def _required(element: Element | None) -> bool:
    return element is not None and element.required


class _Plan:
    """How one R4 type becomes one R5 type."""

    def __init__(self, conversion: Conversion, old: str, new: str, home: Names) -> None:
        self._all = conversion
        self._old, self._new, self._home = old, new, home
        self._root = old.partition(".")[0]
        said, self._prefix = conversion.difference(old)
        self._codes = said.codes
        self._otherwise = said.otherwise
        self._extensions = said.extensions if not self._prefix else {}
        here = len(home)
        self._adds = {p[-1]: text for p, text in said.adds.items() if p[:-1] == home and len(p) == here + 1}
        self._absent = [p[-1] for p in said.absent if p[:-1] == home]
        self._steps: dict[str, _Step] = {}
        for name, element in conversion.old.elements(old).items():
            self._steps[name] = self._step(name, element, said)

    def _step(self, name: str, element: Element, said: Difference) -> _Step:
        path = (*self._prefix, name)
        move = said.moves.get(path)
        if move is None and element.choice:
            move = said.moves.get((*self._prefix, element.choice))
            if move is not None and move.to:
                suffix = name[len(element.choice) :]
                last = move.to[-1] + suffix
                if self._all.model.choices(self._type_at(move.to[:-1]), move.to[-1]):
                    move = Move((*move.to[:-1], last), move.set_, move.system)
        if move is not None:
            return _Step(path, element, move, False)
        other = self._all.model.element(self._new, name)
        fits = other is not None and converts(element, other, self._all.old, self._all.model)
        if element.type == "code" and other is not None and other.type != "code":
            fits = False  # a concept's code needs a system, which a table says
        if name in ALWAYS or fits:
            return _Step(path, element, Move((*self._home, name)), False)
        if self._all.old.is_backbone(element.type) and self._spread(path, element, said):
            return _Step(path, element, None, False)
        return _Step(path, element, Move(()), True)

    def _spread(self, path: Names, element: Element, said: Difference) -> bool:
        """Whether every element of a backbone element has a place of its own."""
        own = [n for n in self._all.old.elements(element.type) if n not in ALWAYS]
        return all((*path, n) in said.moves for n in own)

    def _type_at(self, names: Names) -> str:
        at = self._root
        for name in names:
            element = self._all.model.element(at, name)
            if element is None:
                return ""
            at = element.type
        return at

    def unhandled(self) -> Iterator[Names]:
        for name, other in self._all.model.elements(self._new).items():
            given = other.choice is not None or name in {*self._adds, *self._absent, "resourceType"}
            if other.required and not given and not any(self._gives(step, name) for step in self._steps.values()):
                yield (self._root, *self._home, name)
        for step in self._steps.values():
            if step.silent or self._lost_codes(step):
                yield (self._root, *step.path)
            elif self._all.old.is_backbone(step.element.type) and step.element.type != self._old:
                plan = self._below(step)
                yield from plan.unhandled() if plan is not None else ()

    def _gives(self, step: _Step, name: str) -> bool:
        return step.move is not None and step.element.required and step.move.to == (*self._home, name)

    def _lost_codes(self, step: _Step) -> bool:
        if step.move is None or not step.move.to or not step.element.codes or not step.element.is_primitive:
            return False
        target = self._all.model.element(self._type_at(step.move.to[:-1]), step.move.to[-1])
        if target is None or not target.codes:
            return False
        codes = self._codes.get(step.path, {})
        return any(codes.get(code, code) not in (*target.codes, EXTENSION) for code in step.element.codes)

    def _below(self, step: _Step) -> _Plan | None:
        if step.move is None or not step.move.to:
            return None  # all its elements have places of their own, or it goes whole
        target = self._all.model.element(self._type_at(step.move.to[:-1]), step.move.to[-1])
        return self._all.plan(step.element.type, target.type, step.move.to) if target is not None else None

    def fill(self, body: Body, frame: _Frame, changes: Changes) -> None:
        """Writes what an R4 body says into the frame's."""
        for name in dict.fromkeys(name.lstrip("_") for name in body):
            step = self._steps.get(name)
            if step is None:
                continue
            values = list(_pairs(step.element, body, changes))
            if step.move is None:
                plan = self._all.plan(step.element.type, self._new, self._home)
                for value, _, _ in values:
                    if plan is not None:
                        plan.fill(value, frame, changes)
            elif not step.move.to:
                self._extend(frame.body, step, values, changes)
            else:
                self._write(frame, step, step.move, values, changes, body.get(name))

    def complete(self, made: Body, changes: Changes) -> None:
        """What R5 requires and R4 did not."""
        for name, text in self._adds.items():
            if name not in made and "_" + name not in made:
                element = self._all.model.elements(self._new)[name]
                made[name] = said = constant(element, text)
                _note_all(said, made, name, changes)
        for name in self._absent:
            if name not in made and "_" + name not in made:
                made["_" + name] = said = {"extension": [dict(ABSENT)]}
                _note_all(said, made, "_" + name, changes)

    def _write(
        self, frame: _Frame, step: _Step, move: Move, values: list[_Value], changes: Changes, whole: Any
    ) -> None:
        while frame.above is not None and move.to[: len(frame.home)] != frame.home:
            frame = frame.above
        *way, last = move.to[len(frame.home) :]
        at, type_ = frame.body, frame.type
        target = self._all.model.element(self._type_at(move.to[:-1]), last)
        assert target is not None
        kept: list[_Value] = []
        for value in values:
            (kept if self._fits(target, step, value, changes) else []).append(value)
        self._extend(frame.body, step, [v for v in values if v not in kept], changes)
        if not target.many and not self._makes_parts(type_, way) and len(kept) > 1:
            self._extend(frame.body, step, kept[1:], changes)
            kept = kept[:1]
        groups = [kept] if target.many or not kept else [[value] for value in kept]
        for group in groups:
            if group:
                holder = self._holder(at, type_, way, move, changes)
                self._put(holder, last, target, step, move, group, changes, frame, whole)

    def _makes_parts(self, type_: str, way: list[str]) -> bool:
        for name in way:
            element = self._all.model.elements(type_)[name]
            if element.many:
                return True
            type_ = element.type
        return False

    def _fits(self, target: Element, step: _Step, value: _Value, changes: Changes) -> bool:
        """Whether R5 takes the value here: a code it has, a reference to a type it allows."""
        if step.element.type == "Reference" and target.targets and isinstance(value[0], dict):
            to = changes.leads_to(value[0])
            return not to or to in target.targets
        return self._codes.get(step.path, {}).get(value[0] if isinstance(value[0], str) else "") != EXTENSION

    def _holder(self, at: Body, type_: str, way: list[str], move: Move, changes: Changes) -> Body:
        """The body around the element, made where it is missing; in a list always a new one."""
        done: list[str] = list(move.to[: len(move.to) - 1 - len(way)])
        for name in way:
            element = self._all.model.elements(type_)[name]
            done.append(name)
            if element.many:
                part: Body = {}
                at.setdefault(name, []).append(part)
            else:
                part = at.setdefault(name, {})
            at, type_ = part, element.type
            for path, text in move.set_.items():
                if path[:-1] == tuple(done):
                    at[path[-1]] = said = constant(self._all.model.elements(type_)[path[-1]], text)
                    _note_all(said, at, path[-1], changes)
        return at

    def _put(
        self,
        holder: Body,
        last: str,
        target: Element,
        step: _Step,
        move: Move,
        values: list[_Value],
        changes: Changes,
        frame: _Frame,
        whole: Any,
    ) -> None:
        pairs = [(self._value(step, target, move, value, changes, frame), value[2]) for value in values]
        made = [(said, beside, origin) for (said, beside), origin in pairs if said is not None or beside is not None]
        if not made:
            return
        if not target.many:
            said, beside, origin = made[0]
            for name, one in ((last, said), ("_" + last, beside)):
                if one is not None:
                    holder[name] = one
                    changes.note(holder, name, origin)
            return
        held = holder.setdefault(last, [])
        fresh = isinstance(whole, list) and not held and len(made) == len(whole)
        if fresh:
            changes.copies[id(held)] = changes.built(whole)
        for said, beside, origin in made:
            held.append(said)
            if not fresh:
                changes.note(held, len(held) - 1, origin)
            if beside is not None:
                besides = holder.setdefault("_" + last, [])
                besides += [None] * (len(held) - 1 - len(besides))
                besides.append(beside)

    def _value(
        self, step: _Step, target: Element, move: Move, value: _Value, changes: Changes, frame: _Frame
    ) -> tuple[Any, Any]:
        said, beside, origin = value
        old = step.element
        codes = self._codes.get(step.path)
        if codes is not None and said in codes:
            new = codes[said]
            if self._ambiguous(step, new):
                note = {"url": self._url(step), "valueCode": said}
                changes.note(note, "url", OWN)
                changes.note(note, "valueCode", origin)
                beside = {**(beside or {}), "extension": [*(beside or {}).get("extension", ()), note]}
            said = new
        wraps = _WRAPS.get((old.type, target.type))
        if old.type == "Extension" and said["url"] in self._extensions:
            renamed = {**said, "url": self._extensions[said["url"]]}
            changes.copies[id(renamed)] = changes.built(said)
            return renamed, beside
        if wraps is not None:
            return _wrapped(wraps, said, beside, move.system, origin, changes), None
        if old.is_primitive:
            return (str(said) if target.type == "integer64" and said is not None else said), beside
        if said is None:
            return None, beside
        if self._all.old.is_backbone(old.type):  # nothing is left of one whose elements all stand elsewhere
            return self._all.part(old.type, target.type, said, changes, move.to, frame) or None, beside
        made = self._all.part(old.type, target.type, said, changes, (), None)  # its paths begin at itself
        coding = self._otherwise.get(step.path)
        return (made if coding is None else _with_a_code(made, coding, changes)), beside

    def _ambiguous(self, step: _Step, code: str) -> bool:
        """Whether several codes of R4 become this one, so that what was meant is said beside it."""
        codes = self._codes[step.path]
        return sum(codes.get(one, one) == code for one in step.element.codes) > 1

    def _url(self, step: _Step) -> str:
        name = step.path if step.element.choice is None else (*step.path[:-1], step.element.choice)
        return CROSS_VERSION + ".".join((self._root, *name))

    def _extend(self, body: Body, step: _Step, values: list[_Value], changes: Changes) -> None:
        for value in values:
            made = self._extension(self._url(step), step.element, value, changes)
            body.setdefault("extension", []).append(made)

    def _extension(self, url: str, element: Element, value: _Value, changes: Changes) -> Body:
        said, beside, origin = value
        made: Body = {"url": url}
        changes.note(made, "url", OWN)
        if self._all.old.is_backbone(element.type):
            parts: list[Body] = []
            for name in dict.fromkeys(name.lstrip("_") for name in said or {}):
                inner = self._all.old.elements(element.type)[name]
                if name == "extension":
                    parts += said[name]
                elif name != "id":
                    stem = inner.choice or name
                    parts += [self._extension(stem, inner, one, changes) for one in _pairs(inner, said, changes)]
            made["extension"] = parts
            return made
        name = f"value{element.type[:1].upper()}{element.type[1:]}"
        if said is not None:
            new = said if element.is_primitive else self._all.part(element.type, element.type, said, changes, (), None)
            made[name] = new
            changes.note(made, name, origin)
        if beside is not None:
            made["_" + name] = beside
        return made


class _Step(NamedTuple):
    """`path`: of the R4 element from its type down; `move`: None where its parts have places of their own; `silent`:
    no table says what becomes of it."""

    path: Names
    element: Element
    move: Move | None
    silent: bool


_Value = tuple[Any, Any, Origin]  # the value, what stands beside it (`_birthDate`), and where it was built


def _pairs(element: Element, body: Body, changes: Changes) -> Iterator[_Value]:
    value, beside = body.get(element.name), body.get("_" + element.name)
    if not element.many:
        yield value, beside, (changes.built(body), element.name)
        return
    values, besides = value or [], beside or []
    for index in range(max(len(values), len(besides))):
        one = values[index] if index < len(values) else None
        other = besides[index] if index < len(besides) else None
        yield one, other, (changes.built(values), index)


def _wrapped(names: Names, said: Any, beside: Any, system: str, origin: Origin, changes: Changes) -> Body:
    last = names[-1]
    if last == "coding":  # a list of Codings
        return {"coding": [said]}
    inner: Body = {last: said} if said is not None else {}
    if said is not None:
        changes.note(inner, last, origin)
    if beside is not None:
        inner["_" + last] = beside
    if len(names) == 1:
        return inner
    if system and said is not None:
        inner = _with({"system": system}, last, said) | ({"_" + last: beside} if beside is not None else {})
        changes.note(inner, "system", OWN)
        changes.note(inner, last, origin)
    return {names[0]: [inner]}


def _with_a_code(concept: Body, text: str, changes: Changes) -> Body:
    """The concept, and behind what it says a coding of the system R5 requires, where it has none."""
    system, _, code = text.rpartition("|")
    codings = concept.get("coding", [])
    if any(coding.get("system") == system for coding in codings):
        return concept
    coding = {"system": system, "code": code}
    made = {"coding": [*codings, coding], **{n: v for n, v in concept.items() if n != "coding"}}
    changes.copies[id(made)], changes.copies[id(made["coding"])] = changes.built(concept), changes.built(codings)
    for name in coding:
        changes.note(coding, name, OWN)
    return made


def _with(body: Body, name: str, value: Any) -> Body:
    body[name] = value
    return body


def constant(element: Element, text: str) -> Any:
    """A text of the tables as a value: `system|code` for a concept or a coding."""
    system, _, code = text.rpartition("|")
    coding = {"system": system, "code": code}
    made: Any = text
    if element.type == "CodeableConcept":
        made = {"coding": [coding]}
    elif element.type == "Coding":
        made = coding
    return [made] if element.many else made


def _note_all(said: Any, holder: Any, name: str | int, changes: Changes) -> None:
    """A constant of the tables for R5 comes from nothing in the message."""
    if isinstance(said, dict):
        for inner, part in said.items():
            _note_all(part, said, inner, changes)
    elif isinstance(said, list):
        for index, part in enumerate(said):
            _note_all(part, said, index, changes)
    else:
        changes.note(holder, name, OWN)
