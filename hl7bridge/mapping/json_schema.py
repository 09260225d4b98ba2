"""JSON Schema for the files of the tables, so that editors complete words and underline mistakes while one types.

Sans-IO. The words come from the reader, the names (data type tables, code tables, options, functions, resource types)
from the tables that are loaded and from the R4 model: there is no second list. FHIR paths and conditions are not judged
here: `hl7bridge mappings check` does that. A word the reader knows and this file does not describe is still allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hl7bridge.fhir.model import Model
from hl7bridge.mapping.functions import FUNCTIONS
from hl7bridge.mapping.read import EXAMPLE_WORDS, ROW_WORDS, TABLE_WORDS
from hl7bridge.mapping.read_message import MESSAGE_WORDS, SHARED_WORDS, USE_WORDS, WRITES
from hl7bridge.mapping.read_r5 import MOVE_WORDS, R5_WORDS
from hl7bridge.mapping.read_site import CODE_WORDS, CODES_WORDS, IDENTITY_WORDS, OPTION_WORDS, OTHERWISE
from hl7bridge.mapping.schema import TableSet

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"  # what editors' YAML extensions speak
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}  # the tables hold texts; an editor may see 01 as a number
_TEXTS: Schema = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
_REASONS: Schema = {"type": "object", "additionalProperties": _SCALAR}
_SEGMENT_KEY = r"^[A-Z][A-Z0-9]{2}(-[0-9]+(\.[0-9]+)*)?$"
_DATATYPE_KEY = r"^[A-Z][A-Z0-9]{1,2}(\.[0-9]+)*$"
_LABEL = r"^[A-Z][A-Za-z]+(#[A-Za-z0-9_-]+)?$"
_FIELD: Schema = {
    "type": "object",
    "properties": {"field": _SCALAR, "apply": _SCALAR},
    "required": ["field"],
    "additionalProperties": False,
}

_SAYS: Mapping[str, str] = {  # shown by editors beside a word
    "to": "The path written: name#legal.family, valueQuantity, $this.",
    "as": "The data type table that converts the value.",
    "codes": "The code table that translates.",
    "value": "A constant, or {option: name}.",
    "concat": 'Parts joined: OBX-5.1 + "-" + OBX-5.2.',
    "set": "Written beside, by path: constants, {option: name}, {field: OBX-6.1}.",
    "extension": "Url of the extension the value goes into; a list is an extension in an extension.",
    "on": "The element that carries the extension.",
    "when": "The condition: OBX-2 = NM and OBX-5 valued.",
    "option": "The site decision that switches the row on: name, or name = value.",
    "apply": "A built-in function.",
    "invalid": "The path that takes the text when it cannot be converted, or {to: path, with: OBX-6.1}.",
    "note": "Anything; a deviation from the guide names its row.",
    "use": "The segment table.",
    "into": "The resource: Patient#patient.",
    "link": "References: element: Type#label, or {to: Type#label, match: {OBR-26.1: OBX-3.1}}.",
    "lines": "Neighbours that differ only in `of`, and in `counting` by one, are lines of one text.",
    "write": "How the resource is written, over identity.yaml.",
    "otherwise": "For a code not in map: keep, drop, error, or a code.",
}


def schemas(tables: TableSet, model: Model) -> dict[str, Schema]:
    """The schema of each kind of file, by its folder's name, or the file's: options, identity."""
    build = _Builder(tables, model)
    return {
        "messages": build.messages(),
        "shared": build.shared(),
        "segments": build.tables(_SEGMENT_KEY),
        "datatypes": build.tables(_DATATYPE_KEY),
        "codes": build.codes(),
        "r5": build.r5(),
        "options": build.options(),
        "identity": build.identity(),
    }


class _Builder:
    def __init__(self, tables: TableSet, model: Model) -> None:
        self._tables, self._model = tables, model

    def tables(self, key: str) -> Schema:
        row = self._words(
            ROW_WORDS,
            {
                "to": _SCALAR,
                "as": {"enum": sorted(self._tables.datatypes)},
                "codes": {"enum": sorted(self._tables.codes)},
                "value": self._value(),
                "set": {"type": "object", "additionalProperties": {"anyOf": [self._value(), _FIELD]}},
                "extension": _TEXTS,
                "option": self._option(),
                "apply": {"enum": sorted(FUNCTIONS)},
                "invalid": {"anyOf": [_SCALAR, _mapping_of({"to": _SCALAR, "with": _SCALAR}, ("to",))]},
                **dict.fromkeys(("concat", "on", "when", "note"), _SCALAR),
            },
            required=("to",),
        )
        example = self._words(
            EXAMPLE_WORDS,
            {
                "name": _SCALAR,
                "given": _SCALAR,
                "options": {
                    "type": "object",
                    "propertyNames": {"enum": sorted(self._tables.options)},
                    "additionalProperties": _SCALAR,
                },
            },
            required=("name", "given", "expect"),
        )
        return self._file(
            TABLE_WORDS,
            {
                "table": _SCALAR,
                "rows": _keyed(_one_or_more(row), key),
                "examples": {"type": "array", "items": example},
                **dict.fromkeys(("unmapped", "deviations"), _REASONS),
                "note": _SCALAR,
            },
            "table",
        )

    def messages(self) -> Schema:
        words = {"message": _SCALAR, "events": _TEXTS, "structure": {"type": "string"}, "shares": self._shares()}
        words["segments"] = _TEXTS
        return self._file(MESSAGE_WORDS, {**words, **self._uses()}, "message")

    def shared(self) -> Schema:
        return self._file(SHARED_WORDS, {"shared": _SCALAR, **self._uses()}, "shared")

    def _shares(self) -> Schema:
        named = {name for message in self._tables.messages.values() for name in message.shares}
        one: Schema = {"type": "string", "examples": sorted(named)}
        return {"anyOf": [one, {"type": "array", "items": one}]}

    def _uses(self) -> Schema:
        label: Schema = {"type": "string", "pattern": _LABEL}
        pairs: Schema = {"type": "object", "additionalProperties": {"anyOf": [_SCALAR, _FIELD]}}
        leads: Schema = {"anyOf": [label, _mapping_of({"to": label, "match": pairs}, ("to", "match"))]}
        use = self._words(
            USE_WORDS,
            {
                "use": {"enum": sorted(self._tables.segments)},
                "into": label,
                "link": {
                    "type": "object",
                    "additionalProperties": {"anyOf": [leads, {"type": "array", "items": leads}]},
                },
                "option": self._option(),
                "write": {"enum": sorted(WRITES)},
                "lines": _mapping_of({"of": _SCALAR, "counting": _TEXTS, "when": _SCALAR}, ("of",)),
                **dict.fromkeys(("when", "note"), _SCALAR),
            },
            required=("use", "into"),
        )
        rows = {"type": "object", "additionalProperties": _one_or_more(use)}
        return {"rows": rows, **dict.fromkeys(("unmapped", "deviations"), _REASONS), "note": _SCALAR}

    def codes(self) -> Schema:
        code = self._words(CODE_WORDS, dict.fromkeys(CODE_WORDS, _SCALAR), required=("code",))
        return self._file(
            CODES_WORDS,
            {
                "map": {"type": "object", "additionalProperties": {"anyOf": [_SCALAR, code]}},
                "otherwise": {**_SCALAR, "examples": list(OTHERWISE)},
                **dict.fromkeys(("unmapped", "deviations"), _REASONS),
                **dict.fromkeys(("codes", "v2-table", "system", "note"), _SCALAR),
            },
            "codes",
        )

    def r5(self) -> Schema:
        constants: Schema = {"type": "object", "additionalProperties": _SCALAR}
        move = self._words(MOVE_WORDS, {**dict.fromkeys(("to", "system", "note"), _SCALAR), "set": constants}, ("to",))
        words = {
            "r5": _SCALAR,
            "note": _SCALAR,
            "moves": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, move]}},
            "codes": {"type": "object", "additionalProperties": constants},
            **dict.fromkeys(("adds", "otherwise", "extensions"), constants),
            "absent": _TEXTS,
        }
        return self._file(R5_WORDS, words, "r5")

    def options(self) -> Schema:
        option = self._words(
            OPTION_WORDS,
            {"default": {}, "values": _TEXTS, "says": _SCALAR},
            required=("default", "says"),
        )
        values = {
            name: {"enum": list(known.values)} if known.values else _SCALAR
            for name, known in sorted(self._tables.options.items())
        }
        settings = {"type": "object", "properties": values}
        return self._open({"set": settings}, option)

    def identity(self) -> Schema:
        rule = self._words(
            IDENTITY_WORDS,
            {
                **dict.fromkeys(("prefer", "unique", "owners", "patchers", "keeps"), _TEXTS),
                "keys": {"type": "object", "additionalProperties": _TEXTS},
                **dict.fromkeys(("collapse", "note"), _SCALAR),
            },
        )
        schema = self._open({}, rule)
        schema["propertyNames"] = {"enum": sorted(self._model.resources)}
        return schema

    # ---- pieces ----

    def _words(self, words: Iterable[str], known: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
        """An object with these words and no other; a word without a description takes anything."""
        properties = {
            word: {**known.get(word, {}), **({"description": _SAYS[word]} if word in _SAYS else {})} for word in words
        }
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": list(required)} if required else schema

    def _file(self, words: Iterable[str], known: Mapping[str, Schema], name: str) -> Schema:
        return {"$schema": DRAFT, **self._words(words, known, required=(name,))}

    def _open(self, properties: Schema, rest: Schema) -> Schema:
        return {"$schema": DRAFT, "type": "object", "properties": properties, "additionalProperties": rest}

    def _value(self) -> Schema:
        option = {"enum": sorted(self._tables.options)}
        return {"anyOf": [_SCALAR, self._words(("option",), {"option": option}, required=("option",))]}

    def _option(self) -> Schema:
        """`name`, or `name = value` with one of the values there are."""
        texts = list(self._tables.options)
        texts += [f"{name} = {value}" for name, option in self._tables.options.items() for value in option.values]
        free = "|".join(name for name, option in sorted(self._tables.options.items()) if not option.values)
        alternatives: list[Schema] = [{"enum": sorted(texts)}]
        if free:
            alternatives.append({"type": "string", "pattern": f"^({free}) *= *.+$"})
        return {"anyOf": alternatives}


def _one_or_more(row: Schema) -> Schema:
    return {"anyOf": [row, {"type": "array", "items": row, "minItems": 1}]}


def _keyed(value: Schema, key: str) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": key}, "additionalProperties": value}


KINDS: tuple[str, ...] = ("messages", "shared", "segments", "datatypes", "codes", "r5", "options", "identity")


def _mapping_of(words: Mapping[str, Schema], required: tuple[str, ...]) -> Schema:
    """A mapping of these words and no others."""
    return {"type": "object", "properties": dict(words), "required": list(required), "additionalProperties": False}
