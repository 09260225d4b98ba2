"""What a section of the configuration is: a frozen class whose annotations say what may stand under its keys.

What holds and why:
- What is given is converted or is a mistake with its path. Every mistake is found, and what is right is kept, so that
  rules between keys are still checked.
- A scalar may be the text that was written (`7`, `1e3`, `yes`), or the value itself.
- Sentences are an operator's; none quotes what may be a secret.
- No framework: one that does more (JSON, schemas, serialisers) takes longer to load than all tables of codes.

An annotation is str, int, float, bool, SecretStr, Literal[…], tuple[X, …], Mapping[str, str], another section,
X | None, or one of these as Annotated with bounds or with a reader of its own.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, dataclass_transform

from hl7bridge.errors import ConfigError

Path = tuple[str | int, ...]
Mistake = tuple[Path, str]
S = TypeVar("S", bound="Section")

_WHOLE = re.compile(r"[+-]?[0-9]+(_[0-9]+)*(\.0+)?")
_TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), False
)
_UNQUOTED = frozenset({"headers", "keys"})  # what stands under these keys may be a secret
_BROKEN = object()


class SecretStr:
    """A text that no log, error or repr shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "SecretStr('**********')"


class Bound(NamedTuple):
    """Limits of a number, as in Annotated[int, Bound(ge=1)]."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None

    def broken(self, number: float) -> str:
        """What it must be and is not; empty when all is well."""
        if self.gt is not None and not number > self.gt:
            return f"must be greater than {self.gt:g}"
        if self.ge is not None and not number >= self.ge:
            return f"must be at least {self.ge:g}"
        if self.le is not None and not number <= self.le:
            return f"must be at most {self.le:g}"
        return ""


class Reader(NamedTuple):
    """What reads a value in place of its annotation. ValueError: the sentence that says what it must be."""

    read: Callable[[object], object]


class Key(NamedTuple):
    """A key of a section. `annotation`: its type without what Annotated says; `whole`: with it."""

    attribute: str
    annotation: object
    whole: object
    default: Any


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Section:
    """A part of the configuration: frozen, no unknown keys. Made from keys as the file spells them."""

    def __init__(self, **given: Any) -> None:
        """Raises ConfigError with every mistake."""
        reading = _Reading()
        self.__dict__.update(reading.values(type(self), given, ()))
        reading.end()

    @classmethod
    def of(cls, given: object) -> Self:
        """The same, from a mapping."""
        reading = _Reading()
        made = reading.section(cls, given, ())
        reading.end()
        return typing.cast(Self, made)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """The same with other values, by attribute, taken as they are."""
        return _made(type(self), self.__dict__ | dict(values))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def keys(section: type[Section]) -> Mapping[str, Key]:
    """The keys of a section as the file spells them; an attribute that Python has a word for has a _ behind it."""
    return _keys(typing.cast(Any, section))


@cache
def _keys(section: Any) -> Mapping[str, Key]:
    annotations = typing.get_type_hints(section, include_extras=True)
    return {
        name.rstrip("_"): Key(name, bare(annotation), annotation, getattr(section, name))
        for name, annotation in annotations.items()
    }


def bare(annotation: object) -> object:
    """Without what Annotated says."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def conform(section: type[S], given: object) -> tuple[S, list[Mistake]]:
    """The section of what is right, and the mistakes. What is wrong stands at its default; a list with a wrong item
    is empty."""
    reading = _Reading()
    made = reading.section(section, given, ())
    return typing.cast(
        S, _made(section, reading.values(section, {}, ())) if made is _BROKEN else made
    ), reading.mistakes


def _made(section: type[S], values: Mapping[str, Any]) -> S:
    made = section.__new__(section)
    made.__dict__.update(values)
    return made


