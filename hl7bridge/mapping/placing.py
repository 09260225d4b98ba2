"""Writing into bodies, as code: a Target becomes lines that walk through dictionaries and create what is missing.

Sans-IO. What was made for a label is held in a variable, in a dictionary by repetition where several fields write it,
and for links in the dictionary `slots`; a key that only one row writes needs none. Labels belong to one table applied
once. Nothing is created before there is a value to put there, so no empty element ever arises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hl7bridge.mapping.code import Code
from hl7bridge.mapping.target import Hop, Target
from hl7bridge.mapping.write import UNKNOWN


class Slot(NamedTuple):
    """Where an instance is held: an expression that reads it ("" where nothing else asks for it), and its place."""

    read: str
    store: str


class Node(NamedTuple):
    """Where lines have led to: the dictionary, the resource it belongs to, the key, where the repetition counted;
    `top`: still what the table fills itself."""

    text: str
    resource: str
    key: str = ""
    counts: tuple[bool, ...] = ()
    top: bool = True


_BODY = Node("body", "resource")


class Slots:
    """Plans, from everything a table writes, how its instances are held. `looped`: the table reads repetitions.

    `asked`: keys that links of message tables ask for; they go out with the function's result.
    """

    def __init__(self, looped: bool, asked: frozenset[str] = frozenset()) -> None:
        self.looped, self.asked = looped, asked
        self.merged: set[str] = set()  # keys at which a whole element is put
        self._fields: dict[str, set[int]] = {}
        self._counts: dict[str, set[tuple[bool, ...]]] = {}
        self._uses: Counter[str] = Counter()
        self._again: set[str] = set()  # keys of rows that may run for each repetition
        self.variables: dict[str, str] = {}
        self.shared: dict[str, str] = {}  # by repetition

    def expect(self, target: Target, field: int, whole: bool) -> None:
        """A row of a field will write there; `whole`: a filled element, not a primitive."""
        for key, counts in target.places():
            self._fields.setdefault(key, set()).add(field)
            self._counts.setdefault(key, set()).add(counts)
            self._uses[key] += 1
            if target.repeats:
                self._again.add(key)
        if whole and target.name:
            self.merged.add(key)

    def slot(self, code: Code, key: str, counts: tuple[bool, ...], rep: str) -> Slot:
        repeated = any(any(each) for each in self._counts[key])
        mixed = len(self._counts[key]) > 1
        once = any(counts) or not self.looped or key not in self._again
        if self._uses[key] == 1 and once and key not in self.asked:
            return Slot("", "")
        if not repeated or not self.looped or (not mixed and len(self._fields[key]) == 1 and key not in self.asked):
            name = self.variables.get(key) or self.variables.setdefault(key, code.name(_readable(key)))
            return Slot(name, name)
        name = self.shared.get(key) or self.shared.setdefault(key, code.name(_readable(key)))
        index = f"({', '.join(rep if each else '0' for each in counts)},)" if mixed else rep if any(counts) else "0"
        return Slot(f"{name}.get({index})", f"{name}[{index}]")

    def of_field(self, field: int) -> list[str]:
        """The variables that begin anew with each repetition of a field."""
        return [
            name
            for key, name in self.variables.items()
            if self._fields[key] == {field} and any(any(each) for each in self._counts[key])
        ]

    def result(self) -> str:
        """The dictionary `slots` for links, as an expression."""
        held = [f"{key!r}: {name}" for key, name in self.variables.items() if key in self.asked]
        held += [f"{key!r}: {name}.get({self._first(key)})" for key, name in self.shared.items() if key in self.asked]
        return f"{{{', '.join(held)}}}"

    def _first(self, key: str) -> str:
        counts = self._counts[key]
        return f"({'0, ' * len(next(iter(counts)))})" if len(counts) > 1 else "0"


class LoneSlots(Slots):
    """Nothing is held: each time what is missing is made anew."""

    def slot(self, code: Code, key: str, counts: tuple[bool, ...], rep: str) -> Slot:
        return Slot("", "")


class LinkSlots(Slots):
    """What links ask for: the instances that the table of their use made, and those of other links."""

    def slot(self, code: Code, key: str, counts: tuple[bool, ...], rep: str) -> Slot:
        return Slot(f"slots.get({key!r})", f"slots[{key!r}]")


def _readable(key: str) -> str:
    """`name_legal` of `.name#legal`, `extension_birthPlace` of an extension's."""
    words = key.replace("()", "").strip(".").split(".")
    tail = words[-1] if "#http" not in key else key[key.rindex(".extension#") + 1 :] if ".extension#" in key else key
    name, _, label = tail.partition("#")
    return f"{name}_{label.rstrip('#').rpartition('/')[2]}" if label else f"the_{name}"


