"""One row of a table becomes lines of code: condition, value, conversion, codes, companions, and what is done if unfit.

Sans-IO. Everything that does not depend on the message is decided here, once, when a table's code is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hl7bridge.fhir.resource import Erasure
from hl7bridge.mapping import write
from hl7bridge.mapping.access import Reader, asks_for_absence
from hl7bridge.mapping.code import Code
from hl7bridge.mapping.codes import CODED
from hl7bridge.mapping.convert import CONVERTERS, NEVER_FAIL, OF_THE_RUN, Invalid
from hl7bridge.mapping.erase import erasures
from hl7bridge.mapping.in_place import converted, unchanged
from hl7bridge.mapping.placing import Placer, Slots
from hl7bridge.mapping.row_plan import RowPlan
from hl7bridge.mapping.schema import FieldValue, OptionValue, Ref
from hl7bridge.mapping.target import Target
from hl7bridge.mapping.trace import Watch
from hl7bridge.mapping.values import LINES, raises, text_of


class RowCode:
    """Adds the lines of one row. rep: the repetition as an expression, `0` where there is but one."""

    def __init__(self, plan: RowPlan, code: Code, reader: Reader, slots: Slots, rep: str) -> None:
        self.plan, self.code, self.reader, self.rep = plan, code, reader, rep
        self.row, self.table, self.compiler = plan.row, plan.table, plan.compiler
        self.traced = plan.compiler.traced
        self.placer = Placer(code, slots, rep, self.traced)
        self.names = f"{self.table.name!r}, {plan.source!r}"

    def add(self, valued: str = "") -> None:
        """The row; `valued`: the test that its field or component has content, where that is not known yet."""
        test = " and ".join(part for part in (valued, *self._tests()) if part)
        self.reader.certain = test in ("", valued)
        if not self.traced:
            with self.code.when(test):
                self._guarded()
            return
        watch = self.code.constant("watch", Watch(self.row, self.table, self.plan.own))
        step = self.code.name("step")
        self.code.add(f"{step} = {watch}.begin(run, segment, group, {self.rep})")
        with self.code.block(f"if {test or 'True'}:"):
            outer = self.code.name("outer")
            self.code.add(f"{outer}, done = {watch}.enter(run, {step}, segment, group, {self.rep}), False")
            with self.code.block("try:"):
                self._guarded()
            with self.code.block("finally:"):
                self.code.add(f"run.trace.current = {outer}")
            self.code.add(f"{watch}.leave({step}, done)")
        with self.code.block(f"elif run.valued({self.reader.raw(self.row.source).text}):"):
            self.code.add(f"run.trace.steps.append({step})")

    def _tests(self) -> Iterator[str]:
        """The row's field is valued, and its condition holds; the bare source and `X not valued` on X need no value."""
        row, self.reader.certain = self.row, True
        if row.source.parts not in ((), (self.plan.own,)) and not asks_for_absence(row):
            yield self.reader.valued(row.source)
            self.reader.certain = False
        if row.fallback:
            assert row.to is not None
            name = row.to.steps[0].name
            yield f"{name!r} not in body and {'_' + name!r} not in body"
            self.reader.certain = False
        if row.when is not None:
            when = self.reader.test(row.when)
            yield f"({when})" if " or " in when else when

    def _guarded(self) -> None:
        """The row where its condition holds: repetitions that find no place are counted."""
        plan = self.plan
        if self.row.remove:
            return self._removal()
        if plan.gives:
            return self._give()
        if self.rep == "0":
            return self._write()
        if self.row.apply == LINES:
            with self.code.block(f"if not {self.rep} or not run.read_before(raw, {self.rep}):"):
                self._write()
        elif plan.target.repeats:
            self._write()
        else:
            with self.code.block(f"if {self.rep}:"), self.code.block("if run.valued(text):"):
                self.code.add(f"run.count('repetition-dropped', {self.names})")
            with self.code.block("else:"):
                self._write()
        return None

    def _removal(self) -> None:
        """`remove: yes`: nothing is written, and what is there goes."""
        gone: tuple[Erasure, ...] = tuple(
            erasure._replace(said=True)
            for erasure in erasures(self.compiler.model, self.compiler.tables, self.table, [self.row])
        )
        self.code.add(f"resource.erased += {self.code.constant('gone', gone)}")

    def _give(self) -> None:
        """A row of a table for a primitive: the text is handed up, converted where it is written."""
        value = self.code.name("given")
        self.code.add(f"{value} = {self._text()}")
        codes = self._codes()
        if codes:
            with self.code.block(f"if {value}:"):
                self.code.add(f"{value} = {codes}.text(run, {value}, ())[0]")
        with self.code.block(f"if {value}:"):
            self.code.add(f"value = {value}", *(["done = True"] if self.traced else []))

    def _write(self) -> None:
        there = ""
        if self.plan.fills:
            there = self.code.name("there")
            self.code.add(f"{there} = holds(resource.body, {self.plan.governed!r})")
        self.there = there
        if self.plan.whole:
            self._complex()
        elif self.plan.coded:
            self._bare_coding()
        else:
            self._primitive()

    # -- what follows ---------------------------------------------------------------------------------------------

    @contextmanager
    def _written(self, test: str = "") -> Iterator[None]:
        """What the row wrote, then its companions and what must be known of it."""
        with self.code.when(test), self.placer.remembering(sure=False):
            yield
            self._after()

    def _after(self) -> None:
        for target, value in self.plan.companions:
            self._companion(target, value)
        path = self.plan.governed
        if self.there:
            self.code.add(f"(resource.fillers.discard if {self.there} else resource.fillers.add)({path!r})")
        elif path and path in self.compiler.fillers:
            self.code.add(f"resource.fillers.discard({path!r})")
        if self.traced:
            self.code.add("done = True")

    def _companion(self, target: Target, value: str | OptionValue | FieldValue) -> None:
        rep = self.rep if target.repeats else "0"
        if isinstance(value, FieldValue):
            return self._beside(target, value, rep)
        constant = CONVERTERS[target.type](_NO_RUN, self.compiler.setting(value))
        self.placer.primitive(target, self._literal(constant), content=False, rep=rep)
        return None

    def _beside(self, target: Target, value: FieldValue, rep: str) -> None:
        """A companion with a field's value; nothing is written where the field, or what is made of it, is empty."""
        found = self.code.name("found")
        self.code.add(f"{found} = {self.reader.field(value)}")
        with self.code.block(f"if {found}:"), self.placer.remembering(sure=False):
            if not value.apply and self._as_sent(target.type, value.ref):
                self.placer.primitive(target, found, rep=rep)
                return
            if target.type in NEVER_FAIL:
                self.placer.primitive(target, converted(target.type, found), rep=rep)
                return
            with self.code.block("try:"):
                self.code.add(f"{found} = {converted(target.type, found)}")
            with self.code.block("except Invalid:"):
                pass
            with self.code.block("else:"):
                self.placer.primitive(target, found, rep=rep)

    def _literal(self, value: Any) -> str:
        plain = type(value) in (str, int, bool)
        return repr(value) if plain else self.code.constant("constant", value)

    # -- the kinds of row -----------------------------------------------------------------------------------------

    def _primitive(self) -> None:
        target, type_ = self.plan.target, self.plan.target.type
        allowed = target.element.codes if target.element is not None else ()
        if self.row.value is not None and self.row.codes is None and type_ not in OF_THE_RUN:
            try:
                constant = CONVERTERS[type_](_NO_RUN, self.plan.constant)
            except Invalid:
                pass
            else:
                if constant and (not allowed or constant in allowed):
                    with self._written():
                        self.placer.primitive(target, self._literal(constant), content=False)
                    return
        self._converted(allowed)

    def _converted(self, allowed: tuple[str, ...]) -> None:
        """A text that becomes a value of the target's type."""
        target, code = self.plan.target, self.code
        value, codes = code.name("value"), self._codes()
        if self._is_leaf() and not codes and not allowed and self._as_sent(target.type, self.row.source):
            raw = self.reader.raw(self.row.source)
            if raw.level and raw.text.isidentifier() and self.plan.needs_value:  # a component that is there
                with self._written():
                    self.placer.primitive(target, raw.text)
                return
            code.add(f"{value} = {self._text()}")
            with self._written(value):
                self.placer.primitive(target, value)
            return
        known = code.constant("allowed", frozenset(allowed)) if allowed else "()"
        may_fail = raises(self.row) or bool(allowed) or target.type not in NEVER_FAIL
        kept = ""
        with code.block("try:") if may_fail else code.when(""):
            code.add(f"{value} = {self._text()}")
            if codes:
                kept = code.name("original")
                code.add(f"{kept} = None")
            if codes:
                with code.block(f"if {value}:"):
                    code.add(f"{value}, {kept} = {codes}.text(run, {value}, {known})")
            fit = converted(target.type, value)
            if may_fail:
                with code.block(f"if {value}:"):
                    fit = code.name("converted")
                    code.add(f"{fit} = {converted(target.type, value)}")
                    if allowed:
                        with code.block(f"if {fit} not in {known}:"):
                            code.add("raise Invalid('not a code of the required binding')")
        if may_fail:
            with code.block(f"except {'ValueError' if raises(self.row) else 'Invalid'}:"):
                self._unfit()
        with code.block("else:") if may_fail else code.when(""):
            with self._written(value):
                self.placer.primitive(target, fit, content=self.row.value is None)
            if codes and allowed:
                with code.block(f"elif {kept} is not None:"):
                    self._kept_beside(kept)

    def _is_leaf(self) -> bool:
        """Whether the row takes what stands at its source, and nothing is made of it."""
        row = self.row
        applied = row.apply is not None and not (row.apply == LINES and self.reader.single)
        return row.value is None and not row.concat and not applied and row.as_ is None

    def _as_sent(self, type_: str, ref: Ref) -> bool:
        """Whether a text read in a plain segment needs no conversion."""
        return self.reader.plain and self.reader.is_own(ref) and unchanged(type_)

    def _kept_beside(self, kept: str) -> None:
        """A required binding does not know the code: it stands beside, as it came."""
        extension = f"{{'url': {write.ALTERNATE_CODES!r}, 'valueCodeableConcept': {kept}}}"
        with self.placer.remembering(sure=False):
            self.placer.extension_beside(self.plan.target, extension)
            self._after()

    def _complex(self) -> None:
        plan, code, row = self.plan, self.code, self.row
        assert row.as_ is not None
        target = plan.target
        raw = self.reader.raw(row.source)
        text = raw.text
        if not text.isidentifier():
            text = code.name("sent")
            code.add(f"{text} = {raw.text}")
        known = plan.needs_value
        with code.when("" if known else f"run.valued({text})"):
            strict_here = row.invalid is not None
            made, into = code.name("made"), "resource"
            if target.into is not None:
                into = made
                code.add(f"{made} = Resource({target.into[0]!r}, segment.position)")
            elif target.name:
                code.add(f"{made} = {{}}")
            body = f"{made}.body" if target.into is not None else made if target.name else "body"
            others = code.name("more") if self.compiler.makes_others(row.as_) else ""
            strict = "True" if strict_here else "False" if self.table.kind == "segment" else "strict"
            called = self.compiler.call(code, row.as_, raw.level)
            call = f"{others + ' = ' if others else ''}{called}(run, segment, group, {text}, {body}, {into}, {strict})"
            if not strict_here:
                code.add(call)
                self._filled(body, made, others)
                return
            mark = code.name("mark")
            code.add(f"{mark} = len(run.references)")
            with code.block("try:"):
                code.add(call)
            with code.block("except Invalid:"):
                code.add(f"del run.references[{mark}:]")
                self._unfit()
            with code.block("else:"):
                self._filled(body, made, others)

    def _filled(self, body: str, made: str, others: str) -> None:
        """The element is filled: its codes are translated, and it is put in its place."""
        plan, code, target = self.plan, self.code, self.plan.target
        codes = self._codes()
        code.add(*self._translated(body, codes))
        with self._written(f"{body} or {others}" if others else body):
            if target.into is not None or target.name:
                with code.when(body if others else ""), self.placer.remembering(sure=not others):
                    if target.into is not None:
                        self.placer.resource(target, made)
                    else:
                        self.placer.complex(target, made)
            if others and target.name:
                lines = self._translated("other", codes)
                self.placer.further(target, others, lines, (self.table.name, plan.source))
            elif others:
                with code.block(f"if {others}:"):
                    code.add(f"others.update({others})")

    def _translated(self, body: str, codes: str) -> list[str]:
        """What translates the codes of an element and sees that none claims a system that does not know it."""
        type_, lines = self.plan.target.type, list[str]()
        coded = "_" if body == "body" else body
        if codes and type_ == "CodeableConcept":
            lines.append(f"{coded} = {codes}.concept(run, {body})")
        elif codes and type_ == "Coding":
            lines.append(f"{coded} = {codes}.coding(run, {body}) or {{}}")
        if type_ in CODED:
            counted = "" if codes else self.table.name
            lines.append(f"honest(run, {counted!r}, {self.plan.source!r}, {type_!r}, {body})")
        return lines

    def _bare_coding(self) -> None:
        """`codes` without `as` on a Coding or CodeableConcept: the text is the code."""
        code, target = self.code, self.plan.target
        sent, made = code.name("sent"), code.name("made")
        code.add(f"{sent} = {self._text()}")
        with code.block(f"if {sent}:"):
            coding = f"{{'code': {sent}}}" if target.type == "Coding" else f"{{'coding': [{{'code': {sent}}}]}}"
            code.add(f"{made} = {coding}", *self._translated(made, self._codes()))
            with self._written(made):
                self.placer.complex(target, made)

    def _text(self) -> str:
        return text_of(self.row, self.reader, self.plan.constant, self._nested)

    def _nested(self) -> str:
        assert self.row.as_ is not None
        raw = self.reader.raw(self.row.source)
        strict = "False" if self.table.kind == "segment" else "strict"
        called = self.compiler.call(self.code, self.row.as_, raw.level)
        return f"{called}(run, segment, group, {raw.text}, {{}}, resource, {strict})"

    def _codes(self) -> str:
        """The name of the row's code table; "" for none."""
        codes = self.plan.codes
        return self.code.constant(f"codes_{codes.name}", codes) if codes is not None else ""

    # -- what cannot be converted ---------------------------------------------------------------------------------

    def _unfit(self) -> None:
        """What follows a value that cannot be converted: the `invalid` path, the row above, or data-absent-reason."""
        with self.placer.remembering(sure=False):
            self._instead()

    def _instead(self) -> None:
        code, target = self.code, self.plan.target
        count = f"run.count('value-invalid', {self.names})"
        whole = f"run.whole({self.reader.raw(self.row.source).text})"
        if self.plan.refuge is not None:
            code.add(count)
            self._keep(self.plan.refuge, whole)
            return
        if self.table.kind == "datatype":
            with code.block("if strict:"):
                code.add("raise Invalid('for the row above')")
        code.add(count)
        if target.element is not None and target.element.codes:
            concept = f"{{'text': to_string(run, {whole})}}"
            extension = f"{{'url': {write.ALTERNATE_CODES!r}, 'valueCodeableConcept': {concept}}}"
            self.placer.extension_beside(target, extension)
        elif target.name:
            self.placer.extension_beside(target, f"{{'url': {write.DATA_ABSENT_REASON!r}, 'valueCode': 'error'}}")

    def _keep(self, refuge: Target, whole: str) -> None:
        """The text as sent goes to the `invalid:` path, with what stands behind it."""
        code, kept, behind = self.code, self.code.name("kept"), ""
        if self.row.invalid_with is not None:
            behind = self.reader.leaf(self.row.invalid_with)
        code.add(f"{kept} = ({whole} + ' ' + {behind}).strip()" if behind else f"{kept} = {whole}")
        with code.block(f"if {kept}:"):
            at = self.placer.primitive(refuge, converted(refuge.type, kept))
            code.add(f"run.displaced.append(({at.text}, {refuge.others!r}))")


class _Nothing:
    """Constants need no run: they are converted when the code is made."""

    def count(self, kind: str, table: str, source: str) -> None:
        raise Invalid("a constant with control characters")


_NO_RUN: Any = _Nothing()
