"""Where a row writes, in one form for the guide's paths and for ours, so that the two can be compared.

Sans-IO. A place is a line of hops, each a name and the number or label that tells instances apart:

    performer[2](PractitionerRole.organization(Organization))  performer 2, (PractitionerRole), organization, …
    birthDate.extension[1].valueDateTime                       birthDate, extension <url> 1, valueDateTime

The guide gives an extension's url in a row of its own; `Slots` finds it. Where the guide has the address of a page
about an extension, or https, the place is that of the extension; the row that gives the url is held by its own word.
`$this` and `$value` are the empty place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hl7bridge.guide.sheet import GuideRow
from hl7bridge.mapping.paths import ANOTHER
from hl7bridge.mapping.schema import Path, Row, Step

_HOP = re.compile(r"([A-Za-z][A-Za-z0-9|-]*)?(?:\[([^\]]*)\])?(?::[A-Za-z-]+)?")
EXTENSION = "extension"
_PAGE = re.compile(r"https?://(?:www\.)?hl7\.org/fhir/(?:R4/)?extension-([A-Za-z-]+?)(?:\.html)?")


def extension_name(url: str) -> str:
    """The name of the hop: the canonical url, where another spelling of it was given."""
    page = _PAGE.fullmatch(url)
    if page is not None:
        url = f"http://hl7.org/fhir/StructureDefinition/{page[1]}"
    return f"{EXTENSION} {url.lower().replace('https://hl7.org/', 'http://hl7.org/')}"


@dataclass(frozen=True, slots=True)
class Hop:
    """`name`: an element, `(Type)` behind a reference, or `extension <url>`; `label`: a number or label, or empty."""

    name: str
    label: str = ""


Place = tuple[Hop, ...]


def names(place: Place) -> tuple[str, ...]:
    """The place without what tells instances apart."""
    return tuple(hop.name for hop in place)


# -- the guide's ------------------------------------------------------------------------------------------------------


def guide_place(text: str, target: str) -> Place | None:
    """A path of the guide inside `target`; None for what is no path. Extensions are still numbered slots."""
    if text in ("$this", "$value", ""):
        return ()
    found, end = _hops(text, 0)
    if end < len(text):
        return None
    if found and found[0].name == target:
        found = found[1:]
    if found and found[0] == Hop("", "1"):  # [1].family: the instance that the row above made
        found = found[1:]
    elif found and not found[0].name and found[0].label.isdigit():  # [2].family: one more beside it
        found[0] = Hop(ANOTHER, found[0].label)
    return tuple(found)


def _hops(text: str, at: int) -> tuple[list[Hop], int]:
    found: list[Hop] = []
    while True:
        match = _HOP.match(text, at)
        if match is None or match.end() == at:
            return found, at
        found.append(Hop(match[1] or "", match[2] or ""))
        at = match.end()
        if text.startswith("(", at):
            inner, end = _hops(text, at + 1)
            if not inner or not text.startswith(")", end):
                return found, at
            head, *rest = inner
            found += [Hop(f"({head.name})", head.label), *rest]
            at = end + 1
        if not text.startswith(".", at):
            return found, at
        at += 1


class Slots:
    """The urls of one map's extensions: a slot is the place up to and with `extension[n]`."""

    def __init__(self, rows: Iterable[GuideRow], target: str) -> None:
        self.target = target
        self._urls: dict[Place, list[tuple[str, str]]] = defaultdict(list)  # slot -> (source, url)
        for row in rows:
            place = guide_place(row.path, target)
            if place and len(place) > 1 and place[-1].name == "url" and place[-2].name == EXTENSION:
                self._urls[place[:-1]].append((row.source, unquoted(row.assignment)))

    def place(self, row: GuideRow) -> Place | None:
        """The row's place with the urls of its extensions. The row that gives a url is at its extension."""
        raw = guide_place(row.path, self.target)
        if raw is None:
            return None
        gives_url = len(raw) > 1 and raw[-1].name == "url" and raw[-2].name == EXTENSION
        if gives_url:
            raw = raw[:-1]
        found: list[Hop] = []
        for at, hop in enumerate(raw):
            if hop.name != EXTENSION:
                found.append(hop)
                continue
            own = unquoted(row.assignment) if gives_url and at == len(raw) - 1 else self._url(raw[: at + 1], row.source)
            found.append(Hop(extension_name(own), hop.label))
        return tuple(found)

    def _url(self, slot: Place, source: str) -> str:
        urls = self._urls.get(slot, [])
        own = [url for of, url in urls if of == source]
        return (own or [url for _, url in urls] or ["?"])[0]

    def is_url(self, row: GuideRow) -> bool:
        return row.path.endswith(".url") and "extension" in row.path


def unquoted(text: str) -> str:
    """`"home"` -> `home`; anything else as it is."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1] else text


# -- ours -------------------------------------------------------------------------------------------------------------


def own_place(row: Row) -> Place:
    """Where a row of a segment or data type table writes."""
    return (*carrier_place(row), *path_place(row.to))


def carrier_place(row: Row) -> Place:
    """The extension that the row's `to` starts in, or nothing."""
    if not row.extension:
        return ()
    first, *inner = row.extension
    return (
        *path_place(row.on),
        Hop(extension_name(first), row.extension_label),
        *(Hop(extension_name(url)) for url in inner),
    )


def companion_place(row: Row, path: Path) -> Place:
    """Where a companion of `set:` writes: beside the value, inside the extension where `to` starts there."""
    inside = bool(row.extension) and bool(path.steps) and path.steps[0].name.startswith("value")
    return (*(carrier_place(row) if inside else ()), *path_place(path))


def path_place(path: Path | None) -> Place:
    if path is None:
        return ()
    return (*((Hop(ANOTHER, path.another),) if path.another else ()), *_steps(path.steps))


def _steps(steps: tuple[Step, ...]) -> Iterator[Hop]:
    for step in steps:
        yield Hop(step.name, step.label)
        if step.resource is not None:
            yield Hop(f"({step.resource})", step.resource_label)
            yield from _steps(step.inner)


def extensions_of(place: Place) -> Iterator[Place]:
    """The place of every extension that a place goes through."""
    for at, hop in enumerate(place):
        if hop.name.startswith(f"{EXTENSION} "):
            yield place[: at + 1]
