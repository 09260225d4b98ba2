"""The form in which a finished bundle goes out: a transaction or a message, with narratives or without.

Sans-IO. The tables make one bundle; what the options `bundle-type` and `narrative` ask for is done to it here, before
the check. Source: FHIR R4 messaging.html (bdl-3, bdl-7, bdl-12) and narrative.html.
"""

from __future__ import annotations

from html import escape
from typing import Any

from hl7bridge.fhir.resource import Body

MESSAGE, TRANSACTION = "message", "transaction"
HEADER = "MessageHeader"
_OPEN, _CLOSE = '<div xmlns="http://www.w3.org/1999/xhtml"><p>', "</p></div>"
# What a narrative says of a resource, in this order, where it is there.
_TOLD = (
    "name",
    "code",
    "type",
    "class",
    "relationship",
    "value",
    "status",
    "birthDate",
    "gender",
    "effective",
    "period",
    "actualPeriod",
)
_QUANTITY = ("comparator", "value", "unit")


def as_message(bundle: Body) -> Body:
    """A message: its MessageHeader first, then every resource, nobody told what to do with them.

    How each resource would be written falls away, and with it what has no resource of its own in the message: patches
    (the resource they change is in it) and deletions (the event says it). The receiver decides by the event.
    """
    kept = [
        {"fullUrl": entry["fullUrl"], "resource": entry["resource"]}
        for entry in bundle["entry"]
        if "resource" in entry and entry["request"]["method"] != "PATCH"
    ]
    kept.sort(key=lambda entry: entry["resource"]["resourceType"] != HEADER)  # stable: the others keep their order
    return {**bundle, "type": MESSAGE, "entry": kept}


def narrate(bundle: Body) -> None:
    """Gives each resource of the bundle a short text, escaped; one that has a text keeps it."""
    for entry in bundle["entry"]:
        resource = entry.get("resource")
        patched = entry.get("request", {}).get("method") == "PATCH"
        if resource is not None and not patched and "text" not in resource:
            told = [part for name in _TOLD for part in _texts(resource, name)]
            text = escape(": ".join([resource["resourceType"], ", ".join(told)]) if told else resource["resourceType"])
            narrative = {"status": "generated", "div": _OPEN + text + _CLOSE}
            first = {name: resource.pop(name) for name in list(resource)}
            for name in (
                "resourceType",
                "id",
                "meta",
                "implicitRules",
                "language",
            ):  # where FHIR has it: before the rest
                if name in first:
                    resource[name] = first.pop(name)
            resource.update({"text": narrative, **first})


def _texts(resource: Body, name: str) -> list[str]:
    """What an element says to a person: of a choice whatever it is, of several all."""
    found = [part for key, part in resource.items() if key == name or _is_choice(key, name)]
    return [text for part in found for each in (part if isinstance(part, list) else [part]) if (text := _text(each))]


def _is_choice(key: str, stem: str) -> bool:
    return key.startswith(stem) and key[len(stem) : len(stem) + 1].isupper()


def _text(part: Any) -> str:
    if isinstance(part, bool) or part is None:
        return ""
    if not isinstance(part, dict):
        return str(part)
    if "coding" in part or "text" in part:
        return _concept(part)
    if "family" in part or "given" in part:
        return " ".join(filter(None, [*part.get("prefix", ()), *part.get("given", ()), part.get("family")]))
    if "start" in part or "end" in part:
        return f"{part.get('start', '')} - {part.get('end', '')}".strip()
    if "value" in part:
        return " ".join(str(part[name]) for name in _QUANTITY if name in part)
    return str(part.get("display") or part.get("code") or "")


def _concept(concept: Body) -> str:
    codings = concept.get("coding", [{}])
    said = concept.get("text") or next((c["display"] for c in codings if "display" in c), "")
    return str(said or codings[0].get("code", ""))
