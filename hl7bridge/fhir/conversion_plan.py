"""How one R4 type becomes one R5 type: decided once, from the tables and the two models, then done for each body.

Sans-IO. A step says where an element goes: to another place, a wider type, or FHIR's extension for what R5 lacks
(http://hl7.org/fhir/4.0/StructureDefinition/extension-<path>; source: R5 versions.html#extensions).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from hl7bridge.fhir.conversion_values import (
    WRAPS,
    Value,
    constant,
    converts,
    note_all,
    pairs,
    with_a_code,
    wrapped,
)
from hl7bridge.fhir.difference import CROSS_VERSION, EXTENSION, OWN, Changes, Difference, Move, Names
from hl7bridge.fhir.model import Element
from hl7bridge.fhir.resource import Body

if TYPE_CHECKING:
    from hl7bridge.fhir.conversion import Conversion

ABSENT = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
ALWAYS = frozenset({"id", "extension", "modifierExtension"})  # of an element


class Frame(NamedTuple):
    """A body being written: its R5 path, its type in R5, and the one around it."""

    home: Names
    type: str
    body: Body
    above: Frame | None


class Plan:
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
        self._steps: dict[str, Step] = {}
        for name, element in conversion.old.elements(old).items():
            self._steps[name] = self._step(name, element, said)

    def _step(self, name: str, element: Element, said: Difference) -> Step:
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
            return Step(path, element, move, False)
        other = self._all.model.element(self._new, name)
        fits = other is not None and converts(element, other, self._all.old, self._all.model)
        if element.type == "code" and other is not None and other.type != "code":
            fits = False  # a concept's code needs a system, which a table says
        if name in ALWAYS or fits:
            return Step(path, element, Move((*self._home, name)), False)
        if self._all.old.is_backbone(element.type) and self._spread(path, element, said):
            return Step(path, element, None, False)
        return Step(path, element, Move(()), True)

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

    def _gives(self, step: Step, name: str) -> bool:
        return step.move is not None and step.element.required and step.move.to == (*self._home, name)

    def _lost_codes(self, step: Step) -> bool:
        if step.move is None or not step.move.to or not step.element.codes or not step.element.is_primitive:
            return False
        target = self._all.model.element(self._type_at(step.move.to[:-1]), step.move.to[-1])
        if target is None or not target.codes:
            return False
        codes = self._codes.get(step.path, {})
        return any(codes.get(code, code) not in (*target.codes, EXTENSION) for code in step.element.codes)

    def _below(self, step: Step) -> Plan | None:
        if step.move is None or not step.move.to:
            return None  # all its elements have places of their own, or it goes whole
        target = self._all.model.element(self._type_at(step.move.to[:-1]), step.move.to[-1])
        return self._all.plan(step.element.type, target.type, step.move.to) if target is not None else None

    def fill(self, body: Body, frame: Frame, changes: Changes) -> None:
        """Writes what an R4 body says into the frame's."""
        for name in dict.fromkeys(name.lstrip("_") for name in body):
            step = self._steps.get(name)
            if step is None:
                continue
            values = list(pairs(step.element, body, changes))
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
                note_all(said, made, name, changes)
        for name in self._absent:
            if name not in made and "_" + name not in made:
                made["_" + name] = said = {"extension": [dict(ABSENT)]}
                note_all(said, made, "_" + name, changes)

    def _write(self, frame: Frame, step: Step, move: Move, values: list[Value], changes: Changes, whole: Any) -> None:
        while frame.above is not None and move.to[: len(frame.home)] != frame.home:
            frame = frame.above
        *way, last = move.to[len(frame.home) :]
        at, type_ = frame.body, frame.type
        target = self._all.model.element(self._type_at(move.to[:-1]), last)
        assert target is not None
        kept: list[Value] = []
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

    def _fits(self, target: Element, step: Step, value: Value, changes: Changes) -> bool:
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
                    note_all(said, at, path[-1], changes)
        return at

    def _put(
        self,
        holder: Body,
        last: str,
        target: Element,
        step: Step,
        move: Move,
        values: list[Value],
        changes: Changes,
        frame: Frame,
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
        self, step: Step, target: Element, move: Move, value: Value, changes: Changes, frame: Frame
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
        wraps = WRAPS.get((old.type, target.type))
        if old.type == "Extension" and said["url"] in self._extensions:
            renamed = {**said, "url": self._extensions[said["url"]]}
            changes.copies[id(renamed)] = changes.built(said)
            return renamed, beside
        if wraps is not None:
            return wrapped(wraps, said, beside, move.system, origin, changes), None
        if old.is_primitive:
            return (str(said) if target.type == "integer64" and said is not None else said), beside
        if said is None:
            return None, beside
        if self._all.old.is_backbone(old.type):  # nothing is left of one whose elements all stand elsewhere
            return self._all.part(old.type, target.type, said, changes, move.to, frame) or None, beside
        made = self._all.part(old.type, target.type, said, changes, (), None)  # its paths begin at itself
        coding = self._otherwise.get(step.path)
        return (made if coding is None else with_a_code(made, coding, changes)), beside

    def _ambiguous(self, step: Step, code: str) -> bool:
        """Whether several codes of R4 become this one, so that what was meant is said beside it."""
        codes = self._codes[step.path]
        return sum(codes.get(one, one) == code for one in step.element.codes) > 1

    def _url(self, step: Step) -> str:
        name = step.path if step.element.choice is None else (*step.path[:-1], step.element.choice)
        return CROSS_VERSION + ".".join((self._root, *name))

    def _extend(self, body: Body, step: Step, values: list[Value], changes: Changes) -> None:
        for value in values:
            made = self._extension(self._url(step), step.element, value, changes)
            body.setdefault("extension", []).append(made)

    def _extension(self, url: str, element: Element, value: Value, changes: Changes) -> Body:
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
                    parts += [self._extension(stem, inner, one, changes) for one in pairs(inner, said, changes)]
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


class Step(NamedTuple):
    """`path`: of the R4 element from its type down; `move`: None where its parts have places of their own; `silent`:
    no table says what becomes of it."""

    path: Names
    element: Element
    move: Move | None
    silent: bool
