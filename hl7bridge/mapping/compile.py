"""Segment and data type tables become Python code: one function for each, its rows in order, grouped by field.

Sans-IO. Everything that does not depend on the message is decided here, once: paths, types, converters, code tables,
options, functions. A field that is empty costs one test unless one of its rows has a condition. The code of a table is
made when it is first used; `hl7bridge mappings compiled PID-Patient` prints it. Tracebacks show its lines.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hl7bridge.fhir.model import Model
from hl7bridge.fhir.resource import Body, Reference, Resource
from hl7bridge.hl7v2.form import ANY, PLAIN, SINGLE
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping import write
from hl7bridge.mapping.access import Reader, function
from hl7bridge.mapping.code import INDENT, Code
from hl7bridge.mapping.codes import honest
from hl7bridge.mapping.convert import CONVERTERS, Invalid
from hl7bridge.mapping.datatype_code import DatatypeCode
from hl7bridge.mapping.erase import governed, only_fills
from hl7bridge.mapping.functions import FUNCTIONS, encoded, system_of
from hl7bridge.mapping.in_place import in_place, needed
from hl7bridge.mapping.link_code import LinksCode
from hl7bridge.mapping.runtime import NULL, Deletion, Issue, Run, only_deletes
from hl7bridge.mapping.schema import Condition, FieldValue, OptionValue, Path, Ref, Row, Table, TableSet
from hl7bridge.mapping.table_code import SegmentCode
from hl7bridge.mapping.target import Target, compile_path
from hl7bridge.mapping.use_code import UsesCode

if TYPE_CHECKING:
    from hl7bridge.mapping.lines import Further
    from hl7bridge.mapping.match import Matches
    from hl7bridge.mapping.messages import Made
    from hl7bridge.mapping.uses import Key, PlannedLink, PlannedUse, Sight

BLANKS = ("",) * 1000  # stand for fields that were not sent
MAPPING_VERSION = "mapping-version"  # the option whose value the version of the tables is written behind
LEVELS = ("", "_in_component", "_in_subcomponent")  # what stands behind a data type table's name, by level

Fill = Callable[[Run, Segment, Group | None, Resource], Body]
Test = Callable[[Run, Segment, Group | None], object]
Apply = Callable[[Run, Segment, Group, "Further", "Made"], None]
KeyOf = Callable[[Segment, Group, int], "Key"]
WriteLinks = Callable[[Run, Segment, Segment, Group, int, Resource, Body, "Mapping[Key, Resource]", "Matches"], None]
Read = Callable[[Run, Segment, Group | None], str]


def _helpers() -> Mapping[str, Any]:
    """What generated code may call."""
    named: list[Any] = [Reference, Resource, Invalid, Issue, Deletion, only_deletes, honest]
    named += [write.merge, write.put_one, write.beside_one, write.made_first, write.put_other, write.extend]
    named += [write.behind, write.refer, write.attach, write.holds, system_of, encoded]
    return MappingProxyType(
        {
            "NULL": NULL,
            "BLANKS": BLANKS,
            **{each.__name__: each for each in named},
            **{f"to_{type_}": convert for type_, convert in CONVERTERS.items()},
            **{function(name): apply for name, apply in FUNCTIONS.items()},
        }
    )


HELPERS = _helpers()
_KNOWN = MappingProxyType({**vars(builtins), **dict.fromkeys(keyword.kwlist), **HELPERS})


class Compiler:
    """Compiles the tables of one TableSet, each when it is first needed.

    traced: see trace.py. form: of the segments it compiles for (`Segment.form`): where these are plain or single, what
    only others need is left out. plainly: the compiler for plain ones, whose data types those for single ones use.
    """

    def __init__(
        self,
        tables: TableSet,
        model: Model,
        traced: bool = False,
        form: int = ANY,
        plainly: Compiler | None = None,
    ) -> None:
        self.traced, self.plain, self.single = traced, form != ANY, form == SINGLE
        self._plainly = plainly
        self.tables = tables
        self.model = model
        self._segments: dict[str, Fill] = {}
        self._datatypes: dict[tuple[str, int], Callable[..., Any]] = {}
        self._keys: dict[str, KeyOf] = {}
        self._sources: dict[str, str] = {}

    @cached_property
    def forms(self) -> tuple[Compiler, Compiler, Compiler]:
        """Of the same tables, by the form of the segments."""
        plain = Compiler(self.tables, self.model, form=PLAIN)
        return self, plain, Compiler(self.tables, self.model, form=SINGLE, plainly=plain)

    def fills(self, name: str) -> list[Fill]:
        """A segment table's functions by the form of the segment; each is made at its first call."""
        if self.traced:
            return [self.segment(name)] * 3
        found: list[Fill] = []
        for compiler in self.forms:
            found.append(_LaterFill(compiler, name, found, len(found)))
        return found

    def segment(self, name: str) -> Fill:
        """Writes what a segment says into a resource's body; gives the instances that links ask for."""
        found = self._segments.get(name)
        if found is None:
            table = self.tables.segments[name]
            made = SegmentCode(self, table, _identifier(name), _KNOWN, self._asked(name))
            found = self._segments[name] = self._function(made.source, made.constants, made.name, table.name)
        return found

    def datatype(self, name: str, level: int = 0) -> Callable[..., Any]:
        """Fills `body` from a value at a level (0: a repetition); of a table for a primitive gives the text."""
        if self._plainly is not None:
            return self._plainly.datatype(name, level)
        level = min(level, len(LEVELS) - 1)
        found = self._datatypes.get((name, level))
        if found is None:
            table = self.tables.datatypes[name]
            made = DatatypeCode(self, table, _identifier(name) + LEVELS[level], _KNOWN, level)
            title = name + LEVELS[level].replace("_", " ")
            filler: Callable[..., Any] = self._function(made.source, made.constants, made.name, title)
            found = self._datatypes[name, level] = filler
        return found

    def call(self, code: Code, name: str, level: int) -> str:
        """The name by which code calls a data type table; its own code is made at the first call."""
        called = _identifier(name) + LEVELS[min(level, len(LEVELS) - 1)]
        code.constants.setdefault(called, _Later(self, name, level, called, code.constants))
        return called

    def everything(self) -> Iterator[str]:
        """Makes the code of every table; gives the names."""
        for name in self.tables.segments:
            self.segment(name)
            yield name
        for name in self.tables.datatypes:
            self.datatype(name)
            yield name

    def code(self, name: str) -> str:
        """The code of one table, for people."""
        if name in self.tables.segments:
            self.segment(name)
        else:
            self.datatype(name)
        return self._sources[name] if name in self._sources or self._plainly is None else self._plainly.code(name)

    # -- for message tables ---------------------------------------------------------------------------------------

    def test(self, condition: Condition, table: Table) -> Test:
        """A condition outside of any row."""
        code = Code(_KNOWN)
        return self._expression(code, Reader(code, table, -1).test(condition), f"when {table.source}")

    def apply(self, uses: Sequence[PlannedUse], table: Table, path: str) -> Apply:
        """Applies the uses of the segments at one path, each where its condition holds."""
        made = UsesCode(self, uses, table, _KNOWN)
        applied: Apply = self._function(made.source, made.constants, "uses", f"uses of {path}")
        return applied

    def key(self, sight: Sight) -> KeyOf:
        """What tells a label's resource from others, seen from a segment, its group, and a repetition."""
        if sight.key not in self._keys:
            source = f"def key(segment, group, rep):\n    return {sight.key}\n"
            self._keys[sight.key] = self._function(source, {}, "key", f"label {sight.key}")
        return self._keys[sight.key]

    def read(self, value: Ref | FieldValue, table: Table) -> Read:
        """A field outside of any row."""
        code = Code(_KNOWN)
        reader = Reader(code, table, -1)
        text = reader.field(value) if isinstance(value, FieldValue) else reader.leaf(value)
        return self._expression(code, text, f"field of {table.source}")

    def target(self, root: str, path: Path) -> Target:
        """Where a link's path leads from a resource of a type."""
        return compile_path(self.model, root, path)

    def links(self, links: Sequence[PlannedLink], message: str, title: str) -> WriteLinks:
        """Writes the references of one use of a message table."""
        made = LinksCode(self, links, message, _KNOWN)
        written: WriteLinks = self._function(made.source, made.constants, "links", title)
        return written

    def _expression(self, code: Code, text: str, title: str) -> Callable[..., Any]:
        if not code.lines:
            code.head()
        code.add(f"return {text}")
        code.settle()
        body = [in_place(line) for line in code.lines]
        lines = ["def found(run, segment, group):", *(INDENT + line for line in needed(body, ())), *body]
        made: Callable[..., Any] = self._function("\n".join(lines) + "\n", code.constants, "found", title)
        return made

    # -- what rows ask --------------------------------------------------------------------------------------------

    def setting(self, value: str | OptionValue) -> str:
        """A constant, or the site's; behind `mapping-version` stands the version of the tables themselves."""
        if not isinstance(value, OptionValue):
            return value
        said = self.tables.settings[value.name]
        return f"{said}:{self.tables.version}" if value.name == MAPPING_VERSION else said

    def switched_on(self, row: Row) -> bool:
        return row.option is None or self.tables.settings[row.option.name] == row.option.value

    def is_primitive(self, datatype: str) -> bool:
        return self.model.is_primitive(self.tables.datatypes[datatype].target)

    def makes_others(self, datatype: str, within: frozenset[str] = frozenset()) -> bool:
        """Whether a data type table makes further instances of what it fills."""
        if datatype in within:
            return False
        return any(
            row.to is not None
            and (
                bool(row.to.another)
                or (not row.to.steps and row.as_ is not None and self.makes_others(row.as_, within | {datatype}))
            )
            for row in self.tables.datatypes[datatype].rows
        )

    @cached_property
    def fillers(self) -> frozenset[tuple[str, ...]]:
        """Every element that some row only fills because FHIR requires it: the others need not be struck off."""
        return frozenset(
            governed(self.model, table, row.to)
            for table in self.tables.segments.values()
            for row in table.rows
            if not row.extension
            and (row.fallback == "new" or only_fills(row, self.setting(row.value) if row.value is not None else ""))
        )

    @cached_property
    def _links(self) -> Mapping[str, frozenset[str]]:
        """By segment table: the keys of the instances that links of its uses go through."""
        found: dict[str, set[str]] = {}
        for message in self.tables.messages.values():
            for use in message.uses:
                for link in use.links:
                    if link.on is None:
                        target = self.target(use.into.type, link.path)
                        keys = [key for key, _ in target.places()][: len(target.hops)]
                        found.setdefault(use.table, set()).update(keys)
        return {name: frozenset(keys) for name, keys in found.items()}

    def _asked(self, table: str) -> frozenset[str]:
        return self._links.get(table, frozenset())

    # -- from text to functions -----------------------------------------------------------------------------------

    def _function(self, source: str, constants: dict[str, Any], name: str, title: str) -> Any:
        """Runs the source; its lines stand in tracebacks as `PID-Patient (compiled)`."""
        self._sources[title] = source
        constants.update(HELPERS, __name__=title, __loader__=_Lines(source))
        exec(
            compile(source, f"{title} (compiled)", "exec"), constants
        )  # made here of checked tables, every text quoted
        return constants[name]


class _Lines:
    """Gives tracebacks the lines of generated code (linecache asks a module's loader for them)."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, name: str) -> str:
        return self._source


class _Later:
    """Stands for a data type table's function until its first call."""

    def __init__(self, compiler: Compiler, name: str, level: int, called: str, constants: dict[str, Any]) -> None:
        self._compiler, self._name, self._level = compiler, name, level
        self._called, self._constants = called, constants

    def __call__(self, *arguments: Any) -> Any:
        made = self._constants[self._called] = self._compiler.datatype(self._name, self._level)
        return made(*arguments)


class _LaterFill:
    """Stands for a segment table's function until its first call."""

    def __init__(self, compiler: Compiler, name: str, place: list[Fill], at: int) -> None:
        self._compiler, self._name, self._place, self._at = compiler, name, place, at

    def __call__(self, run: Run, segment: Segment, group: Group | None, resource: Resource) -> Body:
        made = self._place[self._at] = self._compiler.segment(self._name)
        return made(run, segment, group, resource)


def _identifier(name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9]+", "_", name)
    return text if text.isidentifier() else f"table_{text}"
