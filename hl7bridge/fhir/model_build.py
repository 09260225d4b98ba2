"""Writes `r4.json`, the FHIR R4 model as data, from fhir.resources: `python -m hl7bridge.fhir.model_build`.

The package has no R4 since 7.0; R4B is R4 with some types changed, so what R4B added is left out here (NOT_IN_R4), and
what the package leaves unsaid is stated by hand:
- its code lists come from the short texts of the specification, which end in `+` where a list is long (CODES);
- required bindings of a CodeableConcept are not in it at all (CONCEPTS);
- the open type list of Extension.value[x] lacks Meta.
A test builds the file afresh and compares.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import typing
from pathlib import Path
from typing import Any

from fhir.resources import R4B  # noqa: TID251
from fhir_core.fhirabstractmodel import FHIRAbstractModel

TARGET = Path(__file__).with_name("r4.json")

_R4B_ONLY = """
AdministrableProductDefinition CatalogEntry Citation ClinicalUseDefinition CodeableReference Evidence EvidenceReport
EvidenceVariable Ingredient ManufacturedItemDefinition MedicinalProductDefinition NutritionProduct
PackagedProductDefinition RatioRange RegulatedAuthorization SubscriptionStatus SubscriptionTopic SubstanceDefinition
"""
NOT_IN_R4 = frozenset(_R4B_ONLY.split())
ABSTRACT = frozenset({"Element", "BackboneElement", "Resource", "DomainResource"})
PACKAGE_OWN = frozenset({"FHIRAbstractResource", "FHIRPrimitiveExtension"})  # no types of FHIR

_OBSERVATION_STATUS = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_ENCOUNTER_STATUS = "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown"
_EVENT_TIMING = (
    "MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late NIGHT PHS HS WAKE C CM CD CV "
    "AC ACM ACD ACV PC PCM PCD PCV"
)
_ISSUE_TYPE = (
    "invalid structure required value invariant security login unknown expired forbidden suppressed processing "
    "not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension too-costly "
    "business-rule conflict transient lock-error no-store exception timeout incomplete throttled informational"
)
# Required bindings whose list the package cuts short or does not have; source: the value sets of FHIR R4 (4.0.1).
CODES: dict[str, str] = {
    "Observation.status": _OBSERVATION_STATUS,
    "RiskAssessment.status": _OBSERVATION_STATUS,
    "DetectedIssue.status": _OBSERVATION_STATUS,
    "DiagnosticReport.status": (
        "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown"
    ),
    "Encounter.status": _ENCOUNTER_STATUS,
    "Encounter.statusHistory.status": _ENCOUNTER_STATUS,
    "Task.status": (
        "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed "
        "entered-in-error"
    ),
    "SupplyRequest.status": "draft active suspended cancelled completed entered-in-error unknown",
    "DeviceUseStatement.status": "active completed entered-in-error intended stopped on-hold",
    "Device.udiCarrier.entryType": "barcode rfid manual card self-reported unknown",
    "Questionnaire.item.type": (
        "group display question boolean decimal integer date dateTime time string text url choice open-choice "
        "attachment reference quantity"
    ),
    "StructureMap.group.rule.target.transform": (
        "create copy truncate escape cast append translate reference dateOp uuid pointer evaluate cc c qty id cp"
    ),
    "Expression.language": "",  # extensible in R4
    "Quantity.comparator": "< <= >= >",
    "Timing.repeat.when": _EVENT_TIMING,
    "OperationOutcome.issue.code": _ISSUE_TYPE,
}
# Required bindings of CodeableConcepts in R4: system and codes.
CONCEPTS: dict[str, tuple[str, str]] = {
    "AllergyIntolerance.clinicalStatus": (
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
        "active inactive resolved",
    ),
    "AllergyIntolerance.verificationStatus": (
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
        "unconfirmed confirmed refuted entered-in-error",
    ),
    "Condition.clinicalStatus": (
        "http://terminology.hl7.org/CodeSystem/condition-clinical",
        "active recurrence relapse inactive remission resolved",
    ),
    "Condition.verificationStatus": (
        "http://terminology.hl7.org/CodeSystem/condition-ver-status",
        "unconfirmed provisional differential confirmed refuted entered-in-error",
    ),
}

_ENTITIES = "Patient Practitioner PractitionerRole Device Medication Substance Group"
_SUBJECT = ["Patient", "Group", "Device", "Location"]
# References that R4B leads to more types than R4.
TARGETS: dict[str, list[str]] = {
    "Observation.subject": _SUBJECT,
    "DiagnosticReport.subject": _SUBJECT,
    "Group.member.entity": _ENTITIES.split(),
}

Class = type[FHIRAbstractModel]


def classes() -> dict[str, Class]:
    """Every class of the package by its FHIR name (`Patient`, `PatientContact`)."""
    found: dict[str, Class] = {}
    for info in pkgutil.iter_modules(R4B.__path__):
        if info.name == "tests":
            continue
        module = importlib.import_module(f"{R4B.__name__}.{info.name}")
        for value in vars(module).values():
            ours = inspect.isclass(value) and value.__module__ == module.__name__
            if ours and issubclass(value, FHIRAbstractModel) and value.__resource_type__ not in PACKAGE_OWN:
                found[str(value.__resource_type__)] = value
    return found


def type_of(annotation: Any) -> tuple[str, bool]:
    """FHIR type name and whether it is a list, from a pydantic annotation: `List[abc.HumanNameType] | None`."""
    if typing.get_origin(annotation) is list:
        return type_of(typing.get_args(annotation)[0])[0], True
    metadata = getattr(annotation, "__metadata__", None)
    if metadata:
        name = type(metadata[-1]).__name__
        return ("uuid" if name == "UuidVersion" else name[0].lower() + name[1:]), False
    arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
    if arguments:
        return type_of(arguments[0])
    if annotation is bool:
        return "boolean", False
    return annotation._model_klass.rpartition(".")[2], False


def own_fields(name: str, known: dict[str, Class]) -> tuple[str, dict[str, Any]]:
    """Name of the class above that the model keeps, and the fields that this class adds to it, by FHIR name."""
    cls = known[name]
    base = next((str(c.__resource_type__) for c in cls.__mro__[1:] if c in known.values()), "")  # type: ignore[attr-defined]
    inherited = set(known[base].model_fields) if base else {"fhir_comments"}
    fields = {
        f.alias or key: f for key, f in cls.model_fields.items() if key not in inherited and not key.endswith("__ext")
    }
    if name == "Resource":
        fields["id"] = cls.model_fields["id"]
    order = {key: at for at, key in enumerate(cls.elements_sequence())}
    return base, dict(sorted(fields.items(), key=lambda item: order.get(item[0], -1)))


def element(path: str, type_name: str, many: bool, extra: dict[str, Any], required: bool) -> str | dict[str, object]:
    """One element as r4.json writes it: `HumanName*` (many), `code!` (required), or an object when there is more."""
    said: dict[str, object] = {"type": type_name + "*" * many + "!" * required}
    if extra.get("one_of_many"):
        said["choice"] = extra["one_of_many"]
    targets = TARGETS.get(path) or [t for t in extra.get("enum_reference_types", []) if t not in NOT_IN_R4]
    if type_name == "Reference" and targets and targets != ["Resource"]:
        said["targets"] = targets
    codes = CODES[path].split() if path in CODES else extra.get("enum_values", [])
    if codes:
        said["codes"] = codes
    if path in CONCEPTS:
        said["system"], said["codes"] = CONCEPTS[path][0], CONCEPTS[path][1].split()
    return said if len(said) > 1 else str(said["type"])


def paths(known: dict[str, Class]) -> dict[str, str]:
    """Class name -> type path: `PatientContact` -> `Patient.contact`; of several the one named like it."""
    found = {n: n for n in known if n not in NOT_IN_R4 and not is_backbone(n, known)}
    queue = sorted(found)
    guesses: dict[str, str] = {}
    while queue:
        name = queue.pop(0)
        for key, field in own_fields(name, known)[1].items():
            inner = type_of(field.annotation)[0]
            if inner in known and inner not in found and inner not in NOT_IN_R4:
                path = f"{found[name]}.{key}"
                if inner.lower() == path.replace(".", "").lower():
                    found[inner] = path
                    queue.append(inner)
                else:
                    guesses.setdefault(inner, path)
        if not queue:
            rest = {n: p for n, p in guesses.items() if n not in found}
            for inner, path in sorted(rest.items(), key=lambda item: (item[1].count("."), item))[:1]:
                found[inner] = path
                queue.append(inner)
    return found


def is_backbone(name: str, known: dict[str, Class]) -> bool:
    """Whether a class stands for a part of another type (`PatientContact`): its module is named after the whole."""
    return known[name].__module__.rpartition(".")[2] != name.lower()


def build() -> dict[str, object]:
    """The model: `primitives`, and for each type path its kind, base and own elements in the specification's order."""
    known = classes()
    by_class = paths(known)
    primitives: set[str] = set()
    types: dict[str, dict[str, object]] = {}
    for name, path in sorted(by_class.items(), key=lambda item: item[1]):
        base, fields = own_fields(name, known)
        elements: dict[str, object] = {}
        for key, field in fields.items():
            inner, many = type_of(field.annotation)
            if inner in NOT_IN_R4:
                continue
            if inner not in known:
                primitives.add(inner)
            extra = typing.cast(dict[str, Any], field.json_schema_extra or {})
            required = field.is_required() or extra.get("element_required") or extra.get("one_of_many_required")
            elements[key] = element(f"{path}.{key}", by_class.get(inner, inner), many, extra, bool(required))
        if path == "Extension":
            elements["valueMeta"] = {"type": "Meta", "choice": "value"}
        types[path] = {"kind": kind(name, known), "base": base, "elements": elements}
    return {"primitives": sorted(primitives), "types": types}


def kind(name: str, known: dict[str, Class]) -> str:
    """`abstract`, `resource`, `backbone`, or `type` (a data type)."""
    if name in ABSTRACT:
        return "abstract"
    if issubclass(known[name], known["Resource"]):
        return "resource"
    return "backbone" if is_backbone(name, known) else "type"


def render(model: dict[str, Any]) -> str:
    """As text: one type a line, so that a difference reads as one."""
    lines = [f"{json.dumps(path)}:{json.dumps(said, separators=(',', ':'))}" for path, said in model["types"].items()]
    return '{"primitives":' + json.dumps(model["primitives"]) + ',"types":{\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    TARGET.write_text(render(build()), encoding="utf-8")
