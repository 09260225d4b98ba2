"""The configuration told to people: effective values with their origin, and the table of all keys for the docs.

What holds: a secret is shown as its reference, never resolved; header values are shown only when they are references.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hl7bridge.config import shape
from hl7bridge.config.load import Settings
from hl7bridge.config.model import Config
from hl7bridge.config.secrets import is_reference
from hl7bridge.config.tree import variable


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
                shape.dotted(here), _shown(value, hide=key == "headers"), str(origin) if set_here else "default"
            )


def _was_set(values: Any, path: shape.Path) -> bool:
    """Was this very key given, or did only something above it stand in the file?"""
    for step in path:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _shown(value: object, hide: bool = False) -> str:
    """A value for people. `hide`: texts that are no references could be secrets (request headers)."""
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        return value.get_secret_value() if is_reference(value.get_secret_value()) else "(hidden)"
    if isinstance(value, dict):
        shown = (f"{key}: {text if not hide or is_reference(text) else '(hidden)'}" for key, text in value.items())
        return ", ".join(shown) or "(none)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value) or "(empty)"


_INTRODUCTION = """# Configuration

Made by `make docs` from `hl7bridge/config/model.py`; a test keeps it so.

One file, `hl7bridge.yaml`: the one named by `--config`, else by `HL7BRIDGE_CONFIG`, else in the working directory,
else the defaults. Unknown keys are refused. Relative paths start at the working directory.

- Every key has an environment variable, which wins over the file: a double underscore goes one level down, digits are
  an index of a list, counted from 0 (`HL7BRIDGE_LISTENERS__0__PORT=7661`). An index may be one past the end: it adds an
  item. A list is `a, b` or `[a, b]`. Free names (`fhir.headers`, `mappings.options`) are written with `_` for `-`. An
  empty variable is not set.
- Secrets are never written, but referred to: `file:/run/secrets/token` or `env:TOKEN`.
- `hl7bridge config check` names every mistake with its line; `hl7bridge config show` tells every value and where it
  came from; `hl7bridge doctor` tries the ports, disks and peers.
"""


def keys_document() -> str:
    """docs/configuration.md: every key with type, default and meaning."""
    parts = [_INTRODUCTION]
    for title, path, model in _sections():
        rows = []
        for key, field in shape.keys(model).items():
            if shape.section(field.annotation) or shape.section(shape.item(field.annotation)):
                continue
            name = shape.dotted((*path, key))
            rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_text(field.description)} |")
        purpose = _text((model.__doc__ or "").strip()) if path else "Keys at the top of the file."
        example = variable(tuple(0 if step == "N" else step for step in (*path, next(iter(_scalars(model))))))
        parts.append(f"## {title}\n\n{purpose} Variables: `{example}` and so on.\n")
        parts.append("| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _scalars(model: type[BaseModel]) -> list[str]:
    return [key for key, field in shape.keys(model).items() if not shape.section(field.annotation)
            and not shape.section(shape.item(field.annotation))]  # fmt: skip


def _sections() -> Iterator[tuple[str, tuple[str, ...], type[BaseModel]]]:
    """Every section with its path, lists as `N`, the top last."""

    def below(path: tuple[str, ...], model: type[BaseModel]) -> Iterator[tuple[str, tuple[str, ...], type[BaseModel]]]:
        for key, field in shape.keys(model).items():
            inner = shape.section(field.annotation)
            listed = shape.section(shape.item(field.annotation))
            found = inner or listed
            if found is not None:
                here = (*path, key, "N") if listed else (*path, key)
                yield f"`{shape.dotted(here)}`", here, found
                yield from below(here, found)

    yield from below((), Config)
    yield "top", (), Config


def _type(annotation: object) -> str:
    bare = shape.plain(annotation)
    if get_origin(bare) is Literal:
        return " \\| ".join(f"`{value}`" for value in get_args(bare))
    if shape.item(annotation) is not None:
        return "list of texts"
    if shape.is_table(annotation):
        return "names and texts"
    words = {str: "text", int: "whole number", float: "number", bool: "`true` \\| `false`", SecretStr: "reference"}
    return words.get(bare, str(bare)) if isinstance(bare, type) else str(bare)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    shown = _shown(value)
    return shown[1:-1] if shown.startswith("(") else f"`{shown}`"


def _text(text: str | None) -> str:
    return " ".join((text or "").split())
