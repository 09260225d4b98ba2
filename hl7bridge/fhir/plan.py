"""The types of the model as functions: each takes an element and says what is wrong in it, path first, or None.

Sans-IO. One closure a type, made when the type is first met; what does not depend on the resource is decided then. Of a
body, what its elements' names alone decide (unknown, missing, excluding each other) is worked out once for each set of
names: its shape, kept from then on, because a feed has few of them. A path is put together only on the way out of a
failure. Texts never hold a value.

`known` is what references may lead to: fullUrl (or `#id` of what is contained) -> resource type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from hl7bridge.fhir.formats import FORMATS
from hl7bridge.fhir.invariants import Invariant
from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body
from hl7bridge.fhir.terms import Terms, is_language
from hl7bridge.fhir.unroll import Check, Code, Insides, Known, Systems, unjudged
from hl7bridge.fhir.unroll import Shape as Often

Part = tuple[Check, Check | None]  # of an element: the check of its value and, where it is a list, of one item

OFTEN = 50  # times a shape is met before code is made for it: that takes as long as checking it some hundred times
MAX_SHAPES = 1000  # of one type; further ones are worked out again each time
_CODED = ("Coding", "Quantity")  # the types that pair a system with a code


class Shape(NamedTuple):
    """What the names of the elements that are there decide: which checks the values get, which invariants look at
    values, and what is wrong when all of these hold (None: nothing)."""

    parts: tuple[Part, ...]
    invariants: tuple[Invariant, ...]
    wrong: str | None


class _Rules:
    """The rules of one type, applied to the names of the elements of a body."""

    def __init__(
        self, model: Model, type: str, invariants: Sequence[Invariant], fill: Callable[[], dict[str, Part]]
    ) -> None:
        self._type = type
        self._fill = fill
        self._invariants = invariants
        self._required = tuple(names for names in model.required(type) if names != ("resourceType",))
        stems = sorted({e.choice for e in model.elements(type).values() if e.choice})
        choices = ((stem, frozenset(model.choices(type, stem))) for stem in stems)
        self._choices = tuple((stem, names) for stem, names in choices if len(names) > 1)

    @cached_property
    def _plan(self) -> dict[str, Part]:
        """The check of each element; made late, because types lead to each other in circles."""
        return self._fill()

    def shape(self, names: tuple[str, ...]) -> Shape:
        if not names:
            return Shape((), (), ": is empty")
        parts: list[Part] = []
        for name in names:
            part = self._plan.get(name)
            if part is None:
                return Shape(tuple(parts), (), f".{name}: is no element of {self._type}")
            parts.append(part)
        wrong = self._missing(names)
        return Shape(tuple(parts), (), wrong) if wrong is not None else Shape(tuple(parts), *self._late(names))

    def _missing(self, names: tuple[str, ...]) -> str | None:
        there = frozenset(names)
        for one_of in self._required:
            if not any(name in there or "_" + name in there for name in one_of):
                return f".{' or '.join(one_of)}: is required and no row gave it"
        for stem, several in self._choices:
            if len(several & there) > 1:
                return f".{stem}[x]: has more than one value"
        return None

    def _late(self, names: tuple[str, ...]) -> tuple[tuple[Invariant, ...], str | None]:
        """The invariants that need values, up to the first that the names alone break."""
        body = dict.fromkeys(names)
        late: list[Invariant] = []
        for invariant in self._invariants:
            if not body.keys().isdisjoint(invariant.reads):
                late.append(invariant)
            elif not invariant.holds(body):
                return tuple(late), f": {invariant.text}"
        return tuple(late), None


class Plans:
    """Checks by type. Safe to share between threads: one at a time makes a check, in one step."""

    def __init__(self, model: Model, invariants: Mapping[str, tuple[Invariant, ...]], terms: Terms) -> None:
        self._model = model
        self._invariants = invariants
        self._terms = terms
        self._checks: dict[str, Check] = {}
        self._resources: dict[str, Check] = {}  # those of types of resources
        self._insides = Insides({}, {}, {}, set())
        self._code = Code(self._insides, Systems(terms))

    def of(self, type: str) -> Check:
        """The check of a type, a backbone element or a resource."""
        found = self._checks.get(type)
        if found is not None:
            return found
        with self._code.making:
            found = self._checks.get(type)
            if found is None:
                found = self._checks[type] = self._resource() if type == "Resource" else self._compile(type)
        return found

    def resource(self, body: Any, known: Known) -> str | None:
        """A resource of any type, by its resourceType. The path of a problem begins behind the type."""
        type = body.get("resourceType") if body.__class__ is dict else None
        check = self._resources.get(type) if type.__class__ is str else None
        if check is None:
            if not isinstance(type, str) or not self._model.is_resource(type):
                return ": is no resource of this version of FHIR"
            check = self._resources[type] = self.of(type)
        if "contained" in body and body["contained"].__class__ is list:
            contained = body["contained"]
            known = {**known, **_contained(contained)}
            if unused := _unreferenced(body, contained):
                return f".contained{unused}"
        return check(body, known)

    def _resource(self) -> Check:
        """Of any type: code is made for those that contain nothing."""
        resource, code, types = self.resource, self._code, self._insides.types
        long: dict[str, dict[tuple[str, ...], Callable[[Any, Known], bool]]] = {}

        def accepts(body: Any, known: Known) -> bool:
            if body.__class__ is dict and "contained" not in body:
                type = body.get("resourceType")
                often = long.get(type) if type.__class__ is str else None
                if often is not None:
                    look = often.get(tuple(body))
                    if look is not None:
                        return look(body, known)
                elif type in self._resources:
                    long[type] = code.long(types[self._resources[type]])
            return resource(body, known) is None

        code.put("resource", accepts)
        types[resource] = "resource"
        return resource

    def _compile(self, type: str) -> Check:
        """Asks the code there is for the type; where that does not know, all is judged plainly.

        The code is made for a shape when it has been needed often.
        """
        shapes: dict[tuple[str, ...], Check] = {}
        rules = _Rules(self._model, type, self._all_invariants(type), lambda: self._fill(type))
        name = f"t{len(self._insides.types)}"

        def plain(body: Any, known: Known) -> str | None:
            if body.__class__ is not dict:
                return ": is no object"
            names = tuple(body)
            judge = shapes.get(names)
            if judge is None:
                judge = self._plain(rules.shape(names), names, name)
                if len(shapes) < MAX_SHAPES:
                    shapes[names] = judge
            return judge(body, known)

        accepts = self._code.begin(name, plain)

        def check(body: Any, known: Known) -> str | None:
            return None if accepts(body, known) else plain(body, known)

        self._insides.types[check] = name
        return check

    def _plain(self, shape: Shape, names: tuple[str, ...], type: str) -> Check:
        """The check of bodies with these names."""
        parts, invariants, wrong = shape
        checks = [check for check, _ in parts]
        times = iter(range(OFTEN))

        def judge(body: Any, known: Known) -> str | None:
            for part, value, name in zip(checks, body.values(), names, strict=False):
                problem = part(value, known)
                if problem is not None:
                    return f".{name}{problem}"
            for text, holds, _ in invariants:
                if not holds(body):
                    return f": {text}"
            if wrong is None and next(times, None) is None:
                self._code.add(type, Often(names, parts, invariants))
            return wrong

        return judge

    def _all_invariants(self, type: str) -> tuple[Invariant, ...]:
        """Its own and those of the types it derives from; a system must know its code."""
        found = [i for base, said in self._invariants.items() if self._model.is_a(type, base) for i in said]
        if any(self._model.is_a(type, coded) for coded in _CODED):
            refuses = self._terms.refuses

            def known_to_its_system(body: Body) -> bool:
                code, system = body.get("code"), body.get("system")
                return code is None or system is None or not refuses(system, code)

            self._insides.coded.add(known_to_its_system)
            found.append(Invariant("the system has no such code", known_to_its_system, ("code",)))
        bound = [e.name for e in self._model.elements(type).values() if e.is_primitive and e.codes and not e.many]
        if bound:
            found.append(Invariant("a required binding has an extension in place of its code", _has_code(bound)))
        several = [e.name for e in self._model.elements(type).values() if e.is_primitive and e.many]
        if several:
            found.append(
                Invariant("a place in a list has neither a value nor an extension", _no_gaps(several), tuple(several))
            )
        return tuple(found)

    def _fill(self, type: str) -> dict[str, Part]:
        plan: dict[str, Part] = {}
        for element in self._model.elements(type).values():
            plan[element.name] = _part(self._one(element, type), element)
            if element.is_primitive:
                plan["_" + element.name] = _part(self.of("Element"), element)
        if self._model.is_resource(type):
            plan["resourceType"] = (unjudged, None)
        return plan

    def _one(self, element: Element, parent: str) -> Check:
        if element.is_primitive:
            if element.type == "code" and element.name == "language":
                return _language
            return self._coded(frozenset(element.codes)) if element.codes else FORMATS[element.type]
        check = self.of(element.type)
        if element.type == "Extension" and parent != "Extension":
            return _named_absolutely(check)
        if element.type == "Reference":
            return self._reference(check, frozenset(element.targets))
        if element.codes and element.system:
            return _bound(check, element.system, frozenset(element.codes), element.type)
        return check

    def _coded(self, codes: frozenset[str]) -> Check:
        def coded(value: Any, known: Known) -> str | None:
            if value.__class__ is str and value in codes:
                return None
            return ": is a code outside its required binding"

        self._insides.codes[coded] = codes
        return coded

    def _reference(self, check: Check, targets: frozenset[str]) -> Check:
        is_resource = self._model.is_resource
        allowed = ", ".join(sorted(targets))

        def reference(value: Any, known: Known) -> str | None:
            problem = check(value, known)
            if problem is not None:
                return problem
            said = value.get("type")
            if said is not None and not is_resource(said):
                return ".type: is no resource type"
            to = value.get("reference")
            if to is None:
                return None
            found = known.get(to)
            if found is None:
                if to.startswith(("urn:", "#")):
                    return ".reference: leads to nothing in the bundle"
                found = _type_in(to, is_resource)
                if found is None:
                    return ".reference: is neither an entry of the bundle nor Type/id nor Type?search"
            if targets and found not in targets:
                return f".reference: leads to {found}, where FHIR has {allowed}"
            return ".type: is not the type it leads to" if said is not None and said != found else None

        self._insides.targets[reference] = targets
        return reference


def _part(one: Check, element: Element) -> Part:
    return (_many(one, gaps=element.is_primitive), one) if element.many else (one, None)


def _many(one: Check, gaps: bool) -> Check:
    """gaps: in a list of primitives null keeps a place, for what stands beside it; see `_no_gaps`."""

    def many(value: Any, known: Known) -> str | None:
        if value.__class__ is not list:
            return ": is one value where FHIR has a list"
        if not value:
            return ": is an empty list"
        before = None
        for part in value:
            if part is before and (gaps or part is not None):  # the very same: a patch deletes twenty times
                continue
            problem = one(part, known) if part is not None or not gaps else None
            if problem is not None:
                return f"[{_place(value, part)}]{problem}"
            before = part
        return None

    return many


def _place(values: list[Any], part: Any) -> int:
    """Where the part stands; it is the first that is wrong."""
    return next(index for index, other in enumerate(values) if other is part)


def _language(value: Any, known: Known) -> str | None:
    return FORMATS["code"](value, known) or (None if is_language(value) else ": is no language tag")


def _named_absolutely(check: Check) -> Check:
    """An extension has an absolute url; only those inside it have short ones."""

    def extension(value: Any, known: Known) -> str | None:
        problem = check(value, known)
        return ".url: is no absolute uri" if problem is None and ":" not in value["url"] else problem

    return extension


def _has_code(names: Sequence[str]) -> Callable[[Body], bool]:
    return lambda body: all(name in body or "_" + name not in body for name in names)


def _no_gaps(names: Sequence[str]) -> Callable[[Body], bool]:
    def no_gaps(body: Body) -> bool:
        for name in names:
            values = body.get(name, ())
            if None in values:
                beside = body.get("_" + name, ())
                for index, value in enumerate(values):
                    if value is None and (index >= len(beside) or beside[index] is None):
                        return False
        return True

    return no_gaps


def _bound(check: Check, system: str, codes: frozenset[str], type: str) -> Check:
    """A required binding of a CodeableConcept: one of its codings is in it."""

    def bound(value: Any, known: Known) -> str | None:
        problem = check(value, known)
        if problem is not None:
            return problem
        codings = value.get("coding", ()) if type == "CodeableConcept" else (value,)
        if any(c.get("system") == system and c.get("code") in codes for c in codings):
            return None
        return ": has no code of its required binding"

    return bound


def _type_in(to: str, is_resource: Callable[[str], bool]) -> str | None:
    """The type that a literal reference names: Patient/1, Patient?identifier=…, https://host/fhir/Patient/1."""
    path, question, _ = to.partition("?")
    parts = path.split("/")
    if question:
        return parts[-1] if is_resource(parts[-1]) else None
    if "_history" in parts:
        parts = parts[: parts.index("_history")]
    if len(parts) > 1 and parts[-1] and is_resource(parts[-2]):
        return parts[-2]
    return None


def _contained(contained: list[Any]) -> dict[str, str]:
    return {
        f"#{body['id']}": str(body.get("resourceType")) for body in contained if isinstance(body, dict) and "id" in body
    }


def _unreferenced(body: Body, contained: list[Any]) -> str:
    """dom-3: what is contained is referred to from the resource around it."""
    said = {holder["reference"] for holder in _holders(body) if isinstance(holder.get("reference"), str)}
    for index, part in enumerate(contained):
        if not isinstance(part, dict) or f"#{part.get('id')}" not in said:
            return f"[{index}]: dom-3: nothing in the resource refers to it"
    return ""


def _holders(value: Any) -> list[Body]:
    if isinstance(value, dict):
        below = [holder for part in value.values() for holder in _holders(part)]
        return [value, *below] if "reference" in value else below
    return [holder for part in value for holder in _holders(part)] if isinstance(value, list) else []