class _Reading:
    """One pass over what was given."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def end(self) -> None:
        if self.mistakes:
            raise ConfigError([f"{'.'.join(map(str, path))}: {reason}" for path, reason in self.mistakes])

    def section(self, section: type[Section], given: object, path: Path) -> object:
        if isinstance(given, section):
            return given
        if not isinstance(given, Mapping):
            return self._wrong(path, "must hold keys", given)
        return _made(section, self.values(section, given, path))

    def values(self, section: type[Section], given: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """By attribute, every one: as given, else its default."""
        known, found = keys(section), {}
        for name, key in known.items():
            value = self._value(key.whole, given[name], (*path, name)) if name in given else _BROKEN
            if value is _BROKEN:
                value = dict(key.default) if isinstance(key.default, dict) else key.default
            found[key.attribute] = value
        for name in given:
            if name not in known:
                self.mistakes.append(((*path, name), "unknown key" + suggestion(str(name), list(known))))
        return found

    def _value(self, annotation: object, given: object, path: Path) -> object:
        """What was given, converted; _BROKEN, with its mistake, when it cannot be."""
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._ruled(parts[0], parts[1:], given, path)
        if origin in (typing.Union, types.UnionType):
            wanted = [part for part in parts if part is not type(None)]
            return None if given is None and len(wanted) < len(parts) else self._value(wanted[0], given, path)
        if origin is Literal:
            return given if given in parts else self._wrong(path, f"must be {_either(parts)}", given)
        if origin is tuple:
            return self._items(parts[0], given, path)
        if origin is Mapping:
            return self._table(given, path)
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return self.section(annotation, given, path)
        return self._scalar(annotation, given, path)

    def _ruled(self, annotation: object, rules: tuple[object, ...], given: object, path: Path) -> object:
        for rule in rules:
            if isinstance(rule, Reader):
                try:
                    return rule.read(given)
                except ValueError as error:
                    return self._wrong(path, str(error), given)
        value = self._value(annotation, given, path)
        for rule in rules:
            if isinstance(rule, Bound) and isinstance(value, (int, float)) and (broken := rule.broken(value)):
                return self._wrong(path, broken, given)
        return value

    def _items(self, annotation: object, given: object, path: Path) -> object:
        if not isinstance(given, (list, tuple)):
            return self._wrong(path, "must be a list", given)
        items = tuple(self._value(annotation, item, (*path, index)) for index, item in enumerate(given))
        return () if any(item is _BROKEN for item in items) else items

    def _table(self, given: object, path: Path) -> object:
        if not isinstance(given, Mapping):
            return self._wrong(path, "must hold keys and values", given)
        table = {name: self._scalar(str, text, (*path, name)) for name, text in given.items()}
        return {name: text for name, text in table.items() if text is not _BROKEN}

    def _scalar(self, annotation: object, given: object, path: Path) -> object:
        if annotation is SecretStr:
            if isinstance(given, SecretStr):
                return given
            return SecretStr(given) if isinstance(given, str) else self._wrong(path, "must be one text", given)
        if annotation is str:
            return given.strip() if isinstance(given, str) else self._wrong(path, "must be one text", given)
        read, wanted = _SCALARS[annotation]
        try:
            return read(given)
        except (ValueError, OverflowError):
            return self._wrong(path, wanted, given)

    def _wrong(self, path: Path, reason: str, given: object) -> object:
        """Notes a mistake, quoting what was written unless it could be a secret."""
        quoted = isinstance(given, str) and not _UNQUOTED & set(path)
        self.mistakes.append((path, f"{reason}, not '{given}'" if quoted else reason))
        return _BROKEN


def _whole(given: object) -> int:
    if isinstance(given, str):
        if not _WHOLE.fullmatch(given.strip()):
            raise ValueError
        return int(given.strip().partition(".")[0])
    if (isinstance(given, float) and not given.is_integer()) or not isinstance(given, (int, float)):
        raise ValueError
    return int(given)


def _number(given: object) -> float:
    if not isinstance(given, (str, int, float)) or (isinstance(given, str) and not given.isascii()):
        raise ValueError
    return float(given)


def _truth(given: object) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in _TRUTH:
        return _TRUTH[given.strip().lower()]
    raise ValueError


_SCALARS: Mapping[object, tuple[Callable[[object], object], str]] = {
    int: (_whole, "must be a whole number"),
    float: (_number, "must be a number"),
    bool: (_truth, "must be true or false"),
}


def _either(words: tuple[Any, ...]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last


def suggestion(word: str, known: list[str]) -> str:
    """`; did you mean 'port'?`, or the known keys when nothing is near."""
    import difflib  # for mistakes only

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(sorted(known))}"
