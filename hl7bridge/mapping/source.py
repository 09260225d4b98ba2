"""From folders of YAML files to nodes with their places; no meaning yet.

All scalars stay strings: nothing is resolved, so `01`, `NO` and `1e3` keep their spelling. Refused here, with file and
line: what is not UTF-8 or not YAML, tabs, duplicate keys, anchors and aliases, tags, files and folders the format does
not know. A file is composed by libyaml where PyYAML has it (6,100 lines in about 0.1 s), else by PyYAML itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from hl7bridge.errors import Mistake
from hl7bridge.mapping.schema import Place
from hl7bridge.mapping.unreadable import meant

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # pragma: no cover  (PyYAML built without libyaml)
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

FOLDERS = ("messages", "shared", "segments", "datatypes", "codes", "r5")
FILES = ("options", "identity")
_VERSION_LENGTH = 12  # hex digits: 48 bits tell any two versions of one site's tables apart


class Text(NamedTuple):
    """A scalar. `inline`: it stands in one line as written, so that a column inside it can be named."""

    text: str
    place: Place
    inline: bool = True

    def at(self, column: int) -> Place:
        """The place of a character (counted from 1) of the text; only its line where the text has several (`|`)."""
        if not self.inline:
            return Place(self.place.file, self.place.line + 1 + self.text.count("\n", 0, column - 1), 1)
        return Place(self.place.file, self.place.line, self.place.column + column - 1)


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping; each entry keeps the place of its key."""

    entries: Mapping[str, tuple[Place, Node]]
    place: Place

    def get(self, key: str) -> Node | None:
        return self.entries[key][1] if key in self.entries else None

    def __iter__(self) -> Iterator[tuple[str, Place, Node]]:
        return ((key, place, node) for key, (place, node) in self.entries.items())


Node = Text | Items | Fields
_QUOTES = ("'", '"')


