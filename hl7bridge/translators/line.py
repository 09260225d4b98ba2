"""One translating process as the pool sees it: what it was given, what it has answered, and when it takes too long.

What holds and why:
- Answers come in the order of the questions, each before the next question is begun. So the first that is not answered
  is the one under way: it alone is to blame when the process ends, and the limit is counted from its turn.
- A process is given some messages at a time: the next one is there when it is done with one, and both interpreters
  stay at one thing for longer, which is half of what a small message costs.
- What stands behind a message that takes long is passed on to others after `SLOW` seconds. Should it be translated
  twice, the first answer counts; both are the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from hl7bridge.translators.answer import error_of
from hl7bridge.translators.wire import Answers, Done, Failed, Work, framed

MOST = 8  # messages a process has at a time
MOST_BYTES = 256 * 1024  # and no further one once they hold this many
SLOW = 0.25  # seconds after which others take what stands behind a message
LOADING = 120.0  # seconds a process may take to load tables


class Job:
    """A message and the future of its answer. `deaths`: processes that ended over it."""

    __slots__ = ("answer", "deaths", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self.deaths = 0

    def settle(self, said: Any) -> None:
        if self.answer.done():
            return
        if isinstance(said, Done):
            self.answer.set_result(said)
        else:
            self.answer.set_exception(error_of(said))

    def fail(self, why: str) -> None:
        self.settle(Failed(why, ""))


class Line(asyncio.SubprocessProtocol):
    """A process from its start to its end. `limit`: seconds a message may take.

    `more`: called when it can take more; `pass_on`: given what others should take.
    """

    def __init__(self, limit: float, more: Callable[[], None], pass_on: Callable[[Sequence[Job]], None]) -> None:
        self._limit, self._more, self._pass_on = limit, more, pass_on
        self._loop = asyncio.get_running_loop()
        self._given: deque[Job | None] = deque()  # without answer yet, in order; None: tables
        self._bytes = 0  # of the messages among them
        self._unsent: list[bytes] = []
        self._answers = Answers()
        self._since = 0.0  # the first of `given` is under way since then
        self._timer: asyncio.TimerHandle | None = None
        self._passed_on = False  # what stands behind the first; nothing more is put there
        self._transport: asyncio.SubprocessTransport
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.why = ""  # it was ended, if it was
        self.number = 0  # of the tables that the next message has
        self.loaded = False

    # --- what the pool does -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    @property
    def load(self) -> int:
        return len(self._given)

    @property
    def takes_more(self) -> bool:
        """Never while tables are under way: what stood behind them would be passed on, and be translated twice."""
        if not self.loaded or None in self._given:
            return False
        waits = len(self._given)
        return not waits or (waits < MOST and self._bytes < MOST_BYTES and not self._passed_on)

    def use(self, number: int, tables: bytes) -> None:
        """What is given from now on has these tables: a framed Load."""
        self.number = number
        self._give(None, tables)

    def give(self, job: Job) -> None:
        self._bytes += len(job.work.raw)
        self._give(job, framed(job.work))

    def send(self) -> None:
        """What was given since the last time, in one write."""
        if self._unsent and not self.ended.done():
            frames, self._unsent = self._unsent, []
            cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0)).write(b"".join(frames))

    @property
    def given(self) -> list[Job]:
        """The messages without an answer, in order."""
        return [job for job in self._given if job is not None]

    @property
    def under_way(self) -> Job | None:
        return self._given[0] if self._given else None

    def end(self, why: str = "") -> None:
        """It keeps nothing, so nothing is asked of it."""
        self.why = self.why or why
        if not self.ended.done():
            with suppress(ProcessLookupError):
                self._transport.kill()

    # --- what asyncio tells -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        for said in self._answers.feed(data):
            job = self._given.popleft()
            self._start_the_clock()
            if job is None:
                self.loaded = True
            else:
                self._bytes -= len(job.work.raw)
                job.settle(said)
        self._more()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.end()  # without its pipes it is of no use

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and everything it said was read."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()
        if not self.ended.done():
            self.why = self.why or f"a translating process ended ({self._transport.get_returncode()}); it is replaced"
            self.ended.set_result(None)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _give(self, job: Job | None, frame: bytes) -> None:
        self._given.append(job)
        self._unsent.append(frame)
        if len(self._given) == 1:
            self._start_the_clock()

    def _start_the_clock(self) -> None:
        """The first of `given` is under way from now on."""
        self._since = self._loop.time()
        if self._passed_on and self._timer is not None:  # it was set for the limit of the one before
            self._timer.cancel()
            self._timer = None
        self._passed_on = False
        if self._given and self._timer is None:
            self._timer = self._loop.call_at(self._since + min(SLOW, self._limit), self._look)

    def _look(self) -> None:
        """Is the first of `given` under way for too long? Looks again as long as there is one."""
        self._timer = None
        if not self._given:
            return
        first, now = self._given[0], self._loop.time()
        limit = LOADING if first is None else self._limit
        if now - self._since >= limit:
            self._too_late(first, limit)
            return
        slow = self._since + min(SLOW, self._limit)
        if now >= slow and not self._passed_on:
            self._passed_on = True
            self._pass_on([job for job in self.given if job is not first])
        self._timer = self._loop.call_at(self._since + limit if self._passed_on else slow, self._look)

    def _too_late(self, first: Job | None, limit: float) -> None:
        if first is None:
            self.end(f"the tables were not loaded within {limit:g} s; it is replaced")
        else:
            first.fail(f"translation took longer than {limit:g} s and was ended")
            self.end(f"a message took longer than {limit:g} s; it is replaced")
