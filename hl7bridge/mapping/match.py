"""Which resources of a message a link with `match` means: those whose fields agree with ours, wherever they stand.

Sans-IO. A parent result (OBR-26, OBR-29) or an outer sub-id (OBX-4 `1` of `1.2`) stands in another group of the same
message, out of sight for a label. The first pair must have a value on our side; any other counts where ours has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hl7bridge.fhir.resource import Resource
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.structure import Group
from hl7bridge.mapping.compile import Compiler, Read
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Link, Table

if TYPE_CHECKING:
    from hl7bridge.mapping.uses import PlannedLink


class Found(NamedTuple):
    """A resource by label, and the segment that made it, to read from."""

    resource: Resource
    run: Run
    segment: Segment
    group: Group

    def text(self, read: Read) -> str:
        return read(self.run, self.segment, self.group)


Index = dict[str, list[Found]]


class Match:
    """The pairs of one link, compiled. `ours`: the table of the use the link stands in; `theirs`: of those it means.

    `elsewhere`: our side is read from other segments alone (`OBR-4: OBR-4` of an OBX), so that what is found for one
    segment holds for all that see the same.
    """

    __slots__ = ("_pairs", "_root", "_roots", "elsewhere", "first", "mine", "ours")

    def __init__(self, link: Link, ours: Table, theirs: Table, compiler: Compiler) -> None:
        self._pairs: tuple[tuple[Read, Read], ...] = tuple(
            (compiler.read(mine, ours), compiler.read(their, theirs)) for mine, their in link.match
        )
        self.ours, self.mine = ours, link.match[0][0]
        self.first = self._pairs[0][0]  # our side of the first pair; where it gives "" nothing agrees
        self._roots = tuple(dict.fromkeys(mine.root for mine, _ in link.match))
        self._root = self._roots[0] if len(self._roots) == 1 else ""
        self.elsewhere = ours.source not in self._roots

    def index(self, made: Iterable[Found]) -> Index:
        """What the message made, by the value of the first pair."""
        their = self._pairs[0][1]
        index: Index = {}
        for other in made:
            if text := other.text(their):
                index.setdefault(text, []).append(other)
        return index

    @property
    def view_code(self) -> str:
        """The view as an expression of a group."""
        found = [f"group.find({root!r})" for root in self._roots]
        return found[0] if self._root else f"({', '.join(found)})"

    def view(self, group: Group) -> object:
        """What our side is read from: where it is the same, the same is found."""
        return group.find(self._root) if self._root else tuple([group.find(root) for root in self._roots])

    def among(self, run: Run, segment: Segment, group: Group, candidates: list[Found]) -> list[Resource]:
        """Those of the candidates, whose first pair agrees, that agree in all, each once, in the message's order."""
        wanted = [(text, their) for mine, their in self._pairs[1:] if (text := mine(run, segment, group))]
        found = {
            id(other.resource): other.resource
            for other in candidates
            if all(other.text(their) == text for text, their in wanted)
        }
        return list(found.values())


class Matches:
    """What the message made by label, for the links that look for fields that agree, and what these found so far."""

    def __init__(self, labels: Iterable[int]) -> None:
        self.made: dict[int, list[Found]] = {number: [] for number in labels}
        self._indexes: dict[Match, Index] = {}
        self.found: dict[tuple[PlannedLink, object], list[Resource]] = {}  # by link and what was seen from it

    def meant(self, run: Run, link: PlannedLink, segment: Segment, group: Group, owner: Resource) -> Sequence[Resource]:
        """Whom a link means: the others that agree. An element that occurs once takes one only alone, and what a row
        wrote stays."""
        match = link.match
        assert match is not None
        if match.elsewhere:
            key = link, match.view(group)
            agreeing = self.found.get(key)
            if agreeing is None:
                agreeing = self.found[key] = self._look(run, match, link.number, segment, group)
        else:
            agreeing = self._look(run, match, link.number, segment, group)
        if not agreeing:
            return ()
        found = [to for to in agreeing if to is not owner]
        return found if link.many or (len(found) == 1 and link.element not in owner.body) else ()

    def _look(self, run: Run, match: Match, number: int, segment: Segment, group: Group) -> list[Resource]:
        first = match.first(run, segment, group)
        if not first:
            return []
        index = self._indexes.get(match)
        if index is None:
            index = self._indexes[match] = match.index(self.made[number])
        candidates = index.get(first)
        return match.among(run, segment, group, candidates) if candidates else []
