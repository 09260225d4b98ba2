"""The translating processes as the daemon sees them: a message in, a bundle or a MessageError out.

What holds and why:
- A process has one message at a time, so that it is known which message ended it. Order per patient is not made here:
  the worker's lanes hand out a patient's next message only after the one before.
- Tables go over the same pipe before the first message that is to have them: each message is translated with one
  version, the one in service when it was handed to the process, and the answer says which.
- A process that ends is replaced and its message given to another; a message that ends two is a dead letter. One that
  takes longer than the limit is ended with its process and is a dead letter at once.
- A process that does not even start counts against no message: it is tried again, with growing pauses.
- Ends with the daemon, also by SIGKILL: see process.py.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from hl7bridge.service.tablesets import TableSets
from hl7bridge.translators.answer import error_of
from hl7bridge.translators.wire import LENGTH, Done, Failed, Load, Work, framed

MOST = 8  # processes that `auto` starts; the event loop could not feed more
LOADING = 120.0  # seconds a process may take to load tables
PAUSE = (0.5, 30.0)  # seconds between tries to start a process: from, to
DEATHS = 2  # processes a message may end before it is given up
AT_ONCE = 1024 * 1024  # bytes read ahead of an answer

Trouble = Callable[[str, str], None]


def count(workers: int | str) -> int:
    """How many processes `translate.workers` means: `auto` one for each core that this process may use."""
    return min(len(os.sched_getaffinity(0)), MOST) if isinstance(workers, str) else workers


# glibc keeps blocks of up to 32 MiB once it has seen them freed; a process that met one large message would stay large
LARGE_BLOCKS: Mapping[str, str] = MappingProxyType({"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024)})


class _Ended(Exception):
    """A process has ended, or broke its pipe."""


class _Job:
    __slots__ = ("answer", "deaths", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self.deaths = 0

    def fail(self, why: str) -> None:
        _settle(self, Failed(why, ""))


class Pool:
    """`count` processes from `start` to `close`. `limit`: seconds a message may take. `trouble`: told what went wrong.

    Used in one event loop.
    """

    def __init__(self, count: int, tables: TableSets, limit: float, trouble: Trouble) -> None:
        self._count, self._limit, self._trouble = count, limit, trouble
        self._jobs: deque[_Job] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lifeline: tuple[int, int] | None = None
        self._number = 0
        self._tables = tables
        self._load: asyncio.Task[bytes]
        self.processes: dict[int, int] = {}  # by place: the process id, while one runs

    def start(self) -> None:
        """Returns at once; what comes before the first process is ready waits for it."""
        self._lifeline = os.pipe()
        self.swap(self._tables)
        self._tasks = [
            asyncio.create_task(self._keep(place), name=f"translator {place}") for place in range(self._count)
        ]

    def swap(self, tables: TableSets) -> None:
        """Every message that is handed to a process from now on gets these tables."""
        self._number += 1
        self._tables = tables
        load = partial(framed, Load(self._number, tables))
        self._load = asyncio.create_task(asyncio.to_thread(load))  # pickling takes a while
        self._stir()

    async def translate(self, raw: bytes, listener: str, peer: str = "") -> Done:
        """Raises MessageError: what was wrong with the message, or internal-error; it carries the `mapping_version`."""
        job = _Job(Work(raw, listener, peer))
        self._jobs.append(job)
        self._stir(1)
        return await job.answer

    async def close(self) -> None:
        """Ends every process; what is still under way is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        while self._jobs:
            self._jobs.popleft().answer.cancel()
        if self._lifeline is not None:
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None

    # --- one place: a process after the other -------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        pause, most = PAUSE
        while True:
            try:
                process = await self._begin()
                try:
                    self.processes[place] = process.pid
                    number = await self._load_into(process)
                    pause = PAUSE[0]
                    await self._serve(process, number)
                finally:
                    del self.processes[place]
                    await _kill(process)
            except (_Ended, OSError) as error:
                self._trouble("translator", str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, most)

    async def _begin(self) -> Process:
        assert self._lifeline is not None
        far = self._lifeline[0]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hl7bridge.translators.process",
            str(far),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(far,),
            limit=AT_ONCE,
            env={**LARGE_BLOCKS, **os.environ},
        )

    async def _load_into(self, process: Process) -> int:
        """Gives the tables in service; returns their number."""
        number, load = self._number, self._load
        try:
            async with asyncio.timeout(LOADING):
                await _ask(process, await asyncio.shield(load))
                return number
        except TimeoutError:
            raise _Ended(f"the tables were not loaded within {LOADING:g} s; it is replaced") from None

    async def _serve(self, process: Process, number: int) -> None:
        """Until the process ends: then raises _Ended."""
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: self._stir())
        while True:
            while not self._jobs and number == self._number and not ended.done():
                await self._rest()
            if ended.done():
                self._stir(1)  # whom it would have served
                raise _Ended(_how(process))
            if number != self._number:
                number = await self._load_into(process)
            elif not (job := self._jobs.popleft()).answer.done():
                await self._do(job, process)

    async def _do(self, job: _Job, process: Process) -> None:
        try:
            async with asyncio.timeout(self._limit):
                said = await _ask(process, framed(job.work))
        except TimeoutError:
            job.fail(f"translation took longer than {self._limit:g} s and was ended")
            raise _Ended(f"a message took longer than {self._limit:g} s; it is replaced") from None
        except _Ended:
            job.deaths += 1
            if job.deaths >= DEATHS:
                job.fail(f"translation ended its process {DEATHS} times")
            else:
                self._jobs.appendleft(job)
                self._stir(1)
            raise
        except asyncio.CancelledError:
            job.answer.cancel()
            raise
        _settle(job, said)

    async def _rest(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def _stir(self, most: int | None = None) -> None:
        """Wakes those that have nothing to do; `most`: so many of them, the one that rested last first."""
        for _ in range(len(self._idle) if most is None else min(most, len(self._idle))):
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)


def _settle(job: _Job, said: Any) -> None:
    if job.answer.done():
        return
    if isinstance(said, Done):
        job.answer.set_result(said)
    else:
        job.answer.set_exception(error_of(said))


async def _ask(process: Process, question: bytes) -> Any:
    """The answer. Raises _Ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(question)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return pickle.loads(await process.stdout.readexactly(length))  # by our own process, over a pipe of its own
    except (asyncio.IncompleteReadError, OSError):
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await process.wait()
        raise _Ended(_how(process)) from None


def _how(process: Process) -> str:
    code = process.returncode
    return f"a translating process ended{'' if code is None else f' ({code})'}; it is replaced"


async def _kill(process: Process) -> None:
    """It keeps nothing, so nothing is asked of it."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
