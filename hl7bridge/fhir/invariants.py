"""The invariants of FHIR that a v2 translation can break, by type and key. Sans-IO.

Source: the constraints of severity error in the definitions of R4 (4.0.1); R5 keeps them under the same keys unless
`r5` says otherwise. Of those that need a FHIRPath engine or concern resources no v2 message makes, none is here; the
tests hold the verdicts against the official validator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple

from hl7bridge.fhir.resource import Body

_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-"
_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-"
_DAY = 10  # characters of 2024-03-05


class Invariant(NamedTuple):
    """`text`: key and sentence; `holds`: whether an element of the type keeps it.

    reads: the elements whose values it looks at. Where none of them is there, the names of those that are decide.
    """

    text: str
    holds: Callable[[Body], bool]
    reads: tuple[str, ...] = ()


def _any_of(*names: str) -> Callable[[Body], bool]:
    return lambda body: any(name in body for name in names)


def _needs(name: str, other: str) -> Callable[[Body], bool]:
    return lambda body: name not in body or other in body or "_" + other in body


def _either(name: str, other: str) -> Callable[[Body], bool]:
    return lambda body: name not in body or other not in body


def _valued(body: Body, stem: str) -> bool:
    """Whether a choice element is there, with a value or with what stands in its place: valueString, _valueString."""
    size = len(stem)
    for name in body:
        if stem in name:
            bare = name.lstrip("_")
            if bare[:size] == stem and bare[size : size + 1].isupper():
                return True
    return False


def _extension(body: Body) -> bool:
    return _valued(body, "value") != ("extension" in body)


def _absent_reason_only_without_value(body: Body) -> bool:
    return "dataAbsentReason" not in body or not _valued(body, "value")


def _codings(concept: Any) -> set[tuple[str, str]]:
    return {(c.get("system", ""), c.get("code", "")) for c in (concept or {}).get("coding", ()) if c.get("code")}


def _value_not_in_component(body: Body) -> bool:
    components = body.get("component")
    if not components or not _valued(body, "value"):
        return True
    own = _codings(body.get("code"))
    return not any(own & _codings(component.get("code")) for component in components)


def _moments(start: str, end: str) -> bool:
    """Whether start is not after end. Of two precisions, what both say is compared; that alone must not be later."""
    if len(start) > _DAY and len(end) > _DAY:
        return datetime.fromisoformat(_without_leap(start)) <= datetime.fromisoformat(_without_leap(end))
    length = min(len(start), len(end))
    return start[:length] <= end[:length]


def _without_leap(text: str) -> str:
    """A leap second is a moment that datetime does not have."""
    return text[:17] + "59" + text[19:] if text[17:19] == "60" else text


def _period_in_order(body: Body) -> bool:
    start, end = body.get("start"), body.get("end")
    return start is None or end is None or _moments(start, end)


def _low_not_above_high(body: Body) -> bool:
    low, high = (body.get(end, {}).get("value") for end in ("low", "high"))
    try:
        return low is None or high is None or Decimal(str(low)) <= Decimal(str(high))
    except InvalidOperation:
        return True  # said where the number stands


def _both_or_neither(body: Body) -> bool:
    return ("numerator" in body) == ("denominator" in body) and ("numerator" in body or "extension" in body)


def _no_home(name: str) -> Callable[[Body], bool]:
    return lambda body: all(part.get("use") != "home" for part in body.get(name, ()) if isinstance(part, dict))


def _clinical_status(system: str) -> Callable[[Body], bool]:
    error = (system, "entered-in-error")
    return lambda body: error not in _codings(body.get("verificationStatus")) or "clinicalStatus" not in body


def _allergy_has_status(body: Body) -> bool:
    error = (_ALLERGY + "verification", "entered-in-error")
    return "clinicalStatus" in body or error in _codings(body.get("verificationStatus"))


def _abated_is_over(body: Body) -> bool:
    over = {(_CONDITION + "clinical", code) for code in ("resolved", "remission", "inactive")}
    return not _valued(body, "abatement") or bool(over & _codings(body.get("clinicalStatus")))


def _one_parameter(body: Body) -> bool:
    return _valued(body, "value") + ("resource" in body) + ("part" in body) == 1


_SHARED: dict[str, tuple[Invariant, ...]] = {
    "Patient.contact": (
        Invariant(
            "pat-1: a contact needs a name, telecom, address or organization",
            _any_of("name", "telecom", "address", "organization"),
        ),
    ),
    "Observation": (
        Invariant(
            "obs-6: dataAbsentReason stands only where there is no value",
            _absent_reason_only_without_value,
        ),
        Invariant(
            "obs-7: a component has the observation's own code, so there may be no value",
            _value_not_in_component,
            ("component", "code"),
        ),
    ),
    "Observation.referenceRange": (
        Invariant("obs-3: a reference range needs a low end, a high end or a text", _any_of("low", "high", "text")),
    ),
    "Organization": (
        Invariant("org-1: an organization needs a name or an identifier", _any_of("name", "identifier")),
        Invariant("org-2: an organization has no home address", _no_home("address"), ("address",)),
        Invariant("org-3: an organization has no home telecom", _no_home("telecom"), ("telecom",)),
    ),
    "Condition.evidence": (Invariant("con-2: evidence needs a code or a detail", _any_of("code", "detail")),),
    "Parameters.parameter": (Invariant("inv-1: a parameter has one value, one resource or parts", _one_parameter),),
    "Bundle.entry": (
        Invariant(
            "bdl-5: an entry needs a resource, a request or a response", _any_of("resource", "request", "response")
        ),
    ),
    "Timing.repeat": (
        Invariant("tim-1: a duration needs its unit", _needs("duration", "durationUnit")),
        Invariant("tim-2: a period needs its unit", _needs("period", "periodUnit")),
        Invariant("tim-10: timeOfDay and when exclude each other", _either("timeOfDay", "when")),
    ),
    "Attachment": (Invariant("att-1: data need a contentType", _needs("data", "contentType")),),
    "ContactPoint": (Invariant("cpt-2: a value needs a system", _needs("value", "system")),),
    "Extension": (Invariant("ext-1: an extension has either a value or extensions", _extension),),
    "Identifier": (Invariant("system is no absolute uri", lambda body: ":" in body.get("system", ":"), ("system",)),),
    "Period": (Invariant("per-1: the end is before the start", _period_in_order, ("start", "end")),),
    "Quantity": (Invariant("qty-3: a code for the unit needs its system", _needs("code", "system")),),
    "Range": (Invariant("rng-2: the low end is above the high one", _low_not_above_high, ("low", "high")),),
    "Ratio": (Invariant("rat-1: numerator and denominator stand together", _both_or_neither),),
}
R4: Mapping[str, tuple[Invariant, ...]] = MappingProxyType(
    {
        **_SHARED,
        "AllergyIntolerance": (
            Invariant(
                "ait-1: clinicalStatus is required unless entered in error",
                _allergy_has_status,
                ("verificationStatus",),
            ),
            Invariant(
                "ait-2: no clinicalStatus when entered in error",
                _clinical_status(_ALLERGY + "verification"),
                ("verificationStatus",),
            ),
        ),
        "Condition": (
            Invariant(
                "con-4: abated, so clinicalStatus must be inactive, resolved or remission",
                _abated_is_over,
                ("clinicalStatus",),
            ),
            Invariant(
                "con-5: no clinicalStatus when entered in error",
                _clinical_status(_CONDITION + "ver-status"),
                ("verificationStatus",),
            ),
        ),
        "ServiceRequest": (Invariant("prr-1: orderDetail needs a code", _needs("orderDetail", "code")),),
    }
)
R5: Mapping[str, tuple[Invariant, ...]] = MappingProxyType(
    {
        **_SHARED,
        "Condition": (
            Invariant(
                "con-3: abated, so clinicalStatus must be inactive, resolved or remission",
                _abated_is_over,
                ("clinicalStatus",),
            ),
        ),
        "ServiceRequest": (Invariant("prr-1: orderDetail needs a code", _needs("orderDetail", "code")),),
    }
)
