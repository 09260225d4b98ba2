"""The run-time check of every bundle: what fails here never reaches a server, it becomes a dead letter.

Sans-IO. plan.py judges the elements by the model, invariants.py and formats.py say what the model does not; here stand
the rules of the bundle itself. Not a validator (no profiles, no FHIRPath): the tests hold its verdicts against the
official one. docs/valid-output.md says what is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hl7bridge import reasons
from hl7bridge.errors import TranslationError
from hl7bridge.fhir.invariants import R4, Invariant
from hl7bridge.fhir.model import Model
from hl7bridge.fhir.plan import Plans
from hl7bridge.fhir.resource import Body
from hl7bridge.fhir.terms import Terms, terms

REQUESTED = frozenset({"transaction", "batch"})  # bundles whose entries say what is to be done with them
PATCHES = frozenset({"Parameters", "Binary"})  # what the body of a PATCH may be


class Problem(NamedTuple):
    """`entry`: index in the bundle, None for the bundle itself; `text`: element path and what is wrong, no value."""

    entry: int | None
    text: str


class Checker:
    """For one version of FHIR. Shared between threads."""

    def __init__(
        self,
        model: Model,
        invariants: Mapping[str, tuple[Invariant, ...]] = R4,
        codes: Terms | None = None,
    ) -> None:
        self._model = model
        self._plans = Plans(model, invariants, codes or terms())

    def check(self, bundle: Body, made_from: Callable[[int], str] = lambda entry: f"entry {entry}") -> None:
        """Raises TranslationError(INVALID_BUNDLE) for the first problem. `made_from`: what the entry was made from."""
        problem = self.problem(bundle)
        if problem is not None:
            source = "" if problem.entry is None else f" (made from {made_from(problem.entry)})"
            raise TranslationError(reasons.INVALID_BUNDLE, problem.text + source)

    def problem(self, bundle: Body) -> Problem | None:
        """The first thing that is wrong, or None."""
        entries = bundle.get("entry", [])
        head = {name: part for name, part in bundle.items() if name != "entry"}
        text = self._plans.of("Bundle")(head, {})
        if text is not None or head.get("resourceType") != "Bundle" or entries.__class__ is not list:
            return Problem(None, f"Bundle{text or ': is no bundle of entries'}")
        if "total" in bundle:
            return Problem(None, "Bundle.total: bdl-1: only a search result has a total")
        type = bundle["type"]
        if type == "message" and not (entries and _type(entries[0]) == "MessageHeader"):
            return Problem(None, "Bundle: bdl-12: a message begins with its MessageHeader")
        known: dict[str, str] = {}
        for index, entry in enumerate(entries):
            text = self._place(entry, type, known)
            if text is not None:
                return Problem(index, f"Bundle.entry[{index}]{text}")
        check = self._plans.of("Bundle.entry")
        for index, entry in enumerate(entries):
            text = check(entry, known)
            if text is not None:
                if text.startswith(".resource") and (inside := _type(entry)):
                    return Problem(index, inside + text.removeprefix(".resource"))
                return Problem(index, f"Bundle.entry[{index}]{text}")
        return None

    def _place(self, entry: Any, type: str, known: dict[str, str]) -> str | None:
        """The rules that bind an entry to its bundle; what references may lead to is noted in `known`."""
        if entry.__class__ is not dict:
            return ": is no object"
        url, request, inside = entry.get("fullUrl"), entry.get("request"), _type(entry)
        if url is not None:
            if url.__class__ is not str or ":" not in url:
                return ".fullUrl: is no absolute url"
            if url in known:
                return ".fullUrl: bdl-7: stands twice in the bundle"
            known[url] = inside
        elif type == "message" or (entry.get("resource") is not None and not _is_patch(request)):
            return ".fullUrl: is missing"
        if (request is not None) != (type in REQUESTED):
            return ".request: bdl-3: each entry of a transaction has one, and no other bundle's"
        return self._request(request, inside) if request.__class__ is dict else None

    def _request(self, request: Body, type: str) -> str | None:
        method, url = request.get("method"), request.get("url")
        if not isinstance(url, str) or not isinstance(method, str):
            return ".request: method and url are required"
        wanted = url if url in self._model.resources else url.partition("?")[0].partition("/")[0]
        if not self._model.is_resource(wanted):
            return ".request.url: names no resource type"
        if method == "DELETE":
            return ".resource: a DELETE has none" if type else None
        if method == "PATCH":
            return None if type in PATCHES else ".resource: a PATCH is a Parameters or a Binary"
        if method in ("POST", "PUT"):
            if type != wanted:
                return ".request.url: is for another type than the resource's"
            if method == "PUT" and url == wanted:
                return ".request.url: a PUT names an id or a search"
        if "ifNoneExist" in request and method != "POST":
            return ".request.ifNoneExist: is for a POST only"
        return None


def _type(entry: Body) -> str:
    resource = entry.get("resource")
    return str(resource.get("resourceType", "")) if resource.__class__ is dict else ""


def _is_patch(request: Any) -> bool:
    """What a PATCH changes has a url, the patch needs none."""
    return isinstance(request, dict) and request.get("method") == "PATCH"
