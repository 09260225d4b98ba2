"""Writes `r5.json`, the FHIR R5 model as data: `python -m hl7bridge.fhir.r5_build PACKAGE.tgz...`

The files are hl7.fhir.r5.core and hl7.terminology: the official definitions (version 5.0.0, in the public domain) as
packages, which the official validator brings. They say what fhir.resources leaves out (which codes a required binding
has), so nothing is stated by hand; a test holds names, lists and required elements against fhir.resources. Form: as
`r4.json`. Nothing at run time imports this module.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hl7bridge.fhir.model_build import render

TARGET = Path(__file__).with_name("r5.json")
ABSTRACT = frozenset({"Element", "BackboneElement", "BackboneType", "Resource", "DomainResource", "DataType", "Base"})
_OPEN = ("urn:", "http://unitsofmeasure.org")  # grammars and the systems of others: no list of codes
_DEFINED = ("StructureDefinition", "ValueSet", "CodeSystem")
_INLINE = ("Element", "BackboneElement", "BackboneType")

Definition = dict[str, Any]


class Definitions:
    """The definitions of the packages by their canonical url."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self.by_url: dict[str, Definition] = {}
        for package in packages:
            for said in _read(package):
                self.by_url.setdefault(said["url"], said)

    def types(self) -> Iterator[Definition]:
        """Every type and resource, no profile and no logical model."""
        for said in self.by_url.values():
            if said["resourceType"] != "StructureDefinition" or said["kind"] == "logical":
                continue
            if said.get("derivation") != "constraint" and said["url"].startswith("http://hl7.org/fhir/Str"):
                yield said

    def codes(self, canonical: str) -> tuple[list[str], list[str]]:
        """Systems and codes of a value set; no codes where it cannot be listed."""
        said = self.by_url.get(canonical.partition("|")[0])
        if said is None or said["resourceType"] != "ValueSet":
            return [], []
        systems: list[str] = []
        found: list[str] = []
        for part in said["compose"]["include"]:
            listed = self._included(part)
            if not listed:
                return [], []
            systems.append(part.get("system", ""))
            found += listed
        return list(dict.fromkeys(systems)), list(dict.fromkeys(found))

    def _included(self, part: Definition) -> list[str]:
        if part.get("valueSet"):
            return [code for url in part["valueSet"] for code in self.codes(url)[1]]
        if "concept" in part:
            return [concept["code"] for concept in part["concept"]]
        system = self.by_url.get(part.get("system", ""))
        if (
            part["system"].startswith(_OPEN)
            or system is None
            or system.get("content") != "complete"
            or "filter" in part
        ):
            return []
        return list(_concepts(system.get("concept", ())))


def _read(package: Path) -> Iterator[Definition]:
    with tarfile.open(package) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            fits = name.startswith(_DEFINED) and name.endswith(".json") and member.name.startswith("package/")
            content = archive.extractfile(member) if fits else None
            if content is not None:
                yield json.load(content)


def _concepts(concepts: Iterable[Definition]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", ()))


def build(definitions: Definitions) -> dict[str, object]:
    """The model: `primitives`, and for each type path its kind, base and own elements in the specification's order."""
    primitives: list[str] = []
    types: dict[str, dict[str, Any]] = {}
    for said in definitions.types():
        if said["kind"] == "primitive-type":
            primitives.append(said["type"])
        elif said["type"] != "Base":
            _type(said, types, definitions)
    return {"primitives": sorted(primitives), "types": dict(sorted(types.items()))}


def _type(said: Definition, types: dict[str, dict[str, Any]], definitions: Definitions) -> None:
    name = said["type"]
    base = said.get("baseDefinition", "").rpartition("/")[2]
    kind = "abstract" if name in ABSTRACT else ("resource" if said["kind"] == "resource" else "type")
    types[name] = {"kind": kind, "base": "" if base == "Base" else base, "elements": {}}
    for element in said["differential"]["element"]:
        path = element["path"]
        if "." not in path:
            continue
        inline = [t["code"] for t in element.get("type", ()) if t["code"] in _INLINE]
        if inline and not path.endswith("[x]"):
            types[path] = {"kind": "backbone", "base": inline[0], "elements": {}}
        parent, _, last = path.rpartition(".")
        types[parent]["elements"].update(_elements(path, last, element, definitions))


def _elements(path: str, last: str, said: Definition, definitions: Definitions) -> Iterator[tuple[str, Any]]:
    ending = "*" * (said.get("max", "1") not in ("0", "1")) + "!" * (said.get("min", 0) > 0)
    if "contentReference" in said:
        yield last, said["contentReference"].rpartition("#")[2] + ending
        return
    given = said.get("type", ())
    stem = last.removesuffix("[x]")
    for one in given:
        code = one["code"]
        type_ = code.rpartition("/")[2] if code.startswith("http") else code
        if code.startswith("http"):
            type_ = next((e["valueUrl"] for e in one.get("extension", ()) if e["url"].endswith("-fhir-type")), "string")
        if type_ in _INLINE:
            type_ = path
        entry: dict[str, Any] = {"type": type_ + ending}
        if stem != last:
            entry["choice"] = stem
        targets = [t.rpartition("/")[2] for t in one.get("targetProfile", ())]
        if targets and targets != ["Resource"]:
            entry["targets"] = targets
        binding = said.get("binding", {})
        if binding.get("strength") == "required" and type_ in ("code", "CodeableConcept", "Coding"):
            systems, codes = definitions.codes(binding.get("valueSet", ""))
            if codes and (type_ == "code" or len(systems) == 1):
                entry |= {"codes": codes} if type_ == "code" else {"system": systems[0], "codes": codes}
        name = stem + type_[:1].upper() + type_[1:] if stem != last else last
        yield name, entry if len(entry) > 1 else entry["type"]


if __name__ == "__main__":
    TARGET.write_text(render(build(Definitions([Path(name) for name in sys.argv[1:]]))), encoding="utf-8")
