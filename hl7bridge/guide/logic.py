"""Whether two conditions mean the same: they are compared in every state of the fields they ask for.

Sans-IO. A field's state is one of the values that a condition names, another value, or empty; lengths and counts have
one state for each side of the numbers they are compared with. States that cannot be (a component without its field)
are left out, and so are those in which the row does not run at all: its own field is empty, a required segment missing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hl7bridge.mapping.access import OPERATORS
from hl7bridge.mapping.condition import print_condition
from hl7bridge.mapping.schema import All, Any, Compare, Condition, Measure, Ref, Valued

MOST_STATES = 300_000  # the widest pair of the standard's conditions needs 6,000
_OTHER = "\0other"  # a value that no condition names

State = dict[object, object]


@dataclass
class _Atoms:
    """What the conditions ask for: values by field, presence, measures, pairs of fields."""

    values: dict[Ref, set[str]] = field(default_factory=dict)
    valued: set[Ref] = field(default_factory=set)
    measures: dict[tuple[str, Ref], set[int]] = field(default_factory=dict)
    pairs: set[frozenset[Ref]] = field(default_factory=set)


def same(one: Condition | None, other: Condition | None, given: Iterable[Ref] = ()) -> bool:
    """Whether both hold in the same messages. `given`: fields and segments that are valued whenever the row runs."""
    atoms = _Atoms()
    for condition in (one, other):
        if condition is not None:
            _collect(condition, atoms)
    domains = _domains(atoms)
    if math.prod(map(len, domains.values())) > MOST_STATES:
        return one is not None and other is not None and print_condition(one) == print_condition(other)
    certain = frozenset(given)
    return all(_holds(one, state) == _holds(other, state) for state in _states(domains, certain))


def _collect(condition: Condition, atoms: _Atoms) -> None:
    if isinstance(condition, All | Any):
        for part in condition.parts:
            _collect(part, atoms)
    elif isinstance(condition, Valued):
        atoms.valued.add(condition.ref)
    elif isinstance(condition, Measure):
        atoms.measures.setdefault((condition.kind, condition.ref), set()).add(condition.number)
    elif condition.other is not None:
        atoms.pairs.add(_pair(condition))
    else:
        atoms.values.setdefault(first_component(condition.ref), set()).update(condition.values)


def first_component(ref: Ref) -> Ref:
    """A composite is compared by its first component: `PID-3.1` and `PID-3` are one field to `=`."""
    parts = ref.parts
    while len(parts) > 1 and parts[-1] == 1:
        parts = parts[:-1]
    return Ref(ref.root, parts)


def _pair(condition: Compare) -> frozenset[Ref]:
    assert condition.other is not None
    return frozenset((first_component(condition.ref), first_component(condition.other)))


def _domains(atoms: _Atoms) -> dict[object, tuple[object, ...]]:
    found: dict[object, tuple[object, ...]] = {}
    for ref, values in atoms.values.items():
        found[("value", ref)] = (None, _OTHER, *sorted(values))
    for ref in atoms.valued:
        found[("valued", ref)] = (False, True)
    for key, numbers in atoms.measures.items():
        edges = {edge for number in numbers for edge in (number - 1, number, number + 1)}
        found[("measure", *key)] = tuple(sorted({0, *(edge for edge in edges if edge >= 0)}))
    for pair in atoms.pairs:
        found[("pair", pair)] = (False, True)
    return found


def _states(domains: dict[object, tuple[object, ...]], given: frozenset[Ref]) -> Iterator[State]:
    keys = list(domains)
    for values in itertools.product(*domains.values()):
        state = dict(zip(keys, values, strict=True))
        if _possible(state, given):
            yield state


def _possible(state: State, given: frozenset[Ref]) -> bool:
    present: set[Ref] = set(given)
    absent: set[Ref] = set()
    for key, value in state.items():
        assert isinstance(key, tuple)
        kind, ref = key[0], key[-1]
        if kind == "valued":
            (present if value else absent).add(ref)
        elif kind == "value" and value is not None:
            present.add(ref)
        elif kind == "measure":
            (present if value else absent).add(ref)
    return not any(_inside(ref, hole) for ref in present for hole in absent)


def _inside(ref: Ref, hole: Ref) -> bool:
    """Whether `ref` cannot be valued when `hole` is not."""
    return ref.root == hole.root and ref.parts[: len(hole.parts)] == hole.parts


def _holds(condition: Condition | None, state: State) -> bool:
    if condition is None:
        return True
    if isinstance(condition, All):
        return all(_holds(part, state) for part in condition.parts)
    if isinstance(condition, Any):
        return any(_holds(part, state) for part in condition.parts)
    if isinstance(condition, Valued):
        return bool(state[("valued", condition.ref)]) != condition.negated
    if isinstance(condition, Measure):
        number = state[("measure", condition.kind, condition.ref)]
        assert isinstance(number, int)
        return OPERATORS[condition.operator](number, condition.number)
    if condition.other is not None:
        return bool(state[("pair", _pair(condition))]) != condition.negated
    return (state[("value", first_component(condition.ref))] in condition.values) != condition.negated


def asks_absence(condition: Condition | None, ref: Ref) -> bool:
    """Whether a condition is about `ref` not being there, so that the row runs without it."""
    if isinstance(condition, Valued):
        return condition.negated and condition.ref == ref
    if isinstance(condition, All | Any):
        return any(asks_absence(part, ref) for part in condition.parts)
    return False
