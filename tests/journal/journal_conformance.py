"""What every journal must do, whatever stores it: the promise of hl7bridge.journal.protocol as tests.

A test module of an implementation subclasses JournalConformance and gives it a fixture `reopen`: an async function that
closes the journal it gave before, if any, and opens the same store again with the given limits
(retention_days, max_backlog) and the test's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from journal_support import NOW, Clock, parked, received

from hl7bridge.errors import JournalFull, JournalRefusal
from hl7bridge.journal.protocol import Change, Entry, Filter, Journal, State

Reopen = Callable[..., Awaitable[Journal]]
NOBODY = "00000000-0000-7000-8000-000000000000"
DAY = 86_400.0


async def found(journal: Journal, filter: Filter = Filter()) -> list[Entry]:  # noqa: B008 (frozen)
    return [entry async for entry in journal.find(filter)]


class JournalConformance:
    """Subclass it as Test…; see the module's text for the fixture."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def journal(self, reopen: Reopen) -> Journal:
        return await reopen()

    async def test_an_appended_message_comes_back_as_it_was(self, journal: Journal) -> None:
        message = received(1, lanes=("a" * 64, "b" * 64), raw=b"MSH|\x00\xff\x0b" * 100)
        appended = await journal.append(message)
        assert (appended.ack, appended.duplicate, appended.reused_control_id) == (message.ack, False, False)
        entry = await journal.get(appended.id)
        assert entry is not None
        for name in ("raw", "sha256", "received_at", "listener", "peer", "sender", "control_id", "type", "lanes",
                     "ack_code", "state", "reason", "detail"):  # fmt: skip
            assert getattr(entry, name) == getattr(message, name), name
        assert (entry.id, entry.attempts, entry.replays, entry.delivered_at) == (appended.id, 0, 0, None)

    async def test_a_message_without_lanes_is_taken(self, journal: Journal) -> None:
        appended = await journal.append(received(1, lanes=()))
        entry = await journal.get(appended.id)
        assert entry is not None and entry.lanes == ()

    @pytest.mark.parametrize(
        "text", ["", "Müller-1", "\udcff\udce4", "a\x00b", "\ud800", "😀" * 50, "'; DROP TABLE messages"]
    )
    async def test_a_control_id_of_any_characters_is_kept_and_found(self, journal: Journal, text: str) -> None:
        appended = await journal.append(received(1, control_id=text, sender=text + "|" + text))
        assert [entry.control_id for entry in await found(journal, Filter(control_id=text))] == [text]
        again = await journal.append(received(1, control_id=text, sender=text + "|" + text, ack=b"other"))
        assert again.duplicate and again.id == appended.id

    async def test_the_same_bytes_again_get_the_stored_ack_and_have_no_effect(self, journal: Journal) -> None:
        first = await journal.append(received(1))
        again = await journal.append(received(1, ack=b"built anew", received_at=NOW + 5))
        assert (again.id, again.ack, again.duplicate) == (first.id, b"MSA|AA|1\r", True)
        assert (await journal.figures()).undelivered == 1
        assert len(await found(journal)) == 1

    async def test_the_same_bytes_at_the_same_time_have_one_effect(self, journal: Journal) -> None:
        results = await asyncio.gather(*(journal.append(received(n % 5, ack=b"%d" % n)) for n in range(50)))
        assert len({result.id for result in results}) == 5
        assert sum(not result.duplicate for result in results) == 5
        for n, result in enumerate(results):
            assert result.ack == b"%d" % (n % 5)

    async def test_a_duplicate_is_known_after_a_restart(self, journal: Journal, reopen: Reopen) -> None:
        first = await journal.append(received(1))
        again = await (await reopen()).append(received(1, ack=b"built anew"))
        assert (again.id, again.ack, again.duplicate) == (first.id, first.ack, True)

    async def test_other_bytes_under_a_used_control_id_are_new_and_said_to_be_so(self, journal: Journal) -> None:
        first = await journal.append(received(1))
        other = await journal.append(received(1, raw=b"MSH|other"))
        assert (other.duplicate, other.reused_control_id) == (False, True)
        assert other.id != first.id and not first.reused_control_id

    async def test_two_new_messages_under_one_control_id_at_the_same_time(self, journal: Journal) -> None:
        results = await asyncio.gather(*(journal.append(received(1, raw=b"MSH|%d" % n)) for n in range(3)))
        assert [result.reused_control_id for result in results] == [False, True, True]

    async def test_another_sender_may_use_the_same_control_id_and_bytes(self, journal: Journal) -> None:
        first = await journal.append(received(1, sender="M|HOSP"))
        others = [await journal.append(received(1, sender=sender, ack=sender.encode())) for sender in ("A|", "Z|")]
        assert [(other.duplicate, other.reused_control_id) for other in others] == [(False, False)] * 2
        for sender, stored in zip(("M|HOSP", "A|", "Z|"), (first, *others), strict=True):
            again = await journal.append(received(1, sender=sender))
            assert (again.id, again.ack, again.duplicate) == (stored.id, stored.ack, True)

    async def test_ids_and_places_are_in_order_of_arrival_across_a_restart(
        self, journal: Journal, reopen: Reopen, clock: Clock
    ) -> None:
        ids = [(await journal.append(received(n))).id for n in range(20)]
        clock.now += 1
        journal = await reopen()
        ids += [(await journal.append(received(n))).id for n in range(20, 40)]
        assert ids == sorted(ids)
        entries = await found(journal)
        assert [entry.id for entry in entries] == ids
        assert [entry.seq for entry in entries] == sorted({entry.seq for entry in entries})

    async def test_ids_go_on_rising_when_the_clock_steps_back(self, journal: Journal, clock: Clock) -> None:
        first = await journal.append(received(1))
        clock.now -= 3600
        assert (await journal.append(received(2))).id > first.id

    async def test_claimable_gives_received_and_due_messages_in_order_of_arrival(self, journal: Journal) -> None:
        ids = [(await journal.append(received(n))).id for n in range(6)]
        await journal.apply(Change(ids[0], State.WAITING, 1, next_attempt=NOW + 10, reason="endpoint-rejected"))
        await journal.apply(Change(ids[2], State.WAITING, 1, next_attempt=NOW + 20))
        await journal.apply(Change(ids[3], State.DELIVERED, 1))
        await journal.apply(Change(ids[4], State.DEAD, 1, reason="invalid-bundle"))
        entries = await journal.claimable(NOW, 0, 10)
        assert [entry.id for entry in entries] == [ids[1], ids[5]]
        assert [entry.id for entry in await journal.claimable(NOW + 10, 0, 10)] == [ids[0], ids[1], ids[5]]
        assert [entry.id for entry in await journal.claimable(NOW + 20, 0, 2)] == [ids[0], ids[1]]
        assert [entry.id for entry in await journal.claimable(NOW + 20, entries[0].seq, 10)] == [ids[2], ids[5]]

    async def test_blocked_lanes_are_those_of_messages_that_wait_for_later(self, journal: Journal) -> None:
        ids = [(await journal.append(received(n, lanes=(f"l{n}", "m")))).id for n in range(3)]
        await journal.apply(Change(ids[0], State.WAITING, 1, next_attempt=NOW + 10))
        assert await journal.blocked_lanes(NOW) == {"l0", "m"}
        assert await journal.blocked_lanes(NOW + 10) == frozenset()
        assert await journal.blocked_lanes(NOW, among=["l0", "l1", "other"]) == {"l0"}
        assert await journal.blocked_lanes(NOW + 10, among=["l0", "m"]) == frozenset()
        await journal.apply(Change(ids[1], State.WAITING, 1, next_attempt=NOW + 5))
        await journal.apply(Change(ids[0], State.DEAD, 2))
        assert await journal.blocked_lanes(NOW) == await journal.blocked_lanes(NOW, ["l0", "l1", "m"]) == {"l1", "m"}
        await journal.apply(Change(ids[1], State.DELIVERED, 2))
        assert await journal.blocked_lanes(NOW) == await journal.blocked_lanes(NOW, ["l0", "l1", "m"]) == frozenset()
        assert await journal.blocked_lanes(NOW, []) == frozenset()

    async def test_a_lane_stays_blocked_through_changes_that_come_at_once(self, journal: Journal) -> None:
        id = (await journal.append(received(1, lanes=("a", "b")))).id
        attempts = [NOW + 10, NOW + 20, NOW + 10, NOW + 10]
        await asyncio.gather(*(journal.apply(Change(id, State.WAITING, n, at)) for n, at in enumerate(attempts, 1)))
        assert await journal.blocked_lanes(NOW + 9, ["a", "b"]) == {"a", "b"} == await journal.blocked_lanes(NOW + 9)
        assert await journal.blocked_lanes(NOW + 10, ["a", "b"]) == frozenset() == await journal.blocked_lanes(NOW + 10)
        await asyncio.gather(
            journal.apply(Change(id, State.WAITING, 5, NOW + 30)), journal.apply(Change(id, State.DEAD, 6))
        )
        assert await journal.blocked_lanes(NOW, ["a", "b"]) == frozenset()

    async def test_a_change_is_kept_with_all_it_says(self, journal: Journal, reopen: Reopen) -> None:
        id = (await journal.append(received(1))).id
        await journal.apply(Change(id, State.WAITING, 3, NOW + 9, "endpoint-rejected", "503", "abc", NOW + 1))
        entry = await (await reopen()).get(id)
        assert entry is not None
        assert (entry.state, entry.attempts, entry.next_attempt) == (State.WAITING, 3, NOW + 9)
        assert (entry.reason, entry.detail, entry.mapping_version) == ("endpoint-rejected", "503", "abc")

    @pytest.mark.parametrize("end", [State.DELIVERED, State.DEAD])
    @pytest.mark.parametrize("then", list(State))
    async def test_an_ended_message_changes_only_by_replay(self, journal: Journal, end: State, then: State) -> None:
        id = (await journal.append(received(1))).id
        await journal.apply(Change(id, end, 1))
        with pytest.raises(JournalRefusal):
            await journal.apply(Change(id, then, 2))
        assert [entry.state for entry in await found(journal)] == [end]

    async def test_a_change_of_an_unknown_message_fails_alone(self, journal: Journal) -> None:
        id = (await journal.append(received(1))).id
        results = await asyncio.gather(
            journal.apply(Change(NOBODY, State.DELIVERED, 1)),
            journal.apply(Change("no id at all", State.DELIVERED, 1)),
            journal.apply(Change(id, State.DELIVERED, 1)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [JournalRefusal, JournalRefusal, type(None)]
        entry = await journal.get(id)
        assert entry is not None and entry.state is State.DELIVERED

    async def test_a_duplicate_of_a_dead_message_leaves_it_dead(self, journal: Journal) -> None:
        first = await journal.append(parked(1))
        again = await journal.append(received(1))
        assert (again.id, again.duplicate, again.ack) == (first.id, True, first.ack)
        assert (await journal.figures()).dead == 1
        assert not await journal.claimable(NOW, 0, 10)

    async def test_a_replay_makes_a_dead_message_claimable_at_its_old_place(self, journal: Journal) -> None:
        first = (await journal.append(parked(1))).id
        second = (await journal.append(received(2))).id
        await journal.replay(first, by="eva")
        entries = await journal.claimable(NOW, 0, 10)
        assert [entry.id for entry in entries] == [first, second]
        assert (entries[0].attempts, entries[0].replays, entries[0].reason) == (0, 1, "")
        await journal.replay(first)  # twice is harmless
        assert [entry.replays for entry in await journal.claimable(NOW, 0, 1)] == [1]

    async def test_a_delivered_message_can_be_replayed_and_delivered_again(self, journal: Journal) -> None:
        id = (await journal.append(received(1))).id
        await journal.apply(Change(id, State.DELIVERED, 1, at=NOW + 1))
        await journal.replay(id)
        entry = await journal.get(id)
        assert entry is not None and (entry.state, entry.delivered_at) == (State.RECEIVED, None)
        await journal.apply(Change(id, State.DELIVERED, 1, at=NOW + 7))
        entry = await journal.get(id)
        assert entry is not None and entry.delivered_at == NOW + 7

    async def test_a_replay_with_an_edited_payload_delivers_the_edit(self, journal: Journal) -> None:
        message = parked(1)
        id = (await journal.append(message)).id
        await journal.replay(id, b"MSH|mended")
        (entry,) = await journal.claimable(NOW, 0, 10)
        assert entry.raw == b"MSH|mended"
        assert entry.sha256 == message.sha256
        assert (await journal.append(received(1))).duplicate, "a resend is known by what was sent, not by the edit"
        with pytest.raises(JournalRefusal):
            await journal.replay(id, b"MSH|again")

    async def test_a_replay_of_an_unknown_message_is_refused(self, journal: Journal) -> None:
        with pytest.raises(JournalRefusal):
            await journal.replay(NOBODY)

    async def test_the_history_tells_every_change_in_order(self, journal: Journal, clock: Clock) -> None:
        id = (await journal.append(parked(1))).id
        clock.now = NOW + 1
        await journal.replay(id, by="eva")
        await journal.apply(Change(id, State.WAITING, 1, NOW + 5, "endpoint-rejected", "503", at=NOW + 2))
        await journal.apply(Change(id, State.DELIVERED, 2, at=NOW + 6))
        steps = [
            (step.at - NOW, step.state, step.attempts, step.reason, step.actor) for step in await journal.history(id)
        ]
        assert steps == [
            (0, State.RECEIVED, 0, "", ""),
            (0, State.DEAD, 0, "unsupported-event", ""),
            (1, State.RECEIVED, 0, "", "eva"),
            (2, State.WAITING, 1, "endpoint-rejected", ""),
            (6, State.DELIVERED, 2, "", ""),
        ]
        assert list(await journal.history(NOBODY)) == []

    async def test_changes_of_one_message_at_the_same_time_are_taken_in_order(self, journal: Journal) -> None:
        id = (await journal.append(received(1))).id
        await asyncio.gather(
            journal.apply(Change(id, State.WAITING, 1, NOW + 5)),
            journal.apply(Change(id, State.DEAD, 2)),
            journal.replay(id),
            journal.apply(Change(id, State.DELIVERED, 3)),
        )
        states = [step.state for step in await journal.history(id)]
        assert states == [State.RECEIVED, State.WAITING, State.DEAD, State.RECEIVED, State.DELIVERED]

    async def test_figures_count_by_state_and_know_the_oldest(self, journal: Journal, reopen: Reopen) -> None:
        figures = await journal.figures()
        assert (figures.undelivered, figures.dead, figures.oldest_undelivered_at) == (0, 0, None)
        ids = [(await journal.append(received(n, received_at=NOW + n))).id for n in range(4)]
        await journal.append(parked(9))
        await journal.apply(Change(ids[0], State.DELIVERED, 1))
        await journal.apply(Change(ids[1], State.WAITING, 1, NOW + 99))
        figures = await (await reopen()).figures()
        assert (figures.undelivered, figures.dead, figures.oldest_undelivered_at) == (3, 1, NOW + 1)

    async def test_find_matches_every_field_that_is_set(self, journal: Journal, clock: Clock) -> None:
        ids = [(await journal.append(received(n, received_at=NOW - 100 * n))).id for n in range(5)]
        ids.append((await journal.append(parked(9, type="ORU^R01", listener="lab"))).id)
        await journal.apply(Change(ids[1], State.DELIVERED, 1))

        async def places(**terms: object) -> list[int]:
            return [ids.index(entry.id) for entry in await found(journal, Filter(**terms))]  # type: ignore[arg-type]

        assert await places() == [0, 1, 2, 3, 4, 5]
        assert await places(newest_first=True, limit=2) == [5, 4]
        assert await places(states=(State.DEAD,)) == [5]
        assert await places(states=(State.DEAD, State.DELIVERED)) == [1, 5]
        assert await places(states=(State.RECEIVED,), limit=1) == [0]
        assert await places(type="ORU^R01", listener="lab", reason="unsupported-event") == [5]
        assert await places(type="ORU^R01", listener="default") == []
        assert await places(older_than=150) == [2, 3, 4]
        assert await places(newer_than=150) == [0, 1, 5]
        assert await places(id=ids[3]) == [3]
        assert await places(id="nonsense") == []
        assert await places(control_id="2", states=(State.RECEIVED,)) == [2]

    async def test_find_goes_through_more_messages_than_a_page(self, journal: Journal) -> None:
        await asyncio.gather(*(journal.append(received(n)) for n in range(450)))
        assert len({entry.id for entry in await found(journal)}) == 450
        assert len(await found(journal, Filter(limit=301))) == 301

    async def test_retention_removes_delivered_messages_past_their_time_and_no_others(
        self, reopen: Reopen, clock: Clock
    ) -> None:
        journal = await reopen(retention_days=1)
        ids = [(await journal.append(received(n))).id for n in range(5)]
        await journal.apply(Change(ids[0], State.DELIVERED, 1, at=NOW))
        await journal.apply(Change(ids[1], State.DELIVERED, 1, at=NOW + DAY))
        await journal.apply(Change(ids[2], State.DEAD, 1, at=NOW))
        await journal.apply(Change(ids[3], State.WAITING, 1, NOW, at=NOW))
        assert await journal.retain(NOW + DAY) == 0
        assert await journal.retain(NOW + DAY + 1) == 1
        assert [entry.id for entry in await found(journal)] == ids[1:]
        assert await journal.retain(NOW + 99 * DAY) == 1
        assert [entry.id for entry in await found(journal)] == ids[2:]
        figures = await journal.figures()
        assert (figures.undelivered, figures.dead) == (2, 1)

    async def test_a_message_that_retention_removed_is_new_when_it_comes_again(self, reopen: Reopen) -> None:
        journal = await reopen(retention_days=1)
        first = await journal.append(received(1))
        await journal.apply(Change(first.id, State.DELIVERED, 1, at=NOW))
        assert await journal.retain(NOW + 2 * DAY) == 1
        again = await journal.append(received(1))
        assert not again.duplicate and not again.reused_control_id and again.id != first.id
        assert [step.state for step in await journal.history(again.id)] == [State.RECEIVED]

    async def test_retention_of_no_days_keeps_for_ever(self, reopen: Reopen) -> None:
        journal = await reopen(retention_days=0)
        await journal.apply(Change((await journal.append(received(1))).id, State.DELIVERED, 1, at=NOW))
        assert await journal.retain(NOW + 9999 * DAY) == 0

    async def test_a_replayed_message_is_kept_by_retention(self, reopen: Reopen) -> None:
        journal = await reopen(retention_days=1)
        id = (await journal.append(received(1))).id
        await journal.apply(Change(id, State.DELIVERED, 1, at=NOW))
        await journal.replay(id)
        assert await journal.retain(NOW + 99 * DAY) == 0

    async def test_purge_removes_dead_messages_that_match(self, journal: Journal) -> None:
        ids = [(await journal.append(parked(n, type="ORU^R01" if n % 2 else "ADT^A01"))).id for n in range(6)]
        alive = (await journal.append(received(9))).id
        assert await journal.purge(Filter(type="ORU^R01", limit=2)) == 2
        assert await journal.purge(Filter(states=(State.DEAD,), type="ORU^R01")) == 1
        assert await journal.purge(Filter(id=ids[0])) == 1
        assert await journal.purge(Filter(id="nonsense")) == 0
        assert await journal.purge(Filter(id=alive)) == 0
        assert await journal.purge(Filter()) == 2
        assert [entry.id for entry in await found(journal)] == [alive]
        assert (await journal.figures()).dead == 0

    @pytest.mark.parametrize("states", [(State.RECEIVED,), (State.DEAD, State.DELIVERED), (State.WAITING,)])
    async def test_purge_of_another_state_is_refused(self, journal: Journal, states: tuple[State, ...]) -> None:
        await journal.append(parked(1))
        with pytest.raises(JournalRefusal):
            await journal.purge(Filter(states=states))
        assert len(await found(journal)) == 1

    async def test_a_full_backlog_takes_no_more_but_knows_its_own(self, reopen: Reopen) -> None:
        journal = await reopen(max_backlog=3)
        ids = [(await journal.append(received(n))).id for n in range(3)]
        with pytest.raises(JournalFull):
            await journal.append(received(3))
        assert (await journal.append(received(1))).duplicate
        await journal.apply(Change(ids[0], State.DELIVERED, 1))
        assert not (await journal.append(received(3))).duplicate
        with pytest.raises(JournalFull):
            await journal.append(received(4))

    async def test_many_at_once_fill_the_backlog_exactly(self, reopen: Reopen) -> None:
        journal = await reopen(max_backlog=30)
        results = await asyncio.gather(*(journal.append(received(n)) for n in range(100)), return_exceptions=True)
        assert sum(isinstance(result, JournalFull) for result in results) == 70
        assert (await journal.figures()).undelivered == 30

    async def test_a_hundred_tasks_append_at_once_and_all_are_there(self, journal: Journal) -> None:
        async def sender(first: int) -> list[str]:
            return [(await journal.append(received(first * 1000 + n))).id for n in range(20)]

        ids = [id for part in await asyncio.gather(*map(sender, range(100))) for id in part]
        assert {entry.id for entry in await found(journal)} == set(ids)
        assert len(ids) == 2000 == (await journal.figures()).undelivered

    async def test_closing_commits_what_is_queued(self, journal: Journal, reopen: Reopen) -> None:
        tasks = [asyncio.ensure_future(journal.append(received(n))) for n in range(50)]
        await asyncio.sleep(0)
        journal = await reopen()
        assert {task.result().id for task in tasks} == {entry.id for entry in await found(journal)}
