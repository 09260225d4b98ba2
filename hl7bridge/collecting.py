"""When Python's collector of cyclic garbage looks, and at what.

What holds and why: tables, models and modules are many objects that are made at once and stay. While they are made
the collector would look at all of them again and again, a fifth of the time of a start, and find nothing. What stays
for the life of the process is then left out of every later look, so that a look in the middle of traffic is short.
Looks are seldom then: a translation makes thousands of objects that go by themselves when it ends, and a look in its
middle, a twentieth of its time, finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 20_000  # objects made and not gone again, before there is a look at them; Python's own number is 700


@contextmanager
def held() -> Iterator[None]:
    """The collector rests; what is no longer referred to is freed at once all the same, but for cycles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if not gc.get_freeze_count():
                # what was made counts as old at once; else the first look would be at all of it
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def settle() -> None:
    """What is there now stays, and is not looked at again."""
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])
    gc.freeze()


def resettle() -> None:
    """Some of what had settled was replaced: it goes, the rest settles again. Nothing where nothing had settled."""
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()
        gc.freeze()
