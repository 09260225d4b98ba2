"""The code of a use's links: who is meant is looked up by label, or by fields that agree, and the reference is noted.

Sans-IO. It runs when every segment of the message has been read. The names it may use: `run`, `segment` (in its place),
`part` (what the table was applied to), `group`, `rep`, `resource` and `slots` (what the use wrote, and the instances
its table made), `resources` (by label) and `matches` (match.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hl7bridge.mapping.access import Reader
from hl7bridge.mapping.code import INDENT, Code
from hl7bridge.mapping.in_place import in_place, needed
from hl7bridge.mapping.placing import LinkSlots, LoneSlots, Node, Placer
from hl7bridge.mapping.trace import Link as TracedLink

if TYPE_CHECKING:
    from hl7bridge.mapping.compile import Compiler
    from hl7bridge.mapping.uses import PlannedLink, Sight

_PARAMETERS = "run, segment, part, group, rep, resource, slots, resources, matches"
_OTHERS = ("body", "owner", "to", "link", "linked", "holder", "links", "fields", "count", "odd", "repetition")
_NAMES = frozenset((*_PARAMETERS.split(", "), *_OTHERS))


class LinksCode:
    """def links(…): writes the references of one use. `message`: the name of its message table."""

    def __init__(
        self, compiler: Compiler, links: Sequence[PlannedLink], message: str, known: Mapping[str, Any]
    ) -> None:
        self._compiler, self._message = compiler, message
        self._code = code = Code(known, _NAMES)
        code.head()
        for link in links:
            code.comment(f"{link.place} {link.said}")
            self._owned(link)
        code.settle()
        lines = [in_place(line) for line in code.lines]
        head = ["body = resource.body", "linked = run.linked", *needed(lines, ())]
        self.source = "\n".join((f"def links({_PARAMETERS}):", *(INDENT + line for line in head), *lines)) + "\n"

    @property
    def constants(self) -> dict[str, Any]:
        return self._code.constants

    def _owned(self, link: PlannedLink) -> None:
        """`owner`: the resource the reference stands in."""
        if link.on is None:
            self._found(link, "resource", Placer(self._code, LinkSlots(False), "0", self._compiler.traced))
            return
        self._code.add(f"owner = resources.get({self._key(link.on)})")
        with self._code.block("if owner is not None:"):
            start = Node("owner.body", "owner")
            self._found(link, "owner", Placer(self._code, LoneSlots(False), "0", self._compiler.traced, start))

    def _found(self, link: PlannedLink, owner: str, placer: Placer) -> None:
        """`to`: the resource that is meant."""
        if link.to is None:
            planned = self._code.constant("agreeing", link)
            with (
                self._code.block(f"if {' and '.join(self._hopeful(link, planned))}:"),
                self._code.block(f"for to in matches.meant(run, {planned}, part, group, {owner}):"),
            ):
                self._write(link, owner, placer)
            return
        self._code.add(f"to = resources.get({self._key(link.to)})")
        with self._code.block(f"if to is not None and to is not {owner}:"):
            self._write(link, owner, placer)

    def _hopeful(self, link: PlannedLink, planned: str) -> Iterator[str]:
        """What must hold for a link with `match` to find anything, as far as a short look tells."""
        yield f"matches.made[{link.number}]"
        match = link.match
        assert match is not None
        if match.elsewhere:
            view = self._code.part("view", match.view_code)
            yield f"matches.found.get(({planned}, {view}), True)"  # nothing was found for another that sees the same
        elif not link.parted:
            reader = Reader(self._code, match.ours, -1)
            reader.certain = False
            yield reader.leaf(match.mine)

    def _key(self, sight: Sight) -> str:
        """A label's key; where it is seen is worked out once for all of the same home."""
        return sight.key.replace(sight.home, self._code.part("home", sight.home))

    def _write(self, link: PlannedLink, owner: str, placer: Placer) -> None:
        """The reference, in its place; the same one twice is written once."""
        code, target = self._code, link.target
        if self._compiler.traced:
            code.add(
                f"run.trace.current = {code.constant('Link', TracedLink)}(segment, {self._message!r}, {link.place!r})"
            )
        at = placer.locate(target.hops)
        code.add(f"link = (id({at.text}), {target.name!r}, id(to))")
        with code.block("if link not in linked:"):
            code.add("linked.add(link)")
            if target.many:
                code.add("holder = {}", f"{at.text}.setdefault({target.name!r}, []).append(holder)")
            else:
                code.add(f"holder = {at.text}[{target.name!r}] = {{}}")
            if self._compiler.traced:
                code.add(f"attach(run, holder, to, {at.resource}, True)")
            else:
                code.add("run.targets[id(holder)] = to")
                code.add(f"run.references.append(Reference(holder, to, {at.resource}, True))")
