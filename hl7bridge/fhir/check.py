"""The run-time check of every resource: required elements, required bindings, invariants a v2 translation can break.

Sans-IO. Works from the R4 model as data, one plan per type made when first met. What fails here never reaches a server:
the message goes to the dead letters with the element's path. Not a validator: the tests hold its verdicts against the
official one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from hl7bridge import reasons
from hl7bridge.errors import TranslationError
from hl7bridge.fhir.model import Model
from hl7bridge.fhir.resource import Body, Resource


class Plan(NamedTuple):
    """required: names of which one must be there; children: data type to go on with, or None; codes: allowed values."""

    required: tuple[tuple[str, ...], ...]
    children: dict[str, str]
    codes: dict[str, frozenset[str]]
    invariants: tuple[tuple[str, Callable[[Body], bool]], ...]
    choices: tuple[tuple[str, tuple[str, ...]], ...]


def _contact_is_someone(body: Body) -> bool:
    return any(name in body for name in ("name", "telecom", "address", "organization"))


def _absent_reason_only_without_value(body: Body) -> bool:
    return "dataAbsentReason" not in body or not any(name.startswith("value") for name in body)


def _period_in_order(body: Body) -> bool:
    start, end = body.get("start"), body.get("end")
    if start is None or end is None:
        return True
    length = min(len(start), len(end), 10)  # compared by day: offsets may differ
    return bool(start[:length] <= end[:length])


def _low_not_above_high(body: Body) -> bool:
    low, high = (body.get(end, {}).get("value") for end in ("low", "high"))
    return low is None or high is None or Decimal(low) <= Decimal(high)


def _has_url_and_content(body: Body) -> bool:
    return any(name != "url" and name != "id" for name in body)


INVARIANTS: dict[str, tuple[tuple[str, Callable[[Body], bool]], ...]] = {
    "Patient.contact": (("pat-1: a contact needs a name, telecom, address or organization", _contact_is_someone),),
    "Observation": (
        ("obs-6: dataAbsentReason stands only where there is no value", _absent_reason_only_without_value),
    ),
    "Range": (("rng-2: the low end is above the high one", _low_not_above_high),),
    "Period": (("per-1: the end is before the start", _period_in_order),),
    "Extension": (("ext-1: an extension needs a value or extensions", _has_url_and_content),),
}


class Checker:
    """check() raises TranslationError(INVALID_BUNDLE) naming the first wrong element by path, never its value."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._plans: dict[str, Plan] = {}

    def check(self, resource: Resource, body: Body) -> None:
        problem = self._problem(body, resource.type, resource.type)
        if problem is not None:
            raise TranslationError(reasons.INVALID_BUNDLE, f"{problem} (made from segment {resource.position})")

    def _plan(self, type: str) -> Plan:
        plan = self._plans.get(type)
        if plan is None:
            children: dict[str, str] = {}
            codes: dict[str, frozenset[str]] = {}
            for element in self._model.elements(type).values():
                if element.codes and element.is_primitive:
                    codes[element.name] = frozenset(element.codes)
                elif not element.is_primitive and element.type != "Resource":
                    children[element.name] = element.type
            required = tuple(r for r in self._model.required(type) if r != ("resourceType",))
            stems = {e.choice for e in self._model.elements(type).values() if e.choice}
            choices = tuple((stem, self._model.choices(type, stem)) for stem in sorted(stems))
            plan = self._plans[type] = Plan(required, children, codes, INVARIANTS.get(type, ()), choices)
        return plan

    def _problem(self, body: Body, type: str, path: str) -> str | None:
        plan = self._plan(type)
        for names in plan.required:
            if not any(name in body or "_" + name in body for name in names):
                return f"{path}.{' or '.join(names)} is required and no row gave it"
        for text, holds in plan.invariants:
            if not holds(body):
                return f"{path}: {text}"
        for stem, names in plan.choices:
            if sum(name in body for name in names) > 1:
                return f"{path}.{stem}[x] has more than one value"
        for name, value in body.items():
            child = plan.children.get(name)
            if child is not None:
                problem = self._children(value, child, f"{path}.{name}")
                if problem is not None:
                    return problem
            elif name in plan.codes and not _all_in(value, plan.codes[name]):
                return f"{path}.{name} has a code outside its required binding"
        return None

    def _children(self, value: Any, type: str, path: str) -> str | None:
        if not value:
            return f"{path} is empty"
        for part in value if isinstance(value, list) else (value,):
            problem = self._problem(part, type, path)
            if problem is not None:
                return problem
        return None


def _all_in(value: Any, codes: frozenset[str]) -> bool:
    """A place without a value (null, beside an extension) is allowed in a list."""
    return all(part is None or part in codes for part in value) if isinstance(value, list) else value in codes
