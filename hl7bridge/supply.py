"""What this installation is made of, as a CycloneDX 1.6 document: each package with version, licence and what it needs.

Read from the packages' own metadata, so it tells what really runs here, not what was asked for. Two calls over the same
installation give the same bytes: the serial number is made from the content, the time is the caller's.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from datetime import datetime
from importlib import metadata
from typing import Any

from hl7bridge import __version__
from hl7bridge.errors import UnavailableError

NAME = "hl7bridge"
SHIPPED_EXTRA = 'extra == "fast"'  # not everywhere, but where it is it runs
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_SERIALS = uuid.UUID("a9b0a6a1-6a0c-5a0e-9c5e-3f6f2f0d7f11")

Json = dict[str, Any]


def bill(tables_version: str, made_at: datetime) -> Json:
    """The document. `tables_version`: of the shipped mapping tables. `made_at`: with a zone.

    UnavailableError: hl7bridge runs from its sources, so nothing tells what it needs.
    """
    found = closure()
    interpreter = {
        "type": "platform",
        "bom-ref": "python",
        "name": platform.python_implementation(),
        "version": platform.python_version(),
    }
    components = [*(_component(name, version) for name, (version, _) in found.items()), interpreter]
    needs = {name: required for name, (_, required) in found.items()}
    own = sorted({name for name in _required(NAME) if name in found})
    dependencies = [{"ref": NAME, "dependsOn": [_ref(name, found[name][0]) for name in own] + ["python"]}]
    for name, required in needs.items():
        dependencies.append(
            {"ref": _ref(name, found[name][0]), "dependsOn": [_ref(other, found[other][0]) for other in required]}
        )
    content = json.dumps([components, dependencies, tables_version], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SERIALS, content)}",
        "version": 1,
        "metadata": {
            "timestamp": made_at.isoformat(timespec="seconds"),
            "component": {
                "type": "application",
                "bom-ref": NAME,
                "name": NAME,
                "version": __version__,
                "properties": [{"name": f"{NAME}:mapping-version", "value": tables_version}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }


def closure() -> dict[str, tuple[str, list[str]]]:
    """Every package that hl7bridge needs and that is installed: name -> (version, names of those it needs), by name."""
    try:
        waiting = _required(NAME)
    except metadata.PackageNotFoundError:
        raise UnavailableError(
            "hl7bridge is not installed here but run from its sources: `make install` first"
        ) from None
    found = dict[str, tuple[str, list[str]]]()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or an older Python
        required = _required(name)
        found[name] = version, required
        waiting += required
    there = {name: (version, sorted(r for r in required if r in found)) for name, (version, required) in found.items()}
    return dict(sorted(there.items()))


def _required(name: str) -> list[str]:
    """The packages that one needs; normalised (PEP 503), each once. Of extras only ours that is shipped."""
    names = []
    for requirement in metadata.requires(name) or []:
        wanted, _, marker = requirement.partition(";")
        match = _REQUIREMENT.match(wanted)
        if match and ("extra" not in marker or (name == NAME and SHIPPED_EXTRA in marker.replace("'", '"'))):
            names.append(re.sub(r"[-_.]+", "-", match.group(1)).lower())
    return sorted(set(names))


def _ref(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _component(name: str, version: str) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": _ref(name, version),
        "name": name,
        "version": version,
        "purl": _ref(name, version),
    }
    licence = _licence(metadata.metadata(name))
    return component | ({"licenses": [licence]} if licence else {})


def _licence(told: metadata.PackageMetadata) -> Json | None:
    """The SPDX expression where the package gives one, else its own words."""
    fields = {key.lower(): told[key] for key in told}
    if fields.get("license-expression"):
        return {"expression": fields["license-expression"]}
    words = (fields.get("license") or "").strip().splitlines()
    if not words:
        classes = [value for value in told.get_all("Classifier") or [] if value.startswith("License ::")]
        words = [classes[0].rpartition(":: ")[2]] if classes else []
    return {"license": {"name": words[0]}} if words else None
