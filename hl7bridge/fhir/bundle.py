"""The transaction bundle: which resources are in it, in what order, written how; references resolved; bytes.

Sans-IO and deterministic: the same resources give the same bytes. A reference to a resource that says nothing is taken
out again; a resource reached from nowhere is not written. Two different resources on one identity are an error, but
for types no message owns (Practitioner, Organization, Location ...), whose mentions complete each other.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import orjson

from hl7bridge.fhir.conversion import Conversion
from hl7bridge.fhir.difference import Changes
from hl7bridge.fhir.identity import DERIVED_SYSTEM, Identifier, Identities, alive, refuse_conflict
from hl7bridge.fhir.kinds import Kind, Kinds
from hl7bridge.fhir.model import Model
from hl7bridge.fhir.patch import Patch, erase, name_parts
from hl7bridge.fhir.resource import Body, Erasure, Held, Number, Reference, Resource

NESTED: frozenset[object] = frozenset((dict, list))


class Layout:
    """One bundle being laid out."""

    def __init__(
        self,
        kinds: Kinds,
        references: Sequence[Reference],
        message_key: str,
        event: tuple[str, str],
        merged: Callable[[str], None],
        conversion: Conversion | None = None,
    ) -> None:
        self._model = kinds.model
        self._kinds = kinds
        self._conversion = conversion  # to R5; the tables, and all that is decided by them here, speak R4
        self._event = event  # message code and trigger event
        self._merged = merged
        self.targets: dict[int, Resource] = {}  # whom a Reference element means, by its id()
        self._made: dict[Resource, list[Reference]] = {}  # the references in each resource
        self._resolve(references)
        self._identities = Identities(kinds, self.targets, message_key)
        self._ordered: list[Resource] = []
        self.positions: dict[str, int] = {}  # the segment each entry was made from, by fullUrl
        self.copies: dict[int, int] = {}  # id() of a written body -> of the one it was built as, for lineage
        self.moves: dict[tuple[int, str | int], tuple[int, str | int]] = {}  # elements completed from another mention

    def _resolve(self, references: Sequence[Reference]) -> None:
        """Whom each Reference element means in the end, after collapsing; dead ones are emptied and pruned later."""
        made, targets = self._made, self.targets
        for reference in references:
            held = made.get(reference.owner)
            if held is None:
                made[reference.owner] = [reference]
            else:
                held.append(reference)
        for reference in references:
            to = reference.to
            if not to.has_content:
                to = self._collapsed(to)
            if to.write != "delete" and (to.has_content or alive(to, made)):
                targets[reference.key] = to

    def _collapsed(self, resource: Resource) -> Resource:
        collapse = self._kinds[resource.type].collapse
        if not collapse or resource.has_content:
            return resource
        holder = resource.body.get(collapse)
        for reference in self._made.get(resource, ()):
            if reference.holder is holder:
                return self._collapsed(reference.to)
        return resource

    def entries(self, roots: Sequence[Resource]) -> list[tuple[Resource, Identifier]]:
        """Every resource to be written, roots in order, each followed by what it refers to."""
        for root in roots:
            if root.holders is None and alive(root, self._made):
                self._reach(root)
        return self._distinct(self._ordered)

    def _reach(self, resource: Resource) -> None:
        """A resource that was not reached before, and those it refers to."""
        self._ordered.append(resource)
        resource.holders = []
        if resource.write == "delete":
            return
        for erasure in resource.erased:
            if erasure.said:
                erase(resource.body, erasure)
        references = self._made.get(resource)
        if references is None:
            return
        prune(resource.body, self.targets, references)
        resource.holders = find(resource.body, self.targets, references, self._kinds[resource.type].references)
        for _, _, key in resource.holders:
            target = self.targets[key]
            if target.holders is None:
                self._reach(target)

    def _distinct(self, resources: Sequence[Resource]) -> list[tuple[Resource, Identifier]]:
        kept: dict[str, tuple[Resource, Identifier]] = {}
        same, identity_of = self._identities.same, self._identities.of
        for resource in resources:
            identifier = identity_of(resource)
            key = identifier.key
            held = kept.get(key)
            count = 1
            while held is not None and not same(held[0], resource):
                if not self._kinds[resource.type].unowned:
                    if not identifier.derived:
                        raise refuse_conflict(resource, held[0])
                    count += 1
                    held = kept.get(f"{key}#{count}")
                    continue
                self._complete(held[0], resource)
                break
            if held is not None:
                resource.full_url = held[0].full_url
                continue
            if count > 1:
                key = f"{key}#{count}"
                identifier = Identifier(key, "", True, identifier.of_message)
            resource.full_url = f"urn:uuid:{identifier.uuid}"
            kept[key] = (resource, identifier)
        return list(kept.values())

    def _complete(self, held: Resource, other: Resource) -> None:
        """A second mention of a shared resource adds what the first did not say; where they differ the first stands."""
        for name, part in other.body.items():
            if name not in held.body:
                held.body[name] = part
                self.moves[id(held.body), name] = (id(other.body), name)
                if held.holders is not None:
                    collect(name, [part], self.targets, held.holders)
            elif self._identities.plain(held.body[name]) != self._identities.plain(part):
                self._merged(held.type)

    def bundle(self, head: Body, entries: Sequence[tuple[Resource, Identifier]]) -> Body:
        """The bundle as a dictionary, unchecked."""
        written: list[Body] = []
        for resource, identifier in entries:
            kind = self._kinds[resource.type]
            way = self._way(kind, resource, identifier)
            if way == "delete":
                written += [] if identifier.of_message else [_delete(resource.type, identifier)]
                continue
            if way == "id":
                resource.body["id"] = identifier.uuid
            elif identifier.derived:
                _add_identifier(kind, resource.body, identifier)
            if kind.keys:
                self._name_parts(kind, resource)
            body = in_order(resource, self._model)
            self.copies[id(body)] = id(resource.body)
            for _, holder, key in resource.holders or ():
                holder["reference"] = self.targets[key].full_url
            if self._conversion is not None:
                body = self._converted(self._conversion, resource, body)
            self.positions[resource.full_url] = resource.position
            request = _request(resource.type, identifier, way)
            entry = {"fullUrl": resource.full_url, "resource": body, "request": request}
            written.append(entry)
            if way == "patch" or way == "rewrite":
                written.append(self._patch(kind, way, resource, identifier, body))
                entry["resource"] = self._to_be_patched(body)
        return {"resourceType": "Bundle", **head, "type": "transaction", "entry": written}

    def _converted(self, conversion: Conversion, resource: Resource, body: Body) -> Body:
        made = conversion.resource(body, Changes(self.copies, self.moves, self._leads_to))
        del self.copies[id(body)]  # it is no part of the bundle
        return made

    def _leads_to(self, holder: Body) -> str:
        target = self.targets.get(id(holder))
        return target.type if target is not None else ""

    def way(self, resource: Resource) -> str:
        """How a resource is written: create, patch, replace, delete; `id`: whole, to the id made for it; `rewrite`:
        replaced but for what it keeps, which only a patch can leave alone."""
        kind = self._kinds[resource.type]
        needed = resource.write != "delete" and kind.identified
        return self._way(kind, resource, self._identities.of(resource) if needed else None)

    def _way(self, kind: Kind, resource: Resource, identifier: Identifier | None) -> str:
        if resource.write == "delete":
            return "delete"
        if not kind.identified or identifier is None:
            return "id"
        if identifier.of_message:
            return "create"  # never matched to what a server has
        way = resource.write or kind.way(self._event)
        return "rewrite" if way == "replace" and kind.keeps else way

    def _patch(self, kind: Kind, way: str, resource: Resource, identifier: Identifier, body: Body) -> Body:
        """Behind the entry that creates what is not there yet: the one that changes what is."""
        model, erased, fillers = self._model, [*resource.erased, *self._undone(kind, resource)], resource.fillers
        if self._conversion is not None:
            model = self._conversion.model
            erased = [self._conversion.erasure(resource.type, erasure) for erasure in erased]
            fillers = self._conversion.fillers(resource.type, fillers)
        patch = Patch(model, resource.type, kind.keys)
        operations = patch.whole(body, kind.keeps) if way == "rewrite" else patch.parameters(body, erased, fillers)
        own = Identifier(f"{identifier.key}~patch", "", True).uuid  # an entry with a resource has a url of its own
        request = {"method": "PATCH", "url": f"{resource.type}?{identifier.search}"}
        return {"fullUrl": f"urn:uuid:{own}", "resource": operations, "request": request}

    def _to_be_patched(self, body: Body) -> Body:
        """The body of what is created before it is patched: its first number has an id, which the patch takes away.

        HAPI FHIR drops a resource from its search index when it is created and then patched to the same content in one
        transaction; the next message would not find it and create another. So the content is never the same.
        """
        first, *rest = body["identifier"]
        marked = {"id": "created", **first}
        made = {**body, "identifier": [marked, *rest]}
        self.copies[id(made)], self.copies[id(marked)] = self.copies[id(body)], self.copies.get(id(first), id(first))
        return made

    def _undone(self, kind: Kind, resource: Resource) -> Iterator[Erasure]:
        """The parts that were added earlier and go again, by the ids they were given then."""
        for name, keys in kind.keys.items():
            if "id" in keys and resource.undone is not None:
                for part in resource.undone.body.get(name, ()):
                    yield Erasure((name,), (("id", self._identities.name(part)),))

    def _name_parts(self, kind: Kind, resource: Resource) -> None:
        """A list told apart by `id`: each part gets one made from what it says, so that it is only ever added once.

        One told apart by what stands deeper: ids made from that."""
        for name, keys in kind.keys.items():
            for part in resource.body.get(name, ()) if "id" in keys else ():
                part["id"] = self._identities.name(part)
            for key in keys:
                if "." in key:
                    name_parts(name, resource.body.get(name, ()), key)


def _request(type: str, identifier: Identifier, way: str) -> Body:
    if way == "id":
        return {"method": "PUT", "url": f"{type}/{identifier.uuid}"}
    if way == "replace":
        return {"method": "PUT", "url": f"{type}?{identifier.search}"}
    return {"method": "POST", "url": type, "ifNoneExist": identifier.search}


def _add_identifier(kind: Kind, body: Body, identifier: Identifier) -> None:
    made = {"system": DERIVED_SYSTEM, "value": identifier.uuid}
    if kind.several:
        body["identifier"] = [*body.get("identifier", ()), made]
    else:
        body.setdefault("identifier", made)


def _delete(type: str, identifier: Identifier) -> Body:
    return {"request": {"method": "DELETE", "url": f"{type}?{identifier.search}"}}


def in_order(resource: Resource, model: Model) -> Body:
    """The body with its elements in the specification's order, so that people find them where they expect them."""
    said = resource.body
    names = tuple(said)
    order = model.in_order(resource.type, names)
    if order == names:
        return {"resourceType": resource.type, **said}
    body: Body = {"resourceType": resource.type}
    for name in order:
        body[name] = said[name]
    return body


