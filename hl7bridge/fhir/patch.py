"""FHIRPath Patch: what a message says of a resource, as operations that leave the rest of it as the server has it.

Sans-IO. Source: FHIR R4 fhirpatch.html, as HAPI FHIR 8 takes it in a transaction. What holds:

- Doing it twice gives the same as once. An element is deleted (no error where there is none) and added again.
- A list is replaced whole; where `keys` tell its parts apart (telecom by `use`) only the parts like those said are. A
  key deeper down (`type.coding.code`) is what the ids are made of that such parts are written with:
  `participant-ATND-1`. R4 lets an operation delete one element, so `[0]` is deleted as often as a list may be long:
  LONGEST.
- Into period, hospitalization and other single backbone elements the patch goes: a discharge keeps the admission time.
  `insert` leaves what is there and makes what is not; HAPI takes it for single elements too.
- Deletions come first, so what was removed and said again is there in the end.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from hl7bridge.fhir.model import Element, Model
from hl7bridge.fhir.resource import Body, Erasure

LONGEST = 20  # parts of a list that a patch replaces; a server's list is hardly ever longer
PARTS = ("Period",)  # data types that several fields fill
_PLAIN = re.compile(r"[A-Za-z0-9.]{1,40}")
INVISIBLE = ("implicitRules", "language", "modifierExtension")  # what no table writes
UNTOUCHED = ("resourceType", "id", "meta", "text", "contained")


def goes_into(model: Model, element: Element) -> bool:
    """Whether a patch changes the element's parts rather than the whole: hospitalization, period."""
    return not element.many and (element.type in PARTS or model.is_backbone(element.type))


class Patch:
    """The operations for one resource. `keys`: by list, the elements that tell its parts apart."""

    def __init__(self, model: Model, type_: str, keys: Mapping[str, tuple[str, ...]]) -> None:
        self._model = model
        self._type = type_
        self._keys = keys
        self._fillers: Container[tuple[str, ...]] = ()
        self._deletes: dict[str, int] = {}  # path -> how often
        self._writes: list[Body] = []

    def parameters(self, body: Body, erased: Iterable[Erasure], fillers: Container[tuple[str, ...]] = ()) -> Body:
        """A Parameters resource. `fillers`: elements that only stand there because FHIR requires something."""
        self._fillers = fillers
        for erasure in erased:
            self._erase(erasure)
        for name in dict.fromkeys(name.lstrip("_") for name in body):
            element = self._model.element(self._type, name)
            if element is not None and name not in UNTOUCHED and (name,) not in fillers:
                self._element(element, body)
        deletes = [
            operation
            for path, times in self._deletes.items()
            for operation in [_operation("delete", path)] * times  # the same one: it is checked once
        ]
        return {"resourceType": "Parameters", "parameter": [*deletes, *self._writes]}

    def whole(self, body: Body, keeps: Container[str]) -> Body:
        """A Parameters resource that leaves of a resource what is in the body and the elements `keeps` alone."""
        self._keys = {}
        for element in self._model.elements(self._type).values():
            if element.name not in (*UNTOUCHED, *INVISIBLE) and _stem(element) not in keeps:
                self._erase(Erasure((element.name,)))
        return self.parameters({name: said for name, said in body.items() if name not in keeps}, ())

    def _erase(self, erasure: Erasure) -> None:
        path, type_, many = self._type, self._type, False
        for name in erasure.path:
            element = self._model.elements(type_)[name]
            path, type_, many = f"{path}.{_stem(element)}", element.type, element.many
        if many:
            self._delete_parts(path, erasure.where)
        else:
            self._deletes[path] = 1

    def _delete_parts(self, path: str, where: Iterable[tuple[str, str]]) -> None:
        for key, value in where:
            if "." in key:
                self._delete_named(path, _stem_of_ids(path.rpartition(".")[2], value))
                return
        condition = " and ".join(f"{key}={_quoted(value)}" for key, value in where)
        self._deletes[f"{path}.where({condition})[0]" if condition else f"{path}[0]"] = LONGEST

    def _delete_named(self, path: str, stem: str) -> None:
        """The parts that `name_parts` gave ids beginning so."""
        for number in range(1, LONGEST + 1):
            self._deletes[f"{path}.where(id={_quoted(f'{stem}-{number}')})[0]"] = 1

    def _element(self, element: Element, body: Body) -> None:
        path = f"{self._type}.{_stem(element)}"
        values = list(_values(element, body))
        if goes_into(self._model, element):
            self._into(path, element, values[0])
            return
        if not element.many:
            self._deletes[path] = 1
        deep = next((key for key in self._keys.get(element.name, ()) if "." in key), "")
        if deep:
            for stem in dict.fromkeys(name_of(element.name, value, deep) for value, _ in values):
                self._delete_named(path, stem)
        else:
            for where in self._told_apart(element, [value for value, _ in values]) if element.many else ():
                self._delete_parts(path, where)
        for value in values:
            self._add(element, value)

    def _told_apart(self, element: Element, values: Iterable[Any]) -> list[tuple[tuple[str, str], ...]]:
        """The conditions for the parts that are replaced; one without a condition is for all."""
        keys = ("url",) if element.type == "Extension" else self._keys.get(element.name, ())
        found = [tuple((key, str(value[key])) for key in keys if key in value) for value in values]
        return list(dict.fromkeys(found)) if all(found) else [()]

    def _add(self, element: Element, value: tuple[Any, Any]) -> None:
        """One element. What repeats in a backbone element follows by itself: a server keeps but the last of a kind.

        So do the extensions beside a primitive value: where a patch carries it they would be out of their context.
        """
        first, further = value, []
        beside: list[Body] = []
        if not element.many and value[0] is not None and value[1] is not None:
            first, beside = (value[0], None), value[1].get("extension", [])
        if element.many and self._made_of_parts(element.type):
            first = ({n: v[:1] if isinstance(v, list) else v for n, v in value[0].items()}, value[1])
            further = [(n, part) for n, v in value[0].items() if isinstance(v, list) for part in v[1:]]
        self._writes.append(_operation("add", self._type, name=_stem(element), value=self._part(element, *first)))
        for name, part in further:
            inner = self._model.elements(element.type)[name]
            path = f"{self._type}.{_stem(element)}.last()"
            self._writes.append(_operation("add", path, name=name, value=self._part(inner, part, None)))
        for extension in beside:
            path = f"{self._type}.{_stem(element)}"
            said = {"part": list(self._parts("Extension", extension))}
            self._writes.append(_operation("add", path, name="extension", value=said))

    def _into(self, path: str, element: Element, value: tuple[Any, Any]) -> None:
        self._writes.append(_operation("insert", path, value=self._part(element, *value), index=0))
        for name in dict.fromkeys(name.lstrip("_") for name in value[0]):
            if (element.name, name) in self._fillers:
                continue
            inner = self._model.elements(element.type)[name]
            at = f"{path}.{_stem(inner)}"
            values = [self._part(inner, *said) for said in _values(inner, value[0])]
            for index, said in enumerate(values):
                self._writes.append(_operation("insert", at, value=said, index=index))
            if inner.many:
                self._writes += [_operation("delete", f"{at}[{len(values)}]")] * LONGEST
            else:
                self._writes.append(_operation("replace", at, value=values[0]))

    def _made_of_parts(self, type_: str) -> bool:
        return type_ == "Extension" or self._model.is_backbone(type_)

    def _part(self, element: Element, value: Any, beside: Any) -> Body:
        """A value as `value[x]`, or, where no data type has that name, as parts by the names of its elements."""
        if self._made_of_parts(element.type):
            return {"part": list(self._parts(element.type, value))}
        name = f"value{element.type[:1].upper()}{element.type[1:]}"
        said = {name: value} if value is not None else {}
        return {**said, f"_{name}": beside} if beside is not None else said

    def _parts(self, type_: str, value: Body) -> Iterator[Body]:
        for name in dict.fromkeys(name.lstrip("_") for name in value):
            element = self._model.elements(type_)[name]
            for said in _values(element, value):
                yield {"name": _stem(element), **self._part(element, *said)}


