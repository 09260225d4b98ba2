"""From a row of the guide to the messages that prove it: one in which it must show, and those in which it must not.

A row is reached by a route: a message row that applies the segment map, a row of that segment map, and rows of data
type maps below it. The expectation is read off the same rows, never off our tables.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice, product

from guide_judge import Bundle, leaves, shown
from guide_message import BASE_NAME, CONTROL_ID, Sketch, segment_id, sketch
from guide_options import settings_of
from guide_sheet import Guide, Row, Step, canonical_condition
from guide_solve import ANY, OTHER, Spot, holds, solutions, spot_of

from hl7bridge.fhir.model import Element, model
from hl7bridge.mapping.condition import parse_condition
from hl7bridge.mapping.schema import Condition, Ref

SENTINEL = "Sentinel"
CODE = "SENTINEL"
OID = "2.16.840.1.113883.19.3"
LANGUAGES = "urn:ietf:bcp:47"
UUID = "0c1e6b5e-7d0f-4b55-9a67-3f2a1b6c8d9e"
URL = "http://sentinel.example/id"
TEXTS = {
    "date": ("19800203", "1980-02-03"),
    "dateTime": ("20240102030405+0100", "2024-01-02T03:04:05+01:00"),
    "instant": ("20240102030405+0100", "2024-01-02T03:04:05+01:00"),
    "time": ("081500", "08:15:00"),
    "decimal": ("12.50", "12.50"),
    "integer": ("7", "7"),
    "positiveInt": ("7", "7"),
    "unsignedInt": ("7", "7"),
    "boolean": ("Y", "true"),
    "base64Binary": ("U2VudGluZWw=", "U2VudGluZWw="),
    "uri": (URL, URL),
    "url": (URL, URL),
    "code": (CODE, CODE),
}
BY_V2_TYPE = {"DTM": "20240105", "TS": "20240105", "DT": "20240105", "TM": "0900", "NM": "3", "SI": "3"}
INSTRUCTED = {
    "CX[RelatedPerson-Mother]#4": "MTH",
    "MSH[Bundle]#14": "urn:sentinel:message",
    "MSH[Provenance-Transformation]#6": "urn:sentinel:policy",
    "PR1[Procedure]#3": "in-progress",
}  # what an instruction to the implementer comes to
FIT = {"DG1-21": "D", "PRT-23": "B"}  # a constant's field whose code matters though the sheet does not say so
KEY_OF = {5: 4, 6: 4, 8: 4, 11: 10, 12: 10, 13: 10}  # which component of a coded element holds the code
CODED = ("CE", "CWE", "CNE", "CF")
_PART = re.compile(r'"([^"]*)"|([A-Z][A-Z0-9]{1,2}[-.][0-9.]+)')
ROUTES = 6  # ways to a row that are tried


@dataclass(frozen=True)
class Expectation:
    """What must be found: a value at a path; a coding there; a text anywhere below it; a reference to a resource."""

    steps: tuple[Step, ...]
    kind: str  # equals | coding | within | refers
    value: str
    system: str = ""
    owner: str = ""  # only resources that hold this text
    sentinel: str = ""  # of a reference: what the resource at one of its ends holds

    def met(self, bundle: Bundle) -> bool:
        if self.kind == "refers":
            return self._refers(bundle)
        found = bundle.at(self.steps)
        if self.kind == "equals":
            return any(" ".join(shown(v).split()) == self.value for v in found if not isinstance(v, dict))
        if self.kind == "coding":
            return any(self._coding(v) for v in found)
        return any(self.value in leaves(part) for v in found for part in (v, *bundle.behind(v)))

    def _coding(self, value: object) -> bool:
        if not isinstance(value, dict):
            return shown(value) == self.value
        first = (value.get("coding") or [value])[0]  # the translation stands before what was sent
        return first.get("code") == self.value and (not self.system or first.get("system") == self.system)

    def _refers(self, bundle: Bundle) -> bool:
        """A reference of the wanted kind, from or to a resource that holds what the row's segment said."""
        first, *rest = self.steps
        return any(
            self._leads(bundle, value, self._shows(bundle, owner))
            for owner in bundle.of_type(first.name)
            for value in bundle.at(rest, [owner])
        )

    def _leads(self, bundle: Bundle, value: object, shown_here: bool) -> bool:
        if self.value == "Bundle":
            identifier = value.get("identifier", {}) if isinstance(value, dict) else {}
            return identifier.get("value") == CONTROL_ID
        return any(
            target.get("resourceType") == self.value
            and (not self.owner or self.owner in leaves(target))
            and (shown_here or self._shows(bundle, target))
            for target in bundle.behind(value)
        )

    def _shows(self, bundle: Bundle, resource: object) -> bool:
        return not self.sentinel or any(self.sentinel in leaves(r) for r in (resource, *bundle.near(resource)))

    def __str__(self) -> str:
        path = ".".join(f"({s.name})" if s.behind else s.name for s in self.steps)
        return (
            f"{self.kind} {self.value!r}{' of ' + self.system if self.system else ''} at {path or 'the value itself'}"
        )


