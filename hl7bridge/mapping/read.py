"""From nodes to the values of schema.py: which words there are and how each is written.

Every mistake is added to the collector and the reading goes on, with what is wrong left out. Whether the names in a
table exist, fit and agree is the checker's question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from hl7bridge.fhir.model import closest
from hl7bridge.mapping.condition import parse_condition
from hl7bridge.mapping.paths import Malformed, parse_concat, parse_extension, parse_path, parse_ref
from hl7bridge.mapping.schema import (
    Condition,
    Example,
    Fallback,
    FieldValue,
    GuideNote,
    OptionTest,
    OptionValue,
    Path,
    Place,
    Ref,
    Row,
    Table,
    is_segment_name,
)
from hl7bridge.mapping.source import Fields, Items, Mistakes, Node, SourceFile, Text

TABLE_WORDS = ("table", "rows", "unmapped", "deviations", "examples", "note")
ROW_WORDS = (
    "to as codes value concat set extension on when option apply invalid remove fallback note".split()  # noqa: SIM905
)
REMOVE_WORDS = ("to", "when", "option", "remove", "note")
EXAMPLE_WORDS = ("name", "given", "expect", "options")
_GUIDE_ROWS = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*(?:\[[A-Za-z0-9_.-]+\])?)#\d+(?:\.ref\d+|-#?\d+)?")
_VALUE_WORDS = ("as", "value", "concat", "apply")

T = TypeVar("T")


class Reader:
    """The ways of reading that all kinds of tables share."""

    def __init__(self, mistakes: Mistakes) -> None:
        self.mistakes = mistakes

    def words(self, node: Fields, known: tuple[str, ...] | list[str], what: str) -> None:
        """Names every word that the format does not have, with the one that was probably meant."""
        if not node.entries.keys() - known:
            return
        for key, place, _ in node:
            if key not in known:
                meant = closest(key, known)
                hint = f"; did you mean {meant!r}?" if meant else f"; there are {', '.join(known)}"
                self.mistakes.add(place, f"{what} has no word {key!r}{hint}")

    def text(self, node: Node | None, what: str) -> Text | None:
        """A text that is not empty, or a mistake; None without one when there is no node."""
        if node is None:
            return None
        if not isinstance(node, Text):
            self.mistakes.add(
                node.place, f"{what} is one text, not a {'list' if isinstance(node, Items) else 'mapping'}"
            )
            return None
        if not node.text.strip():
            self.mistakes.add(node.place, f"{what} is empty")
            return None
        return node

    def string(self, node: Node | None, what: str) -> str:
        text = self.text(node, what)
        return text.text if text else ""

    def texts(self, node: Node | None, what: str) -> tuple[Text, ...]:
        """A list of texts; a single text is a list of one."""
        items = node.items if isinstance(node, Items) else (node,)
        return tuple(text for item in items if (text := self.text(item, what)) is not None)

    def fields(self, node: Node | None, what: str) -> Fields | None:
        if node is None or isinstance(node, Fields):
            return node
        if not (isinstance(node, Text) and not node.text):
            self.mistakes.add(node.place, f"{what} is a mapping `word: value`")
        else:
            self.mistakes.add(node.place, f"{what} is empty")
        return None

    def reasons(self, node: Node | None, what: str) -> dict[str, tuple[Place, str]]:
        """`key: reason` by key."""
        fields = self.fields(node, what)
        if fields is None:
            return {}
        return {key: (place, self.string(value, f"the reason for {key}")) for key, place, value in fields}

    def unmapped(self, node: Node | None) -> tuple[dict[str, tuple[Place, str]], dict[str, tuple[Place, str]]]:
        """The reasons by field or segment, and those by rows of the guide (`PID[Patient]#36`)."""
        every = self.reasons(node, "`unmapped`")
        rows = {key: said for key, said in every.items() if "#" in key}
        return {key: said for key, said in every.items() if key not in rows}, rows

    def guide(
        self, name: str, unmapped: dict[str, tuple[Place, str]], deviations: Node | None
    ) -> tuple[GuideNote, ...]:
        """What a table says of the guide's rows: those of the map that has its name, or without one, of messages."""
        said = [(rows, at, why, True) for rows, (at, why) in unmapped.items()]
        said += [(rows, at, why, False) for rows, (at, why) in self.reasons(deviations, "`deviations`").items()]
        for rows, at, _, _ in said:
            for one in rows.split():
                match = _GUIDE_ROWS.fullmatch(one)
                if match is None:
                    like = name or "ADT_A01"
                    self.mistakes.add(at, f"{one!r} names no row of the guide, like {like}#5 or {like}#5-#7")
                elif name and match[1].replace("[", "-").replace("]", "") != name:
                    self.mistakes.add(at, f"{one!r}: {match[1]} is another map of the guide than {name}")
        return tuple(GuideNote(*each) for each in ((rows, why, at, no) for rows, at, why, no in said))

    def parse(self, text: Text | None, parser: Callable[[str], T], what: str) -> T | None:
        """What a parser makes of a text; its mistake is named at the character where it is."""
        if text is None:
            return None
        try:
            return parser(text.text)
        except Malformed as error:
            self.mistakes.add(text.at(error.column), f"{what}: {error.what}")
            return None

    def path(self, text: Text | None, what: str) -> Path | None:
        return self.parse(text, lambda value: parse_path(value, text.place), what) if text else None

    def condition(self, text: Text | None) -> tuple[Condition | None, str]:
        return self.parse(text, parse_condition, "`when`"), text.text if text else ""

    def option(self, text: Text | None) -> OptionTest | None:
        """`name` or `name = value`."""
        if text is None:
            return None
        name, equals, value = (part.strip() for part in text.text.partition("="))
        if not name or " " in name or name.endswith("!") or (equals and not value):
            self.mistakes.add(text.place, f"`option` is `name` or `name = value`, not {text.text!r}")
            return None
        return OptionTest(name, value) if equals else OptionTest(name)

    def yes(self, node: Node | None, what: str) -> bool:
        """A switch that is off where it does not stand: `yes` is all it can say."""
        text = self.text(node, what)
        if text is not None and text.text != "yes":
            self.mistakes.add(text.place, f"{what} is `yes` or does not stand there, not {text.text!r}")
        return text is not None

    def value(self, node: Node | None, what: str) -> str | OptionValue | None:
        """A constant, or `{option: name}`."""
        if not isinstance(node, Fields):
            text = self.text(node, what)
            return text.text if text else None
        self.words(node, ("option",), what)
        name = self.string(node.get("option"), f"the option of {what}")
        return OptionValue(name) if name else None

    def field(self, node: Node | None, what: str) -> Ref | None:
        """A field or component: OBX-6.1."""
        text = self.text(node, what)
        return self.parse(text, parse_ref, what) if text is not None else None

    def field_value(self, node: Node | None, what: str) -> FieldValue | None:
        """`OBX-6.1`, or `{field: OBX-6.1, apply: ucum}`."""
        if not isinstance(node, Fields):
            ref = self.field(node, what)
            return FieldValue(ref) if ref is not None else None
        self.words(node, ("field", "apply"), what)
        ref = self.field(node.get("field"), f"the field of {what}")
        function = self.string(node.get("apply"), f"the function of {what}") if "apply" in node.entries else ""
        return FieldValue(ref, function) if ref is not None else None

    def named(self, file: SourceFile, word: str) -> str:
        """The table's own name, which must be the file's."""
        name = self.text(file.node.get(word), f"`{word}`")
        if word not in file.node.entries:
            self.mistakes.add(file.node.place, f"the word `{word}` is missing: `{word}: {file.stem}`")
        elif name is not None and name.text != file.stem:
            self.mistakes.add(name.place, f"the table is called {name.text!r} but its file {file.stem!r}")
        return file.stem