class _Loader(_SafeLoader):
    """Composes without asking what a scalar means: here every scalar is the text that was written."""

    def resolve(self, kind: object, value: object, implicit: object) -> str:
        return ""

    def descend_resolver(self, node: object, index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


class Mistakes:
    """Collects every mistake, so that all are reported at once."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def add(self, place: Place, message: str) -> None:
        self.found.append(Mistake(place.file, place.line, place.column, message))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: `folder` (empty for options and identity), `stem`, its name as the analyst knows it, and its node."""

    folder: str
    stem: str
    file: str
    node: Fields


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """All readable files of one folder of tables, by (folder, stem)."""

    name: str
    files: Mapping[tuple[str, str], SourceFile]
    digest: bytes


def read_folder(path: Path, name: str, mistakes: Mistakes) -> SourceFolder:
    """Reads a folder of tables. Files are named `<name>/segments/PID-Patient.yaml` in mistakes."""
    digest = hashlib.sha256()
    files: dict[tuple[str, str], SourceFile] = {}
    if not path.is_dir():
        mistakes.add(Place(name, 1, 1), "there is no such folder of mapping tables")
        return SourceFolder(name, files, digest.digest())
    for folder, file in _candidates(path, name, mistakes):
        relative = f"{folder}/{file.name}" if folder else file.name
        content = file.read_bytes()
        digest.update(_counted(relative, content))
        node = read_yaml(content, f"{name}/{relative}", mistakes)
        if node is not None:
            files[folder, file.stem] = SourceFile(folder, file.stem, f"{name}/{relative}", node)
    return SourceFolder(name, files, digest.digest())


def digest_of(path: Path) -> bytes:
    """The digest of a folder whose content nobody reads now."""
    digest = hashlib.sha256()
    for folder, file in _candidates(path, path.name, Mistakes()):
        digest.update(_counted(f"{folder}/{file.name}" if folder else file.name, file.read_bytes()))
    return digest.digest()


def _counted(relative: str, content: bytes) -> bytes:
    return f"{relative}\0{len(content)}\0".encode() + content


def version_of(digests: Iterable[bytes], settings: Mapping[str, str]) -> str:
    """The content hash of all folders by their digests, in their order, and of settings from elsewhere."""
    digest = hashlib.sha256()
    for one in digests:
        digest.update(one)
    for key, value in sorted(settings.items()):
        digest.update(f"{key}\0{value}\0".encode())
    return digest.hexdigest()[:_VERSION_LENGTH]


def _candidates(path: Path, name: str, mistakes: Mistakes) -> Iterator[tuple[str, Path]]:
    """The files of the format with their folder, sorted.

    What looks like a table at a wrong place is a mistake, all else is left.
    """
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and entry.name in FOLDERS:
            for file in sorted(entry.iterdir()):
                if file.suffix == ".yaml" and not file.name.startswith("."):
                    yield entry.name, file
                elif file.suffix in (".yml", ".YAML", ".YML"):
                    mistakes.add(Place(f"{name}/{entry.name}/{file.name}", 1, 1), "a table's file ends in .yaml")
                elif file.is_dir() and any(file.rglob("*.yaml")):
                    mistakes.add(Place(f"{name}/{entry.name}/{file.name}", 1, 1), "tables stand in no deeper folder")
        elif entry.is_dir() and not entry.name.startswith((".", "_")) and any(entry.rglob("*.y*ml")):
            mistakes.add(Place(f"{name}/{entry.name}", 1, 1), f"the folders are {', '.join(FOLDERS)}")
        elif entry.suffix == ".yaml" and entry.stem in FILES:
            yield "", entry
        elif entry.suffix in (".yaml", ".yml") and not entry.name.startswith("."):
            expected = "beside the folders stand only options.yaml and identity.yaml"
            mistakes.add(Place(f"{name}/{entry.name}", 1, 1), expected)


def read_yaml(content: bytes, file: str, mistakes: Mistakes) -> Fields | None:
    """One YAML document that is a mapping; None when it is not readable (the mistake is added)."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        mistakes.add(Place(file, line, 1), "the file is not UTF-8 here")
        return None
    if "\t" in text:
        for number, line_text in enumerate(text.splitlines(), 1):
            if "\t" in line_text:
                mistakes.add(Place(file, number, line_text.index("\t") + 1), "a tab: tables are indented with spaces")
        return None
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line, column, wrong = meant(error, text)
        mistakes.add(Place(file, line, column), wrong)
        return None
    except yaml.YAMLError:
        mistakes.add(Place(file, 1, 1), "not readable as YAML: a character that YAML does not allow")
        return None
    if node is None:
        mistakes.add(Place(file, 1, 1), "the file is empty")
        return None
    if not isinstance(node, yaml.MappingNode):
        mistakes.add(_place(node, file), "a table is a mapping of words: `word: value`")
        return None
    converted = _Converter(file, mistakes).convert(node)
    return converted if isinstance(converted, Fields) else None


class _Converter:
    """YAML nodes to ours; a node seen twice was an alias."""

    def __init__(self, file: str, mistakes: Mistakes) -> None:
        self._file = file
        self._mistakes = mistakes
        self._seen: set[int] = set()

    def convert(self, node: yaml.Node) -> Node | None:
        """The node; None for an alias, which is a mistake."""
        start, tag = node.start_mark, node.tag
        line, column = start.line + 1, start.column + 1
        if id(node) in self._seen:
            self._mistakes.add(
                Place(self._file, line, column),
                "anchors and aliases (& and *) are not part of the format; a leading * is quoted",
            )
            return None
        self._seen.add(id(node))
        if tag and tag[0] == "!":
            self._mistakes.add(
                Place(self._file, line, column), "tags (!) are not part of the format; a leading ! is quoted"
            )
        if type(node) is yaml.ScalarNode:
            inline = start.line == node.end_mark.line
            quoted = inline and node.style in _QUOTES
            return Text(node.value, Place(self._file, line, column + 1 if quoted else column), inline)
        if type(node) is yaml.MappingNode:
            return self._fields(node, Place(self._file, line, column))
        items = (self.convert(item) for item in node.value)
        return Items(tuple(item for item in items if item is not None), Place(self._file, line, column))

    def _fields(self, node: yaml.MappingNode, place: Place) -> Fields:
        entries: dict[str, tuple[Place, Node]] = {}
        for key, value in node.value:
            start = key.start_mark
            at = Place(self._file, start.line + 1, start.column + 1)
            converted = self.convert(value)
            if type(key) is not yaml.ScalarNode:
                self._mistakes.add(at, "a key is a plain word")
            elif key.value in entries:
                first = entries[key.value][0].line
                self._mistakes.add(at, f"{key.value!r} stands twice, first in line {first}; several rows are a list")
            elif converted is not None:
                entries[key.value] = (at, converted)
        return Fields(entries, place)


def _place(node: yaml.Node, file: str) -> Place:
    return Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
