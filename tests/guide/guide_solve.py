"""Makes a guide's condition true or false by setting and emptying fields, and says whether it holds of a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from guide_message import Sketch, segment_id
from guide_sheet import PRIMITIVE_V2

from hl7bridge.mapping.schema import All, Any, Compare, Condition, Measure, Ref, Valued

ANY = "\0any"  # valued, with whatever
OTHER = "OTHER"
Wish = tuple[tuple[Ref, str | None], ...]  # None: empty; "\0count>n", "\0length>n": a measure


def solutions(condition: Condition, want: bool) -> Iterator[dict[Ref, str | None]]:
    """Assignments that make the condition hold (or not), simplest first; contradictions are left out."""
    for wish in _wishes(condition, want):
        found: dict[Ref, str | None] = {}
        for ref, value in wish:
            held = found.get(ref, ANY if value is not None else None)
            if ref in found and held != value and ANY not in (held, value):
                break
            if ref in found and (held is None) != (value is None):
                break
            found[ref] = value if held in (ANY, None) else held
        else:
            yield found


def _wishes(condition: Condition, want: bool) -> Iterator[Wish]:
    if isinstance(condition, All | Any):
        together = isinstance(condition, All) == want
        if together:
            for chosen in product(*(list(_wishes(part, want)) for part in condition.parts)):
                yield tuple(pair for wish in chosen for pair in wish)
        else:
            for one in condition.parts:
                others = [list(_wishes(part, not want)) or [()] for part in condition.parts if part is not one]
                for mine in _wishes(one, want):
                    for chosen in product(*others):
                        yield (*mine, *(pair for wish in chosen for pair in wish))
            for one in condition.parts:
                yield from _wishes(one, want)
    elif isinstance(condition, Valued):
        yield ((condition.ref, ANY if want != condition.negated else None),)
    elif isinstance(condition, Compare):
        yield from _compared(condition, want != condition.negated)
    else:
        yield from _measured(condition, want)


def _compared(condition: Compare, equal: bool) -> Iterator[Wish]:
    if condition.other is not None:
        same, different = ((condition.ref, "SAME"), (condition.other, "SAME")), ((condition.ref, OTHER),)
        yield same if equal else (*different, (condition.other, ANY))
    elif equal:
        for value in condition.values:
            yield ((condition.ref, value),)
    else:
        if ":" in condition.values:
            yield ((condition.ref, None),)  # the separator of a structured number: none at all is plainest
        usual = {"OBX-2": ("ST", "CE"), "PRT-23": ("B", "C")}.get(str(condition.ref), ())
        usual = (">",) if "<>" in condition.values else usual
        yield ((condition.ref, next(v for v in (*usual, OTHER, "OTHER2") if v not in condition.values)),)
        yield ((condition.ref, None),)


def _measured(condition: Measure, want: bool) -> Iterator[Wish]:
    limit = condition.number
    for number in (1, 2, 0) if condition.kind == "count" else (limit + 6, limit):
        holds = {
            "<": number < limit,
            "<=": number <= limit,
            ">": number > limit,
            ">=": number >= limit,
            "=": number == limit,
            "!=": number != limit,
        }[condition.operator]
        if holds == want:
            value = None if not number else f"\0{condition.kind}{number}"
            yield ((condition.ref, value),)


@dataclass(frozen=True)
class Spot:
    """A place in a message: segment, field, component, subcomponent (0: the whole)."""

    place: str
    number: int = 0
    component: int = 0
    sub: int = 0

    def inside(self, number: int, v2_type: str = "") -> Spot:
        """The component `number` of this spot; the first component of a primitive is itself."""
        if number == 1 and v2_type in PRIMITIVE_V2:
            return self
        if not self.number:
            return Spot(self.place, number)
        if not self.component:
            return Spot(self.place, self.number, number)
        if not self.sub:
            return Spot(self.place, self.number, self.component, number)
        if number == 1:
            return self
        raise ValueError("deeper than a message goes")

    def holds(self, other: Spot) -> bool:
        """Whether the other lies in this one."""
        mine, its = self.tuple(), other.tuple()
        depth = next((n for n, part in enumerate(mine) if not part), len(mine))
        return mine[:depth] == its[:depth]

    def tuple(self) -> tuple[str, int, int, int]:
        return self.place, self.number, self.component, self.sub


def spot_of(ref: Ref, own: Spot, datatype: str, sketch: Sketch) -> Spot:
    """Where a condition's reference lies: `own` is the spot of the value the row's data type is read from."""
    if ref.root == datatype or (ref.root != segment_id(own.place) and len(ref.root) <= 3 and _is_part(ref, sketch)):
        spot = own
        for part in ref.parts:
            spot = spot.inside(part)
        return spot
    place = own.place
    if segment_id(place) != ref.root:
        same = [p for p in sketch.order if segment_id(p) == ref.root]
        near = [p for p in same if p.rpartition(".")[0] == place.rpartition(".")[0]]
        place = next(iter([p for p in same if p in sketch.present] or near or same))
    spot = Spot(place)
    for part in ref.parts:
        spot = spot.inside(part)
    return spot


def _is_part(ref: Ref, sketch: Sketch) -> bool:
    return all(segment_id(p) != ref.root for p in sketch.order)


def holds(condition: Condition, own: Spot, datatype: str, sketch: Sketch) -> bool:
    """Whether a condition is true of a message."""
    if isinstance(condition, All):
        return all(holds(part, own, datatype, sketch) for part in condition.parts)
    if isinstance(condition, Any):
        return any(holds(part, own, datatype, sketch) for part in condition.parts)
    spot = spot_of(condition.ref, own, datatype, sketch)
    if isinstance(condition, Valued):
        return sketch.valued(*spot.tuple()) != condition.negated
    if isinstance(condition, Compare):
        text = _leaf(spot, sketch)
        if condition.other is not None:
            return (text == _leaf(spot_of(condition.other, own, datatype, sketch), sketch)) != condition.negated
        return (text in condition.values) != condition.negated
    size = sketch.repetitions(spot.place, spot.number) if condition.kind == "count" else len(_leaf(spot, sketch))
    return {
        "<": size < condition.number,
        "<=": size <= condition.number,
        ">": size > condition.number,
        ">=": size >= condition.number,
        "=": size == condition.number,
        "!=": size != condition.number,
    }[condition.operator]


def _leaf(spot: Spot, sketch: Sketch) -> str:
    return sketch.text(spot.place, spot.number, spot.component or 1, spot.sub or 1)
