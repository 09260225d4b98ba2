"""One row of a table becomes one closure: condition, value, conversion, codes, companions, and what is done if unfit.

Sans-IO. Everything that does not depend on the message is decided here, once, when the tables load.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hl7bridge.fhir.resource import Body, Resource
from hl7bridge.mapping import write
from hl7bridge.mapping.access import getter, joiner, reader, tester
from hl7bridge.mapping.codes import CODED, Codes, honest
from hl7bridge.mapping.convert import CONVERTERS, Converter, Invalid
from hl7bridge.mapping.erase import erasures, governed, only_fills
from hl7bridge.mapping.functions import FUNCTIONS
from hl7bridge.mapping.runtime import Context, Run
from hl7bridge.mapping.schema import All, Condition, FieldValue, OptionValue, Path, Ref, Row, Table, Valued
from hl7bridge.mapping.schema import Any as AnyOf
from hl7bridge.mapping.trace import watched
from hl7bridge.mapping.write import Target, compile_path

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler

Apply = Callable[[Context], bool]
Text = Callable[[Context], str]
LINES = "lines"
NUMERIC = ("number", "comparator")  # these see all that was sent: 120^80 is no 120


class RowCompiler:
    """One row to one closure."""

    def __init__(self, compiler: Compiler, table: Table, row: Row) -> None:
        self.compiler, self.table, self.row = compiler, table, row
        self.own = row.source.parts[0] if row.source.parts else 0
        self.source = str(row.source)
        self.test = self._test()
        self.raw, absolute, self.level = getter(row.source, table, self.own)
        self.relative = not absolute and table.kind == "datatype"

    def compile(self) -> Apply:
        """The row as a function; for tracing, one that notes what it does."""
        apply = self._compile()
        return watched(self.row, self.table, self.own, self.test, apply) if self.compiler.traced else apply

    def _compile(self) -> Apply:
        row = self.row
        if row.remove:
            return self._removal()
        if row.to is not None and row.to.text == "$value":
            return self._value_row()
        target = self._target(row.to, row)
        if row.as_ is not None and not self.compiler.datatype(row.as_).primitive:
            return self._guard(target, self._complex(target))
        if target.type in ("CodeableConcept", "Coding") and row.codes is not None:
            return self._guard(target, self._bare_coding(target))
        return self._guard(target, self._primitive(target))

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _test(self) -> Callable[[Context], bool]:
        """The row's field is valued, and its condition holds; the bare source and `X not valued` on X need no value."""
        row = self.row
        condition = tester(row.when, self.table, self.own) if row.when is not None else None
        if row.fallback:
            condition = _where_nothing_stands(row, condition)
        if not row.source.parts or asks_for_absence(row):
            return condition or (lambda ctx: True)
        if row.source.parts == (self.own,):
            if condition is None:
                return lambda ctx: ctx.valued
            return lambda ctx: ctx.valued and condition(ctx)
        raw = getter(row.source, self.table, self.own).raw
        if condition is None:
            return lambda ctx: ctx.run.valued(raw(ctx))
        return lambda ctx: ctx.run.valued(raw(ctx)) and condition(ctx)

    def _level(self) -> Callable[[Context], int]:
        level = self.level
        if self.relative:
            return lambda ctx: ctx.level + level
        return lambda ctx: level

    def _target(self, path: Path | None, row: Row) -> Target:
        extensions = tuple(
            write.Extension(url, row.extension_label if i == 0 else "") for i, url in enumerate(row.extension)
        )
        return compile_path(self.compiler.model, self.table.target, path, row.on, extensions)

    def _guard(self, target: Target, body: Apply) -> Apply:
        """Condition, repetition, then the row, then its companions."""
        test, name, source = self.test, self.table.name, self.source
        companions = tuple(self._companion(path, value) for path, value in self.row.set_)
        repeats = target.repeats
        fills, governed = self._fills()
        whole_field = self.row.apply == LINES

        def apply(ctx: Context) -> bool:
            if not test(ctx):
                return False
            if whole_field and ctx.rep and self._read_before(ctx):
                return False
            if ctx.rep and not repeats and not whole_field:
                if ctx.run.valued(ctx.text):
                    ctx.run.count("repetition-dropped", name, source)
                return False
            there = fills and write.holds(ctx.resource.body, governed)
            if not body(ctx):
                return False
            for companion in companions:
                companion(ctx)
            if fills and not there:
                ctx.resource.fillers.add(governed)
            elif governed and ctx.resource.fillers:
                ctx.resource.fillers.discard(governed)
            return True

        return apply

    def _fills(self) -> tuple[bool, tuple[str, ...]]:
        """Whether the row only fills what FHIR requires, and which element of the resource it writes."""
        row = self.row
        if self.table.kind != "segment" or row.extension:
            return False, ()
        constant = self.compiler.setting(row.value) if row.value is not None else ""
        return row.fallback == "new" or only_fills(row, constant), governed(self.compiler.model, self.table, row.to)

    def _companion(self, path: Path, value: str | OptionValue | FieldValue) -> Callable[[Context], None]:
        target = (
            self._target(path, self.row)
            if self.row.extension and self._inside_extension(path)
            else compile_path(self.compiler.model, self.table.target, path)
        )
        if isinstance(value, FieldValue):
            return self._beside(target, value)
        constant = CONVERTERS[target.type](_NO_RUN, self.compiler.setting(value))

        def put(ctx: Context) -> None:
            write.put_primitive(ctx, target, constant, ctx.rep if target.repeats else 0, content=False)

        return put

    def _beside(self, target: Target, value: FieldValue) -> Callable[[Context], None]:
        """A companion with a field's value; nothing is written where the field, or what is made of it, is empty."""
        read = field_text(value, self.table, self.own)
        convert = CONVERTERS[target.type]

        def put(ctx: Context) -> None:
            text = read(ctx)
            if text:
                with contextlib.suppress(Invalid):
                    rep = ctx.rep if target.repeats else 0
                    write.put_primitive(ctx, target, convert(ctx.run, text), rep)

        return put

    def _inside_extension(self, path: Path) -> bool:
        """With `extension:`, `to` and so the companions start inside the extension."""
        return bool(path.steps) and path.steps[0].name.startswith("value")

    def _text(self) -> Text:
        """The row's text before conversion: constant, joined parts, function, data type table, or the leaf."""
        row = self.row
        if row.value is not None:
            constant = self.compiler.setting(row.value)
            return lambda ctx: constant
        if row.concat:
            return joiner(row, self.table, self.own)
        if row.apply is not None:
            return self._function(row.apply)
        if row.as_ is not None:
            table, raw, level = self.compiler.datatype(row.as_), self.raw, self._level()
            return lambda ctx: table.text(ctx, raw(ctx), level(ctx))
        return reader(row.source, self.table, self.own)

    def _whole(self) -> Text:
        """Everything that was sent, separators too, escapes resolved."""
        raw = self.raw

        def whole(ctx: Context) -> str:
            text = raw(ctx)
            return ctx.run.text(text).strip() if ctx.run.valued(text) else ""

        return whole

    def _function(self, name: str) -> Text:
        if name in ("text", "text-base64"):
            whole = self._whole()
            return whole if name == "text" else lambda ctx: FUNCTIONS["base64"](whole(ctx))
        if name == LINES:
            return self._lines()
        function = FUNCTIONS[name]
        if name == "samples":
            return self._samples()
        raw, level = self.raw, self._level()
        if name == "identifier-system":

            def system(ctx: Context) -> str:
                depth = level(ctx)
                parts = ctx.run.split(raw(ctx), depth)
                texts = [ctx.run.leaf(part, depth + 1) for part in parts[:3]]
                return function(*texts, *[""] * (3 - len(texts))) if any(texts) else ""

            return system
        text = self._whole() if name in NUMERIC else reader(self.row.source, self.table, self.own)
        if name == "base64":
            encoding, data = reader(self._before(), self.table, self.own), self._rest()
            return lambda ctx: function(sent, encoding(ctx)) if (sent := data(ctx)) else ""
        return lambda ctx: function(said) if (said := text(ctx)) else ""

    def _samples(self) -> Text:
        """All components of the value, texts as they are, to the function."""
        raw, level = self.raw, self._level()

        def values(ctx: Context) -> str:
            depth = level(ctx)
            return FUNCTIONS["samples"]("\n".join(ctx.run.leaf(p, depth + 1) for p in ctx.run.split(raw(ctx), depth)))

        return values

    def _read_before(self, ctx: Context) -> bool:
        """Whether an earlier repetition had content: the row ran then, and read them all."""
        sent = ctx.run.message.separators.repetitions(ctx.segment.fields[self.own])
        return any(ctx.run.valued(text) for text in sent[: ctx.rep])

    def _lines(self) -> Text:
        """All repetitions of the field, a line each (v2 chapter 2A, TX), escapes resolved; an empty one is a blank."""
        number = self.own

        def lines(ctx: Context) -> str:
            run = ctx.run
            sent = run.message.separators.repetitions(ctx.segment.fields[number])
            return "\n".join(run.text(text).rstrip() if run.valued(text) else "" for text in sent)

        return lines

    def _rest(self) -> Text:
        """The component at hand and what stands behind it: data may hold separators that nobody escaped."""
        raw, level, index = self.raw, self._level(), self.row.source.parts[-1]

        def rest(ctx: Context) -> str:
            depth = level(ctx) - 1
            separator = ctx.run.separators[depth] if depth < len(ctx.run.separators) else ""
            joined = self.relative and separator
            sent = separator.join(ctx.parts[index - 1 :]).rstrip(separator) if joined else raw(ctx)
            return ctx.run.text(sent).strip() if ctx.run.valued(sent) else ""

        return rest

    def _before(self) -> Ref:
        """The component before the row's own: ED.4 names the encoding of ED.5."""
        source = self.row.source
        return Ref(source.root, (*source.parts[:-1], source.parts[-1] - 1))

    def _removal(self) -> Apply:
        """`remove: yes`: nothing is written, and what is there goes."""
        test = self.test
        gone = tuple(
            erasure._replace(said=True)
            for erasure in erasures(self.compiler.model, self.compiler.tables, self.table, [self.row])
        )

        def apply(ctx: Context) -> bool:
            if test(ctx):
                ctx.resource.erased += gone
            return False

        return apply

    # -- the three kinds of row -----------------------------------------------------------------------------------

    def _value_row(self) -> Apply:
        """A row of a table for a primitive: the text is handed up, converted where it is written."""
        text, test = self._text(), self.test
        codes = self._codes()

        def apply(ctx: Context) -> bool:
            if not test(ctx):
                return False
            value = text(ctx)
            if value and codes is not None:
                value, _ = codes.text(ctx.run, value, ())
            if value:
                ctx.target["$value"] = value
            return bool(value)

        return apply

    def _primitive(self, target: Target) -> Apply:
        text, codes = self._text(), self._codes()
        converter: Converter = CONVERTERS[target.type]
        allowed = target.element.codes if target.element is not None else ()
        content = self.row.value is None
        on_invalid = self._on_invalid(target)

        def apply(ctx: Context) -> bool:
            run = ctx.run
            try:
                value: Any = text(ctx)
            except ValueError:
                return on_invalid(ctx)
            if not value:
                return False
            rep = ctx.rep
            if codes is not None:
                value, original = codes.text(run, value, allowed)
                if not value:
                    if original is None:
                        return False
                    extension = {"url": write.ALTERNATE_CODES, "valueCodeableConcept": original}
                    write.beside_primitive(ctx, target, extension, rep)
                    return True
            try:
                value = converter(run, value)
                if allowed and value not in allowed:
                    raise Invalid("not a code of the required binding")
            except Invalid:
                return on_invalid(ctx)
            write.put_primitive(ctx, target, value, rep, content)
            return True

        return apply

    def _complex(self, target: Target) -> Apply:
        assert self.row.as_ is not None
        table = self.compiler.datatype(self.row.as_)
        codes, raw, level = self._codes(), self.raw, self._level()
        on_invalid = self._on_invalid(target)
        strict_here = self.row.invalid is not None
        into = target.into
        place_others = self._others(target, codes)
        counted, source = self.table.name if codes is None else "", self.source

        def apply(ctx: Context) -> bool:
            run = ctx.run
            text = raw(ctx)
            if not run.valued(text):
                return False
            resource = ctx.resource if into is None else Resource(into[0], ctx.segment.position)
            body: Body = resource.body if into is not None else {} if target.name else ctx.target
            mark = len(run.references)
            try:
                others = table.fill(ctx, text, level(ctx), body, resource, strict_here or ctx.strict)
            except Invalid:
                if not strict_here:
                    raise
                del run.references[mark:]
                return on_invalid(ctx)
            if codes is not None:
                body = _coded(codes, run, target.type, body)
            if target.type in CODED:
                honest(run, counted, source, target.type, body)
            if body and into is not None:
                _put_resource(ctx, target, resource)
            elif body and target.name:
                write.put_complex(ctx, target, body, ctx.rep)
            if others:
                place_others(ctx, others)
            return bool(body or others)

        return apply

    def _others(self, target: Target, codes: Codes | None) -> Callable[[Context, dict[str, Body]], None]:
        """Places what `$another` made: beside the element where it may repeat, else it is counted as dropped."""
        name, source = self.table.name, self.source

        def put(ctx: Context, others: dict[str, Body]) -> None:
            if not target.name:
                ctx.others.update(others)
                return
            for label, body in others.items():
                if not target.many or target.into is not None:
                    ctx.run.count("repetition-dropped", name, source)
                    continue
                coded = _coded(codes, ctx.run, target.type, body) if codes is not None else body
                if target.type in CODED:
                    honest(ctx.run, name if codes is None else "", source, target.type, coded)
                write.put_complex(ctx, replace(target, label=f"{target.label}/{label}"), coded, ctx.rep)

        return put

    def _bare_coding(self, target: Target) -> Apply:
        """`codes` without `as` on a Coding or CodeableConcept: the text is the code."""
        text, codes = self._text(), self._codes()
        assert codes is not None

        def apply(ctx: Context) -> bool:
            code = text(ctx)
            if not code:
                return False
            coding = {"code": code}
            sent = coding if target.type == "Coding" else {"coding": [coding]}
            body = _coded(codes, ctx.run, target.type, sent)
            if body:
                honest(ctx.run, "", "", target.type, body)
                write.put_complex(ctx, target, body, ctx.rep)
            return bool(body)

        return apply

    def _codes(self) -> Codes | None:
        if self.row.codes is None:
            return None
        return Codes(self.compiler.tables.codes[self.row.codes], self.table.name, self.source)

    def _behind_invalid(self) -> Text:
        """What stands behind a text that could not be converted: `invalid: {to: valueString, with: OBX-6.1}`."""
        ref = self.row.invalid_with
        return reader(ref, self.table, self.own) if ref is not None else lambda ctx: ""

    def _on_invalid(self, target: Target) -> Apply:
        """What follows a value that cannot be converted: the `invalid` path, the row above, or data-absent-reason."""
        name, source = self.table.name, self.source
        refuge = self.row.invalid
        if refuge is not None:
            text, beside = self._whole(), self._behind_invalid()
            elsewhere = compile_path(self.compiler.model, self.table.target, refuge)
            convert = CONVERTERS[elsewhere.type]

            def keep(ctx: Context) -> bool:
                ctx.run.count("value-invalid", name, source)
                whole = f"{text(ctx)} {beside(ctx)}".strip()
                if whole:
                    write.put_primitive(ctx, elsewhere, convert(ctx.run, whole), ctx.rep)
                    node = write.locate(ctx, elsewhere.hops, ctx.rep)[0]
                    ctx.run.displaced.append((node, elsewhere.others))
                return False

            return keep
        absent = {"url": write.DATA_ABSENT_REASON, "valueCode": "error"}
        bound = target.element is not None and bool(target.element.codes)
        sent, string = self._whole(), CONVERTERS["string"]

        def say(ctx: Context) -> bool:
            if ctx.strict:
                raise Invalid("for the row above")
            ctx.run.count("value-invalid", name, source)
            if bound:
                concept = {"text": string(ctx.run, sent(ctx))}
                extension = {"url": write.ALTERNATE_CODES, "valueCodeableConcept": concept}
                write.beside_primitive(ctx, target, extension, ctx.rep)
            elif target.name:
                write.beside_primitive(ctx, target, dict(absent), ctx.rep)
            return False

        return say


