"""Who is who: each resource gets the key that makes it the same thing when it is sent again, and how it is written.

Sans-IO. Rules come from mappings/identity.yaml. A key is either a business identifier (system and value) or a uuid5 of
what makes the resource unique; the same message always gives the same keys, so sending it twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Any, Protocol
from urllib.parse import quote

import orjson

from hl7bridge import reasons
from hl7bridge.errors import PeerError
from hl7bridge.fhir.resource import Body, Reference, Resource

NAMESPACE = uuid.UUID(
    "6f3c5a52-9d0f-5b7e-8a53-2d6b1f0c7e91"
)  # ours, chosen once: changing it would orphan every derived key
_NAMESPACE = NAMESPACE.bytes
DERIVED_SYSTEM = "urn:hl7bridge:derived"
_DERIVED_SEARCH = f"identifier={quote(DERIVED_SYSTEM, safe='')}%7C"


class Rule(Protocol):
    """What mapping.schema.Identity says for one type."""

    @property
    def prefer(self) -> tuple[str, ...]: ...
    @property
    def unique(self) -> tuple[str, ...]: ...
    @property
    def owners(self) -> tuple[str, ...]: ...
    @property
    def patchers(self) -> tuple[str, ...]: ...
    @property
    def keys(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def keeps(self) -> tuple[str, ...]: ...
    @property
    def collapse(self) -> str: ...


def way_of(rule: Rule | None, message_code: str, trigger_event: str) -> str:
    """How an event writes a type: `replace` by its owners, `patch` by its patchers, else `create`.

    An event named (ADT^A02) comes before all events of its message (ADT).
    """
    for name in (f"{message_code}^{trigger_event}", message_code):
        if rule is not None and name in rule.owners:
            return "replace"
        if rule is not None and name in rule.patchers:
            return "patch"
    return "create"


def uuid_of(key: str) -> str:
    """`str(uuid.uuid5(NAMESPACE, key))` (RFC 9562, version 5), without the objects in between."""
    made = bytearray(sha1(_NAMESPACE + key.encode(), usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50
    made[8] = made[8] & 0x3F | 0x80
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Identifier:
    """A resource's key, its fullUrl, and the search that finds it on a server."""

    __slots__ = ("derived", "key", "of_message", "search", "uuid")

    def __init__(self, key: str, search: str, derived: bool, of_message: bool = False) -> None:
        self.key = key
        self.uuid = uuid_of(key)
        self.search = search or f"{_DERIVED_SEARCH}{self.uuid}"
        self.derived = derived
        self.of_message = of_message


class Identities:
    """Works out the keys for the resources of one message.

    targets: who a Reference element means, by its id(). holders: by a resource's id() its Reference elements, each with
    the name of the resource's element that it is or is in. message_key: a hash of the message's bytes.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        targets: Mapping[int, Resource],
        holders: Mapping[int, Sequence[tuple[str, Body]]],
        message_key: str,
    ) -> None:
        self._rules = rules
        self._targets = targets
        self._holders = holders
        self._message_key = message_key
        self._found: dict[int, Identifier] = {}
        self._busy: set[int] = set()
        self._taken: dict[str, int] = {}

    def of(self, resource: Resource) -> Identifier:
        found = self._found.get(id(resource))
        if found is None:
            if id(resource) in self._busy:  # a circle of references: break it by position
                return Identifier(f"{resource.type}@{self._message_key}#{resource.position}", "", True)
            self._busy.add(id(resource))
            found = self._found[id(resource)] = self._identify(resource)
            self._busy.discard(id(resource))
        return found

    def _identify(self, resource: Resource) -> Identifier:
        rule = self._rules.get(resource.type)
        if rule is not None:
            chosen = preferred(resource.known_by, rule.prefer) or preferred(_now(resource), rule.prefer)
            if chosen is not None:
                system, value = chosen
                return Identifier(f"{resource.type}|{system}|{value}", search_for(system, value), False)
            if rule.unique:
                parts = [self._canonical(resource, path) for path in rule.unique]
                if any(parts):
                    return Identifier(f"{resource.type}!{parts!r}", "", True)
        key = f"{resource.type}@{self._message_key}"
        self._taken[key] = count = self._taken.get(key, 0) + 1
        return Identifier(f"{key}#{count}", "", True, of_message=True)

    def _canonical(self, resource: Resource, path: str) -> str:
        if path == "position":
            return str(resource.position)
        if path == "message":
            return self._message_key
        if path[0].isupper():
            if resource.lookup is None:
                return ""
            return next((text for text in map(resource.lookup, path.split("|")) if text), "")
        first, *rest = _steps(path)
        body = resource.body
        values = [body[first]] if first in body else _children(body, first)
        for name in rest:
            values = [part for value in values for part in _children(value, name)]
        if not values:
            return ""
        if path.lower().endswith("identifier"):
            return _numbers(values)
        holders = self._holders.get(id(resource))
        for name, _ in holders if holders is not None else ((first, resource.body),):  # not looked through: all is
            if name.startswith(first):
                values = [self.plain(value) for value in values]
                break
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()

    def name(self, part: Body) -> str:
        """An id for a part of a list: the same for the same content, references by what they mean."""
        content = {name: self.plain(value) for name, value in part.items() if name != "id"}
        return uuid_of(orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode())

    def plain(self, value: Any) -> Any:
        """A value for comparison: references by the key of what they mean."""
        if value.__class__ is dict:
            target = self._targets.get(id(value))
            if target is not None:
                return {"=": self.of(target).key}
            return {
                name: self.plain(part) if part.__class__ is dict or part.__class__ is list else part
                for name, part in value.items()
            }
        if value.__class__ is list:
            return [self.plain(part) for part in value]
        return value


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _children(value: Any, name: str) -> list[Any]:
    """An element by name; a choice by its stem: `effective` finds effectiveDateTime."""
    if isinstance(value, list):
        return [child for part in value for child in _children(part, name)]
    if not isinstance(value, dict):
        return []
    if name in value:
        return [value[name]]
    return [part for key, part in value.items() if key.startswith(name) and key[len(name) : len(name) + 1].isupper()]


def _numbers(values: Iterable[Any]) -> str:
    """Identifiers by what identifies: system and value, in any order. How one is called (`type`, `use`) may change."""
    identifiers = [one for value in values for one in (value if isinstance(value, list) else [value])]
    said = sorted({(one.get("system", ""), one.get("value", "")) for one in identifiers if isinstance(one, dict)})
    named = [number for number in said if any(number)]
    return orjson.dumps(named).decode() if named else ""


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
    return f"identifier={quote(_escape(system), safe='')}%7C{quote(_escape(value), safe='')}"


def _escape(text: str) -> str:
    for character in "\\|,$":
        text = text.replace(character, "\\" + character)
    return text


def refuse_conflict(resource: Resource, other: Resource) -> PeerError:
    return PeerError(
        reasons.IDENTITY_CONFLICT,
        f"segments {other.position} and {resource.position} give two different {resource.type} resources one identity",
    )


def alive(resource: Resource, references: Mapping[int, list[Reference]]) -> bool:
    """Whether a resource says something: a value of its own, or a row that led to a resource that does."""
    if resource.has_content:
        return True
    return any(alive(r.to, references) for r in references.get(id(resource), ()) if not r.linked)
