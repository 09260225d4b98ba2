"""What is worked out once for a text that comes again and again: names of coding systems, authorities, units, ranges.

Sans-IO. Only for pure functions of short texts, and so many of each: what senders send in these places are the words of
their own house, not of a patient. A long text is none of these words and is never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

_MANY = 1024
_LONG = 100  # characters

_Made = TypeVar("_Made")


def remembered(function: Callable[[str], _Made]) -> Callable[[str], _Made]:
    """The function of a text, answering from what it found for the same one before."""
    known = lru_cache(_MANY)(function)

    @wraps(function)
    def answer(text: str) -> _Made:
        return known(text) if len(text) <= _LONG else function(text)

    return answer