def _where_nothing_stands(row: Row, condition: Callable[[Context], bool] | None) -> Callable[[Context], bool]:
    """The row's condition, and no other row has written the element yet."""
    assert row.to is not None
    name = row.to.steps[0].name
    beside = "_" + name

    def test(ctx: Context) -> bool:
        return name not in ctx.target and beside not in ctx.target and (condition is None or condition(ctx))

    return test


def field_text(value: FieldValue, table: Table, own: int) -> Text:
    """`{field: OBX-6.1, apply: ucum}` as a function of the context."""
    read = reader(value.ref, table, own)
    if not value.apply:
        return read
    function = FUNCTIONS[value.apply]
    return lambda ctx: function(text) if (text := read(ctx)) else ""


def asks_for_absence(row: Row) -> bool:
    """Whether the condition is about the row's own field not being there: only then does the row run without it."""
    return row.when is not None and _absence(row.when, row.source)


def _absence(condition: Condition, source: Ref) -> bool:
    if isinstance(condition, Valued):
        return condition.negated and condition.ref == source
    if isinstance(condition, All | AnyOf):
        return any(_absence(part, source) for part in condition.parts)
    return False


def _coded(codes: Codes, run: Run, type: str, body: Body) -> Body:
    if type == "CodeableConcept":
        return codes.concept(run, body)
    if type == "Coding":
        return codes.coding(run, body) or {}
    return body


def _put_resource(ctx: Context, target: Target, made: Resource) -> None:
    """Puts a reference to a resource just filled; completes the one this context already refers to there."""
    run = ctx.run
    node, owner = write.locate(ctx, target.hops, ctx.rep)
    key = write.slot(node, target, ctx.rep)
    holder = ctx.slots.get(key)
    known = run.targets.get(id(holder)) if holder is not None else None
    if known is not None:
        write.merge(ctx, known.body, made.body)
        known.has_content = known.has_content or made.has_content
        for reference in run.references:
            if reference.owner is made:
                reference.owner = known
        return
    if holder is None:
        holder = ctx.slots[key] = write.place(node, target, {})
    write.attach(ctx, holder, made, owner)


class _Nothing:
    """Constants need no run: they are converted when the tables load."""

    def count(self, kind: str, table: str, source: str) -> None:
        raise Invalid("a constant with control characters")


_NO_RUN: Any = _Nothing()
