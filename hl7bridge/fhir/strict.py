"""A second opinion on a bundle: the models of fhir.resources, for `translate --strict`. Slow: milliseconds a bundle."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError


def problems(bundle: bytes, r5: bool = False) -> list[str]:
    """What fhir.resources' models (R4B or R5) object to: `path: kind`, without the values."""
    bundle_class = _bundle_class(r5)

    document: dict[str, Any] = orjson.loads(bundle)
    try:
        bundle_class.model_validate(document)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False, include_url=False)
        ]
    return []


def _bundle_class(r5: bool) -> type[BaseModel]:
    name = "fhir.resources.bundle" if r5 else "fhir.resources.R4B.bundle"
    found: type[BaseModel] = import_module(name).Bundle
    return found
