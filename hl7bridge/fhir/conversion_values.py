"""Single values on their way from R4 to R5: taken out of a list, wrapped into a wider type, made of a text of a table.

Sans-IO. Each notes in `Changes` where what it makes came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hl7bridge.fhir.difference import OWN, Changes, Names, Origin
from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body

Value = tuple[Any, Any, Origin]  # the value, what stands beside it (`_birthDate`), and where it was built

WRAPS: Mapping[tuple[str, str], Names] = {
    ("Coding", "CodeableConcept"): ("coding",),
    ("CodeableConcept", "CodeableReference"): ("concept",),
    ("Reference", "CodeableReference"): ("reference",),
    ("string", "CodeableConcept"): ("text",),
    ("string", "Identifier"): ("value",),
    ("id", "Identifier"): ("value",),
    ("code", "CodeableConcept"): ("coding", "code"),
}


def converts(r4: Element, r5: Element, old: Model, new: Model) -> bool:
    """Whether a value of the one type becomes one of the other by itself."""
    if r4.type == r5.type or (old.is_backbone(r4.type) and new.is_backbone(r5.type)):
        return True
    if r4.is_primitive and r5.is_primitive:
        return r4.type != "url" or r5.type in ("uri", "url")
    return (r4.type, r5.type) in WRAPS


def pairs(element: Element, body: Body, changes: Changes) -> Iterator[Value]:
    value, beside = body.get(element.name), body.get("_" + element.name)
    if not element.many:
        yield value, beside, (changes.built(body), element.name)
        return
    values, besides = value or [], beside or []
    for index in range(max(len(values), len(besides))):
        one = values[index] if index < len(values) else None
        other = besides[index] if index < len(besides) else None
        yield one, other, (changes.built(values), index)


def wrapped(names: Names, said: Any, beside: Any, system: str, origin: Origin, changes: Changes) -> Body:
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


def with_a_code(concept: Body, text: str, changes: Changes) -> Body:
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


def note_all(said: Any, holder: Any, name: str | int, changes: Changes) -> None:
    """A constant of the tables for R5 comes from nothing in the message."""
    if isinstance(said, dict):
        for inner, part in said.items():
            note_all(part, said, inner, changes)
    elif isinstance(said, list):
        for index, part in enumerate(said):
            note_all(part, said, index, changes)
    else:
        changes.note(holder, name, OWN)
