"""Judges code tables, options and identity."""

from __future__ import annotations

import re

from hl7bridge.fhir.model import Model
from hl7bridge.mapping.schema import CodeTable, Identity, Option, TableSet
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import article, did_you_mean, listed

_TABLE_NUMBER = re.compile(r"\d{4}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_CODE = re.compile(r"\S+( \S+)*")
_MESSAGE_CODE = re.compile(r"[A-Z]{3}(?:\^[A-Z][A-Z0-9]{2})?")
_FIELD = r"[A-Z][A-Z0-9]{2}-[0-9]{1,2}(?:\.[0-9]{1,2})?"
_FIELDS = re.compile(rf"{_FIELD}(?:\|{_FIELD})*")
_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
MADE_UP = ("position", "message")  # in `unique`: where in the message the resource stands; the message itself


class SiteCheck:
    def __init__(self, tables: TableSet, model: Model, mistakes: Mistakes) -> None:
        self.tables = tables
        self.model = model
        self.mistakes = mistakes

    def check(self) -> None:
        for codes in self.tables.codes.values():
            self._codes(codes)
        for option in self.tables.options.values():
            self._option(option)
        for identity in self.tables.identities.values():
            self._identity(identity)

    def _codes(self, codes: CodeTable) -> None:
        if codes.v2_table and _TABLE_NUMBER.fullmatch(codes.v2_table) is None:
            self.mistakes.add(codes.place, f"`v2-table` is a number of four digits, not {codes.v2_table!r}")
        systems = {codes.system, *(code.system for code in codes.map.values())} - {""}
        for system in sorted(systems):
            if _URI.fullmatch(system) is None:
                self.mistakes.add(codes.place, f"the system {system!r} is not a uri")
        for key, code in codes.map.items():
            if code.code and _CODE.fullmatch(code.code) is None:
                self.mistakes.add(
                    codes.places.get(key, codes.place), f"{code.code!r} is not a code: blanks stand at its ends"
                )

    def _option(self, option: Option) -> None:
        if _OPTION_NAME.fullmatch(option.name) is None:
            self.mistakes.add(option.place, f"the option {option.name!r} is named with small letters, digits and -")
        if option.values and option.default not in option.values:
            values = listed(option.values)
            self.mistakes.add(
                option.place, f"the default of {option.name!r} is {option.default!r}, and its values are {values}"
            )

    def _identity(self, identity: Identity) -> None:
        if not self.model.is_resource(identity.type):
            meant = self.model.suggest_type(identity.type, resources_only=True)
            hint = f"; did you mean {meant!r}?" if meant else ""
            self.mistakes.add(identity.place, f"there is no resource type {identity.type!r} in FHIR R4{hint}")
            return
        if identity.prefer and self.model.element(identity.type, "identifier") is None:
            self.mistakes.add(identity.place, f"{identity.type} has no identifier, so `prefer` says nothing")
        for path in identity.unique:
            self._unique(identity, path)
        self._writers(identity)
        self._keys(identity)
        for name in identity.keeps:
            if self.model.element(identity.type, name) is None and not self.model.choices(identity.type, name):
                hint = did_you_mean(name, self.model.elements(identity.type))
                self.mistakes.add(identity.place, f"`keeps`: {identity.type} has no element {name!r}{hint}")
        if identity.collapse:
            self._collapse(identity)

    def _writers(self, identity: Identity) -> None:
        for word, names in (("owners", identity.owners), ("patchers", identity.patchers)):
            for name in names:
                if _MESSAGE_CODE.fullmatch(name) is None:
                    self.mistakes.add(
                        identity.place, f"`{word}` are message codes like ADT or events like ADT^A08, not {name!r}"
                    )
        for name in sorted({*identity.owners} & {*identity.patchers}):
            self.mistakes.add(identity.place, f"{name} stands in `owners` and in `patchers`: it is one or the other")
        identifier = self.model.element(identity.type, "identifier")
        if (identity.patchers or identity.keeps) and (identifier is None or not identifier.many):
            has = "one identifier at most" if identifier is not None else "no identifier"
            self.mistakes.add(identity.place, f"{identity.type} has {has}: it is written whole, never patched")

    def _keys(self, identity: Identity) -> None:
        """Simple elements in the parts of a list, or one deeper down (`type.coding.code`): ids are made of it."""
        for name, keys in identity.keys.items():
            element = self.model.element(identity.type, name)
            if element is None or not element.many:
                hint = did_you_mean(name, [n for n, e in self.model.elements(identity.type).items() if e.many])
                self.mistakes.add(identity.place, f"`keys`: {identity.type} has no list {name!r}{hint}")
                continue
            for key in keys:
                self._key(identity, name, element.type, key)

    def _key(self, identity: Identity, name: str, type_: str, key: str) -> None:
        *way, last = key.split(".")
        if way and len(identity.keys[name]) > 1:
            self.mistakes.add(identity.place, f"`keys`: {key!r} leads into the parts of {name}, and stands alone then")
        for step in way:
            inner = self.model.element(type_, step)
            type_ = inner.type if inner is not None else ""
            if inner is None or inner.is_primitive or inner.type == "Reference":
                self.mistakes.add(identity.place, f"`keys`: {name} has no element {key!r} that leads to a simple one")
                return
        part = self.model.element(type_, last)
        if part is None or part.many or not part.is_primitive:
            fit = [n for n, e in self.model.elements(type_).items() if e.is_primitive and not e.many]
            hint = did_you_mean(last, fit) or f"; there are {listed(fit, 'and')}"
            self.mistakes.add(
                identity.place, f"`keys`: {name} is told apart by a simple element in it, not {key!r}{hint}"
            )

    def _unique(self, identity: Identity, path: str) -> None:
        if path in MADE_UP or _FIELDS.fullmatch(path):
            return
        type_ = identity.type
        for name in path.split("."):
            element = self.model.element(type_, name)
            choices = self.model.choices(type_, name)
            if element is None and not choices:
                known = {**self.model.elements(type_), **dict.fromkeys(MADE_UP)}
                hint = did_you_mean(name, known)
                self.mistakes.add(identity.place, f"`unique`: {type_} has no element {name!r}{hint}")
                return
            type_ = self.model.elements(type_)[element.name if element else choices[0]].type

    def _collapse(self, identity: Identity) -> None:
        element = self.model.element(identity.type, identity.collapse)
        if element is None:
            hint = did_you_mean(identity.collapse, self.model.elements(identity.type))
            self.mistakes.add(identity.place, f"`collapse`: {identity.type} has no element {identity.collapse!r}{hint}")
        elif not element.is_resource_reference or (element.targets and identity.type not in element.targets):
            kind = f"a reference to {listed(element.targets)}" if element.targets else article(element.type)
            self.mistakes.add(
                identity.place, f"`collapse` names a reference to {identity.type}, and {identity.collapse} is {kind}"
            )
