"""HL7 v2 over MLLP in, FHIR out: durable before acknowledged, mapped by YAML tables, delivered or dead-lettered.

from hl7bridge import load_mappings, translate

mappings = load_mappings()
result = translate(raw_bytes, mappings)
result.bundle       # JSON bytes
result.resource     # the same as a dictionary
result.lineage      # where every element came from
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Hl7BridgeError", "Mappings", "Translation", "__version__", "load_mappings", "translate"]

if TYPE_CHECKING:
    from hl7bridge.errors import Hl7BridgeError
    from hl7bridge.mapping.mappings import Mappings, load_mappings
    from hl7bridge.translation import Translation, translate

_HOMES = {
    "Hl7BridgeError": "hl7bridge.errors",
    "Mappings": "hl7bridge.mapping.mappings",
    "Translation": "hl7bridge.translation",
    "load_mappings": "hl7bridge.mapping.mappings",
    "translate": "hl7bridge.translation",
}


def __getattr__(name: str) -> object:
    """The public names are imported when first used, so that `hl7bridge send` need not load the translator."""
    if name in _HOMES:
        from importlib import import_module

        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
