"""Judges segment and data type tables: paths, types, codes, repetition, and that no v2 field is forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hl7bridge.fhir.model import Element, Model
from hl7bridge.mapping.check_refs import RefCheck
from hl7bridge.mapping.functions import FUNCTIONS
from hl7bridge.mapping.paths import Malformed, parse_ref
from hl7bridge.mapping.schema import CodeTable, OptionTest, OptionValue, Path, Place, Row, Table, TableSet
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import Landing, Walker, article, did_you_mean, listed

_TEXTS = frozenset(("string", "markdown", "code", "id", "uri", "url", "canonical", "oid", "uuid"))
_DATES = frozenset(("date", "dateTime", "instant"))
_NUMBERS = frozenset(("decimal", "integer", "positiveInt", "unsignedInt"))
_FAMILIES = (_TEXTS, _DATES, _NUMBERS)
_CODED = ("Coding", "CodeableConcept")
_GIVES = {"coding-system": _TEXTS, "identifier-system": _TEXTS, "ucum": _TEXTS, "ucum-code": _TEXTS, "text": _TEXTS}
_GIVES["base64"] = frozenset(("base64Binary",))
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


class RowCheck:
    """Judges one table after the other."""

    def __init__(self, tables: TableSet, model: Model, mistakes: Mistakes, broken: frozenset[str]) -> None:
        self.tables = tables
        self.model = model
        self.mistakes = mistakes
        self.broken = broken
        self.walker = Walker(model, mistakes)
        self.refs = RefCheck(mistakes)

    def check(self, table: Table) -> None:
        if not self._known(table):
            return
        landings: list[tuple[Row, Landing]] = []
        for row in table.rows:
            self.refs.row(table, row)
            landing = self._row(table, row)
            if landing is not None:
                landings.append((row, landing))
        self._written_twice(landings)
        self._choices(landings)
        self._slots(table)
        self._coverage(table)
        self._circle(table)

    # -- the table ------------------------------------------------------------------------------------------------

    def _known(self, table: Table) -> bool:
        if not self.model.exists(table.target) or (table.kind == "segment" and self.model.is_primitive(table.target)):
            meant = self.model.suggest_type(table.target)
            hint = f"; did you mean {meant!r}?" if meant else ""
            self.mistakes.add(table.place, f"{table.name}: there is no type {table.target!r} in FHIR R4{hint}")
            return False
        if table.kind == "segment":
            self.refs.ref(parse_ref(table.source), table.place)
        elif not self.refs.standard.has_datatype(table.source) and not table.source.startswith("Z"):
            self.mistakes.add(table.place, f"HL7 v2 has no data type {table.source}")
        return True

    def _coverage(self, table: Table) -> None:
        """Every field of the standard's segment is read or said not to be."""
        read = {row.source.parts[0]: row.place for row in table.rows if row.source.parts}
        said: set[int] = set()
        for key in table.unmapped:
            place = table.unmapped_places.get(key, table.place)
            try:
                ref = parse_ref(key)
            except Malformed as error:
                self.mistakes.add(place, f"`unmapped`: {error.what}")
                continue
            if ref.root != table.source or not ref.parts:
                self.mistakes.add(place, f"`unmapped`: the table reads {table.source}, and {key} is no field of it")
                continue
            self.refs.ref(ref, place, "`unmapped`: ")
            if len(ref.parts) == 1 and ref.parts[0] in read:
                line = read[ref.parts[0]].line
                self.mistakes.add(
                    place, f"{key} stands in `unmapped` and in `rows` (line {line}): it is one or the other"
                )
            said.add(ref.parts[0])
        if table.kind != "segment" or table.place.file in self.broken:
            return
        numbers = [field.number for field in self.refs.standard.fields(table.source)]
        missing = _runs(table.source, [number for number in numbers if number not in said and number not in read])
        if missing:
            stand = "stands" if len(missing) == 1 and " to " not in missing[0] else "stand"
            names = listed(missing, "and")
            self.mistakes.add(table.place, f"{names} {stand} neither in `rows` nor in `unmapped` of {table.name}")

    def _circle(self, table: Table) -> None:
        """A data type table that hands its whole value to itself, directly or through others, would never end."""
        if table.kind != "datatype":
            return
        seen: set[str] = set()
        open_ = [(table, row) for row in table.rows if not row.source.parts and row.as_]
        while open_:
            _, row = open_.pop()
            name = row.as_ or ""
            if name == table.name:
                self.mistakes.add(row.place, f"{table.name} converts its whole value with itself, which never ends")
                return
            if name not in seen and name in self.tables.datatypes:
                seen.add(name)
                following = self.tables.datatypes[name]
                open_ += [(following, r) for r in following.rows if not r.source.parts and r.as_]

    # -- one row --------------------------------------------------------------------------------------------------

    def _row(self, table: Table, row: Row) -> Landing | None:
        self._names(row)
        if row.to is None:
            return None
        landing = self._landing(table, row, row.to)
        if landing is not None:
            self._value(table, row, landing)
        self._companions(table, row)
        if row.invalid is not None:
            self._refuge(table, row.invalid)
        return landing

    def _names(self, row: Row) -> None:
        self._name(row.as_, self.tables.datatypes, row.place, "data type table")
        self._name(row.codes, self.tables.codes, row.place, "code table")
        if row.apply is not None and row.apply not in FUNCTIONS:
            hint = did_you_mean(row.apply, FUNCTIONS) or f"; there are {listed(sorted(FUNCTIONS), 'and')}"
            self.mistakes.add(row.place, f"there is no function {row.apply!r}{hint}")
        self.option(row.option, row.place)
        for value in (row.value, *(constant for _, constant in row.set_)):
            if isinstance(value, OptionValue):
                self.option(value, row.place)

    def _name(self, name: str | None, known: object, place: Place, what: str) -> None:
        assert isinstance(known, dict)
        if name is None or name in known:
            return
        if any(file.endswith(f"/{name}.yaml") for file in self.broken):
            return
        self.mistakes.add(place, f"there is no {what} {name!r}{did_you_mean(name, known)}")

    def option(self, asked: OptionTest | OptionValue | None, place: Place) -> None:
        """An option that is asked for exists, and may have the value that is asked for."""
        if asked is None or any(file.endswith("/options.yaml") for file in self.broken):
            return
        option = self.tables.options.get(asked.name)
        if option is None:
            self.mistakes.add(
                place, f"there is no option {asked.name!r}{did_you_mean(asked.name, self.tables.options)}"
            )
        elif isinstance(asked, OptionTest) and option.values and asked.value not in option.values:
            self.mistakes.add(
                place, f"the option {asked.name!r} is never {asked.value!r}: it is {listed(option.values)}"
            )

    def _landing(self, table: Table, row: Row, to: Path) -> Landing | None:
        primitive = self.model.is_primitive(table.target)
        if to.text == "$value" and not primitive:
            self.mistakes.add(
                to.place, f"$value is for tables that give a primitive, and {table.name} gives {article(table.target)}"
            )
            return None
        if primitive and (to.text != "$value" or row.extension):
            self.mistakes.add(to.place, f"{table.name} gives {article(table.target)}: its rows write to $value")
            return None
        return self.walker.row(table, row)

    def _value(self, table: Table, row: Row, landing: Landing) -> None:
        """What the row gives against what stands at its target."""
        where = self._where(table, row, landing)
        if row.as_ is not None:
            made = self.tables.datatypes.get(row.as_)
            if made is not None:
                self._made(row, made, landing, where)
        elif not (landing.type in _CODED and row.codes) and not self._is_primitive(landing, where, row):
            return
        if row.value is not None:
            self._constant(row.value, landing, where, row.place)
        if row.concat and landing.type not in _TEXTS:
            self.mistakes.add(row.place, f"`concat` gives a text, and {where} is {article(landing.type)}")
        if row.apply in _GIVES and landing.type not in _GIVES[row.apply or ""]:
            gives = "base64" if row.apply == "base64" else "a text"
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

    # -- constants and codes --------------------------------------------------------------------------------------

    def _companions(self, table: Table, row: Row) -> None:
        for path, constant in row.set_:
            inside = bool(row.extension) and bool(path.steps) and path.steps[0].name.startswith("value")
            landing = self.walker.inside_extension(path, ()) if inside else self.walker.path(table.target, path)
            if landing is None:
                continue
            if not self.model.is_primitive(landing.type):
                self.mistakes.add(
                    path.place,
                    f"`set`: {path.text} is {article(landing.type)}; a constant goes into an element inside it",
                )
                continue
            self._constant(constant, landing, path.text, path.place)

    def _constant(self, value: str | OptionValue, landing: Landing, where: str, place: Place) -> None:
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

    def _refuge(self, table: Table, path: Path) -> None:
        landing = self.walker.path(table.target, path)
        if landing is not None and landing.type not in ("string", "markdown"):
            self.mistakes.add(path.place, f"`invalid` keeps a text as sent, and {path.text} is {article(landing.type)}")

    # -- rows among each other ------------------------------------------------------------------------------------

    def _written_twice(self, landings: list[tuple[Row, Landing]]) -> None:
        """Two rows that always write the same: a value that the later one would silently replace."""
        first: dict[tuple[str, ...], Row] = {}
        for row, landing in _always(landings):
            key = (*landing.key, row.as_ or "") if not self.model.is_primitive(landing.type) else landing.key
            if key in first:
                before = first[key]
                text = row.to.text if row.to else ""
                self.mistakes.add(
                    row.place,
                    f"{row.source} and {before.source} ({_seen(before, row)}) both write {text}, "
                    "and neither has a `when`",
                )
            else:
                first[key] = row

    def _choices(self, landings: list[tuple[Row, Landing]]) -> None:
        """Two rows that always give one choice element different types, of which FHIR allows one."""
        first: dict[tuple[str, ...], tuple[str, Row]] = {}
        for row, landing in _always(landings):
            for key, name in landing.choices:
                before = first.setdefault(key, (name, row))
                if before[0] != name:
                    self.mistakes.add(
                        row.place,
                        f"{name} and {before[0]} ({_seen(before[1], row)}) are one element, {key[-1]}[x], "
                        "and neither row has a `when`",
                    )

    def _slots(self, table: Table) -> None:
        """A label names one extension: one url."""
        first: dict[tuple[str, str], Row] = {}
        for row in table.rows:
            if not row.extension or not row.extension_label:
                continue
            slot = (row.on.text if row.on else "", row.extension_label)
            before = first.setdefault(slot, row)
            if before.extension[0] != row.extension[0]:
                self.mistakes.add(
                    row.place,
                    f"the extension #{row.extension_label} has two urls: {row.extension[0]} here, "
                    f"{before.extension[0]} in {_seen(before, row)}",
                )


def _always(landings: list[tuple[Row, Landing]]) -> Iterator[tuple[Row, Landing]]:
    """The rows that depend on nothing but their field."""
    return ((row, landing) for row, landing in landings if row.when is None and row.option is None)


def _runs(segment: str, numbers: list[int]) -> list[str]:
    """`PID-1`, `PID-4 to PID-9`: three and more in a row are written as one."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    named: list[str] = []
    for run in runs:
        ends = f"{segment}-{run[0]} to {segment}-{run[-1]}"
        named += [ends] if len(run) > 2 else [f"{segment}-{number}" for number in run]
    return named


def _seen(row: Row, from_row: Row) -> str:
    """Where another row stands, seen from one."""
    return f"line {row.place.line}" if row.place.file == from_row.place.file else str(row.place)
