"""Much traffic through one function: order, errors, and processes that end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hl7bridge.cli.inputs import Input, Unusable, messages
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.workbench.traffic import RESULTS, work

ADMIT = b"MSH|^~\\&|ADT|NORTH|||20240501120000||ADT^A01|C1|P|2.5\rEVN|A01\r"


def doubled(chunk: list[int]) -> list[int]:
    return [2 * number for number in chunk]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 10, 11, 1003])
def test_results_come_in_the_order_of_the_items(processes: int, count: int) -> None:
    found = [number for part in work(doubled, range(count), processes=processes, at_once=10) for number in part]
    assert found == [2 * number for number in range(count)]


def test_several_processes_do_the_work_and_not_this_one() -> None:
    found = set(work(lambda _: os.getpid(), range(100), processes=2, at_once=10))
    assert len(found) == 2 and os.getpid() not in found


def test_results_larger_than_a_pipe_do_not_stop_it() -> None:
    items = [b"x" * 300_000] * 8
    assert [len(part[0]) for part in work(lambda chunk: chunk, items, processes=2, at_once=1)] == [300_000] * 8


def test_a_chunk_that_takes_long_holds_up_nobody() -> None:
    done = multiprocessing.get_context("fork").Value("i", 0)

    def slow(chunk: list[int]) -> bool:
        """The first takes until the other process has done five."""
        until = time.monotonic() + 30
        while chunk[0] == 0 and done.value < 5 and time.monotonic() < until:
            time.sleep(0.005)
        with done.get_lock():
            done.value += 1
        return done.value >= 5

    assert next(work(slow, range(100), processes=2, at_once=1))


def test_results_wait_for_those_before_them_only_up_to_a_bound() -> None:
    done = multiprocessing.get_context("fork").Value("i", 0)

    def slow(chunk: list[int]) -> int:
        if chunk[0] == 0:
            time.sleep(0.3)
            return int(done.value)
        with done.get_lock():
            done.value += 1
        return 0

    assert next(work(slow, range(1000), processes=2, at_once=1)) <= 2 * RESULTS


def test_reading_runs_only_little_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    first = next(results := work(doubled, items(), processes=2, at_once=10))
    assert first[0] == 0 and len(read) <= 40
    results.close()  # type: ignore[attr-defined]


def test_an_exception_of_the_function_is_raised_here() -> None:
    def fails(chunk: list[int]) -> int:
        raise KeyError(chunk[0])

    with pytest.raises(KeyError):
        list(work(fails, range(100), processes=2, at_once=10))


def test_a_process_that_dies_is_an_error_and_never_a_shorter_result() -> None:
    def dies(chunk: list[int]) -> int:
        if 50 in chunk:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(chunk)

    with pytest.raises(Hl7BridgeError, match="a helper process ended"):
        list(work(dies, range(100), processes=2, at_once=10))


def test_a_result_that_cannot_be_copied_is_an_error() -> None:
    with pytest.raises(Hl7BridgeError, match="a helper process failed"):
        list(work(lambda _: lambda: None, range(100), processes=2, at_once=10))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_are_read(tmp_path: Path, suffix: str, pack) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / f"feed.hl7{suffix}"
    file.write_bytes(pack(ADMIT + ADMIT))
    assert [found.number for found in messages([str(file)]) if isinstance(found, Input)] == [1, 2]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"feed.hl7{suffix}"
    file.write_bytes(ADMIT)
    (found,) = messages([str(file)])
    assert isinstance(found, Unusable) and "cannot be read" in found.why
