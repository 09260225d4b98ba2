"""Documents made from the models, written by `make docs`: docs/configuration.md and the sample hl7bridge.yaml."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hl7bridge.config import model as models
from hl7bridge.config import shape
from hl7bridge.config.describe import shown
from hl7bridge.config.model import Config
from hl7bridge.config.tree import variable

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
            rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_meaning(model, key)} |")
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
    if get_origin(bare) is Union:
        return " \\| ".join(_type(part) for part in get_args(bare))
    if (item := shape.item(annotation)) is not None:
        return "list of references" if shape.is_secret(item) else "list of texts" if item is str else "list of numbers"
    if shape.is_table(annotation):
        return "names and texts"
    words = {str: "text", int: "whole number", float: "number", bool: "`true` \\| `false`", SecretStr: "reference"}
    return words.get(bare, str(bare)) if isinstance(bare, type) else str(bare)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    text = shown(value)
    return text[1:-1] if text.startswith("(") else f"`{text}`"


def _meaning(model: type[BaseModel], key: str) -> str:
    """The docstring under a key, in its section or the one that this extends."""
    for section in model.__mro__:
        said = _docstrings().get(section.__name__, {})
        if found := said.get(key) or said.get(f"{key}_"):  # a key that Python has a word for has a _ behind it
            return _text(found)
    return ""


@cache
def _docstrings() -> Mapping[str, Mapping[str, str]]:
    """By section and attribute, from the source: Python does not keep them, and no start should look for them."""
    found: dict[str, dict[str, str]] = {}
    for section in ast.parse(inspect.getsource(models)).body:
        if not isinstance(section, ast.ClassDef):
            continue
        said = found[section.name] = {}
        for statement, below in zip(section.body, section.body[1:], strict=False):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                said[statement.target.id] = inspect.cleandoc(str(below.value.value))
    return found


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


_SAMPLE_HEAD = """# hl7bridge.yaml: every key with its default. Keys that are unset by default are commented out.
# Each key has an environment variable, which wins: journal.path is HL7BRIDGE_JOURNAL__PATH. See docs/configuration.md.
"""


def sample() -> str:
    """hl7bridge.yaml: the defaults with their meaning; loading it gives Config()."""
    return _SAMPLE_HEAD + "\n".join(_sample_of(Config, "")) + "\n"


def _sample_of(model: type[BaseModel], indent: str) -> Iterator[str]:
    for key, field in shape.keys(model).items():
        inner = shape.section(field.annotation)
        listed = shape.section(shape.item(field.annotation))
        unset = field.get_default(call_default_factory=True) in (None, ())
        if inner is None and listed is None:
            yield from [] if indent else [""]
            yield f"{indent}# {_meaning(model, key)}"
            yield f"{indent}{'# ' if unset else ''}{key}: {_yaml(field)}".rstrip()
            continue
        found = inner or listed
        assert found is not None
        yield from [] if indent else [""]
        yield f"{indent}# {_text((found.__doc__ or '').strip())}"
        lines = list(_sample_of(found, indent + ("    " if listed else "  ")))
        if listed:  # the first key carries the dash
            first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
            dash = len(indent) + 2
            lines = [lines[first][:dash] + "- " + lines[first][dash + 2 :], *lines[first + 1 :]]
        for line in [f"{indent}{key}:", *lines]:
            yield f"{indent}# {line.removeprefix(indent)}" if unset else line


def _yaml(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, str):
        return f'"{value}"' if not value or value in ("off",) or value.replace(".", "").isdigit() else value
    return f"{value:.15g}" if isinstance(value, float) else str(value)
