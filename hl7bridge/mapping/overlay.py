"""Lays a site's folder over the shipped one: on nodes, before they are given meaning, so that each keeps its own place.

The unit is what the standard names: the v2 field in segment and data type tables, the node of the structure in message
tables (whose `segments` put more into the structure that is there), the key in shared tables, the code in code tables,
the option, the word of a resource type's identity, the path in the tables for R5.
An overlay's rows replace all rows of the same unit; what it adds is added; a field it lists in `unmapped` loses its
rows, and vice versa.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from hl7bridge.hl7v2.structure import Structure
from hl7bridge.mapping.schema import Place
from hl7bridge.mapping.source import Fields, Items, Node, SourceFile, Text

Entries = Mapping[str, tuple[Place, Node]]


def overlay_file(base: SourceFile | None, over: SourceFile) -> SourceFile:
    """The file that results; mistakes of form are left for the reader to name, at the overlay's place."""
    if base is None:
        return replace(over, node=_with_segments(over.node)) if over.folder == "messages" else over
    if over.folder in ("segments", "datatypes"):
        node = _tables(base.node, over.node, _field_of)
    elif over.folder == "messages":
        below = base.node.get("structure")
        entries = {"structure": (base.node.place, below), **over.node.entries} if below else over.node.entries
        added = _with_segments(Fields(entries, over.node.place))
        node = _tables(base.node, added, _node_of(base.node, added))
    elif over.folder == "shared":
        node = _tables(base.node, over.node, str)
    elif over.folder == "codes":
        node = _words(base.node, over.node, {"map": _by_key, "unmapped": _by_key, "deviations": _by_key})
    elif over.folder == "r5":
        node = _words(
            base.node, over.node, dict.fromkeys(("moves", "codes", "adds", "otherwise", "extensions"), _by_key)
        )
    elif over.stem == "identity":
        node = _words(base.node, over.node, dict.fromkeys(over.node.entries, _by_key))
    else:
        node = _words(base.node, over.node, {"set": _by_key})
    return replace(over, node=node)


def _words(base: Fields, over: Fields, merges: Mapping[str, Callable[[Fields, Fields], Fields]]) -> Fields:
    """Word by word: the overlay's replaces, but for the words that have a merge of their own."""
    entries = dict(base.entries)
    for key, place, node in over:
        below = base.get(key)
        if key in merges and isinstance(below, Fields) and isinstance(node, Fields):
            node = merges[key](below, node)
        entries[key] = (place, node)
    return Fields(entries, over.place)


def _by_key(base: Fields, over: Fields) -> Fields:
    return Fields({**base.entries, **over.entries}, over.place)


def _tables(base: Fields, over: Fields, unit: Callable[[str], str]) -> Fields:
    """A table with `rows` and `unmapped`, which exclude each other by unit, and `examples`, replaced by name."""
    merged = _words(base, over, {"also": _by_key, "deviations": _by_key})
    entries = dict(merged.entries)
    rows, unmapped = _fields(over, "rows"), _fields(over, "unmapped")
    said = {unit(key) for key in (*rows, *unmapped)}
    for word, mine in (("rows", rows), ("unmapped", unmapped)):
        below = _fields(base, word)
        if below or mine:
            place = entries[word][0] if word in entries else over.place
            entries[word] = (place, Fields(_replaced(below, mine, said, unit), place))
    examples = base.get("examples"), over.get("examples")
    if isinstance(examples[0], Items) and isinstance(examples[1], Items):
        entries["examples"] = (entries["examples"][0], _examples(*examples))
    for word in ("rows", "unmapped"):
        wrong = over.get(word)
        if wrong is not None and not isinstance(wrong, Fields):
            entries[word] = over.entries[word]
    return Fields(entries, over.place)


def _replaced(below: Entries, mine: Entries, said: set[str], unit: Callable[[str], str]) -> Entries:
    """Rows keep their order: a unit's new rows stand where the first old one stood, new units at the end."""
    found: dict[str, tuple[Place, Node]] = {}
    for key, entry in below.items():
        if unit(key) not in said:
            found[key] = entry
        else:
            found.update({k: e for k, e in mine.items() if unit(k) == unit(key)})
    found.update({key: entry for key, entry in mine.items() if key not in found})
    return found


def _examples(base: Node | None, over: Node | None) -> Items:
    assert isinstance(base, Items) and isinstance(over, Items)
    names = {_name(item) for item in over.items}
    return Items((*(item for item in base.items if _name(item) not in names), *over.items), over.place)


def _name(example: Node) -> str:
    name = example.get("name") if isinstance(example, Fields) else None
    return name.text if isinstance(name, Text) else ""


def _fields(node: Fields, word: str) -> Entries:
    found = node.get(word)
    return found.entries if isinstance(found, Fields) else {}


def _field_of(key: str) -> str:
    """`PID-5.1` belongs to `PID-5`, `XPN.1.2` to `XPN.1`."""
    match = re.match(r"\w+[-.]\d+", key)
    return match[0] if match else key


ADDED = re.compile(r"(\{)?([A-Z][A-Z0-9]{2}(?:@[A-Za-z0-9_]+)?)(?(1)\}) after ([A-Z][A-Za-z0-9_@.]*)")


def _with_segments(node: Fields) -> Fields:
    """A message table with the segments that `segments` adds to its structure: `[ZPI after PID, "{ZIN} after IN1"]`.

    What cannot be added stays under `segments`, for the reader to name. Several after one node keep their order.
    """
    structure, asked = node.get("structure"), node.get("segments")
    items = asked.items if isinstance(asked, Items) else (asked,) if isinstance(asked, Text) else ()
    if not isinstance(structure, Text) or not items:
        return node
    text, left = structure.text, list[Node]()
    last: dict[str, str] = {}
    for item in items:
        found = ADDED.fullmatch(item.text) if isinstance(item, Text) else None
        try:
            if found is None:
                raise ValueError
            parsed = Structure(text)
            path = parsed.resolve(found[3])
            text = parsed.with_segment(found[2], last.get(path, path), repeats=bool(found[1]))
            last[path] = f"{path.rpartition('.')[0]}.{found[2]}".lstrip(".")
        except ValueError:
            left.append(item)
    entries = {**node.entries, "structure": (node.entries["structure"][0], structure._replace(text=text))}
    del entries["segments"]
    if left:
        entries["segments"] = (node.entries["segments"][0], Items(tuple(left), node.entries["segments"][0]))
    return Fields(entries, node.place)


def _node_of(base: Fields, over: Fields) -> Callable[[str], str]:
    """A message table's keys are ends of paths: two that lead to one node of the structure are the same."""
    structure = over.get("structure") or base.get("structure")
    try:
        parsed = Structure(structure.text) if isinstance(structure, Text) else None
    except ValueError:
        parsed = None

    def unit(key: str) -> str:
        try:
            return parsed.resolve(key) if parsed else key
        except ValueError:
            return key

    return unit