@dataclass
class Attempt:
    """One way to prove a row. `negatives`: messages in which the expectation must not be met."""

    row: Row
    route: tuple[Row, ...]
    positive: Sketch
    expectation: Expectation
    negatives: list[Sketch] = field(default_factory=list)
    settings: Mapping[str, str] = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)
    alone: str = ""  # the data type table that is applied by itself
    place: str = ""  # the segment the row reads
    probe: Row = field(init=False)  # the row whose value shows: of a message row, one of its segment map

    def __post_init__(self) -> None:
        self.probe = self.row

    def given(self, made: Sketch) -> str:
        """For a table alone: the value as text."""
        return made._field("ALONE", 1)


class Unreachable(Exception):
    """No message can be made for this route."""


class Cases:
    """Makes the attempts for rows."""

    def __init__(self, guide: Guide) -> None:
        self.guide = guide
        self.model = model()

    # -- routes -----------------------------------------------------------------------------------------------------

    def routes(self, row: Row) -> Iterator[tuple[Row, ...]]:
        """Chains of rows from a message row down to this one, plainest first."""
        if row.kind in ("message", "message-ref"):
            yield (row,)
            return
        over = self.guide.by_segment_map if row.kind == "segment" else self.guide.by_datatype_map
        users = [u for u in over.get(row.map, ()) if u.testable != "no" and self._route_fits(u)]
        for user in sorted(users, key=self._plainness):
            for route in islice(self.routes(user), 2):
                if len([r for r in route if r.kind == "datatype"]) < 3:
                    yield (*route, row)

    def _route_fits(self, user: Row) -> bool:
        return user.kind != "message-ref" and not (user.assignment and user.kind != "message")

    def _plainness(self, row: Row) -> tuple[int, ...]:
        depth = 1 if row.kind == "datatype" else 0
        return (
            row.testable != "yes",
            bool(self.guide.codes(row.vocab_map)) if row.vocab_map else 0,
            depth,
            len(row.condition),
            "rooted" not in row.problems and bool(row.problems),
        )

    # -- attempts ---------------------------------------------------------------------------------------------------

    def attempts(self, row: Row) -> Iterator[Attempt]:
        """The ways to prove a row: through messages, and for a data type's row at last through its table alone."""
        if row.kind == "codesystem":
            yield from self._code_attempts(row)
            return
        if row.kind == "message-ref":
            yield from self._reference_attempts(row)
            return
        made = 0
        for route in islice(self.routes(row), 40):
            try:
                yield self._attempt(row, route)
            except Unreachable:
                continue
            made += 1
            if made == ROUTES:
                break
        if row.kind == "datatype":
            try:
                yield self._attempt(row, (row,), alone=row.map.replace("[", "-").replace("]", ""))
            except Unreachable:
                return

    def _attempt(self, row: Row, route: tuple[Row, ...], alone: str = "") -> Attempt:
        return Maker(self, row, route, alone).attempt()

    def _code_attempts(self, row: Row) -> Iterator[Attempt]:
        code = row.v2_path.partition("#")[2]
        system, _, fhir = row.fhir_path.partition("|")
        for user in sorted(self.guide.by_vocab_map.get(row.map, ()), key=self._plainness):
            if user.testable == "no":
                continue
            for route in islice(self.routes(user), 2):
                try:
                    yield Maker(self, user, route, "", (code, system, fhir)).attempt()
                except Unreachable:
                    continue

    def _reference_attempts(self, row: Row) -> Iterator[Attempt]:
        parent = self.guide.rows[row.id.rpartition(".")[0]]
        try:
            attempt = self._attempt(parent, (parent,))
        except Unreachable:
            return
        steps = tuple(s for s in row.steps if s.name != "reference")
        said = row.assignment.strip('"')
        settings, off = settings_of(row.id)
        if not said.endswith(".id"):
            expected = Expectation(row.steps, "equals", said)
        else:
            type_ = re.split(r"[\[.]", said)[0]
            expected = Expectation(
                steps,
                "refers",
                type_,
                owner=BASE_NAME if type_ == "Patient" else "",
                sentinel=attempt.expectation.value,
            )
        made = Attempt(row, (parent, row), attempt.positive, expected)
        made.probe = attempt.probe
        for other in self.guide.maps[row.map]:  # who makes the resource that is referred to
            plain = other.kind == "message" and other.testable == "yes" and not other.condition
            there = {segment_id(place) for place in made.positive.present}
            plain = plain and segment_id(other.v2_path) not in there  # a sheet's row may name another message's place
            if plain and other.fhir_path == said.removesuffix(".id") and other.v2_path in made.positive.order:
                made.positive.add(other.v2_path)
        made.settings, made.off, made.place = {**attempt.settings, **settings}, off, attempt.place
        if segment_id(attempt.place) not in ("MSH", "PID"):
            gone = attempt.positive.copy()
            gone.drop(attempt.place)
            made.negatives = [gone]
        if self._referred_elsewhere(row, parent):  # neither its segment nor its option can be missed
            made.negatives, made.off = [], {}
        yield made

    def _referred_elsewhere(self, row: Row, parent: Row) -> bool:
        """Whether another segment makes such a resource with the same reference or constant: Provenance has several."""
        rows = (r for r in self.guide.maps[row.map] if r.v2_path != parent.v2_path)
        if any(r.kind == "message-ref" and (r.steps, r.assignment) == (row.steps, row.assignment) for r in rows):
            return True
        owner, *rest = row.steps
        constants = (r for r in self.guide.rows.values() if r.kind == "segment" and r.target == owner.name)
        said = row.assignment.strip('"')
        return any(list(r.steps) == rest and r.assignment.strip('"') == said for r in constants)

    def enriched(self, attempt: Attempt) -> Iterator[Sketch]:
        """The positive message with other fields of the row's segment valued too, all or one, or one fewer."""
        place = attempt.place if attempt.place in attempt.positive.present else ""
        rows = [r for row in attempt.route if row.kind == "segment" for r in self.guide.maps[row.map]]
        free = {r.parts[0]: r.v2_type for r in rows if r.parts and not attempt.positive.valued(place, r.parts[0])}
        for numbers in (list(free), *([number] for number in free)):
            made = attempt.positive.copy()
            for number in numbers if place else ():
                made.cells[place, number, 1, 1, 1] = BY_V2_TYPE.get(free[number], "ANY1")
            yield made
        own = attempt.row.parts[:1]
        for number in sorted({cell[1] for cell in attempt.positive.cells if cell[0] == place} - {*own}):
            made = attempt.positive.copy()
            made.clear(place, number)
            yield made

    @cache  # noqa: B019  one Cases for the whole session
    def condition(self, text: str) -> Condition | None:
        return parse_condition(canonical_condition(text)) if text else None


