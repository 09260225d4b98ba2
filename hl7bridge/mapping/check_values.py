"""Judges what a row gives against what stands at its target: types, constants, code tables, required bindings."""

from __future__ import annotations

import re

from hl7bridge.fhir.model import Element, Model
from hl7bridge.mapping.schema import CodeTable, OptionValue, Place, Row, Table, TableSet
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import Landing, article, did_you_mean, listed

_TEXTS = frozenset(("string", "markdown", "code", "id", "uri", "url", "canonical", "oid", "uuid"))
_DATES = frozenset(("date", "dateTime", "instant"))
_NUMBERS = frozenset(("decimal", "integer", "positiveInt", "unsignedInt"))
_FAMILIES = (_TEXTS, _DATES, _NUMBERS)
_CODED = ("Coding", "CodeableConcept")
_GIVES = {
    "coding-system": _TEXTS,
    "identifier-system": _TEXTS,
    "ucum": _TEXTS,
    "ucum-code": _TEXTS,
    "text": _TEXTS,
    "samples": _TEXTS,
    "positive": _NUMBERS,
}
_GIVES |= {"lines": _TEXTS, "comparator": _TEXTS, "outer-sub-id": _TEXTS}
_GIVES["base64"] = _GIVES["text-base64"] = frozenset(("base64Binary",))
_CONSTANTS = {
    "boolean": re.compile("true|false"),
    "integer": re.compile(r"-?\d{1,10}"),
    "positiveInt": re.compile(r"[1-9]\d{0,9}"),
    "unsignedInt": re.compile(r"\d{1,10}"),
    "decimal": re.compile(r"-?\d+(\.\d+)?"),
    "date": re.compile(r"\d{4}(-\d\d(-\d\d)?)?"),
    "dateTime": re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?"),
    "code": re.compile(r"\S+( \S+)*"),
    "uri": re.compile(r"\S+"),
}


