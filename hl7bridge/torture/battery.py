"""All cases, in the order of the report, and how people choose among them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from hl7bridge.torture import answers, blocks, connections, framing
from hl7bridge.torture.case import Case

CASES: tuple[Case, ...] = framing.CASES + blocks.CASES + answers.CASES + connections.CASES


def chosen(words: Iterable[str]) -> tuple[Case, ...]:
    """The cases whose name or section a word names; a word may hold `*`. No word: all. ValueError for an idle word."""
    wanted = list(words)
    for word in wanted:
        if not any(_names(word, case) for case in CASES):
            raise ValueError(f"no case is called {word}; --list shows them")
    return tuple(case for case in CASES if not wanted or any(_names(word, case) for word in wanted))


def _names(word: str, case: Case) -> bool:
    return fnmatchcase(case.name, word) or case.section == word
