"""Which resources of a message a link with `match` means: those whose fields agree with ours, wherever they stand.

Sans-IO. A parent result (OBR-26, OBR-29) or an outer sub-id (OBX-4 `1` of `1.2`) stands in another group of the same
message, out of sight for a label. The first pair must have a value on our side; any other counts where ours has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hl7bridge.fhir.resource import Resource
from hl7bridge.mapping.access import reader
from hl7bridge.mapping.rows import field_text
from hl7bridge.mapping.runtime import Context
from hl7bridge.mapping.schema import Link, Table

Read = Callable[[Context], str]


class Made(NamedTuple):
    """A resource by label, and the segment that made it, as a context to read from."""

    resource: Resource
    ctx: Context


Index = dict[str, list[Made]]


class Match:
    """The pairs of one link, compiled. `ours`: the table of the use the link stands in; `theirs`: of those it means."""

    def __init__(self, link: Link, ours: Table, theirs: Table) -> None:
        self._pairs: tuple[tuple[Read, Read], ...] = tuple(
            (reader(mine, ours, -1), field_text(their, theirs, -1)) for mine, their in link.match
        )

    def index(self, made: Iterable[Made]) -> Index:
        """What the message made, by the value of the first pair."""
        their = self._pairs[0][1]
        index: Index = {}
        for other in made:
            if text := their(other.ctx):
                index.setdefault(text, []).append(other)
        return index

    def among(self, ctx: Context, index: Index) -> list[Resource]:
        """The resources that agree, each once, in the order of the message."""
        candidates = index.get(self._pairs[0][0](ctx), ())
        wanted = [(text, their) for mine, their in self._pairs[1:] if candidates and (text := mine(ctx))]
        found = {
            id(other.resource): other.resource
            for other in candidates
            if all(their(other.ctx) == text for text, their in wanted)
        }
        return list(found.values())
