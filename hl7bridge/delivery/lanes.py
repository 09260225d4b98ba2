"""Which message may start: in order within a lane, side by side across lanes, in bounded memory. Sans-IO.

A lane is the key of a patient; a message holds every lane it touches (a merge holds two), or none. What holds:

- **Order.** A message starts only when it is the first undelivered one in each of its lanes and none of them is in use.
  A message that waits for a later attempt keeps its place, so what is behind it waits too. The first undelivered
  message of all is first in all its lanes: there is no deadlock.
- **Bounded memory.** The journal may hold millions; this holds identifiers only, `lane_room` for a lane and `room`
  altogether. What finds no room is skipped, and its lanes are *marked* from there on: nothing later in a marked lane
  may start until the skipped ones were offered again, in order (`next_scan` says from where).
- **No starvation.** A blocked lane with thousands of messages fills its own room and is then skipped; the scan goes on
  to other lanes. A refill reads from the mark, the tail keeps its own place, so neither undoes the other's progress.

The caller reads pages in order of arrival from the journal and gives them to `offer`, whole. Times are any clock in
seconds, the same throughout.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

EVERYTHING = "\0room"  # stands for the whole room where a lane is meant; no lane key starts with NUL


@dataclass(frozen=True, slots=True)
class Item:
    """What is known of a message here: its order of arrival, its id, its lanes, its bytes."""

    seq: int
    id: str
    lanes: tuple[str, ...] = field(repr=False)
    size: int = 0


@dataclass(slots=True)
class _Place:
    item: Item
    lanes: tuple[str, ...]  # each once
    running: bool = False
    held: bool = False  # a dead letter that holds its lanes
    due: float | None = None  # waits until then; None: never failed


@dataclass(frozen=True, slots=True)
class _Mark:
    """From `seq` on, messages of the lane may have been skipped; `cause`: the lane (or EVERYTHING) that had no room."""

    seq: int
    cause: str


class Lanes:
    """The schedule. `enough`: how many startable messages are enough to stop reading further ones."""

    def __init__(
        self, *, room: int = 20_000, lane_room: int = 128, enough: int = 64, marks: int = 100_000, page: int = 64
    ) -> None:
        self.page = page
        self._room, self._lane_room, self._enough, self._marks_max = room, lane_room, enough, marks
        self._places: dict[str, _Place] = {}
        self._queues: dict[str, list[tuple[int, str]]] = {}  # lane -> (seq, id) in order of arrival
        self._fresh: list[tuple[int, str]] = []  # heap of startable messages that never failed
        self._again: list[tuple[float, int, str]] = []  # heap of startable ones that did, longest due first
        self._due: list[tuple[float, int, str]] = []  # heap of waiting ones
        self._marks: dict[str, _Mark] = {}
        self._causes: set[str] = set()  # of the marks, perhaps some more: few, while marks may be many
        self._busy: dict[str, str] = {}  # lane -> id of the running message
        self._turn_again = False
        self._tail = 0
        self._tail_ended = False
        self._running = 0

    # --- what is known -------------------------------------------------------------------------------------------

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def is_running(self, id: str) -> bool:
        place = self._places.get(id)
        return place is not None and place.running

    @property
    def running(self) -> int:
        return self._running

    @property
    def tail(self) -> int:
        """The last seq that was offered."""
        return self._tail

    def next_due(self) -> float | None:
        """When the next waiting message may go on, None when none waits."""
        while self._due and not self._waits(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def next_scan(self) -> int | None:
        """Where the next page is to be read from (after this seq), None when nothing more is needed now.

        The tail has ended when a page came back short; `more_arrived` opens it again.
        """
        refill = self._refill_from()
        if refill is not None:
            return refill
        ready = len(self._fresh) + len(self._again)
        if self._tail_ended or ready >= self._enough or len(self._marks) >= self._marks_max:
            return None
        return self._tail

    def more_arrived(self) -> None:
        """Something was appended: the tail is worth reading again."""
        self._tail_ended = False

    # --- what changes --------------------------------------------------------------------------------------------

    def offer(self, items: Sequence[Item], after: int, ended: bool, ignore: Container[str] = (), upto: int = 0) -> int:
        """Takes a page: all claimable messages after `after` up to its last one, in order; `ended`: none lies behind.

        `ignore`: ids that were settled while the page was read. `upto`: the page goes so far, though nothing claimable
        stands there. Returns how many were taken in.
        """
        last = max(items[-1].seq if items else after, upto)
        covered = {lane for lane, mark in self._marks.items() if mark.seq > after} if after < self._tail else set()
        taken = 0
        for item in items:
            if item.id in self._places or item.id in ignore:
                continue
            lanes = tuple(dict.fromkeys(item.lanes))
            cause = self._no_room_for(item, lanes, covered)
            if cause is None:
                self._place(item, lanes)
                taken += 1
            else:
                self._skip(item, lanes, cause, covered)
        self._advance(covered, last, ended)
        if after >= self._tail:
            self._tail_ended = ended
        self._tail = max(self._tail, last)
        return taken

    def restore(self, item: Item, due: float | None = None, held: bool = False) -> None:
        """Puts back a message that waits (`due`) or holds its lanes (`held`) from an earlier run, room or not."""
        if item.id in self._places:
            return
        place = _Place(item, tuple(dict.fromkeys(item.lanes)), held=held, due=due)
        self._enter(place)
        if due is not None and not held:
            heapq.heappush(self._due, (due, item.seq, item.id))

    def start(self, now: float, probe: bool = False) -> Item | None:
        """The next message to send, now in use; None when none may start.

        Fresh ones and repeated ones take turns, so that neither starves the other. A `probe` prefers a fresh one, so
        that a message that always fails does not keep the circuit open alone.
        """
        self._wake(now)
        again_first = self._turn_again and not probe
        place = self._pop(again_first) or self._pop(not again_first)
        if place is None:
            return None
        self._turn_again = not self._turn_again
        place.running = True
        self._running += 1
        self._busy.update(dict.fromkeys(place.lanes, place.item.id))
        return place.item

    def wait(self, id: str, due: float) -> None:
        """The message goes on at `due`; it keeps its place, and its lanes stay blocked."""
        place = self._stopped(id)
        place.due = due
        self._reconsider_firsts(place)

    def put_back(self, id: str) -> None:
        """It was not tried after all: it may start again at once, as if never started."""
        self._reconsider_firsts(self._stopped(id))

    def hold(self, id: str) -> None:
        """A dead letter that keeps its lanes closed until `done` (purged) or `free` (replayed)."""
        place = self._stopped(id)
        place.held = True
        self._reconsider_firsts(place)

    def free(self, id: str) -> None:
        """A held message was replayed: it may start, first in its lanes."""
        place = self._places[id]
        place.held, place.due = False, None
        self._reconsider(place)

    def done(self, id: str) -> None:
        """Delivered, dead or gone: its lanes go on."""
        place = self._places[id]
        if place.running:
            self._stopped(id)
        del self._places[id]
        for lane in place.lanes:
            queue = self._queues[lane]
            queue.remove((place.item.seq, id))
            if not queue:
                del self._queues[lane]
        self._reconsider_firsts(place)

    # --- inside --------------------------------------------------------------------------------------------------

    def _no_room_for(self, item: Item, lanes: Sequence[str], covered: set[str]) -> str | None:
        """The lane whose lack of room keeps this message out, or None."""
        for lane in lanes:
            mark = self._marks.get(lane)
            if mark is not None and mark.seq < item.seq and lane not in covered:
                return mark.cause
        for lane in lanes:
            if len(self._queues.get(lane, ())) >= self._lane_room:
                return lane
        if len(self._places) >= self._room and (any(lane in self._queues for lane in lanes) or not self._wanted()):
            return EVERYTHING
        return None

    def _wanted(self) -> bool:
        return len(self._fresh) + len(self._again) < self._enough

    def _skip(self, item: Item, lanes: Sequence[str], cause: str, covered: set[str]) -> None:
        for lane in lanes or (EVERYTHING,):
            mark = self._marks.get(lane)
            if mark is None or lane in covered or item.seq < mark.seq:
                self._marks[lane] = _Mark(item.seq, cause)
                self._causes.add(cause)
            covered.discard(lane)

    def _advance(self, covered: set[str], last: int, ended: bool) -> None:
        """Marks this page went past without skipping anything of their lane move behind it, or go."""
        for lane in covered:
            if ended or last >= self._tail:
                del self._marks[lane]
            elif self._marks[lane].seq <= last:
                self._marks[lane] = _Mark(last + 1, self._marks[lane].cause)

    def _refill_from(self) -> int | None:
        causes = {cause for cause in self._causes if self._has_room(cause)}
        if not causes:
            return None
        self._causes = {mark.cause for mark in self._marks.values()}
        marks = [mark.seq for mark in self._marks.values() if mark.cause in causes]
        return min(marks) - 1 if marks else None

    def _has_room(self, cause: str) -> bool:
        """Half empty, so that a page is worth reading."""
        if cause == EVERYTHING:
            return len(self._places) <= self._room // 2
        return len(self._queues.get(cause, ())) <= self._lane_room // 2

    def _place(self, item: Item, lanes: tuple[str, ...]) -> None:
        place = _Place(item, lanes)
        self._enter(place)
        self._reconsider(place)

    def _enter(self, place: _Place) -> None:
        self._places[place.item.id] = place
        for lane in place.lanes:
            insort(self._queues.setdefault(lane, []), (place.item.seq, place.item.id))

    def _startable(self, place: _Place) -> bool:
        """First in each lane, and none of them in use (a replayed older message may stand before a running one)."""
        if place.running or place.held:
            return False
        return all(self._queues[lane][0][1] == place.item.id and lane not in self._busy for lane in place.lanes)

    def _reconsider_firsts(self, place: _Place) -> None:
        """After a change of `place`: itself if it has no lanes, else whoever is first in its lanes now."""
        if not place.lanes and place.item.id in self._places:
            self._reconsider(place)
        firsts = {self._queues[lane][0][1] for lane in place.lanes if lane in self._queues}
        for id in firsts:
            self._reconsider(self._places[id])

    def _reconsider(self, place: _Place) -> None:
        if not self._startable(place):
            return
        seq, id = place.item.seq, place.item.id
        if place.due is None:
            heapq.heappush(self._fresh, (seq, id))
        else:
            heapq.heappush(self._due, (place.due, seq, id))

    def _waits(self, key: tuple[float, int, str]) -> bool:
        place = self._places.get(key[2])
        return place is not None and place.due == key[0] and self._startable(place)

    def _wake(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            key = heapq.heappop(self._due)
            if self._waits(key):
                heapq.heappush(self._again, key)

    def _pop(self, again: bool) -> _Place | None:
        while True:
            heap = self._again if again else self._fresh
            if not heap:
                return None
            id = heapq.heappop(heap)[-1]  # type: ignore[misc]
            place = self._places.get(id)
            if place is not None and self._startable(place) and (place.due is not None) == again:
                return place

    def _stopped(self, id: str) -> _Place:
        place = self._places[id]
        place.running = False
        self._running -= 1
        for lane in place.lanes:
            del self._busy[lane]
        return place
