"""Threads that share tables make code of them at the same moment, and translate as one thread would."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.mapping.mappings import Mappings

SAMPLES = sorted((Path(__file__).resolve().parents[2] / "samples").glob("*.hl7"))
THREADS, TURNS = 4, 3


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def said(raw: bytes, mappings: Mappings) -> object:
    try:
        return translate(raw, mappings).bundle
    except MessageError as error:
        return str(error)
    except Exception as error:
        return error


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_share_new_tables_translate_as_one_does(attempt: int) -> None:
    raws = [file.read_bytes().replace(b"\n", b"\r") for file in SAMPLES] * TURNS
    alone, shared = load_mappings(), load_mappings()
    wanted = [said(raw, alone) for raw in raws]
    begin = threading.Barrier(THREADS)
    wrong: list[object] = []

    def work(first: int) -> None:
        begin.wait()
        for number in range(len(raws)):
            place = (number + first) % len(raws)
            given = said(raws[place], shared)
            if given != wanted[place]:
                wrong.append(given if isinstance(given, Exception) else SAMPLES[place % len(SAMPLES)].name)

    threads = [threading.Thread(target=work, args=(2 * number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