def is_event(spot: Spot) -> bool:
    """MSH-9 says which table gets the message."""
    return segment_id(spot.place) == "MSH" and spot.number == 9


class Maker:
    """One attempt in the making."""

    def __init__(
        self, cases: Cases, row: Row, route: Sequence[Row], alone: str, code: tuple[str, str, str] | None = None
    ) -> None:
        self.cases, self.guide, self.model = cases, cases.guide, cases.model
        self.row, self.route, self.alone, self.code = row, tuple(route), alone, code
        self.steps: list[Step] = []
        self.type = ""
        self.element: Element | None = None
        self.spots: list[tuple[Row, Spot, Spot]] = []  # row, where its data type is read from, its own value
        self.pinned: set[tuple[str, int, int, int]] = set()

    def attempt(self) -> Attempt:
        first = self.route[0]
        if self.alone:
            base = Sketch("ADT_A01", ["ALONE"], present={"ALONE"})
            spot = Spot("ALONE", 1)
        else:
            order = self.guide.order[first.map]
            place = first.v2_path if first.v2_path in order else self._place(first, order)
            base = sketch(first.map, order)
            base.add(place)
            spot = Spot(place)
        for row in self.route:
            spot = self._down(row, self._segment_spot(row, spot, base))
        if first.kind == "message" and len(self.route) == 1:
            for probe in self._probes(first):
                spot = self._down(probe, self._segment_spot(probe, Spot(spot.place), base))
                self.probe = probe
                break
            else:
                raise Unreachable
        else:
            self.probe = self.row
        positive, expectation = self._positive(base)
        settings: dict[str, str] = {}
        off: Mapping[str, str] = {}
        for row in (*self.route, self.probe):
            on, off = settings_of(row.id)
            settings |= on
        if self.alone and not expectation.steps:
            expectation = replace(expectation, steps=(Step("$value"),))
        made = Attempt(
            self.row, self.route, positive, expectation, [], settings, off, self.alone, self.spots[0][1].place
        )
        made.probe = self.probe
        made.negatives = list(self._negatives(positive, expectation))
        return made

    def _segment_spot(self, row: Row, spot: Spot, made: Sketch) -> Spot:
        """A segment map reads its own segment, also where another's row applies it (MSH[Provenance-Operator] at EVN)."""
        if row.kind != "segment" or segment_id(spot.place) == row.source:
            return spot
        return Spot(next(p for p in made.order if segment_id(p) == row.source))

    def _place(self, row: Row, order: list[str]) -> str:
        tail = row.v2_path.partition(".")[2]
        found = next((p for p in order if p.endswith(tail)), "")
        if not found:
            raise Unreachable
        return found

    # -- going down the route ---------------------------------------------------------------------------------------

    def _down(self, row: Row, spot: Spot) -> Spot:
        """Adds a row's path and gives the spot of its own value."""
        steps = list(row.steps)
        own = spot
        if row.kind == "datatype":
            if self.spots and self.spots[-1][0].rooted_at_parent and self.steps:
                self.steps.pop()
            if steps and steps[0].behind and steps[0].name == row.target:
                steps.pop(0)
            self._enter(row.target)
            if row.map.startswith("OG["):
                steps = [Step("extension"), *steps] if row.steps[-1].name != "url" else steps
            if row.map == "NM[Quantity]" and not steps:
                steps = [Step("value")]
        elif row.kind == "segment" and not self.steps:
            self._enter(row.target)
        try:
            for number in row.parts:
                own = own.inside(number, row.source if row.kind == "datatype" else "")
        except ValueError:
            raise Unreachable from None
        if row.kind == "segment" and len(self.steps) > 1 and steps[:1] == self.steps[-1:]:
            steps.pop(0)  # a message row that leads to Observation.note, and a map that starts at `note` again
        for step in steps:
            self.steps.append(step)
            self._walk(step)
        self.spots.append((row, spot, own))
        return own

    def _enter(self, target: str) -> None:
        if self.model.is_primitive(target):
            return
        lonely = len(self.steps) == 1 and self.steps[0].behind and self.model.is_resource(target)
        if lonely and self.steps[0].name != target and self.spots[-1][0].fhir_path.startswith("$"):
            self.steps[0] = Step(target, True)
        if self.type == "Reference" and self.model.is_resource(target) and self.steps and not self.steps[-1].behind:
            self.steps.append(Step(target, True))
        if not self.type or self.model.exists(target):
            self.type, self.element = target, None

    def _walk(self, step: Step) -> None:
        if step.behind:
            self.type, self.element = step.name.split("|")[0], None
            return
        if (
            self.type == "Reference"
            and self.element is not None
            and step.name not in ("reference", "type", "identifier")
        ):
            self.type = next(
                (t for t in self.element.targets if self.model.element(t, step.name) is not None), "Reference"
            )
        self.element = self.model.element(self.type, step.name)
        self.type = self.element.type if self.element is not None else ""

    def _probes(self, message_row: Row) -> Iterator[Row]:
        """A row of the segment map that shows the map was applied: a plain one with a value of its own."""
        rows = [r for r in self.guide.maps[message_row.segment_map] if r.testable == "yes"]
        rows += [r for r in self.guide.maps[message_row.segment_map] if r.testable == "config"]
        valued = [r for r in rows if r.parts and not r.assignment and r.fhir_path != "$this"]
        weight = {"": 0, "string": 0}
        yield from sorted(
            valued,
            key=lambda r: (
                bool(r.condition),
                bool(r.vocab_map),
                weight.get(r.resolved, 1),
                bool(r.problems),
                r.testable,
            ),
        )
        yield from (r for r in rows if r not in valued)

    # -- the positive message ---------------------------------------------------------------------------------------

    def _conditions(self) -> list[tuple[Condition, Spot, str]]:
        found = []
        for row, base, own in self.spots:
            condition = self.cases.condition(row.condition)
            if condition is not None:
                inner = base if row.kind == "datatype" else own
                found.append((condition, inner, row.source if row.kind == "datatype" else ""))
        return found

    def _positive(self, base: Sketch) -> tuple[Sketch, Expectation]:
        conditions = self._conditions()
        own = self.spots[-1][2]
        base = base.copy()
        if own.number and not is_event(own):
            base.clear(*own.tuple())
        choices = [list(islice(solutions(condition, True), 12)) for condition, _, _ in conditions]
        for chosen in islice(product(*choices), 200):
            made = base.copy()
            self.pinned = set()
            for (_, spot, datatype), wish in zip(conditions, chosen, strict=True):
                self._apply(made, wish, spot, datatype)
            self._observe(made, own)
            expectation = self._fill(made)
            self._accompany(made, conditions)
            for (_, spot, datatype), wish in zip(conditions, chosen, strict=True):
                self._repeat(made, wish, spot, datatype)
            if all(holds(c, s, d, made) for c, s, d in conditions):
                return made, expectation
        raise Unreachable

    def _observe(self, made: Sketch, own: Spot) -> None:
        """A value that fits the type in OBX-2, for rows about the unit beside it."""
        if segment_id(own.place) != "OBX" or own.number == 5:
            return
        type_ = made.text(own.place, 2)
        if type_ in ("NM", "NA"):
            made.put(own.place, 5, "5")
        elif type_ == "SN":
            for component, text in ((2, "5"), (4, "7")):
                if not (component == 4 and not made.text(own.place, 5, 3)):
                    made.cells[own.place, 5, 1, component, 1] = text

    def _apply(self, made: Sketch, wish: Mapping[Ref, str | None], own: Spot, datatype: str) -> None:
        for ref, value in wish.items():
            spot = spot_of(ref, own, datatype, made)
            made.add(spot.place) if value is not None and spot.place != "ALONE" else None
            if value is None:
                if not spot.number:
                    made.drop(spot.place)
                made.clear(*spot.tuple())
                self.pinned.add(spot.tuple())
            elif value == ANY:
                if spot.number and not made.valued(*spot.tuple()):
                    self._set(made, spot, self._any(spot))
            elif not value.startswith("\0"):
                made.clear(*spot.tuple())
                self._set(made, spot, value)
                self.pinned.add(spot.tuple())

    def _repeat(self, made: Sketch, wish: Mapping[Ref, str | None], own: Spot, datatype: str) -> None:
        for ref, value in wish.items():
            spot = spot_of(ref, own, datatype, made)
            if value is not None and value.startswith("\0count2"):
                if not made.valued(spot.place, spot.number):
                    self._set(made, spot, "first")
                for cell in [c for c in made.cells if c[:3] == (spot.place, spot.number, 1)]:
                    made.cells[cell[0], cell[1], 2, cell[3], cell[4]] = made.cells[cell]
            elif value is not None and value.startswith("\0count1") and not made.valued(spot.place, spot.number):
                self._set(made, spot, "first")

    def _set(self, made: Sketch, spot: Spot, text: str) -> None:
        made.cells[spot.place, spot.number, 1, spot.component or 1, spot.sub or 1] = text

    def _any(self, spot: Spot) -> str:
        segment = segment_id(spot.place)
        path = f"{segment}-{spot.number}"
        if path in FIT:
            return FIT[path]
        types = {r.v2_type for rows in self.guide.maps.values() for r in rows if r.v2_path == path}
        return next((BY_V2_TYPE[t] for t in sorted(types) if t in BY_V2_TYPE), "ANY1")

    def _fill(self, made: Sketch) -> Expectation:
        """Puts the row's value, and says what must come of it."""
        row, base, own = self.spots[-1]
        asks_absence = f"{row.v2_path} not valued" in row.condition
        complex_literal = row.assignment and row.datatype_map and "literal-to-complex" in row.problems
        instructed = row.kind == "datatype" and row.assignment.startswith("/") and row.id not in INSTRUCTED
        if (row.assignment or row.id in INSTRUCTED) and not complex_literal and not instructed:
            joined = "+" in row.assignment
            if own.number and not asks_absence and not joined and not made.valued(*own.tuple()):
                self._companion_value(made, row, own)
            if not own.number and row.kind == "segment":
                self._company(made, row, own)
            return self._constant(made, row, base)
        if own.number == 0:
            raise Unreachable
        return self._value(made, row, own)

    def _value(self, made: Sketch, row: Row, own: Spot) -> Expectation:
        steps = tuple(self.steps)
        if is_event(own):
            return self._event(made, row, own)
        pinned = self._pinned(made, own)
        codes = [self.code] if self.code else self.guide.codes(row.vocab_map) if row.vocab_map else []
        primitive = self.element is not None and self.element.is_primitive
        if row.vocab_map and not codes:
            listed = self.guide.fhir_codes(row.vocab_map)
            codes = [c for c in listed if primitive or c[1] == LANGUAGES]
        if codes:
            allowed = self.element.codes if self.element is not None else ()
            codes = sorted(codes, key=lambda c: not c[0].isalnum())
            said = "" if pinned.startswith(OTHER) else pinned
            fitting = [
                c for c in codes if (not said or c[0] == said) and (not allowed or not primitive or c[2] in allowed)
            ]
            if said and not fitting and not self.code:
                return Expectation(steps, "coding", said)  # the condition wants a code that the table has not
            code, system, fhir = (fitting or codes)[0]
            self._set(made, own, code)
            if primitive and self.type == "boolean":
                return Expectation(steps, "equals", {"Y": "true", "N": "false"}.get(code, fhir))
            if primitive and [s.name for s in steps[-2:]] == ["coding", "code"]:
                return Expectation(steps[:-2], "coding", fhir, system)
            if primitive:
                return Expectation(steps, "equals", fhir)
            return Expectation(steps, "coding", fhir, system)
        if row.datatype_map and self.guide.maps.get(row.datatype_map):
            return self._probe_datatype(made, row, own)
        if pinned and not pinned.startswith(OTHER):
            return Expectation(steps, "equals", pinned)
        text, expected = self._sentinel(row)
        self._set(made, own, text)
        if row.v2_path == "ED.5":
            self._set(made, Spot(own.place, own.number, own.component - 1), "Base64")
        if (self.element is not None and not self.element.is_primitive) or (self.element is None and steps):
            return Expectation(steps, "within", expected)
        return Expectation(steps, "equals", expected)

    def _pinned(self, made: Sketch, own: Spot) -> str:
        """The text a condition asks for at a value, "" where it asks for none."""
        leaf = (own.component or 1, own.sub or 1)
        same = (p for p in self.pinned if p[:2] == (own.place, own.number) and (p[2] or 1, p[3] or 1) == leaf)
        return made.text(own.place, own.number, *leaf) if any(same) else ""

    def _event(self, made: Sketch, row: Row, own: Spot) -> Expectation:
        """MSH-9 stays what it is, or another table would get the message."""
        steps = tuple(self.steps)
        event = made.text(own.place, own.number, own.component or 2)
        codes = [self.code] if self.code else self.guide.codes(row.vocab_map) if row.vocab_map else []
        if codes:
            fhir = next((c[2] for c in codes if c[0] == event), "")
            if not fhir:
                raise Unreachable
            return Expectation(steps, "equals", fhir)
        if row.datatype_map == "MSG[Coding]":
            steps = (*steps, Step("code"))
        return Expectation(steps, "equals", event)

    def _probe_datatype(self, made: Sketch, row: Row, own: Spot) -> Expectation:
        """Through the data type map: the first of its rows that has a plain value."""
        rows = [
            r
            for r in self.guide.maps[row.datatype_map]
            if r.testable != "no" and r.parts and (not r.assignment or r.assignment.startswith("/"))
        ]
        rows = [
            r
            for r in rows
            if "/" not in (r.assignment or "") or not r.fhir_path or r.fhir_path.startswith("$") or r.v2_path == "ED.5"
        ]
        order = {"ED": ("ED.5",), "SN": ("SN.2",), "XCN": ("XCN.2",), "CNN": ("CNN.2",)}.get(
            row.datatype_map.partition("[")[0], ()
        )
        saved = (list(self.steps), self.type, self.element, list(self.spots))
        for inner in sorted(
            rows, key=lambda r: (r.v2_path not in order, bool(r.vocab_map and self.guide.codes(r.vocab_map)))
        ):
            trial = made.copy()
            try:
                spot = self._down(inner, own)
            except Unreachable:
                self._restore(saved)
                continue
            if trial.valued(*own.tuple()) and own.tuple() in self.pinned:
                trial.clear(*own.tuple())
            expected = self._value(trial, inner, spot)
            condition = self.cases.condition(inner.condition)
            if condition is None or holds(condition, own, inner.source, trial):
                made.cells = trial.cells
                self._restore(saved)
                return expected
            self._restore(saved)
        raise Unreachable

    def _restore(self, saved: tuple[list[Step], str, Element | None, list[tuple[Row, Spot, Spot]]]) -> None:
        steps, self.type, self.element, spots = saved
        self.steps, self.spots = list(steps), list(spots)

    def _sentinel(self, row: Row) -> tuple[str, str]:
        """Text and what must come of it, by the FHIR type it goes to."""
        element = self.element
        type_ = self.type if self.model.is_primitive(self.type) else ""
        if element is not None and element.codes and element.is_primitive:
            return element.codes[0], element.codes[0]
        if row.source in CODED and self.steps and self.steps[-1].name == "system":
            return "LN", "http://loinc.org"
        if row.v2_path == "PID-7":
            return "19800203040506+0100", "1980-02-03" if type_ == "date" else "1980-02-03T04:05:06+01:00"
        return TEXTS.get(type_, (SENTINEL, SENTINEL))

    def _companion_value(self, made: Sketch, row: Row, own: Spot) -> None:
        """For a constant: its field must hold something fit, as another row of the field says."""
        others = [
            r for r in self.guide.maps[row.map] if r.v2_path == row.v2_path and not r.assignment and r.testable != "no"
        ]
        others.sort(key=lambda r: (r.condition != row.condition, bool(r.condition), r.testable))
        saved = (list(self.steps), self.type, self.element, list(self.spots))
        for other in others:
            trial = made.copy()
            self.steps, self.type, self.element = [Step(row.target, True)], row.target, None
            for step in other.steps:
                self.steps.append(step)
                self._walk(step)
            try:
                self._value(trial, other, own)
            except Unreachable:
                self._restore(saved)
                continue
            made.cells = trial.cells
            self._restore(saved)
            return
        self._set(made, own, FIT.get(row.v2_path) or BY_V2_TYPE.get(row.v2_type, {"HD": OID}.get(row.source, "ANY1")))

    def _company(self, made: Sketch, row: Row, own: Spot) -> None:
        """A constant alone makes no resource: another row of the map brings a value."""
        rows = [r for r in self.guide.maps[row.map] if r.parts and not r.assignment and r.testable == "yes"]
        rows = [r for r in rows if not r.condition and not r.vocab_map and r.fhir_path != "$this"]
        saved = (list(self.steps), self.type, self.element, list(self.spots))
        for other in rows[:1]:
            if not made.valued(own.place, other.parts[0]) and segment_id(own.place) == other.source:
                self.steps, self.type, self.element = [Step(row.target, True)], row.target, None
                with contextlib.suppress(Unreachable):
                    self._value(made, other, self._down(other, Spot(own.place)))
                self._restore(saved)

    def _constant(self, made: Sketch, row: Row, base: Spot) -> Expectation:
        steps = tuple(self.steps)
        said = row.assignment
        parts = _PART.findall(said)
        if "+" in said and any(ref for _, ref in parts):
            return Expectation(steps, "equals", " ".join(self._joined(made, row, base, parts).split()))
        if row.id in INSTRUCTED:
            return Expectation(steps, "equals", INSTRUCTED[row.id])
        if said.startswith("/"):
            raise Unreachable
        value = said.strip('"').strip()
        if self.element is not None and not self.element.is_primitive:
            return Expectation(steps, "within", value)
        return Expectation(steps, "equals", value)

    def _joined(self, made: Sketch, row: Row, base: Spot, parts: list[tuple[str, str]]) -> str:
        texts = []
        for at, (literal, name) in enumerate(parts):
            if not name:
                texts.append(literal)
                continue
            spot = self._part_spot(made, row, base, name)
            if not made.valued(*spot.tuple()) and spot.tuple() not in self.pinned:
                self._set(made, spot, self._part_text(row, name, at))
            texts.append(made.text(spot.place, spot.number, spot.component or 1, spot.sub or 1))
        return "".join(texts)

    def _part_spot(self, made: Sketch, row: Row, base: Spot, name: str) -> Spot:
        root, _, tail = re.sub(r"[-.]", " ", name, count=1).partition(" ")
        numbers = [int(n) for n in tail.split(".")]
        if root == "MSG" and row.kind == "segment":
            spot = Spot(next(p for p in made.order if segment_id(p) == "MSH"), 9)
        elif row.kind == "datatype":
            spot = base
        else:
            spot = Spot(base.place)
        for number in numbers:
            spot = spot.inside(number)
        return spot

    def _part_text(self, row: Row, name: str, at: int) -> str:
        if row.source == "HD":
            universal = UUID if "UUID" in row.condition and "not in" not in row.condition else OID
            return {"HD.1": "NAME", "HD.2": universal}.get(name, "OTHER")
        if row.source == "RP":
            return {"RP.3": "video", "RP.4": "mp4"}[name]
        if name in ("SN.1", "SN.3"):
            return {"SN.1": ">", "SN.3": "-"}[name]
        return str(11 + at)

    def _accompany(self, made: Sketch, conditions: list[tuple[Condition, Spot, str]]) -> None:
        """What a component cannot do without: the code of a triplet, the number of an identifier."""
        for row, base, own in self.spots:
            if row.kind != "datatype" or not row.parts or own == base:
                continue
            number = row.parts[0]
            key = self._key(row, number)
            if number == key or row.source in (
                "XTN",
                "PL",
                "XPN",
                "XAD",
                "DR",
                "NR",
                "SN",
                "EIP",
                "RI",
                "TQ",
                "SPS",
                "OG",
            ):
                continue
            try:
                spot = base.inside(key)
            except ValueError:
                continue
            if made.valued(*spot.tuple()) or spot.tuple() in self.pinned:
                continue
            trial = made.copy()
            self._set(trial, spot, OID if row.source == "HD" and key == 2 else "KEY1")
            if all(holds(c, s, d, trial) for c, s, d in conditions):
                made.cells = trial.cells

    def _key(self, row: Row, number: int) -> int:
        if row.source in CODED:
            return KEY_OF.get(number, 1)
        return {("HD", 3): 2, ("EI", 4): 3, ("XON", 4): 3, ("XON", 5): 3, ("XON", 6): 3, ("XON", 7): 3}.get(
            (row.source, number), 1
        )

    # -- the negative messages --------------------------------------------------------------------------------------

    def _negatives(self, positive: Sketch, expectation: Expectation) -> Iterator[Sketch]:
        row, base, own = next(s for s in self.spots if s[0] is self.row)
        condition = self.cases.condition(row.condition)
        if condition is None:
            yield from self._without(positive, row, own)
            return
        inner, datatype = (base, row.source) if row.kind == "datatype" else (own, "")
        for wish in islice(solutions(condition, False), 24):
            made = positive.copy()
            self._apply(made, wish, inner, datatype)
            if holds(condition, inner, datatype, made):
                continue
            if own.number and not made.valued(*own.tuple()):
                continue
            if not self._explained(row, made, base, own):
                yield made
                return
        if own.number:
            yield from self._without(positive, row, own)

    def _without(self, positive: Sketch, row: Row, own: Spot) -> Iterator[Sketch]:
        """The row's own source is not there, nor that of another row that writes the same constant there."""
        made = positive.copy()
        if row.assignment and row.kind == "segment":
            same = self._same_constant(row)
            if any(not o.parts and not o.condition for o in same) or self._elsewhere(row):
                return
            for other in same:
                numbers = other.parts
                if numbers and (own.place, numbers[0]) != (own.place, own.number):
                    made.clear(own.place, numbers[0])
        if own.number:
            made.clear(*own.tuple())
        elif segment_id(own.place) in ("MSH", "ALONE"):
            return
        else:
            made.drop(own.place)
            leaves_group = own.place.rpartition(".")[0] + "."
            if segment_id(own.place) in ("NK1", "PR1", "IN1", "SPM", "ORC"):
                for place in [p for p in made.present if p.startswith(leaves_group) and leaves_group.count(".") > 1]:
                    made.drop(place)
        yield made

    def _same_constant(self, row: Row) -> list[Row]:
        rows = self.guide.maps[row.map]
        return [o for o in rows if o is not row and o.steps == row.steps and o.assignment == row.assignment]

    def _elsewhere(self, row: Row) -> bool:
        """Whether another map makes such a resource with the same constant: Provenance has several makers."""
        rows = (r for r in self.guide.rows.values() if r.kind == "segment" and r.map != row.map)
        return any(
            o.target == row.target and o.steps == row.steps and o.assignment == row.assignment and o.testable != "no"
            for o in rows
        )

    def _explained(self, row: Row, made: Sketch, base: Spot, own: Spot) -> bool:
        """Whether another row of the guide writes the same there, so that the message proves nothing."""
        for other in self.guide.maps[row.map]:
            if other is row or other.steps != row.steps or other.kind != row.kind:
                continue
            if other.kind == "message" and other.segment_map != row.segment_map:
                continue
            if other.kind == "message" and other.v2_path != row.v2_path:
                continue
            if other.assignment != row.assignment or (not row.assignment and other.v2_path != row.v2_path):
                continue
            condition = self.cases.condition(other.condition)
            inner, datatype = (base, row.source) if row.kind == "datatype" else (own, "")
            if row.kind == "segment" and other.parts:
                inner = Spot(own.place, other.parts[0])
                if condition is None and not made.valued(*inner.tuple()):
                    continue
            if condition is None or holds(condition, inner, datatype, made):
                return True
        return False
