"""Code tables, options and identity: from nodes to values."""

from __future__ import annotations

from collections.abc import Iterator

from hl7bridge.fhir.model import closest
from hl7bridge.mapping.read import Reader
from hl7bridge.mapping.schema import Code, CodeTable, Identity, Option, Place
from hl7bridge.mapping.source import Fields, Items, Node, SourceFile, Text

CODES_WORDS = ("codes", "v2-table", "system", "map", "otherwise", "unmapped", "deviations", "note")
CODE_WORDS = ("code", "system", "display")
OPTION_WORDS = ("default", "values", "says", "decides")
IDENTITY_WORDS = ("prefer", "unique", "owners", "patchers", "keys", "keeps", "collapse", "note")
OTHERWISE = ("keep", "drop", "error")


class SiteReader(Reader):
    """The tables that hold no rows."""

    def codes(self, file: SourceFile) -> CodeTable | None:
        node = file.node
        name = self.named(file, "codes")
        self.words(node, CODES_WORDS, "a code table")
        system = self.string(node.get("system"), "`system`")
        fields = self.fields(node.get("map"), "`map`")
        if "map" not in node.entries:
            self.mistakes.add(node.place, "the word `map` is missing")
        otherwise = self.text(node.get("otherwise"), "`otherwise`")
        if otherwise is not None and otherwise.text not in OTHERWISE and self._looks_like(otherwise, OTHERWISE):
            otherwise = None
        return CodeTable(
            name=name,
            v2_table=self.string(node.get("v2-table"), "`v2-table`"),
            system=system,
            map=dict(self._map(fields, system)) if fields else {},
            otherwise=otherwise.text if otherwise else "keep",
            place=node.place,
            places={key: place for key, place, _ in fields} if fields else {},
            otherwise_place=otherwise.place if otherwise else None,
            guide=self.guide(name, self._unwritten(node.get("unmapped")), node.get("deviations")),
        )

    def _unwritten(self, node: Node | None) -> dict[str, tuple[Place, str]]:
        """Rows of the guide the table leaves out; a code that is not in `map` needs no word: `otherwise` speaks."""
        codes, rows = self.unmapped(node)
        for key, (place, _) in codes.items():
            self.mistakes.add(
                place, f"`unmapped` of a code table holds rows of the guide, not the code {key!r}: see `otherwise`"
            )
        return rows

    def _looks_like(self, text: Text, words: tuple[str, ...]) -> bool:
        """`otherwise: kep` is a misspelt word rather than a code; a code is hardly ever so alike."""
        meant = closest(text.text, words)
        if meant:
            self.mistakes.add(
                text.place, f"`otherwise: {text.text}` looks like {meant!r} misspelt; did you mean {meant!r}?"
            )
        return meant is not None

    def _map(self, fields: Fields, system: str) -> Iterator[tuple[str, Code]]:
        for key, place, node in fields:
            if not isinstance(node, Fields):
                code = self.string(node, f"what {key!r} becomes")
                if code:
                    yield key, Code(code, system)
                continue
            self.words(node, CODE_WORDS, f"the code {key!r}")
            code = self.string(node.get("code"), "`code`")
            if "code" not in node.entries:
                self.mistakes.add(place, f"the code {key!r} has no `code`")
            own = self.string(node.get("system"), "`system`")
            yield key, Code(code, own or system, self.string(node.get("display"), "`display`"))

    def options(self, file: SourceFile) -> tuple[dict[str, Option], dict[str, tuple[Place, str]]]:
        """The options and what `set` says, by name."""
        found: dict[str, Option] = {}
        for name, place, node in file.node:
            if name == "set":
                continue
            fields = self.fields(node, f"the option {name!r}")
            if fields is None:
                continue
            self.words(fields, OPTION_WORDS, f"the option {name!r}")
            for word in ("default", "says"):
                if word not in fields.entries:
                    self.mistakes.add(place, f"the option {name!r} has no `{word}`")
            default = fields.get("default")
            found[name] = Option(
                name=name,
                default=default.text if isinstance(default, Text) else self.string(default, "`default`"),
                values=tuple(text.text for text in self.texts(fields.get("values"), "`values`"))
                if "values" in fields.entries
                else (),
                says=self.string(fields.get("says"), "`says`"),
                place=place,
                decides=self._list(fields, "decides"),
            )
        settings = self.fields(file.node.get("set"), "`set`")
        return found, {key: (place, self._setting(value, key)) for key, place, value in settings or ()}

    def _setting(self, node: Node, name: str) -> str:
        return node.text if isinstance(node, Text) else self.string(node, f"the value of {name}")

    def identities(self, file: SourceFile) -> dict[str, Identity]:
        found: dict[str, Identity] = {}
        for type_, place, node in file.node:
            fields = self.fields(node, f"the identity of {type_}")
            if fields is None:
                continue
            self.words(fields, IDENTITY_WORDS, f"the identity of {type_}")
            found[type_] = Identity(
                type=type_,
                prefer=self._list(fields, "prefer"),
                unique=self._list(fields, "unique"),
                owners=self._list(fields, "owners"),
                collapse=self.string(fields.get("collapse"), "`collapse`"),
                place=place,
                patchers=self._list(fields, "patchers"),
                keys=self._keys(fields.get("keys"), type_),
                keeps=self._list(fields, "keeps"),
            )
        return found

    def _keys(self, node: Node | None, type_: str) -> dict[str, tuple[str, ...]]:
        """`keys: {identifier: system, telecom: [use, system]}`: by list, the elements in it."""
        fields = self.fields(node, f"`keys` of {type_}")
        return {name: tuple(t.text for t in self.texts(value, name)) for name, _, value in fields or ()}

    def _list(self, fields: Fields, word: str) -> tuple[str, ...]:
        node = fields.get(word)
        if node is None or (isinstance(node, Items) and not node.items):
            return ()
        return tuple(text.text for text in self.texts(node, f"`{word}`"))