class ValueCheck:
    """Judges one row's value after the other."""

    def __init__(self, tables: TableSet, model: Model, mistakes: Mistakes) -> None:
        self.tables = tables
        self.model = model
        self.mistakes = mistakes

    def row(self, table: Table, row: Row, landing: Landing) -> None:
        """What the row gives against what stands at its target."""
        where = self._where(table, row, landing)
        if row.as_ is not None:
            made = self.tables.datatypes.get(row.as_)
            if made is not None:
                self._made(row, made, landing, where)
        elif not (landing.type in _CODED and row.codes) and not self._is_primitive(landing, where, row):
            return
        if row.value is not None:
            self.constant(row.value, landing, where, row.place)
        if len(row.concat) > 1 and landing.type not in _TEXTS:  # a single field is converted like the row's own
            self.mistakes.add(row.place, f"`concat` gives a text, and {where} is {article(landing.type)}")
        if row.apply in _GIVES and landing.type not in _GIVES[row.apply or ""]:
            gives = "base64" if row.apply in ("base64", "text-base64") else "a text"
            self.mistakes.add(row.place, f"`apply: {row.apply}` gives {gives}, and {where} is {article(landing.type)}")
        codes = self.tables.codes.get(row.codes or "")
        if codes is not None:
            self._codes(codes, landing, where, row.place)

    def _where(self, table: Table, row: Row, landing: Landing) -> str:
        if landing.element is None or row.to is None or not row.to.steps:
            return landing.type if landing.behind else row.to.text if row.to else landing.type
        return row.to.text if row.extension else f"{table.target}.{row.to.text}"

    def _is_primitive(self, landing: Landing, where: str, row: Row) -> bool:
        if self.model.is_primitive(landing.type):
            return True
        if row.value is not None or row.concat or row.apply:
            self.mistakes.add(row.place, f"{where} is {article(landing.type)}; a text goes into an element inside it")
        elif landing.type == "Reference":
            self.mistakes.add(
                row.place, f"{where} is a reference: the resource behind it stands in ( ), and `as` fills it"
            )
        else:
            fitting = [t.name for t in self.tables.datatypes.values() if t.target == landing.type][:4]
            hint = f" ({listed(fitting)})" if fitting else ""
            self.mistakes.add(
                row.place, f"{where} is {article(landing.type)}: it needs `as`{hint} or an element inside it"
            )
        return False

    def _made(self, row: Row, made: Table, landing: Landing, where: str) -> None:
        """The data type table's target against the element's type."""
        wanted, given = landing.type, made.target
        if given == wanted or self.model.is_a(given, wanted) or self.model.is_a(wanted, given):
            return
        if any(given in family and wanted in family for family in _FAMILIES):
            return
        hint = ""
        if wanted == "Reference" and self.model.is_resource(given) and row.to is not None:
            targets = landing.element.targets if landing.element else ()
            hint = (
                f": write {row.to.text}({given})"
                if not targets or given in targets
                else f", which leads to {listed(targets)}"
            )
        self.mistakes.add(row.place, f"{row.as_} gives {article(given)}, and {where} is {article(wanted)}{hint}")

    def constant(self, value: str | OptionValue, landing: Landing, where: str, place: Place) -> None:
        if isinstance(value, OptionValue):
            option = self.tables.options.get(value.name)
            where = f"the option {value.name!r} is the value of {where}, which"
            place = option.place if option else place
        for text in self._possible(value):
            form = _CONSTANTS.get(landing.type)
            if form is not None and form.fullmatch(text) is None:
                self.mistakes.add(place, f"{where} is {article(landing.type)}, and {text!r} is none")
            elif landing.element is not None and landing.element.codes and text not in landing.element.codes:
                self._not_allowed(text, landing.element, where, place)
            elif landing.concept is not None:
                self._in_concept(text, landing.concept, landing.inside, where, place)

    def _possible(self, value: str | OptionValue) -> tuple[str, ...]:
        if not isinstance(value, OptionValue):
            return (value,)
        option = self.tables.options.get(value.name)
        return option.values or (option.default,) if option else ()

    def _in_concept(self, text: str, concept: Element, inside: tuple[str, ...], where: str, place: Place) -> None:
        if inside == ("coding", "code") and text not in concept.codes:
            self._not_allowed(text, concept, where, place)
        if inside == ("coding", "system") and text != concept.system:
            self.mistakes.add(place, f"{where} is {concept.system} and no other")

    def _not_allowed(self, text: str, element: Element, where: str, place: Place) -> None:
        self.mistakes.add(
            place, f"{where} may not be {text!r}: it is {listed(element.codes)}{did_you_mean(text, element.codes)}"
        )

    def _codes(self, codes: CodeTable, landing: Landing, where: str, place: Place) -> None:
        """What a code table gives against what the element may hold."""
        if landing.type in _CODED:
            self._codings(codes, landing, where, place)
        elif landing.type == "boolean":
            self._only(codes, ("true", "false"), where, place)
        elif landing.type not in _TEXTS and landing.type not in _NUMBERS:
            self.mistakes.add(place, f"`codes` gives a code, and {where} is {article(landing.type)}")
        elif landing.element is not None and landing.element.codes:
            self._only(codes, landing.element.codes, where, place)

    def _only(self, codes: CodeTable, allowed: tuple[str, ...], where: str, place: Place) -> bool:
        """Codes that may not stand there are named where they are written, unless the whole table is a wrong one."""
        given = [(codes.places.get(key, codes.place), code.code) for key, code in codes.map.items()]
        if codes.otherwise not in ("keep", "drop", "error"):
            given.append((codes.otherwise_place or codes.place, codes.otherwise))
        wrong = [(at, code) for at, code in given if code not in allowed]
        if wrong and len(wrong) == len(given):
            names = listed(sorted({repr(code) for _, code in wrong}), "and")
            self.mistakes.add(
                place, f"the code table {codes.name} gives {names}, and {where} is only {listed(allowed)}"
            )
        else:
            for at, code in wrong:
                hint = did_you_mean(code, allowed)
                self.mistakes.add(at, f"{where} may not be {code!r}: it is {listed(allowed)}{hint}")
        return not wrong

    def _codings(self, codes: CodeTable, landing: Landing, where: str, place: Place) -> None:
        bare = sorted({code.code for code in codes.map.values() if not code.system})
        if bare:
            self.mistakes.add(
                place,
                f"the code table {codes.name} gives {listed(bare[:5], 'and')} without a system, "
                f"and {where} is {article(landing.type)}",
            )
        element = landing.element
        if element is None or not element.system:
            return
        if not self._only(codes, element.codes, where, place):
            return
        systems = {code.system for code in codes.map.values() if code.system} - {element.system}
        if systems:
            self.mistakes.add(
                place,
                f"the code table {codes.name} gives codes of {listed(sorted(systems), 'and')}, "
                f"and {where} is only of {element.system}",
            )
        if codes.otherwise == "keep":
            self.mistakes.add(
                place, f"{where} has a required binding: the code table {codes.name} cannot say `otherwise: keep`"
            )
