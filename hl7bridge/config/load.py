"""From a file and the environment to a Config: all mistakes at once, each with its place.

hl7bridge.yaml:12: listeners.0.prot: unknown key; did you mean 'port'?
environment HL7BRIDGE_RETRY__FIRST: must be greater than 0
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hl7bridge.config import shape
from hl7bridge.config.checks import check
from hl7bridge.config.model import Config
from hl7bridge.config.secrets import is_reference
from hl7bridge.config.tree import Origin, Tree, read_environment, read_yaml, suggestion
from hl7bridge.errors import ConfigError

DEFAULT_FILE = "hl7bridge.yaml"
VARIABLE_OF_FILE = "HL7BRIDGE_CONFIG"


@dataclass(frozen=True, slots=True)
class Settings:
    """A Config together with where each value came from. `file`: None when there is no file."""

    config: Config
    file: Path | None
    tree: Tree = field(repr=False)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration. `path`: else HL7BRIDGE_CONFIG, else ./hl7bridge.yaml if it is there, else the defaults.

    `environ`: os.environ unless given. Raises ConfigError with every mistake.
    """
    return read(path, environ).config


def read(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """As `load`, keeping the origins for `config show`."""
    environ = os.environ if environ is None else environ
    file = _find(path, environ)
    tree = Tree()
    if file is not None:
        try:
            text = file.read_text("utf-8")
        except OSError as error:
            raise ConfigError([f"{file}: cannot be read: {error.strerror or type(error).__name__}"]) from None
        except UnicodeDecodeError:
            raise ConfigError([f"{file}: is not UTF-8 text"]) from None
        read_yaml(tree, text, str(file))
    read_environment(tree, environ)
    config, broken = _validated(tree)
    for at, reason in check(config):
        if not any(path[: len(at) - 1] == at[:-1] for path in broken):  # a rule on half a section would mislead
            tree.mistakes.append((tree.origin(at) or Origin(), at, reason))
    if tree.mistakes:
        raise ConfigError(_sentences(tree.mistakes))
    return Settings(config, file, tree)


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(VARIABLE_OF_FILE):
        return Path(named)
    default = Path(DEFAULT_FILE)
    return default if default.exists() else None


def _validated(tree: Tree) -> tuple[Config, list[shape.Path]]:
    """The model of what is right, and the paths of what is not; their mistakes are added to the tree."""
    found = _literal_secrets(tree.values)
    tree.mistakes += [(tree.origin(path) or Origin(), path, reason) for path, reason in found]
    try:
        return Config.model_validate(tree.values), []
    except ValidationError as error:
        broken = []
        for detail in error.errors(include_url=False, include_context=True, include_input=True):
            path = tuple(detail["loc"])
            broken.append(path)
            tree.mistakes.append((tree.origin(path) or Origin(), path, _reason(detail, path)))
    return Config.model_validate(_without(tree.values, broken)), broken


def _without(values: Any, broken: list[shape.Path], path: shape.Path = ()) -> Any:
    """The tree without what is broken, so that the rest is still checked; a list with a broken item counts as empty."""
    if isinstance(values, dict):
        return {key: _without(v, broken, (*path, key)) for key, v in values.items() if (*path, key) not in broken}
    if isinstance(values, list):
        if any((*path, index) in broken for index in range(len(values))):
            return []
        return [_without(value, broken, (*path, index)) for index, value in enumerate(values)]
    return values


def _literal_secrets(values: Any, path: shape.Path = ()) -> list[tuple[shape.Path, str]]:
    """Every secret key whose value is no reference."""
    if isinstance(values, dict):
        return [mistake for key, value in values.items() for mistake in _literal_secrets(value, (*path, key))]
    if isinstance(values, list):
        return [mistake for index, value in enumerate(values) for mistake in _literal_secrets(value, (*path, index))]
    if shape.is_secret(shape.at(path)) and not is_reference(str(values)):
        return [(path, "a secret is not written here; give its place as file:PATH or env:NAME")]
    return []


_WRONG_TYPE = {  # pydantic's error types in an operator's words
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be one text",
    "tuple_type": "must be a list",
    "dict_type": "must hold keys and values",
    "model_type": "must hold keys",
    "model_attributes_type": "must hold keys",
}


def _reason(detail: ErrorDetails, path: shape.Path) -> str:
    """The sentence for one pydantic error. Quotes what was written, unless it could be a secret."""
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    model = shape.section(shape.at(path[:-1]))
    if kind == "extra_forbidden" and model is not None:
        return "unknown key" + suggestion(str(path[-1]), list(shape.keys(model)))
    quotable = isinstance(given, str) and not shape.is_secret(shape.at(path)) and not {"headers", "keys"} & set(path)
    but = f", not '{given}'" if quotable else ""
    if kind == "literal_error":
        return "must be " + str(context.get("expected")).replace("'", "") + but
    for word, bound in (("greater than", "gt"), ("at least", "ge"), ("less than", "lt"), ("at most", "le")):
        if bound in context:
            return f"must be {word} {context[bound]:g}{but}"
    return _WRONG_TYPE.get(kind, detail["msg"]) + but


def _sentences(mistakes: list[tuple[Origin, shape.Path, str]]) -> list[str]:
    """In order of file and line, then environment; each once."""
    ordered = sorted(mistakes, key=lambda mistake: (mistake[0].variable, mistake[0].line))
    texts: dict[str, None] = {}
    for origin, path, reason in ordered:
        place = str(origin) if origin.file or origin.variable else "configuration"
        key = shape.dotted(path)
        told_by_variable = bool(origin.variable) or not path
        texts[f"{place}: {reason}" if told_by_variable else f"{place}: {key}: {reason}"] = None
    return list(texts)
