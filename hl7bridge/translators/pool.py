"""The translating processes as the daemon sees them: a message in, a bundle or a MessageError out.

What holds and why:
- A message goes to the process that has the fewest; a process has some at a time (see line). Order per patient is not
  made here: the worker's lanes hand out a patient's next message only after the one before.
- What a sender waits for (`ack: translated`) goes first.
- Tables go over the same pipe before the first message that is to have them: each message is translated with one
  version, the one in service when it was handed to the process, and the answer says which.
- A process that ends is replaced and its messages given to others; it is known which one was under way, and a message
  that ends two is a dead letter. One that takes longer than the limit is ended with its process and is a dead letter at
  once.
- A process that does not even start counts against no message: it is tried again, with growing pauses.
- Ends with the daemon, also by SIGKILL: see process.py.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from hl7bridge.service.tablesets import TableSets
from hl7bridge.translators.line import Job, Line
from hl7bridge.translators.wire import Done, Load, Work, framed

MOST = 8  # processes that `auto` starts; the event loop could not feed more
PAUSE = (0.5, 30.0)  # seconds between tries to start a process: from, to
DEATHS = 2  # processes a message may end before it is given up

Trouble = Callable[[str, str], None]


def count(workers: int | str) -> int:
    """How many processes `translate.workers` means: `auto` one for each core that this process may use."""
    return min(len(os.sched_getaffinity(0)), MOST) if isinstance(workers, str) else workers


# glibc keeps blocks of up to 32 MiB once it has seen them freed; a process that met one large message would stay large
LARGE_BLOCKS: Mapping[str, str] = MappingProxyType({"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024)})


class Pool:
    """`count` processes from `start` to `close`. `limit`: seconds a message may take. `trouble`: told what went wrong.

    Used in one event loop.
    """

    def __init__(self, count: int, tables: TableSets, limit: float, trouble: Trouble) -> None:
        self._count, self._limit, self._trouble = count, limit, trouble
        self._jobs: deque[Job] = deque()
        self._lines: dict[int, Line] = {}  # by place: the process that runs there
        self._tasks: list[asyncio.Task[None]] = []
        self._lifeline: tuple[int, int] | None = None
        self._dispatching = False
        self._number = 0
        self._tables = tables
        self._load = b""  # the tables of this number, framed; empty while they are made ready
        self._pickling: asyncio.Task[None] | None = None
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
        self._tables, self._load = tables, b""
        if self._pickling is not None:
            self._pickling.cancel()
        self._pickling = asyncio.create_task(self._make_ready(Load(self._number, tables)))

    def translate(self, raw: bytes, listener: str, peer: str = "", *, urgent: bool = False) -> asyncio.Future[Done]:
        """Fails with MessageError: what was wrong with the message, or internal-error, with the `mapping_version`.

        `urgent`: before those that are not.
        """
        job = Job(Work(raw, listener, peer))
        if urgent:
            self._jobs.appendleft(job)
        else:
            self._jobs.append(job)
        self._soon()
        return job.answer

    async def close(self) -> None:
        """Ends every process; what is still under way is cancelled."""
        tasks = [*self._tasks, *([self._pickling] if self._pickling is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []
        while self._jobs:
            self._jobs.popleft().answer.cancel()
        if self._lifeline is not None:
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None

    # --- who gets what ------------------------------------------------------------------------------------------------

    async def _make_ready(self, load: Load) -> None:
        self._load = await asyncio.to_thread(framed, load)  # pickling takes a while
        self._soon()

    def _soon(self) -> None:
        """What comes in one turn of the loop is handed out together."""
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        if not self._load:
            return
        lines = tuple(self._lines.values())
        for line in lines:
            if line.number != self._number:
                line.use(self._number, self._load)
        while self._jobs and (free := [line for line in lines if line.takes_more]):
            job = self._jobs.popleft()
            if not job.answer.done():
                min(free, key=lambda line: line.load).give(job)
        for line in lines:
            line.send()

    # --- one place: a process after the other -------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        pause, most = PAUSE
        while True:
            try:
                line = await self._begin()
            except OSError as error:
                self._trouble("translator", str(error) or type(error).__name__)
            else:
                await self._serve(place, line)
                self._trouble("translator", line.why)
                if line.loaded:
                    pause = PAUSE[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, most)

    async def _begin(self) -> Line:
        assert self._lifeline is not None
        far = self._lifeline[0]
        _, line = await asyncio.get_running_loop().subprocess_exec(
            lambda: Line(self._limit, self._soon, self._pass_on),
            sys.executable,
            "-m",
            "hl7bridge.translators.process",
            str(far),
            stdin=PIPE,
            stdout=PIPE,
            stderr=None,
            pass_fds=(far,),
            env={**LARGE_BLOCKS, **os.environ},
        )
        return line

    async def _serve(self, place: int, line: Line) -> None:
        """Until its end; its messages are then given to others."""
        self._lines[place], self.processes[place] = line, line.pid
        self._soon()
        try:
            await asyncio.shield(line.ended)
            self._take_back(line)
        finally:
            del self._lines[place], self.processes[place]
            if not line.ended.done():  # the pool is closed
                line.end()
                await line.ended
                self._jobs.extend(line.given)

    def _take_back(self, line: Line) -> None:
        jobs = list(line.given)
        first = line.under_way
        if first is not None and not first.answer.done():
            first.deaths += 1
            if first.deaths >= DEATHS:
                first.fail(f"translation ended its process {DEATHS} times")
        self._again(jobs)

    def _pass_on(self, jobs: Sequence[Job]) -> None:
        if len(self._lines) > 1:
            self._again(jobs)

    def _again(self, jobs: Sequence[Job]) -> None:
        """They go before all others, in their order."""
        self._jobs.extendleft(reversed(jobs))
        self._soon()
