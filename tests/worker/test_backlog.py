"""The backlog: what is read, when, and what a page that is older than the facts may not do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from worker_fakes import START, MemoryJournal, TestClock

from hl7bridge.delivery.lanes import Lanes
from hl7bridge.errors import JournalError
from hl7bridge.journal.protocol import Entry, State
from hl7bridge.worker.backlog import Backlog


def backlog_of(journal: MemoryJournal, *, hold: bool = False, **sizes: int) -> tuple[Backlog, TestClock]:
    clock = TestClock()
    return Backlog(journal, clock, Lanes(**sizes), hold=hold, longest=60.0), clock


async def read_all(backlog: Backlog) -> None:
    while await backlog.read_more():
        pass


async def test_a_message_appended_while_a_page_is_read_is_not_forgotten() -> None:
    class Busy(MemoryJournal):
        async def claimable(self, now: float, after_seq: int, limit: int) -> Sequence[Entry]:
            page = await super().claimable(now, after_seq, limit)
            if not self.entries:
                self.add("a")
                backlog.appended()
            return page

    backlog, _ = backlog_of(Busy())
    assert await backlog.read_more()
    assert backlog.lanes.next_scan() is not None


async def test_a_look_goes_on_without_a_rest_until_every_replayed_message_is_found() -> None:
    journal = MemoryJournal()
    dead = [journal.add(f"p{number}", state=State.DEAD) for number in range(100)]
    for _ in range(100):
        journal.add("hot")
    backlog, clock = backlog_of(journal, enough=1_000)
    await read_all(backlog)
    for id in dead:
        await journal.replay(id)
    assert not await backlog.read_more()
    clock.now += 1.0
    await read_all(backlog)
    assert all(id in backlog.lanes for id in dead)


async def test_a_long_backlog_is_not_read_over_and_over() -> None:
    journal = MemoryJournal()
    for _ in range(1_000):
        journal.add("hot")
    backlog, clock = backlog_of(journal)
    await read_all(backlog)
    before = journal.claims
    for _ in range(50):
        clock.now += 1.0
        await read_all(backlog)
    assert journal.claims - before <= 100


async def test_what_is_settled_elsewhere_is_not_fetched() -> None:
    journal = MemoryJournal()
    delivered, dead = journal.add(state=State.DELIVERED), journal.add(state=State.DEAD)
    backlog, _ = backlog_of(journal)
    assert [await backlog.fetch(id) for id in (delivered, dead, "unknown")] == [None] * 3


async def test_messages_beyond_the_cache_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hl7bridge.worker.backlog.CACHE_MAX", 30)
    journal = MemoryJournal()
    ids = [journal.add() for _ in range(10)]
    backlog, _ = backlog_of(journal)
    await read_all(backlog)
    assert backlog._cached <= 30 + len(journal.entries[ids[0]].raw)
    assert [(await backlog.fetch(id) or journal.entries["m1"]).id for id in ids] == ids
    assert backlog._cached == 0


async def test_what_waits_is_put_back_and_what_is_parked_holds_no_lane() -> None:
    journal = MemoryJournal()
    waiting = journal.add("a", state=State.WAITING, next_attempt=START + 30.0)
    parked = journal.add("b", state=State.DEAD, reason="unsupported-event")
    dead = journal.add("c", state=State.DEAD, reason="not-translatable")
    backlog, clock = backlog_of(journal, hold=True)
    await backlog.restore()
    assert [id in backlog.lanes for id in (waiting, parked, dead)] == [True, False, True]
    assert backlog.lanes.start(clock.now) is None
    assert backlog.lanes.next_due() == 30.0


async def test_a_journal_that_cannot_be_read_is_the_caller_s_to_know() -> None:
    journal = MemoryJournal()
    journal.broken = {"claimable": 1}
    backlog, _ = backlog_of(journal)
    with pytest.raises(JournalError):
        await backlog.read_more()
    assert await backlog.read_more()


def hand_over(backlog: Backlog, journal: MemoryJournal, *lanes: str) -> str:
    """Appends a message and tells the backlog of it, as the commit does."""
    id = journal.add(*lanes)
    entry = journal.entries[id]
    backlog.came(entry.seq, len(entry.raw), lambda: entry)
    return id


async def test_what_the_commit_hands_over_is_not_read_again() -> None:
    journal = MemoryJournal()
    backlog, _ = backlog_of(journal)
    journal.add("a", state=State.DEAD)
    backlog.came(1, 10, None)
    first, second = hand_over(backlog, journal, "b"), hand_over(backlog, journal, "b")
    while backlog.lanes.next_scan() is not None:
        assert await backlog.read_more()
    assert journal.claims == 0
    assert first in backlog.lanes and second in backlog.lanes
    assert backlog.lanes.tail == 3
    assert await backlog.fetch(first) is journal.entries[first]


async def test_behind_a_gap_the_journal_is_read() -> None:
    journal = MemoryJournal()
    backlog, _ = backlog_of(journal)
    unheard = journal.add("a")  # by a replay, a join, another process
    heard = hand_over(backlog, journal, "a")
    await read_all(backlog)
    assert journal.claims > 0
    started = backlog.lanes.start(0.0)
    assert started is not None and started.id == unheard
    assert heard in backlog.lanes
    again = hand_over(backlog, journal, "c")
    claims = journal.claims
    assert await backlog.read_more()
    assert again in backlog.lanes and journal.claims == claims


async def test_what_was_read_and_delivered_meanwhile_is_not_taken_from_what_came() -> None:
    journal = MemoryJournal()
    backlog, clock = backlog_of(journal)
    id = hand_over(backlog, journal, "a")
    clock.now += 5.0
    await backlog._look()  # a page reads it first
    assert backlog.lanes.start(0.0) is not None
    backlog.done(id)
    journal.entries[id] = journal.entries[id]._replace(state=State.DELIVERED)
    backlog.appended()
    await read_all(backlog)
    assert id not in backlog.lanes


async def test_more_than_may_be_kept_is_read_from_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hl7bridge.worker.backlog.CAME_MAX", 3)
    journal = MemoryJournal()
    backlog, _ = backlog_of(journal)
    ids = [hand_over(backlog, journal, f"p{number}") for number in range(10)]
    await read_all(backlog)
    assert journal.claims > 0
    assert all(id in backlog.lanes for id in ids)