class Placer:
    """Adds the lines that write, for rows of one field or component.

    rep: the repetition as an expression; traced: what is written is noted; start: what the paths start from.
    """

    def __init__(self, code: Code, slots: Slots, rep: str, traced: bool, start: Node = _BODY) -> None:
        self.code, self.slots, self.rep, self.traced, self._start = code, slots, rep, traced, start
        self._known: dict[tuple[str, str], Node] = {}  # where lines that surely ran have led to already

    @contextmanager
    def remembering(self, sure: bool = True) -> Iterator[None]:
        """Meanwhile nobody goes down the same way twice; what was found meanwhile is forgotten where it may not run."""
        before = dict(self._known)
        yield
        if not sure:
            self._known = before

    def locate(self, hops: Iterable[Hop], rep: str | None = None) -> Node:
        """Goes down to where the last element is put."""
        rep = self.rep if rep is None else rep
        at = self._start
        for hop in hops:
            key, counts = f"{at.key}.{hop.key}", (*at.counts, hop.counts)
            if (key, rep) in self._known:
                at = self._known[key, rep]
                continue
            if hop.kind == "one":
                at = Node(self._one(at, hop, key, counts, rep), at.resource, key, counts, False)
            elif hop.kind == "many":
                at = Node(self._many(at, hop, key, counts, rep), at.resource, key, counts, False)
            elif hop.kind == "beside":
                carrier = self._beside(at, hop, self.slots.slot(self.code, key, counts, rep))
                at = Node(carrier, at.resource, key, counts, False)
            elif hop.kind == "another":
                text = self.code.name(f"another_{hop.name}")
                self.code.add(f"{text} = others.setdefault({hop.name!r}, {{}})")
                at = Node(text, at.resource, key, counts, False)
            else:
                made = self.code.name(f"the_{hop.name}")
                self.code.add(f"{made} = behind(run, {at.text}, {hop.name!r}, segment, {at.resource})")
                at = Node(f"{made}.body", made, key, counts, False)
            self._known[key, rep] = at
        return at

    def _one(self, at: Node, hop: Hop, key: str, counts: tuple[bool, ...], rep: str) -> str:
        text = self.code.name(f"in_{hop.name}")
        self.code.add(f"{text} = {at.text}.get({hop.name!r})")
        store = self.slots.slot(self.code, key, counts, rep).store if key in self.slots.merged else ""
        with self.code.block(f"if {text} is None:"):
            self.code.add(f"{text} = {at.text}[{hop.name!r}] = {f'{store} = ' if store else ''}{{}}")
        return text

    def _many(self, at: Node, hop: Hop, key: str, counts: tuple[bool, ...], rep: str) -> str:
        slot = self.slots.slot(self.code, key, counts, rep)
        child = f"{{'url': {hop.url!r}}}" if hop.url else "{}"
        deep = not hop.label and not hop.url and not hop.counts and not at.top  # made by the table that filled it?
        if not slot.read:
            text = self.code.name(f"in_{hop.name}")
            if deep:
                self.code.add(f"{text} = made_first({at.text}, {hop.name!r})")
            else:
                self._append(at, hop, text, child)
            return text
        text = slot.store if slot.store.isidentifier() else self.code.name(f"in_{hop.name}")
        if slot.read != text:
            self.code.add(f"{text} = {slot.read}")
        store = f" = {slot.store}" if slot.store != text else ""
        with self.code.block(f"if {text} is None:"):
            if deep:
                self.code.add(f"{text}{store} = made_first({at.text}, {hop.name!r})")
            else:
                self._append(at, hop, text + store, child)
        return text

    def _append(self, at: Node, hop: Hop, text: str, child: str) -> None:
        self.code.add(f"{text} = {child}", f"{at.text}.setdefault({hop.name!r}, []).append({text.split(' = ')[0]})")
        if self.traced and hop.url:
            self.code.add(f"run.trace.wrote({text.split(' = ')[0]}, 'url', True)")

    def _beside(self, at: Node, hop: Hop, slot: Slot) -> str:
        """The place beside one of several primitives: `_given` has one for each of `given`, null for nothing."""
        text = self.code.name(f"beside_{hop.name}")
        held = f", {slot.store}" if slot.store else ""
        self.code.add(f"{text}{held or ', _'} = beside_one({at.text}, {hop.name!r}, {slot.read or None})")
        return text

    # -- primitives -----------------------------------------------------------------------------------------------

    def primitive(self, target: Target, value: str, content: bool = True, rep: str | None = None) -> Node:
        """Puts a converted value. `content`: it came from the message, constants alone make no resource."""
        at = self.locate(target.hops, rep)
        if content:
            self.code.add(f"{at.resource}.has_content = True")
        if not target.many:
            self.code.add(f"{at.text}[{target.name!r}] = {value}")
            self._noted(at.text, repr(target.name), not content)
            return at
        key, counts = f"{at.key}.{target.last.key}", (*at.counts, target.last.counts)
        slot = self.slots.slot(self.code, key, counts, self.rep if rep is None else rep)
        index = f"put_one({at.text}, {target.name!r}, {slot.read or None}, {value})"
        store = slot.store or ("put_at" if self.traced else "")
        self.code.add(f"{store} = {index}" if store else index)
        self._noted(f"{at.text}[{target.name!r}]", store, not content)
        return at

    def extension_beside(self, target: Target, extension: str) -> None:
        """An extension in place of a value: `_status`, or a place in `_category`.

        A required binding is not kept by an extension: its code is `unknown` where it has that, with the extension
        beside it; where it has not, the element around carries the extension.
        """
        at = self.locate(target.hops)
        self.code.add(f"{at.resource}.has_content = True")
        allowed = target.element.codes if target.element is not None else ()
        carrier = f"{at.text}.setdefault({'_' + target.name!r}, {{}})"
        if allowed and (target.many or UNKNOWN not in allowed):
            carrier = at.text
        elif allowed:
            self.code.add(f"{at.text}[{target.name!r}] = {UNKNOWN!r}")
        elif target.many:
            key, counts = f"{at.key}.{target.last.key}", (*at.counts, target.last.counts)
            carrier = self._beside(at, target.last, self.slots.slot(self.code, key, counts, self.rep))
        self.code.add(f"extend(run, {carrier}, {extension})")

    # -- elements -------------------------------------------------------------------------------------------------

    def complex(self, target: Target, value: str) -> None:
        """Puts a filled element; completes the one that this table already made at the same place."""
        at = self.locate(target.hops)
        self.code.add(f"{at.resource}.has_content = True")
        key, counts = f"{at.key}.{target.last.key}", (*at.counts, target.last.counts)
        slot = self.slots.slot(self.code, key, counts, self.rep)
        put = f"{at.text}[{target.name!r}] = {value}"
        if target.many:
            put = f"{at.text}.setdefault({target.name!r}, []).append({value})"
        found = slot.read
        if not target.many and not at.top:  # or made by the table that filled the element around
            found = f"{slot.read} or {at.text}.get({target.name!r})" if slot.read else f"{at.text}.get({target.name!r})"
        if not found:
            self.code.add(put)
            self._noted(value, "''")
            return
        held = self.code.name("held")
        self.code.add(f"{held} = {found}")
        with self.code.block(f"if {held} is None:"):
            self.code.add(put, f"{held} = {value}")
        with self.code.block("else:"):
            self.code.add(f"merge(run, {held}, {value})")
        if slot.store:
            self.code.add(f"{slot.store} = {held}")
        self._noted(held, "''")

    def resource(self, target: Target, made: str) -> None:
        """Puts a reference to a resource just filled; completes the one that is already referred to there."""
        at = self.locate(target.hops)
        key, counts = f"{at.key}.{target.last.key}", (*at.counts, target.last.counts)
        slot = self.slots.slot(self.code, key, counts, self.rep)
        call = f"refer(run, {at.text}, {target.name!r}, {target.many}, {slot.read or None}, {made}, {at.resource})"
        self.code.add(f"{slot.store} = {call}" if slot.store else call)

    def further(self, target: Target, others: str, coded: Iterable[str], counted: tuple[str, str]) -> None:
        """Places what `$another` made: beside the element where it may repeat, else it is counted as dropped."""
        with self.code.block(f"if {others}:"), self.remembering(sure=False):
            if not target.many or target.into is not None:
                with self.code.block(f"for _ in {others}:"):
                    self.code.add(f"run.count('repetition-dropped', {counted[0]!r}, {counted[1]!r})")
                return
            at = self.locate(target.hops)
            self.code.add(f"{at.resource}.has_content = True")
            with self.code.block(f"for label, other in {others}.items():"):
                self.code.add(*coded)
                key = f"({at.key + '.' + target.last.key!r}, label, {self.rep if target.counts_here else '0'})"
                self.code.add(f"put_other(run, {at.text}, {target.name!r}, other, further, {key})")

    def _noted(self, container: str, name: str, fixed: bool = False) -> None:
        if self.traced:
            self.code.add(f"run.trace.wrote({container}, {name}{', True' if fixed else ''})")
