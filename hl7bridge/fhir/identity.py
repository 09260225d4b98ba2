"""Who is who: each resource gets the key that makes it the same thing when it is sent again, and how it is written.

Sans-IO. Rules come from mappings/identity.yaml. A key is either a business identifier (system and value) or a uuid5 of
what makes the resource unique; the same message always gives the same keys, so sending it twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Any, Protocol
from urllib.parse import quote

import orjson

from hl7bridge import reasons
from hl7bridge.errors import PeerError
from hl7bridge.fhir.model import Model
from hl7bridge.fhir.resource import Body, Reference, Resource

NAMESPACE = uuid.UUID(
    "6f3c5a52-9d0f-5b7e-8a53-2d6b1f0c7e91"
)  # ours, chosen once: changing it would orphan every derived key
_NAMESPACE = NAMESPACE.bytes
DERIVED_SYSTEM = "urn:hl7bridge:derived"
_DERIVED_SEARCH = f"identifier={quote(DERIVED_SYSTEM, safe='')}%7C"

_LONG = 400  # characters of a key that is kept if it is shared: shorter ones are made as fast as found

Reader = Callable[[Body], list[Any]]
Part = Callable[["Identities", Resource], str]  # one path of `unique`, read off a resource


class Keyed(Protocol):
    """What a type's rule says of its identity (kinds.Kind)."""

    @property
    def prefer(self) -> tuple[str, ...]: ...
    @property
    def unique(self) -> tuple[Part, ...]: ...
    @property
    def unowned(self) -> bool: ...


