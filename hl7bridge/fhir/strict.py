"""A second opinion on a bundle: the models of fhir.resources, for `translate --strict`. Slow: milliseconds a bundle."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError


def problems(bundle: bytes) -> list[str]:
    """What fhir.resources' R4B models object to: `path: kind`, without the values."""
    from fhir.resources.R4B.bundle import Bundle

    document: dict[str, Any] = orjson.loads(bundle)
    try:
        Bundle.model_validate(document)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False, include_url=False)
        ]
    return []
