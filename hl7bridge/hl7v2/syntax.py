"""HL7's abstract message syntax, as text, to a tree of nodes.

    [ ] optional   { } repeating   < > neither   A | B choice   NAME: behind a bracket names a group
    ROL@PV1 is segment ROL under a name of its own, for a structure that has it twice in one group

What holds: every group node has a name; an unnamed bracket around one thing only says how often that comes, around
several things (`[A B]`) that all of them are optional. Repeating several things needs a name, or nobody could say what
repeats.
Source: HL7 v2.9.1 chapter 2, "Abstract message syntax"; docs/mapping-reference.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_DEPTH = 40
_TOKEN = re.compile(
    r"\s*(?:(?P<sign>[\[\]{}<>|])|(?P<group>[A-Z][A-Z0-9_]*):|(?P<segment>[A-Z][A-Z0-9]{2}(?:@[A-Za-z0-9_]+)?)(?=[\s\[\]{}<>|]|\Z))"
)
_CLOSING = {"[": "]", "{": "}", "<": ">"}


class StructureError(ValueError):
    """The text is no message structure. `position`: offset of the mistake in it, from 0."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(f"{text} (character {position + 1} of the structure)")
        self.position = position


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """A group or a segment of a structure.

    path: names from the message down, joined by dots; parent: the path of the group around, "" for the message itself;
    segment_id: "" for a group. required and repeats are meant within the parent. end: offset in the text behind it and
    the brackets that hold it alone.
    """

    path: str
    name: str
    segment_id: str
    repeats: bool
    required: bool
    parent: str
    index: int = 0  # among the parent's children
    children: list[Node] = field(default_factory=list)
    contains: frozenset[str] = frozenset()  # ids of all segments in here
    end: int = 0

    def __repr__(self) -> str:
        return f"<Node {self.path or 'message'}>"


@dataclass(slots=True)
class _Bracket:
    """What stands between two brackets, or a segment alone (kind "")."""

    position: int
    kind: str = ""
    name: str = ""  # of the group or segment
    choices: list[list[_Bracket]] = field(default_factory=list)
    end: int = 0


def read_structure(text: str) -> Node:
    """The message's root node (path ""). Raises StructureError."""
    tokens = _Tokens(text)
    content = _read(tokens, _Bracket(0, "<"), depth=0)
    root = Node("", "", "", False, True, "")
    _fill(root, content)
    return root


class _Tokens:
    def __init__(self, text: str) -> None:
        self._items: list[tuple[str, str, int]] = []
        self._at = 0
        position = 0
        end = len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                start = position + len(text[position:]) - len(text[position:].lstrip())
                raise StructureError("neither a bracket, a group's NAME: nor a segment", start)
            kind = found.lastgroup or ""
            self._items.append((kind, found[kind], found.start(kind)))
            position = found.end()
        self.end = len(text)

    def next(self, *kinds: str) -> tuple[str, str, int] | None:
        """The next token, if it is of one of these kinds (of any without)."""
        if self._at == len(self._items) or (kinds and self._items[self._at][0] not in kinds):
            return None
        self._at += 1
        return self._items[self._at - 1]


def _read(tokens: _Tokens, bracket: _Bracket, depth: int) -> _Bracket:
    """Fills a bracket up to its closing sign; depth 0 is the message, which the end of the text closes."""
    if depth > MAX_DEPTH:
        raise StructureError("too many brackets in each other", bracket.position)
    choice: list[_Bracket] = []
    bracket.choices.append(choice)
    while token := tokens.next("sign", "segment", "group"):
        kind, text, position = token
        if kind == "segment":
            choice.append(_Bracket(position, name=text, end=position + len(text)))
        elif kind == "group":
            raise StructureError("a group's name must stand behind an opening bracket", position)
        elif text in _CLOSING:
            named = tokens.next("group")
            choice.append(_read(tokens, _Bracket(position, text, named[1] if named else ""), depth + 1))
        elif not choice:
            raise StructureError("nothing before this sign", position)
        elif text == "|":
            choice = []
            bracket.choices.append(choice)
        elif depth and text == _CLOSING[bracket.kind]:
            bracket.end = position + 1
            return bracket
        else:
            raise StructureError(f"this {text} closes nothing", position)
    if depth:
        raise StructureError(f"this {bracket.kind} is never closed", bracket.position)
    if not choice:
        raise StructureError("nothing where a segment or group must stand", tokens.end)
    return bracket


def _fill(group: Node, content: _Bracket) -> None:
    for choice in content.choices:
        for item in choice:
            _add(group, item, optional=len(content.choices) > 1, repeats=False)
    group.contains = frozenset().union(*(child.contains for child in group.children))


def _add(group: Node, item: _Bracket, optional: bool, repeats: bool, end: int = 0) -> None:
    optional = optional or item.kind == "["
    repeats = repeats or item.kind == "{"
    if item.name:
        node = _child(group, item, optional, repeats)
        node.end = end or item.end
        if item.kind:
            _fill(node, item)
        return
    several = len(item.choices) > 1
    for choice in item.choices:
        if repeats and len(choice) > 1:
            raise StructureError("what repeats several segments needs a name: {NAME: …}", item.position)
        for inner in choice:
            alone = not several and len(choice) == 1
            _add(group, inner, optional or several, repeats, (end or item.end) if alone else 0)


def _child(group: Node, item: _Bracket, optional: bool, repeats: bool) -> Node:
    path = f"{group.path}.{item.name}" if group.path else item.name
    if any(child.name == item.name for child in group.children):
        raise StructureError(f"{item.name} stands twice in its group: call one {item.name[:3]}@NAME", item.position)
    segment_id = "" if item.kind else item.name[:3]
    node = Node(path, item.name, segment_id, repeats, not optional, group.path, len(group.children))
    node.contains = frozenset((segment_id,)) if segment_id else frozenset()
    group.children.append(node)
    return node
