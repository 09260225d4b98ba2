"""A message structure: its nodes by path, and what can be asked about them.

`Structure(text)` reads HL7's abstract syntax (syntax.py); `arrange` puts a message's segments into its groups
(arrangement.py) and never looks at MSH-9.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hl7bridge.hl7v2.arrangement import Arranger
from hl7bridge.hl7v2.groups import Arrangement, Group, Leaf, Problem
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.syntax import Node, StructureError, read_structure

__all__ = ["Arrangement", "Group", "Leaf", "Node", "Problem", "Structure", "StructureError"]


class Structure:
    """nodes: every group and segment by its full path, the message itself left out. Raises StructureError."""

    def __init__(self, text: str) -> None:
        self.text = text
        root, self.nodes = _read(text)
        self._arranger = Arranger(root)

    def resolve(self, suffix: str) -> str:
        """The one path that is or ends with `suffix`, whole names compared; a full path wins. ValueError otherwise."""
        found = self.ends(suffix)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{suffix} may be any of {', '.join(found)}")
        raise ValueError(f"the structure has no {suffix}")

    def ends(self, suffix: str) -> list[str]:
        """Every path that ends with `suffix`, whole names compared; a full path alone."""
        return [suffix] if suffix in self.nodes else [path for path in self.nodes if path.endswith("." + suffix)]

    def with_segment(self, name: str, after: str, repeats: bool = False) -> str:
        """The text with one optional segment more, behind the node that is or ends with `after`. ValueError where there
        is no such node, or where the segment is there already."""
        path = self.resolve(after)
        parent = self.nodes[path].parent
        there = f"{parent}.{name}" if parent else name
        if there in self.nodes:
            raise ValueError(f"the structure has {there} already")
        end = self.nodes[path].end
        made = f"[{{{name}}}]" if repeats else f"[{name}]"
        return f"{self.text[:end]} {made}{self.text[end:]}"

    def innermost_repeating(self, paths: Iterable[str]) -> str | None:
        """The innermost repeating group or segment that holds all the nodes at `paths`; None is the whole message.

        Of one segment's path this may be the segment itself. ValueError for a path the structure has not.
        """
        lines = [self._line(path) for path in dict.fromkeys(paths)]
        common = [steps[0] for steps in zip(*lines, strict=False) if len(set(map(id, steps))) == 1]
        return next((node.path for node in reversed(common) if node.repeats), None)

    def _line(self, path: str) -> list[Node]:
        """The nodes from the message down to `path`."""
        line: list[Node] = []
        while path:
            if path not in self.nodes:
                raise ValueError(f"the structure has no {path}")
            line.insert(0, self.nodes[path])
            path = line[0].parent
        return line

    def arrange(self, segments: Iterable[Segment]) -> Arrangement:
        """The segments as a tree of groups; what has no place is in `problems` and `unplaced`. Never raises."""
        return self._arranger.arrange(segments)


@lru_cache(maxsize=256)
def _read(text: str) -> tuple[Node, dict[str, Node]]:
    """The root and all nodes by path, which nobody changes: reading, overlays and checks ask for the same texts."""
    root = read_structure(text)
    nodes: dict[str, Node] = {}

    def register(group: Node) -> None:
        for child in group.children:
            nodes[child.path] = child
            register(child)

    register(root)
    return root, nodes