def uuid_of(key: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, key))` (RFC 9562, version 5), without the objects in between."""
    made = sha1(_NAMESPACE + key.encode(), usedforsecurity=False).hexdigest()
    return f"{made[:8]}-{made[8:12]}-5{made[13:16]}-{'89ab'[int(made[16], 16) & 3]}{made[17:20]}-{made[20:32]}"


class Identifier:
    """A resource's key, its fullUrl, and the search that finds it on a server."""

    __slots__ = ("_meant", "derived", "key", "of_message", "search", "uuid")

    def __init__(self, key: str, search: str, derived: bool, of_message: bool = False) -> None:
        self.key = key
        self.uuid = uuid_of(key)
        self.search = search or _DERIVED_SEARCH + self.uuid
        self.derived = derived
        self.of_message = of_message
        self._meant = ""

    @property
    def meant(self) -> str:
        """The text of a reference to the resource in the keys of others."""
        if not self._meant:
            self._meant = _text([{"=": self.key}])
        return self._meant


@lru_cache(maxsize=128)
def _shared(type: str, *parts: str) -> Identifier:
    """The key of something that is no patient's, by the texts of its `unique`.

    Kept for a while: the key of a bed holds the room's whole, escaped once more, and that the ward's; every message of
    that ward says it again.
    """
    return Identifier(f"{type}!{[*parts]!r}", "", True)


class Identities:
    """Works out the keys for the resources of one message.

    targets: who a Reference element means, by its id(). message_key: a hash of the message's bytes.
    """

    def __init__(self, kinds: Mapping[str, Keyed], targets: Mapping[int, Resource], message_key: str) -> None:
        self._kinds = kinds
        self.targets = targets
        self.message_key = message_key
        self._busy: set[Resource] = set()
        self._taken: dict[str, int] = {}

    def of(self, resource: Resource) -> Identifier:
        found = resource.identity
        if found is None:
            if resource in self._busy:  # a circle of references: break it by position
                return Identifier(f"{resource.type}@{self.message_key}#{resource.position}", "", True)
            self._busy.add(resource)
            found = resource.identity = self._identify(resource)
            self._busy.discard(resource)
        return found

    def _identify(self, resource: Resource) -> Identifier:
        kind = self._kinds[resource.type]
        if kind.prefer:
            chosen = preferred(resource.known_by, kind.prefer) or preferred(_now(resource), kind.prefer)
            if chosen is not None:
                system, value = chosen
                return Identifier(f"{resource.type}|{system}|{value}", search_for(system, value), False)
        if kind.unique:
            parts = [part(self, resource) for part in kind.unique]
            if any(parts):
                if kind.unowned and sum(map(len, parts)) > _LONG:
                    return _shared(resource.type, *parts)
                return Identifier(f"{resource.type}!{parts!r}", "", True)
        key = f"{resource.type}@{self.message_key}"
        self._taken[key] = count = self._taken.get(key, 0) + 1
        return Identifier(f"{key}#{count}", "", True, of_message=True)

    def same(self, one: Resource, other: Resource) -> bool:
        """Whether two resources say the same."""
        if one is other:
            return True
        if not one.holders and not other.holders and "delete" not in (one.write, other.write):
            return one.body == other.body  # no references to look up
        return bool(self.plain(one.body) == self.plain(other.body))

    def name(self, part: Body) -> str:
        """An id for a part of a list: the same for the same content, references by what they mean."""
        content = {name: self.plain(value) for name, value in part.items() if name != "id"}
        return uuid_of(_text(content))

    def plain(self, value: Any) -> Any:
        """A value for comparison: references by the key of what they mean."""
        if value.__class__ is dict:
            target = self.targets.get(id(value))
            if target is not None:
                return {"=": self.of(target).key}
            return {
                name: self.plain(part) if part.__class__ is dict or part.__class__ is list else part
                for name, part in value.items()
            }
        if value.__class__ is list:
            return [self.plain(part) for part in value]
        return value


def part_of(model: Model, type: str, path: str) -> Part:
    """How one path of `unique` is read off a resource of a type, as text; "" where nothing stands."""
    if path == "position":
        return lambda identities, resource: str(resource.position)
    if path == "message":
        return lambda identities, resource: identities.message_key
    if path[0].isupper():
        return _looked_up(path.split("|"))
    read = _reader(model, type, path)
    return _numbers(read) if path.lower().endswith("identifier") else _content(model, type, path, read)


def _looked_up(refs: Sequence[str]) -> Part:
    """The first of the v2 fields that is there, as seen from where the resource was made."""

    def looked_up(identities: Identities, resource: Resource) -> str:
        lookup = resource.lookup
        if lookup is not None:
            for ref in refs:
                text = lookup(ref)
                if text:
                    return text
        return ""

    return looked_up


def _numbers(read: Reader) -> Part:
    """Identifiers by what identifies: system and value, in any order. How one is called (`type`, `use`) may change."""

    def numbers(identities: Identities, resource: Resource) -> str:
        values = read(resource.body)
        if not values:
            return ""
        identifiers = [one for value in values for one in (value if value.__class__ is list else (value,))]
        said = {(one.get("system", ""), one.get("value", "")) for one in identifiers if one.__class__ is dict}
        said.discard(("", ""))
        return _text(sorted(said) if len(said) > 1 else [*said]) if said else ""

    return numbers


def _content(model: Model, type: str, path: str, read: Reader) -> Part:
    """What stands there, a reference by the key of what it means."""
    first = path.partition(".")[0]
    names = frozenset((first, *_choices(model, type, first)))

    def content(identities: Identities, resource: Resource) -> str:
        values = read(resource.body)
        if not values:
            return ""
        value = values[0]
        if value.__class__ is str and len(values) == 1:
            return _text(values)
        holders = resource.holders
        if holders or holders is None:  # None: not looked for yet
            if len(values) == 1:
                target = identities.targets.get(id(value))
                if target is not None:
                    return identities.of(target).meant
            if holders is None or not names.isdisjoint([held[0] for held in holders]):
                values = [identities.plain(value) for value in values]
        return _text(values)

    return content


def _reader(model: Model, type: str, path: str) -> Reader:
    """Gives the values at a path of elements. A choice is found by its stem: `effective` finds effectiveDateTime."""
    first, *rest = path.split(".")
    choices = _choices(model, type, first)
    steps = _steps(model, type, first, rest)
    if not steps and not choices:
        return lambda body: [body[first]] if first in body else []

    def read(body: Body) -> list[Any]:
        if first in body:
            values = [body[first]]
        elif choices:
            values = [body[name] for name in body if name in choices]
        else:
            return []
        for name, others in steps:
            values = _below(values, name, others)
        return values

    return read


def _steps(model: Model, type: str, first: str, rest: Sequence[str]) -> list[tuple[str, Container[str] | None]]:
    """The names below the first, each with the choices of which it is the stem; None where the type is not known."""
    steps: list[tuple[str, Container[str] | None]] = []
    held, name = type, first
    for below in rest:
        element = model.element(held, name) if held else None
        held = element.type if element is not None and model.elements(element.type) else ""
        steps.append((below, _choices(model, held, below) if held else None))
        name = below
    return steps


def _choices(model: Model, type: str, stem: str) -> frozenset[str]:
    return frozenset(name for name in model.elements(type) if _is_choice(name, stem))


def _below(values: Iterable[Any], name: str, choices: Container[str] | None) -> list[Any]:
    """The elements of that name in values, in lists of them too; of a choice by its stem."""
    found: list[Any] = []
    for value in values:
        if value.__class__ is dict:
            if name in value:
                found.append(value[name])
            elif choices is None:
                found += [part for key, part in value.items() if _is_choice(key, name)]
            elif choices:
                found += [part for key, part in value.items() if key in choices]
        elif value.__class__ is list:
            found += _below(value, name, choices)
    return found


def _is_choice(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper()


def _text(content: Any) -> str:
    """One text for the same content: JSON, names sorted."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def preferred(identifiers: Sequence[Body], prefer: Sequence[str]) -> tuple[str, str] | None:
    """(system, value) of the identifier that stands for the resource; None when none has both and a preferred type."""
    for wanted in prefer:
        for identifier in identifiers:
            system, value = identifier.get("system"), identifier.get("value")
            if system and value and (wanted == "*" or wanted in _types(identifier)):
                return system, value
    return None


def _now(resource: Resource) -> Sequence[Body]:
    """The identifiers without the old ones, if there are others: a number someone had stands for him no more."""
    identifiers: Body | list[Body] = resource.body.get("identifier", [])
    if isinstance(identifiers, dict):
        return (identifiers,)
    return [i for i in identifiers if i.get("use") != "old"] or identifiers


def _types(identifier: Body) -> Iterable[str]:
    return [coding.get("code", "") for coding in identifier.get("type", {}).get("coding", ())]


def search_for(system: str, value: str) -> str:
    """A FHIR search by identifier; `\\ | , $` in the value are escaped as the search specification says."""
    return _searched(system) + (value if value.isascii() and value.isalnum() else quote(_escape(value), safe=""))


@lru_cache(maxsize=256)
def _searched(system: str) -> str:
    return f"identifier={quote(_escape(system), safe='')}%7C"


def _escape(text: str) -> str:
    for character in "\\|,$":
        text = text.replace(character, "\\" + character)
    return text


def refuse_conflict(resource: Resource, other: Resource) -> PeerError:
    return PeerError(
        reasons.IDENTITY_CONFLICT,
        f"segments {other.position} and {resource.position} give two different {resource.type} resources one identity",
    )


def alive(resource: Resource, made: Mapping[Resource, Sequence[Reference]]) -> bool:
    """Whether a resource says something: a value of its own, or a row that led to a resource that does.

    made: the references in each resource.
    """
    return resource.has_content or any(alive(r.to, made) for r in made.get(resource, ()) if not r.linked)
