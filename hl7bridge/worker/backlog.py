"""What is to be done next: the journal's undelivered messages, read page by page into the lanes.

What holds and why:

- What waits for a later attempt is put back into its lanes before anything behind it is seen, so a restart keeps the
  order of every patient.
- A page may be older than what happened while it was read: what was settled meanwhile is not taken from it.
- Another process (`hl7bridge dlq replay`) may turn dead letters into undelivered messages behind our back: once a
  second the first page is looked at again, and in a long backlog one page further on in turn. Looking at more would
  read the whole backlog every second.
- What was just appended is handed over with the commit and not read again, as long as its seqs go on where the tail of
  the lanes ends: then nothing can lie in between. Anything else (resends, more than `CAME_MAX`) is read as before.
- Messages read but not started yet are kept up to `CACHE_MAX` bytes; beyond that they are read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from hl7bridge import reasons
from hl7bridge.delivery.answer import RETRY_AFTER_MAX
from hl7bridge.delivery.lanes import Item, Lanes
from hl7bridge.journal.protocol import Entry, Filter, Journal, State
from hl7bridge.worker.seams import Clock

POLL = 1.0  # seconds between looks for what another process replayed or purged
CACHE_MAX = 64 * 1024 * 1024
CAME_MAX = 1024  # messages handed over that are not in the lanes yet; their bytes are bounded by CACHE_MAX

UNHELD = frozenset({reasons.UNSUPPORTED_TYPE.code, reasons.UNSUPPORTED_EVENT.code})  # parked on arrival: hold no lane


class Backlog:
    """The lanes, filled from the journal. `hold`: a dead letter keeps its lanes closed until it is replayed or purged.

    `longest`: seconds no pause exceeds, for a clock that was set while the daemon was down. Methods that read raise
    JournalError.
    """

    def __init__(self, journal: Journal, clock: Clock, lanes: Lanes, *, hold: bool, longest: float) -> None:
        self.lanes = lanes
        self._journal, self._clock, self._hold = journal, clock, hold
        self._longest = max(longest, RETRY_AFTER_MAX)
        self._cache: dict[str, Entry] = {}
        self._cached = 0
        self._came: deque[tuple[int, int, Callable[[], Entry] | None]] = deque()  # seq, bytes, how it is made
        self._came_bytes = 0
        self._held: set[str] = set()
        self._settled: set[str] = set()  # while a page is read
        self._wakes = 0
        self._sweep = 0
        self._next_look = clock.monotonic()

    async def restore(self) -> None:
        """For the start: what waits, and what holds its lanes."""
        now, wall = self._clock.monotonic(), self._clock.time()
        async for entry in self._journal.find(Filter(states=(State.WAITING,))):
            pause = min(max(entry.next_attempt - wall, 0.0), self._longest)
            self.lanes.restore(_item(entry), due=now + pause)
        if not self._hold:
            return
        async for entry in self._journal.find(Filter(states=(State.DEAD,))):
            if self.holds(entry, entry.reason):
                self.lanes.restore(_item(entry), held=True)
                self._held.add(entry.id)

    def appended(self) -> None:
        """Something new is in the journal."""
        self._wakes += 1
        self.lanes.more_arrived()

    def came(self, seq: int, size: int, make: Callable[[], Entry] | None) -> None:
        """A message of `size` bytes was appended at `seq`; None: nothing that may be delivered now."""
        self.appended()
        last = self._came[-1][0] if self._came else self.lanes.tail
        if seq == last + 1 and len(self._came) < CAME_MAX and self._came_bytes + size <= CACHE_MAX:
            self._came.append((seq, size, make))
            self._came_bytes += size
        else:
            self._came.clear()
            self._came_bytes = 0

    async def read_more(self) -> bool:
        """Reads a page if one is wanted; False: there is nothing to read now."""
        after = self.lanes.next_scan()
        if after is not None and after == self.lanes.tail and self._take_what_came():
            return True
        if after is not None:
            await self._read(after)
            return True
        now = self._clock.monotonic()
        if now < self._next_look:
            return False
        if await self._look():
            return True
        self._next_look = now + POLL
        return False

    async def fetch(self, id: str) -> Entry | None:
        """The message, if it is still to be delivered."""
        entry = self._cache.pop(id, None)
        if entry is not None:
            self._cached -= len(entry.raw)
        else:
            entry = await self._journal.get(id)
        return entry if entry is not None and entry.state in (State.RECEIVED, State.WAITING) else None

    def holds(self, entry: Entry, reason: str) -> bool:
        """Does this dead letter keep its lanes closed?"""
        return self._hold and bool(entry.lanes) and reason not in UNHELD

    def hold(self, id: str) -> None:
        self._settled.add(id)
        self._held.add(id)
        self.lanes.hold(id)

    def done(self, id: str) -> None:
        """Delivered, dead, or gone."""
        self._settled.add(id)
        self.lanes.done(id)

    def _take_what_came(self) -> bool:
        """A page of what was handed over into the lanes; False: there is none that goes on where the tail ends."""
        came, tail = self._came, self.lanes.tail
        while came and came[0][0] <= tail:  # it was read meanwhile
            self._came_bytes -= came.popleft()[1]
        if not came or came[0][0] != tail + 1:
            return False
        entries: list[Entry] = []
        last = tail
        while came and len(entries) < self.lanes.page:
            last, size, make = came.popleft()
            self._came_bytes -= size
            if make is not None:
                entries.append(make())
        self.lanes.offer([_item(entry) for entry in entries], tail, ended=not came, upto=last)
        self._remember(entries)
        return True

    async def _look(self) -> bool:
        """The first page again, one further on, and the held ones. True: something was found, so look on at once."""
        found, behind = await self._read(0)
        if behind is None:
            self._sweep = 0
        else:
            # something new in front: its like is most probably right behind it
            further, behind = await self._read(behind if found else max(self._sweep, behind))
            self._sweep = 0 if behind is None or behind >= self.lanes.tail else behind
            found += further
        for id in tuple(self._held):
            await self._look_after(id)
        return found > 0

    async def _read(self, after: int) -> tuple[int, int | None]:
        """A page behind `after` into the lanes. Returns how many were new, and its last seq, None at the end."""
        wakes = self._wakes
        self._settled.clear()
        entries = await self._journal.claimable(self._clock.time(), after, self.lanes.page)
        for entry in entries:
            if entry.id in self._held and entry.id not in self._settled:
                self._release(entry.id, replayed=True)
        ended = not entries  # a page may be short where messages are large
        taken = self.lanes.offer([_item(entry) for entry in entries], after, ended, self._settled)
        if wakes != self._wakes:  # appended while the page was read: it may not be in it
            self.lanes.more_arrived()
        self._remember(entries)
        return taken, None if ended else entries[-1].seq

    def _remember(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = entry.id in self.lanes and not self.lanes.is_running(entry.id)
            if known and entry.id not in self._cache and self._cached < CACHE_MAX:
                self._cache[entry.id] = entry
                self._cached += len(entry.raw)

    async def _look_after(self, id: str) -> None:
        entry = await self._journal.get(id)
        if id not in self._held:
            return
        if entry is None or entry.state is State.DELIVERED:
            self._release(id, replayed=False)
        elif entry.state is not State.DEAD:
            self._release(id, replayed=True)

    def _release(self, id: str, *, replayed: bool) -> None:
        self._held.discard(id)
        if replayed:
            self.lanes.free(id)
        else:
            self.lanes.done(id)


def _item(entry: Entry) -> Item:
    return Item(entry.seq, entry.id, entry.lanes, len(entry.raw))
