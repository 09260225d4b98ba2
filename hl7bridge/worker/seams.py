"""What the worker needs from others, as small as it can be: a translation, a clock, someone who is told.

What holds: nothing an `Observer` is given comes from a message's fields but its type (MSH-9) and the listener's name;
`why` and `detail` are made of statuses, FHIR's issue codes and our own words. All of it may be logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from hl7bridge.journal.protocol import Entry, State

TRANSLATORS = 2  # threads; they share one interpreter, so more would only wait for each other


class Translation(Protocol):
    """A message translated: the bundle as JSON bytes, how many entries it has, the version of the tables."""

    @property
    def bundle(self) -> bytes: ...
    @property
    def entries(self) -> int: ...
    @property
    def mapping_version(self) -> str: ...


# raises MessageError where the message or the tables are at fault; what it raises may carry a `mapping_version`
Translate = Callable[[Entry], Translation]


class Translator(ABC):
    """Translates off the event loop, several messages at once."""

    @abstractmethod
    async def translate(self, entry: Entry) -> Translation:
        """Raises what a Translate raises; BrokenExecutor where that is no message's fault."""

    @property
    def tables(self) -> object:
        """What is in service: another object means that a translation from before is out of date."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Nothing more will come."""


class Threads(Translator):
    """In threads of this process, or of an executor that somebody else closes."""

    def __init__(self, translate: Translate, executor: Executor | None = None) -> None:
        self._translate, self._lent = translate, executor is not None
        self._executor = executor or ThreadPoolExecutor(TRANSLATORS, thread_name_prefix="translate")

    async def translate(self, entry: Entry) -> Translation:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._translate, entry)

    def close(self) -> None:
        if not self._lent:
            self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a message, for now: DELIVERED, or DEAD with the code of a reason."""

    state: State
    reason: str


class Clock(Protocol):
    """`time`: seconds since the epoch, may jump; `monotonic`: seconds, may not; `rest`: until the event or the time."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    async def rest(self, event: asyncio.Event, seconds: float) -> None: ...


class SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def rest(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class Observer:
    """Is told what the worker does; does nothing itself. Times in seconds. Called in the event loop: must not block."""

    def translated(self, id: str, listener: str, type: str, took: float) -> None: ...

    def delivered(self, id: str, listener: str, type: str, waited: float, took: float) -> None:
        """`waited`: since it was received; `took`: the request alone."""

    def retried(self, id: str, listener: str, type: str, status: int, why: str, attempts: int, pause: float) -> None:
        """`status`: HTTP, 0 without an answer; `attempts`: those that count against the message."""

    def dead(self, id: str, listener: str, type: str, reason: str) -> None: ...

    def circuit_changed(self, state: str, why: str) -> None:
        """`state`: closed, open or half-open."""

    def trouble(self, what: str, detail: str) -> None:
        """Something of the bridge's own failed and is tried again: `what`: journal, dead-letters, message, bridge."""


class Telling:
    """Tells an observer; one that fails must not stop a delivery. `untold`: how often it failed."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.untold = 0

    def tell(self, telling: Callable[[Observer], None]) -> None:
        try:
            telling(self._observer)
        except Exception:
            self.untold += 1

    def trouble(self, what: str, detail: str) -> None:
        self.tell(lambda observer: observer.trouble(what, detail))
