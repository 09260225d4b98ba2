"""What keys exist and what stands under them, read off the models: for suggestions, the environment and the docs.

Sans-IO. A path is the key from the top: ("listeners", 0, "port"), written `listeners.0.port`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hl7bridge.config.model import Config

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


def keys(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The keys of a section as the file spells them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def plain(annotation: object) -> object:
    """`X | None` -> `X`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def section(annotation: object) -> type[BaseModel] | None:
    """The model behind `Model`, `Model | None`."""
    bare = plain(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def item(annotation: object) -> object | None:
    """`tuple[X, ...]` -> `X`; None for what is no list."""
    bare = plain(annotation)
    return typing.get_args(bare)[0] if typing.get_origin(bare) is tuple else None


def is_table(annotation: object) -> bool:
    """Is it a mapping of free names to texts?"""
    return typing.get_origin(plain(annotation)) is dict


def is_secret(annotation: object) -> bool:
    return plain(annotation) is SecretStr


def at(path: Path, top: type[BaseModel] = Config) -> object | None:
    """The annotation of what stands at a path, or None when there is no such key."""
    here: object = top
    for step in path:
        model, inner = section(here), item(here)
        if model is not None and isinstance(step, str) and step in keys(model):
            here = keys(model)[step].annotation
        elif inner is not None and isinstance(step, int):
            here = inner
        elif is_table(here):
            here = str
        else:
            return None
    return here
