"""Judges segment and data type tables: paths, types, codes, repetition, and that no v2 field is forgotten."""

from __future__ import annotations

from collections.abc import Iterator

from hl7bridge.fhir.model import Model
from hl7bridge.mapping.check_refs import RefCheck
from hl7bridge.mapping.check_values import ValueCheck
from hl7bridge.mapping.erase import erasures
from hl7bridge.mapping.functions import FUNCTIONS, OF_A_TEXT
from hl7bridge.mapping.paths import ANOTHER, Malformed, parse_ref
from hl7bridge.mapping.schema import (
    FieldValue,
    OptionTest,
    OptionValue,
    Path,
    Place,
    Row,
    Table,
    TableSet,
    is_segment_name,
)
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import Landing, Walker, article, did_you_mean, listed


class RowCheck:
    """Judges one table after the other."""

    def __init__(self, tables: TableSet, model: Model, mistakes: Mistakes, broken: frozenset[str]) -> None:
        self.tables = tables
        self.model = model
        self.mistakes = mistakes
        self.broken = broken
        self.walker = Walker(model, mistakes)
        self.refs = RefCheck(mistakes)
        self.values = ValueCheck(tables, model, mistakes)

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
            try:
                self.refs.ref(parse_ref(table.source), table.place)
            except Malformed as error:
                self.mistakes.add(table.place, f"{table.name}: {error.what}")
                return False
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
        if row.remove:
            self._removal(table, row, row.to)
            return None
        landing = self._landing(table, row, row.to)
        if landing is not None:
            self.values.row(table, row, landing)
        self._companions(table, row)
        if row.invalid is not None:
            self._refuge(table, row.invalid)
        if row.fallback and (
            len(row.to.steps) != 1 or landing is None or landing.element is None or landing.element.many
        ):
            at = f"{table.target}.{row.to.text}"
            self.mistakes.add(
                row.to.place, f"`fallback` is for an element that occurs once, right in its table: not {at}"
            )
        if row.invalid_with is not None:
            self.field_value(FieldValue(row.invalid_with), table, row.place, "`invalid`: ")
        return landing

    def _removal(self, table: Table, row: Row, to: Path) -> None:
        """A row that takes away: an element that a server can be told of."""
        if table.kind != "segment":
            self.mistakes.add(row.place, "`remove` stands in segment tables: what a data type gives is written whole")
            return
        if self.walker.path(table.target, to) is None:
            return
        gone = erasures(self.model, self.tables, table, [row])
        if not gone:
            step = to.steps[-1]
            self.mistakes.add(
                to.place,
                f"`remove`: on a server nothing tells {step.name}#{step.label} from the rest of {step.name}: "
                f"`keys` of {table.target} in identity.yaml say which element does, and a row of the label its value",
            )
        elif len(gone[0].path) < len(to.steps):
            path = ".".join(gone[0].path)
            self.mistakes.add(to.place, f"`remove` takes away {path} as a whole: write `to: {path}`")

    def _names(self, row: Row) -> None:
        self._name(row.as_, self.tables.datatypes, row.place, "data type table")
        self._name(row.codes, self.tables.codes, row.place, "code table")
        if row.apply is not None and row.apply not in FUNCTIONS:
            hint = did_you_mean(row.apply, FUNCTIONS) or f"; there are {listed(sorted(FUNCTIONS), 'and')}"
            self.mistakes.add(row.place, f"there is no function {row.apply!r}{hint}")
        if row.apply == "lines" and (not is_segment_name(row.source.root) or len(row.source.parts) != 1):
            self.mistakes.add(row.place, f"`apply: lines` reads the repetitions of a field, and {row.source} is none")
        if row.apply == "base64" and not _has_one_before(row):
            self.mistakes.add(
                row.place, f"`apply: base64` reads the encoding before the data, and {row.source} has none"
            )
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
        if to.another and table.kind == "segment":
            self.mistakes.add(
                to.place, f"{ANOTHER} is for data type tables: a further instance here has a label, like name#called"
            )
            return None
        if to.text == "$value" and not primitive:
            self.mistakes.add(
                to.place, f"$value is for tables that give a primitive, and {table.name} gives {article(table.target)}"
            )
            return None
        if primitive and (to.text != "$value" or row.extension):
            self.mistakes.add(to.place, f"{table.name} gives {article(table.target)}: its rows write to $value")
            return None
        return self.walker.row(table, row)

    def _companions(self, table: Table, row: Row) -> None:
        for path, constant in row.set_:
            if isinstance(constant, FieldValue):
                self.field_value(constant, table, path.place, "`set`: ")
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
            if not isinstance(constant, FieldValue):
                self.values.constant(constant, landing, path.text, path.place)

    def field_value(self, value: FieldValue, table: Table | None, place: Place, what: str) -> None:
        """A field that is read beside the row's own exists, and its function is one that makes a text of a text."""
        self.refs.ref(value.ref, place, what)
        if value.apply and value.apply not in OF_A_TEXT:
            hint = did_you_mean(value.apply, OF_A_TEXT) or f"; there are {listed(sorted(OF_A_TEXT), 'and')}"
            self.mistakes.add(place, f"{what}there is no function {value.apply!r} for one field{hint}")
        elif table is not None and not is_segment_name(value.ref.root) and value.ref.root != table.source:
            self.mistakes.add(place, f"{what}{value.ref} is no part of {table.source}, which the table reads")

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
    return ((row, landing) for row, landing in landings if not row.when_text and row.option is None)


def _has_one_before(row: Row) -> bool:
    """Whether a component stands before the row's own, like ED.4 before ED.5."""
    components = row.source.parts[1:] if is_segment_name(row.source.root) else row.source.parts
    return bool(components) and components[-1] > 1


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
