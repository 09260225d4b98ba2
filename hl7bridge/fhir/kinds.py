"""What a resource's type alone decides of its identity and how it is laid out, worked out once a type.

Sans-IO. Kept with the tables: rules come from mappings/identity.yaml, elements from the model; no message is known
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hl7bridge.fhir.identity import Part, part_of
from hl7bridge.fhir.model import Model


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


class Kind:
    """One type of resource, as its rule and the model have it.

    prefer, collapse, keys, keeps: as in the rule. unique: how each path of the rule's is read off a resource. unowned:
    no message owns such a resource, its mentions complete each other. identified: the type has an `identifier`, and
    several: more than one. references: the elements that are References.
    """

    __slots__ = (
        "_rule",
        "_ways",
        "collapse",
        "identified",
        "keeps",
        "keys",
        "prefer",
        "references",
        "several",
        "unique",
        "unowned",
    )

    def __init__(self, model: Model, type: str, rule: Rule | None) -> None:
        elements = model.elements(type)
        identifier = elements.get("identifier")
        self.identified = identifier is not None
        self.several = identifier is not None and identifier.many
        self.prefer: tuple[str, ...] = rule.prefer if rule is not None else ()
        self.unique: tuple[Part, ...] = (
            tuple(part_of(model, type, path) for path in rule.unique) if rule is not None else ()
        )
        self.collapse = rule.collapse if rule is not None else ""
        self.keys: Mapping[str, tuple[str, ...]] = rule.keys if rule is not None else {}
        self.keeps: tuple[str, ...] = rule.keeps if rule is not None else ()
        self.unowned = rule is not None and not rule.owners and not rule.patchers
        self.references = frozenset(name for name, element in elements.items() if element.type == "Reference")
        self._rule = rule
        self._ways: dict[tuple[str, str], str] = {}

    def way(self, event: tuple[str, str]) -> str:
        """How an event (message code, trigger event) writes the type: `replace` by its owners, `patch` by its patchers,
        else `create`. An event named (ADT^A02) comes before all events of its message (ADT)."""
        found = self._ways.get(event)
        if found is None:
            found = self._ways[event] = _way(self._rule, event)  # as many as the tables have events
        return found


def _way(rule: Rule | None, event: tuple[str, str]) -> str:
    for name in ("^".join(event), event[0]):
        if rule is not None and name in rule.owners:
            return "replace"
        if rule is not None and name in rule.patchers:
            return "patch"
    return "create"


class Kinds(dict[str, Kind]):
    """Every type that was met, by name."""

    def __init__(self, model: Model, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.model = model
        self._rules = rules

    def __missing__(self, type: str) -> Kind:
        kind = self[type] = Kind(self.model, type, self._rules.get(type))
        return kind
