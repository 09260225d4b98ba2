"""From a finished R4 resource to the same in R5: what tables of differences say, and what follows from the two models.

Sans-IO. The tables (mappings/r5/) name what moved; this file knows what FHIR's own change of types means: a value where
R5 has a list becomes a list of one, a Coding a CodeableConcept, a CodeableConcept or Reference a CodeableReference.
Nothing is lost: what R5 has no place for becomes the extension that FHIR defines for it
(http://hl7.org/fhir/4.0/StructureDefinition/extension-<path>; source: R5 versions.html#extensions).

Decided once a type (`conversion_plan`); types that are the same in both are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from hl7bridge.fhir.conversion_plan import Frame, Plan
from hl7bridge.fhir.difference import CROSS_VERSION, Changes, Difference, Names
from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body, Erasure

_SAME_CONTAINER = frozenset({"Extension", "Reference", "Meta", "Narrative"})


class Conversion:
    """For one pair of models and one set of tables. Shared between threads: a plan is made once, in one step."""

    def __init__(self, old: Model, new: Model, differences: Mapping[str, Difference]) -> None:
        self.old, self.model = old, new
        self._differences = differences
        self._plans: dict[tuple[str, str, Names], Plan] = {}
        self._otherwise = {  # above what becomes otherwise
            ".".join((type_, *path[:count]))
            for type_, difference in differences.items()
            for path in difference.otherwise
            for count in range(1, len(path))
        }
        self._differs: dict[str, bool] = {}

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

    def part(self, old: str, new: str, body: Body, changes: Changes, home: Names, above: Frame | None) -> Body:
        """One body of an R4 type as one of an R5 type."""
        if old == "Resource":
            return self.resource(body, changes)
        plan = self.plan(old, new, home)
        if plan is None:
            return body
        made: Body = {}
        changes.copies[id(made)] = changes.built(body)
        frame = Frame(home, new, made, above)
        if "resourceType" in body:
            made["resourceType"] = body["resourceType"]
        plan.fill(body, frame, changes)
        plan.complete(made, changes)
        return made

    def plan(self, old: str, new: str, home: Names = ()) -> Plan | None:
        """None: the type is the same in both."""
        if old == new and not self.differs(old):
            return None
        found = self._plans.get((old, new, home))
        if found is None:
            found = self._plans[old, new, home] = Plan(self, old, new, home)
        return found

    def differs(self, type_: str) -> bool:
        """May a body of this R4 type not be passed on as it is: does it differ in R5, or anything below it?

        Asked of types that come: looking at all of them would make every element of both models.
        """
        found = self._differs.get(type_)
        if found is None:
            found = self._differs[type_] = self._differs_below(type_)
        return found

    def _differs_below(self, type_: str) -> bool:
        if self._differs_itself(type_):
            return True
        if not self._moves(type_):
            return False
        seen, waiting = {type_}, [type_]
        while waiting:
            for element in self.old.elements(waiting.pop()).values():
                below = element.type
                if below in seen or element.is_primitive:
                    continue
                if below == "Resource" or self._differs_itself(below):
                    return True
                seen.add(below)
                if self._moves(below):
                    waiting.append(below)
        return False

    def _moves(self, type_: str) -> bool:
        """Is it in both versions, and no container that looks the same wherever it stands?"""
        return type_ not in _SAME_CONTAINER and (not self.old.is_resource(type_) or self.model.is_resource(type_))

    def _differs_itself(self, type_: str) -> bool:
        if type_ in self._otherwise:
            return True
        return self._moves(type_) and (type_ in self._differences or not _alike(type_, self.old, self.model))

    def difference(self, type_path: str) -> tuple[Difference, Names]:
        root, *names = type_path.split(".")
        return self._differences.get(root, Difference()), tuple(names)

    def unhandled(self, type_: str) -> list[Names]:
        """The R4 elements of a type for which R5 has no place and the tables say none, from the type down."""
        plan = self.plan(type_, type_)
        return sorted(set(plan.unhandled())) if plan is not None else []


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