def find(
    body: Body, targets: Mapping[int, Resource], references: Sequence[Reference], direct: Container[str]
) -> list[Held]:
    """The Reference elements of a body whose target is known, in order.

    references: all that were ever made in this body. Most stand right below it, in an element that is a Reference
    (direct); only where one does not, all is looked through.
    """
    found: list[Held] = []
    wanted = {reference.key for reference in references if reference.key in targets}
    for name, part in body.items():
        if name in direct:
            for each in part if part.__class__ is list else (part,):
                key = id(each)
                if key in wanted:
                    wanted.discard(key)
                    found.append((name, each, key))
    if wanted:
        found.clear()
        for name, part in body.items():
            if part.__class__ in NESTED:
                collect(name, part, targets, found)
    return found


def collect(name: str, value: Any, targets: Mapping[int, Resource], into: list[Held]) -> None:
    """All Reference elements in a value whose target is known."""
    if value.__class__ is dict:
        key = id(value)
        if key in targets:
            into.append((name, value, key))
        value = value.values()
    for part in value:
        if part.__class__ in NESTED:
            collect(name, part, targets, into)


def prune(body: Body, targets: Mapping[int, Resource], references: Sequence[Reference]) -> None:
    """Takes out the references that lead nowhere and whatever is empty without them."""
    for reference in references:
        if reference.key not in targets:
            _prune(body)
            return


def _prune(value: Any) -> bool:
    """True when nothing is left."""
    if isinstance(value, dict):
        for name in [n for n, part in value.items() if part.__class__ in NESTED and _prune(part)]:
            del value[name]
        return not value
    value[:] = [part for part in value if not (part.__class__ in NESTED and _prune(part))]
    return not value


def to_bytes(bundle: Body) -> bytes:
    """JSON; a Number is written by its digits."""
    return orjson.dumps(bundle, default=_digits, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def _digits(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(str(value))
    raise TypeError(f"a bundle holds no {type(value).__name__}")
