"""Where a row writes: a table's path as hops through the R4 model, decided when the row is compiled.

Sans-IO. The repetition at hand counts at the first repeating element of a path, or where it has a star; deeper ones
have one instance per label. placing.py turns hops into code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hl7bridge.fhir.model import Element, Model
from hl7bridge.mapping.schema import Path, Step


class Hop(NamedTuple):
    """One step down.

    one: an element that occurs once; many: an instance of one that repeats, by label; beside: the place beside one of
    several primitives (`_given`); another: a further instance of what the table fills; behind: from a Reference to the
    resource of a type it leads to. `url`: of an extension. `counts`: the repetition at hand tells instances apart.
    """

    kind: Literal["one", "many", "beside", "another", "behind"]
    name: str
    label: str = ""
    counts: bool = False
    url: str = ""

    @property
    def key(self) -> str:
        """What tells the instance from its neighbours, the repetition apart."""
        label = f"#{self.url}#{self.label}" if self.url else f"#{self.label}" if self.kind in ("many", "beside") else ""
        return f"{'$' if self.kind == 'another' else ''}{self.name}{label}{'()' if self.kind == 'behind' else ''}"


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension step: url and label."""

    url: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a row writes. `element` is None for `$this`; `into` names the resource behind a reference at the end."""

    hops: tuple[Hop, ...]
    name: str
    element: Element | None
    label: str
    type: str  # FHIR type of what is written
    many: bool  # the last element repeats
    counts_here: bool  # ... and is the first on the path that does
    repeats: bool  # any element of the path repeats: the row takes every repetition
    others: tuple[str, ...] = ()  # of a choice element: its other names
    into: tuple[str, str] | None = None

    @property
    def last(self) -> Hop:
        """What is written, as a hop: it has a key as the others have."""
        if self.many:
            return Hop("many", self.name, self.label, self.counts_here)
        return Hop("one", self.name)

    def places(self) -> Iterator[tuple[str, tuple[bool, ...]]]:
        """The key of every instance on the way and of the last, and where on the way to it the repetition counts."""
        key: str = ""
        counts: tuple[bool, ...] = ()
        for hop in (*self.hops, *([self.last] if self.name else [])):
            key, counts = f"{key}.{hop.key}", (*counts, hop.counts)
            yield key, counts


class PathError(ValueError):
    """A path that the model does not know; the checker reports it before the compiler could meet it."""


def compile_path(
    model: Model, root: str, path: Path | None, on: Path | None = None, extensions: Sequence[Extension] = ()
) -> Target:
    """The Target of a row whose table's target type is `root`: first `on`, then the extensions, then `to`."""
    walker = _Walker(model, root, starred((*(on.steps if on else ()), *(path.steps if path else ()))))
    start = on or path
    if start is not None and start.another:
        walker.hops.append(Hop("another", start.another))
    if on is not None:
        walker.steps(on.steps)
        walker.enter_primitive()
    for extension in extensions:
        walker.extension(extension)
    if path is not None:
        walker.steps(path.steps)
    return walker.target()


def starred(steps: Sequence[Step]) -> bool:
    """Whether a path says itself where the repetition counts: `contact.telecom*`."""
    return any(step.each or starred(step.inner) for step in steps)


class _Walker:
    """Collects hops while going down a path; the last element is held back for the write itself."""

    def __init__(self, model: Model, root: str, starred: bool) -> None:
        self.model = model
        self.starred = starred
        self.type = self.parent = root
        self.hops: list[Hop] = []
        self.repeats = False
        self.pending: tuple[Element, str, bool] | None = None  # element, label, counts
        self.into: tuple[str, str] | None = None

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._flush()
            element = self.model.element(self.type, step.name)
            if element is None:
                raise PathError(f"{self.type} has no element '{step.name}'")
            counts = element.many and (step.each if self.starred else not self.repeats)
            self.repeats = self.repeats or element.many
            self.pending = (element, step.label, counts)
            self.parent, self.type = self.type, element.type
            if step.resource is not None:
                self.into = (step.resource, step.resource_label)
                self.type = step.resource
                if step.inner:
                    self.steps(step.inner)

    def _flush(self) -> None:
        if self.pending is not None:
            element, label, counts = self.pending
            self.hops.append(Hop("many", element.name, label, counts) if element.many else Hop("one", element.name))
            self.pending = None
        if self.into is not None:
            self.hops.append(Hop("behind", self.into[0]))
            self.into = None

    def enter_primitive(self) -> None:
        """The carrier of an extension: `_birthDate` beside a primitive, the element itself otherwise."""
        if self.pending is None:
            return
        element, label, counts = self.pending
        if element.is_primitive:
            beside = Hop("beside", element.name, label, counts) if element.many else Hop("one", "_" + element.name)
            self.hops.append(beside)
            self.pending = None
        else:
            self._flush()

    def extension(self, extension: Extension) -> None:
        self._flush()
        counts = not self.repeats and not self.starred
        self.repeats = True
        self.hops.append(Hop("many", "extension", extension.label, counts, extension.url))
        self.type = "Extension"

    def target(self) -> Target:
        if self.pending is None:
            return Target(tuple(self.hops), "", None, "", self.type, False, False, self.repeats)
        element, label, counts = self.pending
        others: tuple[str, ...] = ()
        if element.choice is not None:
            others = tuple(name for name in self.model.choices(self.parent, element.choice) if name != element.name)
        hops = tuple(self.hops)
        return Target(
            hops, element.name, element, label, self.type, element.many, counts, self.repeats, others, self.into
        )
