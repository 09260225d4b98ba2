"""The collector rests while much is made, and is as it was afterwards; what was replaced goes."""

from __future__ import annotations

import gc
import weakref

import pytest

from hl7bridge.collecting import SELDOM, held, resettle, settle


class _Ring:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.self = self


def test_the_collector_rests_inside_and_works_again_afterwards() -> None:
    with held():
        assert not gc.isenabled()
        with held():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_again_also_after_an_error() -> None:
    with pytest.raises(ValueError), held():
        raise ValueError
    assert gc.isenabled()


def test_who_had_turned_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with held():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_had_settled_and_was_replaced_goes_when_it_settles_again() -> None:
    ring = _Ring()
    gone = weakref.ref(ring)
    often = gc.get_threshold()
    settle()
    try:
        assert gc.get_threshold() == (SELDOM, *often[1:])
        del ring
        gc.collect()
        assert gone() is not None
        resettle()
        assert gone() is None
        assert gc.get_freeze_count()
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()


def test_where_nothing_had_settled_nothing_settles_again() -> None:
    gc.unfreeze()
    resettle()
    assert not gc.get_freeze_count()