def name_parts(list_: str, parts: Iterable[Body], key: str) -> None:
    """Gives the parts of a list that is told apart by a key deeper down their ids, so that a patch finds them."""
    counts: dict[str, int] = {}
    for part in parts:
        stem = name_of(list_, part, key)
        counts[stem] = count = counts.get(stem, 0) + 1
        part["id"] = f"{stem}-{count}"


def erase(body: Body, erasure: Erasure) -> None:
    """Takes an element out of a body that is to be written whole, and what is empty without it."""
    name = erasure.path[0]
    held = body.get(name)
    if len(erasure.path) > 1:
        if isinstance(held, dict):
            erase(held, erasure._replace(path=erasure.path[1:]))
        keep: Callable[[Any], bool] = bool
    else:
        body.pop("_" + name, None)
        keep = _other_than(erasure.where)
    kept = [part for part in held if keep(part)] if isinstance(held, list) else held
    if not kept or (len(erasure.path) == 1 and not isinstance(held, list)):
        body.pop(name, None)
    else:
        body[name] = kept


def _other_than(where: tuple[tuple[str, str], ...]) -> Callable[[Any], bool]:
    return lambda part: bool(where) and not all(says(part, key, value) for key, value in where)


def _values(element: Element, body: Body) -> Iterator[tuple[Any, Any]]:
    """The values of an element, each with what stands beside it (`_birthDate`)."""
    value, beside = body.get(element.name), body.get("_" + element.name)
    if not element.many:
        yield value, beside
        return
    values, besides = value or (), beside or ()
    for index in range(max(len(values), len(besides))):
        yield (values[index] if index < len(values) else None), (besides[index] if index < len(besides) else None)


def name_of(list_: str, part: Body, key: str) -> str:
    """What the ids of the parts of a list begin with that are alike in a key deeper down: `participant-ATND`.

    A server filters a list by what stands directly in its parts and no deeper (HAPI FHIR 8). In lists the first counts.
    """
    value: Any = part
    for name in key.split("."):
        value = value[0] if isinstance(value, list) else value
        value = value.get(name) if isinstance(value, dict) else None
    return _stem_of_ids(list_, "" if value is None else str(value))


def _stem_of_ids(list_: str, text: str) -> str:
    plain = _PLAIN.fullmatch(text) is not None
    return f"{list_}-{text if plain else uuid.uuid5(uuid.NAMESPACE_URL, text)}" if text else list_


def says(part: Body, key: str, wanted: str) -> bool:
    """Whether a part, or one of the values below a key with dots, is what a condition asks for."""
    values: list[Any] = [part]
    for name in key.split("."):
        inner = (value.get(name) for value in values if isinstance(value, dict))
        values = [
            one for value in inner if value is not None for one in (value if isinstance(value, list) else [value])
        ]
    return wanted in values if wanted else not values


def _stem(element: Element) -> str:
    return element.choice or element.name


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _operation(kind: str, path: str, name: str = "", value: Body | None = None, index: int | None = None) -> Body:
    parts: list[Body] = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    if name:
        parts.append({"name": "name", "valueString": name})
    if index is not None:
        parts.append({"name": "index", "valueInteger": index})
    if value is not None:
        parts.append({"name": "value", **value})
    return {"name": "operation", "part": parts}
