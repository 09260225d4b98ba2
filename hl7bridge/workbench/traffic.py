"""Much traffic through one function, in as many processes as there are cores: for `diff`, `coverage` and their like.

What holds and why:
- Results come in the order of the items, however many processes work, and reading runs at most `RESULTS` chunks a
  process ahead: a feed or a journal may be larger than memory.
- The processes are forked: tables that are loaded and compiled are shared with them, not loaded again. Only items and
  results are copied, so results should be small (counts and paths, not bundles).
- Each process has one chunk at a time and its answer is read before it gets the next: neither side can wait for the
  other while its own pipe is full.
- Who is done first gets the next chunk: a chunk that takes long holds up nobody, until `RESULTS` a process wait for it.
- Interrupting ends all of them; a process that dies takes the whole work with it, as an error: nothing is left out
  silently.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from hl7bridge.errors import Hl7BridgeError

RESULTS = 8  # that are kept for each process until those before them are there
AT_ONCE = 100  # items a process gets at a time: large enough that copying costs little, small enough to share evenly

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(
    function: Callable[[list[T]], R], items: Iterable[T], *, processes: int | None = None, at_once: int = AT_ONCE
) -> Iterator[R]:
    """`function` of each chunk of at most `at_once` items, in their order.

    processes: default `cores()`; with 1, or where one chunk holds everything, all is done in this process. An exception
    of `function` is raised here. Items and results must be picklable, `function` need not be.
    """
    source = iter(items)
    chunks = iter(lambda: list(islice(source, at_once)), [])
    ahead = list(islice(chunks, 2))
    several = processes if processes is not None else cores()
    if len(ahead) < 2 or several < 2:
        for chunk in (*ahead, *chunks):
            yield function(chunk)
        return
    yield from _forked(function, iter(_joined(ahead, chunks)), several)


def _joined(ahead: list[list[T]], chunks: Iterator[list[T]]) -> Iterator[list[T]]:
    yield from ahead
    yield from chunks


def _forked(function: Callable[[list[T]], R], chunks: Iterator[list[T]], processes: int) -> Iterator[R]:
    gc.freeze()  # what is loaded already is never looked at by the collector, so its memory stays shared
    helpers = [_Helper(function) for _ in range(processes)]
    numbered = enumerate(chunks)
    busy: dict[Connection, tuple[_Helper, int]] = {}
    results: dict[int, R] = {}
    idle, told = deque(helpers), 0
    try:
        while True:
            while idle and len(busy) + len(results) < RESULTS * processes and (one := next(numbered, None)) is not None:
                helper = idle.popleft()
                helper.give(one[1])
                busy[helper.pipe] = helper, one[0]
            if told in results:
                yield results.pop(told)
                told += 1
                continue
            if not busy:
                return
            for pipe in wait(list(busy)):
                helper, number = busy.pop(cast(Connection, pipe))
                results[number] = helper.take()
                idle.append(helper)
    finally:
        for helper in helpers:
            helper.end()
        gc.unfreeze()


class _Helper:
    """One forked process and our end of its pipe."""

    def __init__(self, function: Callable[[list[Any]], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, chunk: list[Any]) -> None:
        try:
            self.pipe.send(chunk)
        except OSError:
            raise self._gone() from None

    def take(self) -> Any:
        try:
            fine, result = self.pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if not fine:
            raise result
        return result

    def _gone(self) -> Hl7BridgeError:
        self._process.join(1)
        return Hl7BridgeError(f"a helper process ended (exit code {self._process.exitcode}); is there memory enough?")

    def end(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(function: Callable[[list[Any]], Any], pipe: Connection) -> None:
    """In the process: chunks in, results out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    while True:
        try:
            chunk = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, function(chunk))
        except Exception as error:
            answer = (False, error)
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception:  # a result or an error that cannot be pickled
            pipe.send((False, Hl7BridgeError(f"a helper process failed: {type(answer[1]).__name__}")))
