"""How plain a segment is: what of its texts a reader need not look for.

Sans-IO. PLAIN: each text is what it was sent as. Nothing is escaped, there are no subcomponents and no `""`, all is
printable, no blank stands at an end of a component nor beside another, and no document is in it. SINGLE: it is plain,
no field repeats, and each that is there has a first component. Nearly all segments are one of the two; all others are
ANY.
"""

from __future__ import annotations

from functools import lru_cache

from hl7bridge.hl7v2.escape import Separators

ANY, PLAIN, SINGLE = range(3)
LARGE = 50_000  # characters: a segment with a document in it


def form_of(line: str, separators: Separators) -> int:
    """ANY, PLAIN or SINGLE."""
    quote, escape, subcomponent, repeated, no_first, two, a, b, c, d, e, f = _not_plain(separators)
    if quote in line or escape in line or subcomponent in line or not line.isprintable():
        return ANY
    if " " in line and (
        two in line or a in line or b in line or c in line or d in line or e in line or f in line or line[-1] == " "
    ):
        return ANY
    if len(line) > LARGE:
        return ANY
    return PLAIN if repeated in line or no_first in line else SINGLE


@lru_cache(maxsize=64)
def _not_plain(separators: Separators) -> tuple[str, ...]:
    """What is not in a line: three texts where it is plain, two more where it is single, the rest where blanks are."""
    if not {" ", '"'}.isdisjoint(separators):
        return ("",) * 12  # odd separators: no line is plain
    field, component, repetition, escape, subcomponent, _ = (text or '"' for text in separators)
    ends = (field, component, repetition)
    return (
        *('"', escape, subcomponent, repetition, field + component),
        *("  ", *(f" {text}" for text in ends), *(f"{text} " for text in ends)),
    )
