"""Follows the paths of the tables through the R4 model: where a path lands, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hl7bridge.fhir.model import Element, Model, closest
from hl7bridge.mapping.paths import ANOTHER
from hl7bridge.mapping.schema import Path, Place, Row, Step, Table
from hl7bridge.mapping.source import Mistakes

MANY = 12  # a longer list than this helps nobody


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a row writes.

    `type`: the FHIR type there, the resource's behind a reference. `element`: None for the target itself. `concept`:
    the CodeableConcept with a required binding that the path goes through; `inside`: the names after it. `key`: the
    path as one value, labels included; `choices`: the choice elements on it, as (key of their parent and stem, name).
    """

    type: str
    element: Element | None
    key: tuple[str, ...]
    concept: Element | None = None
    inside: tuple[str, ...] = ()
    choices: tuple[tuple[tuple[str, ...], str], ...] = ()
    behind: bool = False  # a resource behind a reference

    def named(self) -> str:
        return self.element.name if self.element else self.type


def did_you_mean(wrong: str, known: Mapping[str, object] | tuple[str, ...] | list[str] | frozenset[str]) -> str:
    """`; did you mean 'name'?`, or nothing where no known word is alike."""
    meant = closest(wrong, known)
    return f"; did you mean {meant!r}?" if meant else ""


def listed(words: tuple[str, ...] | list[str], joiner: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`."""
    return f" {joiner} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeio" else f"a {word}"


class Walker:
    """Walks paths; what is wrong is added to the mistakes and the landing is None."""

    def __init__(self, model: Model, mistakes: Mistakes) -> None:
        self.model = model
        self.mistakes = mistakes

    def row(self, table: Table, row: Row) -> Landing | None:
        """Where a row's `to` lands, through its `on` and extensions."""
        if row.to is None:
            return None
        if not row.extension:
            return self.path(table.target, row.to)
        carrier = self.carrier(table, row)
        start = carrier.key if carrier else ("?",)
        urls = (f"{row.extension[0]}#{row.extension_label}", *row.extension[1:])
        return self.inside_extension(row.to, (*start, *urls))

    def carrier(self, table: Table, row: Row) -> Landing | None:
        """The element that carries the row's extension."""
        if row.on is None:
            return Landing(table.target, None, ())
        return self.path(table.target, row.on)

    def inside_extension(self, path: Path, start: tuple[str, ...]) -> Landing | None:
        first = path.steps[0].name if path.steps else path.text
        if not first.startswith("value") or not path.steps:
            self.mistakes.add(path.place, f"an extension's `to` starts with its value, like valueString, not {first!r}")
            return None
        return self.path("Extension", path, start)

    def path(self, root: str, path: Path, start: tuple[str, ...] = ()) -> Landing | None:
        """From a type along a path. `$this` and `$value` land on the type itself."""
        if not path.steps:
            return Landing(root, None, (*start, path.text))
        if path.another:
            start = (*start, f"{ANOTHER}#{path.another}")
        return self._steps(Landing(root, None, start), path.steps, path.place)

    def _steps(self, at: Landing, steps: tuple[Step, ...], place: Place) -> Landing | None:
        for number, step in enumerate(steps):
            element = self._element(at.type, step, place)
            if element is None:
                return None
            after = self._land(at, step, element)
            last = number == len(steps) - 1
            if step.resource is not None:
                return self._behind(after, step, element, place)
            if not last and element.is_primitive:
                self.mistakes.add(
                    place, f"{at.type}.{element.name} is {article(element.type)}: there is nothing inside it"
                )
                return None
            if not last and element.type in ("Reference", "Resource"):
                following = steps[number + 1]
                if self.model.element(element.type, following.name) is None:
                    self._into_reference(at.type, element, following, place)
                    return None
            at = after
        return at

    def _land(self, at: Landing, step: Step, element: Element) -> Landing:
        label = f"#{step.label}" if step.label else ""
        concept, inside = at.concept, (*at.inside, element.name)
        if element.system:
            concept, inside = element, ()
        choices = at.choices
        if element.choice:
            choices = (*choices, ((*at.key, element.choice), element.name))
        return Landing(element.type, element, (*at.key, element.name + label), concept, inside, choices)

    def _element(self, type_: str, step: Step, place: Place) -> Element | None:
        element = self.model.element(type_, step.name)
        if element is None:
            choices = self.model.choices(type_, step.name)
            if choices:
                which = listed(choices) if len(choices) <= MANY else "like valueString or valueCodeableConcept"
                self.mistakes.add(place, f"{type_}.{step.name} is a choice: say which, {which}")
            else:
                self.mistakes.add(place, f"{type_} has no element {step.name!r}{self._meant(type_, step.name)}")
        elif element.name == "extension":
            self.mistakes.add(place, "extensions are written with the word `extension`, not as a path")
            return None
        elif step.label and not element.many:
            self.mistakes.add(place, f"{type_}.{step.name} occurs once: the label '#{step.label}' tells nothing apart")
        elif step.each and not element.many:
            self.mistakes.add(
                place, f"{type_}.{step.name} occurs once: '*' counts repetitions where an element repeats"
            )
        return element

    def _meant(self, type_: str, name: str) -> str:
        for element in self.model.elements(type_).values():
            if element.choice and name.startswith(element.choice):
                return f"; {element.choice} may be {_few(self.model.choices(type_, element.choice))}"
        meant = self.model.suggest(type_, name)
        return f"; did you mean {meant!r}?" if meant else ""

    def _into_reference(self, type_: str, element: Element, following: Step, place: Place) -> None:
        targets = [t for t in element.targets if self.model.element(t, following.name) is not None]
        hint = f": write {element.name}({targets[0]}.{following.name})" if targets else ""
        self.mistakes.add(
            place,
            f"{type_}.{element.name} is a reference and has no {following.name!r}; "
            f"a resource behind it stands in ( ){hint}",
        )

    def _behind(self, at: Landing, step: Step, element: Element, place: Place) -> Landing | None:
        resource = step.resource or ""
        if not element.is_resource_reference:
            self.mistakes.add(
                place, f"{element.name} is {article(element.type)} and no reference: ( ) has no meaning there"
            )
            return None
        if not self.model.is_resource(resource):
            meant = self.model.suggest_type(resource, resources_only=True)
            hint = f"; did you mean {meant!r}?" if meant else ""
            self.mistakes.add(place, f"there is no resource type {resource!r} in FHIR R4{hint}")
            return None
        if element.targets and resource not in element.targets:
            self.mistakes.add(place, f"{element.name} leads to {_few(element.targets)}, not to {article(resource)}")
            return None
        label = f"({resource}" + (f"#{step.resource_label}" if step.resource_label else "")
        behind = Landing(resource, None, (*at.key, label), behind=True, choices=at.choices)
        return self._steps(behind, step.inner, place) if step.inner else behind


def _few(words: tuple[str, ...]) -> str:
    if len(words) <= MANY:
        return listed(words)
    return ", ".join(words[:MANY]) + f" … ({len(words)} in all)"
