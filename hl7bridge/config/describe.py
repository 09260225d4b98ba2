"""The configuration in effect, told to people: every key, its value, and where the value came from.

What holds: a secret is shown as its reference, never resolved; header values are shown only when they are references.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from hl7bridge.config import shape
from hl7bridge.config.load import Settings
from hl7bridge.config.secrets import is_reference


@dataclass(frozen=True, slots=True)
class Effective:
    """One key as it stands: `listeners.0.port`, `6661`, `default` | `hl7bridge.yaml:3` | `environment HL7BRIDGE_…`."""

    key: str
    value: str
    origin: str


def describe(settings: Settings) -> list[Effective]:
    """Every key in effect, in the order of the models."""
    return list(_effective(settings.config, (), settings))


def _effective(model: BaseModel, path: shape.Path, settings: Settings) -> Iterator[Effective]:
    for key in shape.keys(type(model)):
        value = getattr(model, "validate_" if key == "validate" else key)
        here = (*path, key)
        if isinstance(value, BaseModel):
            yield from _effective(value, here, settings)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, part in enumerate(value):
                yield from _effective(part, (*here, index), settings)
        else:
            origin = settings.tree.origin(here)
            set_here = origin is not None and _was_set(settings.tree.values, here)
            yield Effective(
                shape.dotted(here), shown(value, hide=key == "headers"), str(origin) if set_here else "default"
            )


def _was_set(values: Any, path: shape.Path) -> bool:
    """Was this very key given, or did only something above it stand in the file?"""
    for step in path:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def shown(value: object, hide: bool = False) -> str:
    """A value for people. `hide`: texts that are no references could be secrets (request headers)."""
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        return value.get_secret_value() if is_reference(value.get_secret_value()) else "(hidden)"
    if isinstance(value, dict):
        parts = (f"{key}: {text if not hide or is_reference(text) else '(hidden)'}" for key, text in value.items())
        return ", ".join(parts) or "(none)"
    if isinstance(value, tuple):
        return ", ".join(shown(part) if isinstance(part, SecretStr) else str(part) for part in value) or "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value) or "(empty)"