class TableReader(Reader):
    """Segment and data type tables."""

    def table(self, file: SourceFile) -> Table | None:
        node = file.node
        name = self.named(file, "table")
        self.words(node, TABLE_WORDS, "a table")
        source, _, rest = name.partition("-")
        target, _, variant = rest.partition("-")
        if not source or not target:
            self.mistakes.add(node.place, f"the name {name!r} is not source-target, like PID-Patient or XPN-HumanName")
            return None
        rows = self.fields(node.get("rows"), "`rows`")
        if "rows" not in node.entries:
            self.mistakes.add(node.place, "the word `rows` is missing")
        unmapped, unwritten = self.unmapped(node.get("unmapped"))
        return Table(
            name=name,
            kind="segment" if file.folder == "segments" else "datatype",
            source=source,
            target=target,
            variant=variant,
            rows=tuple(self._rows(rows)) if rows else (),
            unmapped={key: why for key, (_, why) in unmapped.items()},
            unmapped_places={key: at for key, (at, _) in unmapped.items()},
            examples=tuple(self._examples(node.get("examples"))),
            place=node.place,
            guide=self.guide(name, unwritten, node.get("deviations")),
        )

    def _rows(self, rows: Fields) -> Iterator[Row]:
        for key, place, node in rows:
            try:
                source = parse_ref(key)
            except Malformed as error:
                self.mistakes.add(place, error.what)
                continue
            items = node.items if isinstance(node, Items) else (node,)
            if not items:
                self.mistakes.add(place, f"the list of rows of {key} is empty")
            for item in items:
                row = self._row(source, item, place if not isinstance(node, Items) else item.place)
                if row is not None:
                    yield row

    def _row(self, source: Ref, node: Node, place: Place) -> Row | None:
        what = f"a row of {source}"
        fields = self.fields(node, what)
        if fields is None:
            return None
        fields = self._as_meant(fields, what)
        get = fields.get
        if "to" not in fields.entries:
            self.mistakes.add(place, f"the row of {source} has no `to`")
        self._one_value(fields, place, source)
        remove = self.yes(get("remove"), "`remove`")
        if remove:
            self._only_removes(fields, source)
        when, when_text = self.condition(self.text(get("when"), "`when`"))
        extension, label = self._extension(get("extension"))
        if get("on") is not None and not extension:
            self.mistakes.add(
                fields.entries["on"][0], "`on` names the element that carries an `extension`, and there is none"
            )
        invalid, beside = self._invalid(get("invalid"))
        return Row(
            source=source,
            place=place,
            to=self.path(self.text(get("to"), "`to`"), "`to`") if extension or get("extension") is None else None,
            as_=self.string(get("as"), "`as`") or None,
            codes=self.string(get("codes"), "`codes`") or None,
            value=self.value(get("value"), "`value`"),
            concat=self.parse(self.text(get("concat"), "`concat`"), parse_concat, "`concat`") or (),
            set_=tuple(self._set(get("set"))),
            extension=extension,
            extension_label=label,
            on=self.path(self.text(get("on"), "`on`"), "`on`"),
            when=when,
            when_text=when_text,
            option=self.option(self.text(get("option"), "`option`")),
            apply=self.string(get("apply"), "`apply`") or None,
            remove=remove,
            fallback=self._fallback(self.text(get("fallback"), "`fallback`")),
            invalid=invalid,
            invalid_with=beside,
            note=self.string(get("note"), "`note`"),
        )

    def _as_meant(self, row: Fields, what: str) -> Fields:
        """A misspelt word counts as the one that was meant: it is one mistake, and not also that word missing."""
        if not row.entries.keys() - ROW_WORDS:
            return row
        self.words(row, ROW_WORDS, what)
        meant = {key: closest(key, ROW_WORDS) for key, _, _ in row if key not in ROW_WORDS}
        spelt = {key: word for key, word in meant.items() if word and word not in row.entries}
        return Fields({spelt.get(key, key): entry for key, entry in row.entries.items()}, row.place) if spelt else row

    def _fallback(self, text: Text | None) -> Fallback:
        if text is None or text.text == "yes":
            return "yes" if text else ""
        if text.text != "new":
            self.mistakes.add(text.place, f"`fallback` is `yes` or `new`, not {text.text!r}")
        return "new"

    def _only_removes(self, fields: Fields, source: Ref) -> None:
        """A row that takes an element away says which and when, and nothing of a value."""
        for word, place, _ in fields:
            if word not in REMOVE_WORDS and word in ROW_WORDS:
                self.mistakes.add(place, f"the row of {source} takes its element away, so `{word}` has no meaning")

    def _one_value(self, fields: Fields, place: Place, source: Ref) -> None:
        given = [word for word in _VALUE_WORDS if word in fields.entries]
        if len(given) > 1:
            listed = " and ".join(f"`{word}`" for word in given)
            self.mistakes.add(
                fields.entries[given[1]][0], f"the row of {source} has {listed}: one of them gives the value"
            )
        elif "codes" in fields.entries and given and given[0] in ("value", "apply"):
            self.mistakes.add(
                fields.entries["codes"][0], f"`codes` translates what was sent, and `{given[0]}` is not that"
            )
        whole = not source.parts and is_segment_name(source.root)
        if whole and not {"value", "concat", "remove"} & fields.entries.keys():
            self.mistakes.add(
                place, f"the row of {source} is for the whole segment: it has a `value`, a `concat` or `remove: yes`"
            )

    def _invalid(self, node: Node | None) -> tuple[Path | None, Ref | None]:
        """`valueString`, or `{to: valueString, with: OBX-6.1}`."""
        if not isinstance(node, Fields):
            return self.path(self.text(node, "`invalid`"), "`invalid`"), None
        self.words(node, ("to", "with"), "`invalid`")
        if "to" not in node.entries:
            self.mistakes.add(node.place, "`invalid` has no `to`: it names where the text goes")
        path = self.path(self.text(node.get("to"), "the `to` of `invalid`"), "`invalid`")
        return path, self.field(node.get("with"), "the `with` of `invalid`")

    def _set(self, node: Node | None) -> Iterator[tuple[Path, str | OptionValue | FieldValue]]:
        fields = self.fields(node, "`set`")
        for key, place, value in fields or ():
            path = self.path(Text(key, place), "`set`")
            what = f"the value of {key}"
            if isinstance(value, Fields) and "field" in value.entries:
                said: str | OptionValue | FieldValue | None = self.field_value(value, what)
            else:
                said = self.value(value, what)
            if path is not None and said is not None:
                yield path, said

    def _extension(self, node: Node | None) -> tuple[tuple[str, ...], str]:
        texts = self.texts(node, "`extension`")
        if not texts:
            return (), ""
        try:
            return parse_extension(tuple(text.text for text in texts))
        except Malformed as error:
            self.mistakes.add(texts[0].place, f"`extension`: {error.what}")
            return (), ""

    def _examples(self, node: Node | None) -> Iterator[Example]:
        if node is not None and not isinstance(node, Items):
            self.mistakes.add(node.place, "`examples` is a list: `- name: …`")
            return
        for item in node.items if node else ():
            fields = self.fields(item, "an example")
            if fields is None:
                continue
            self.words(fields, EXAMPLE_WORDS, "an example")
            missing = [word for word in ("name", "given", "expect") if word not in fields.entries]
            if missing:
                self.mistakes.add(item.place, f"the example has no {' and no '.join(f'`{word}`' for word in missing)}")
                continue
            options = self.fields(fields.get("options"), "`options`")
            yield Example(
                name=self.string(fields.get("name"), "`name`"),
                given=self.string(fields.get("given"), "`given`"),
                expect=plain(fields.get("expect")),
                options={key: self.string(value, key) for key, _, value in options or ()},
                place=item.place,
            )


def plain(node: Node | None) -> object:
    """A node as plain lists, dictionaries and strings."""
    if isinstance(node, Fields):
        return {key: plain(value) for key, _, value in node}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.text if node else None
