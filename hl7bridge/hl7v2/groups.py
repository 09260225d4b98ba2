"""The tree that an arranged message is: groups in groups, with segments as leaves.

What holds: every leaf knows the path of its node and its group; `walk` gives them in the order of the message, whatever
order the groups have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hl7bridge.hl7v2.message import Segment


class Leaf:
    """A segment in its place: the path of its node ("" when unplaced) and the group it stands in or followed."""

    __slots__ = ("group", "path", "segment")

    def __init__(self, path: str, segment: Segment, group: Group) -> None:
        self.path = path
        self.segment = segment
        self.group = group

    def __repr__(self) -> str:
        return f"<Leaf {self.path or self.segment.id} at {self.segment.position}>"


class Problem(NamedTuple):
    """A segment with no place left: its position in the message, its id, and the path of the node that was taken."""

    position: int
    segment_id: str
    path: str


class Group:
    """One occurrence of a group: its path ("" for the message), the group around, what is in it in order of arrival."""

    __slots__ = ("_inwards", "_seen", "members", "parent", "path", "repeats")

    def __init__(self, path: str, parent: Group | None, repeats: bool = False) -> None:
        self.path = path
        self.parent = parent
        self.repeats = repeats  # the structure allows several of it
        self.members: list[Leaf | Group] = []
        self._seen: dict[str, Segment] | None = None  # what `find` finds, by id
        self._inwards: dict[str, Segment] | None = None  # what it finds of this for the groups in here

    def walk(self) -> Iterator[tuple[str, Segment, Group]]:
        """Path, segment and group of all segments in here and below, in the order of the message."""
        leaves = sorted(self.leaves_within(), key=_position)
        return ((leaf.path, leaf.segment, leaf.group) for leaf in leaves)

    def find(self, segment_id: str) -> Segment | None:
        """The first such segment in this group (its own before those of its groups), else in the groups around it.

        What stands in another occurrence of a repeating group is never found: it belongs to another order. To be asked
        when the message is arranged: what was found is kept.
        """
        if self._seen is None:
            around = self.parent._shown() if self.parent is not None else {}
            self._seen = {**around, **self._firsts(True)}
        return self._seen.get(segment_id)

    def _shown(self) -> dict[str, Segment]:
        """What groups in here find that have none themselves: outside of repeating groups, here or around it."""
        if self._inwards is None:
            around = self.parent._shown() if self.parent is not None else {}
            self._inwards = {**around, **self._firsts(False)}
        return self._inwards

    def _firsts(self, into_repeating: bool) -> dict[str, Segment]:
        """The first segment of each id in this group, its own before those of the groups in it."""
        found: dict[str, Segment] = {}
        groups: list[Group] = []
        for member in self.members:
            if isinstance(member, Group):
                groups.append(member)
            else:
                found.setdefault(member.segment.id, member.segment)
        for group in groups:
            if into_repeating or not group.repeats:
                found = {**group._firsts(into_repeating), **found}
        return found

    def dissolve(self) -> None:
        """Nobody needs the groups any more. What they hold goes at once: members know their groups, so it would stay
        until the collector comes, and with it a document of megabytes."""
        for member in self.members:
            if isinstance(member, Group):
                member.dissolve()
        self.members.clear()

    def leaves_within(self) -> Iterator[Leaf]:
        """All leaves in here and below, each group's in its order of arrival."""
        for member in self.members:
            if isinstance(member, Leaf):
                yield member
            else:
                yield from member.leaves_within()

    def __repr__(self) -> str:
        return f"<Group {self.path or 'message'} of {len(self.members)}>"


class Arrangement(Group):
    """The whole message as a group (path ""), with what found no place: see the module's text."""

    __slots__ = ("leaves", "problems", "unplaced")

    def __init__(self) -> None:
        super().__init__("", None)
        self.leaves: list[Leaf] = []  # in the order of the message
        self.unplaced: list[Leaf] = []
        self.problems: list[Problem] = []

    def dissolve(self) -> None:
        super().dissolve()
        self.leaves.clear()
        self.unplaced.clear()

    def walk(self) -> Iterator[tuple[str, Segment, Group]]:
        return ((leaf.path, leaf.segment, leaf.group) for leaf in self.leaves)


def _position(leaf: Leaf) -> int:
    return leaf.segment.position
