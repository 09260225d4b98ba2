"""Lanes: order within a lane, side by side across lanes, bounded, never starving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hl7bridge.delivery.lanes import Item, Lanes


@dataclass
class Store:
    """The undelivered messages of a journal, read in pages as the worker does."""

    items: dict[int, Item] = field(default_factory=dict)
    unclaimable: set[int] = field(default_factory=set)  # dead
    read: int = 0

    def add(self, *lanes: str) -> Item:
        seq = len(self.items) + 1
        self.items[seq] = Item(seq, f"m{seq}", lanes)
        return self.items[seq]

    def page(self, after: int, limit: int) -> list[Item]:
        rows = [self.items[seq] for seq in sorted(self.items) if seq > after and seq not in self.unclaimable]
        self.read += min(limit, len(rows))
        return rows[:limit]

    def feed(self, lanes: Lanes, most: int = 10_000) -> None:
        """Scans until the schedule wants no more; `most` pages is a guard against scanning for ever."""
        for _ in range(most):
            after = lanes.next_scan()
            if after is None:
                return
            page = self.page(after, lanes.page)
            lanes.offer(page, after, len(page) < lanes.page)
        raise AssertionError("the scan does not come to an end")


def starts(lanes: Lanes, now: float = 0.0) -> list[str]:
    """Everything that may start now."""
    started = []
    while (item := lanes.start(now)) is not None:
        started.append(item.id)
    return started


def filled(*messages: Sequence[str], **options: int) -> tuple[Store, Lanes]:
    store, lanes = Store(), Lanes(**options)
    for message in messages:
        store.add(*message)
    store.feed(lanes)
    return store, lanes


def test_a_lane_is_worked_off_in_order_and_lanes_run_side_by_side() -> None:
    _, lanes = filled(["a"], ["a"], ["b"], ["c"])
    assert starts(lanes) == ["m1", "m3", "m4"]
    lanes.done("m1")
    assert starts(lanes) == ["m2"]


def test_messages_without_lanes_are_independent() -> None:
    _, lanes = filled([], [], [])
    assert starts(lanes) == ["m1", "m2", "m3"]


def test_a_merge_waits_for_both_patients_and_holds_both() -> None:
    _, lanes = filled(["a"], ["a", "b"], ["b"], ["a"])
    assert starts(lanes) == ["m1"]  # m3 must not overtake the merge, though nobody of b is running
    lanes.done("m1")
    assert starts(lanes) == ["m2"]
    lanes.done("m2")
    assert starts(lanes) == ["m3", "m4"]


def test_a_merge_that_names_one_patient_twice_does_not_wait_for_itself() -> None:
    _, lanes = filled(["a", "a"], ["a"])
    assert starts(lanes) == ["m1"]
    lanes.done("m1")
    assert starts(lanes) == ["m2"]


def test_a_message_that_waits_for_a_later_attempt_holds_back_what_is_behind_it_and_nothing_else() -> None:
    _, lanes = filled(["a"], ["a"], ["b"])
    assert starts(lanes) == ["m1", "m3"]
    lanes.wait("m1", due=5.0)
    lanes.done("m3")
    assert starts(lanes, 4.9) == []
    assert lanes.next_due() == 5.0
    assert starts(lanes, 5.0) == ["m1"]
    lanes.done("m1")
    assert starts(lanes, 5.0) == ["m2"]


def test_a_message_put_back_starts_again_before_the_ones_behind_it() -> None:
    _, lanes = filled(["a"], ["a"])
    assert starts(lanes) == ["m1"]
    lanes.put_back("m1")
    assert starts(lanes) == ["m1"]


def test_a_held_dead_letter_closes_its_lane_until_it_is_replayed_or_purged() -> None:
    _, lanes = filled(["a"], ["a"], ["b"])
    assert starts(lanes) == ["m1", "m3"]
    lanes.hold("m1")
    assert starts(lanes) == []
    lanes.free("m1")
    assert starts(lanes) == ["m1"]
    lanes.hold("m1")
    lanes.done("m1")
    assert starts(lanes) == ["m2"]


def test_a_replayed_older_message_waits_for_the_running_one_and_goes_before_the_next() -> None:
    store, lanes = Store(), Lanes()
    for _ in range(3):
        store.add("a")
    store.unclaimable.add(1)
    store.feed(lanes)
    assert starts(lanes) == ["m2"]
    store.unclaimable.clear()
    lanes.offer(store.page(0, lanes.page), 0, True)
    assert starts(lanes) == []
    lanes.wait("m2", due=9.0)
    assert starts(lanes) == ["m1"]
    lanes.done("m1")
    assert starts(lanes, 8.0) == []
    assert starts(lanes, 9.0) == ["m2"]


def test_what_waited_in_an_earlier_run_keeps_its_place_after_a_restart() -> None:
    store, lanes = Store(), Lanes()
    first = store.add("a")
    store.add("a")
    store.unclaimable.add(1)  # not due: not claimable
    lanes.restore(first, due=7.0)
    store.feed(lanes)
    assert starts(lanes, 6.0) == []
    store.unclaimable.clear()
    assert starts(lanes, 7.0) == ["m1"]
    lanes.done("m1")
    assert starts(lanes, 7.0) == ["m2"]


def test_what_was_settled_while_its_page_was_read_is_not_sent_again() -> None:
    store, lanes = filled(["a"])
    page = store.page(0, 10)
    assert starts(lanes) == ["m1"]
    lanes.done("m1")
    assert lanes.offer(page, 0, True, ignore={"m1"}) == 0
    assert starts(lanes) == []


def test_a_probe_prefers_a_fresh_message_to_one_that_failed() -> None:
    _, lanes = filled(["a"], ["b"], ["c"])
    first = lanes.start(0.0)
    assert first is not None
    lanes.wait(first.id, due=1.0)
    probe = lanes.start(1.0, probe=True)
    assert probe is not None and probe.id == "m2"


def test_repeated_and_fresh_messages_take_turns() -> None:
    _, lanes = filled(*[[f"p{number}"] for number in range(8)])
    for _ in range(4):
        item = lanes.start(0.0)
        assert item is not None
        lanes.wait(item.id, due=1.0)
    turns = [int(id[1:]) > 4 for id in starts(lanes, 1.0)]
    assert turns[:4] in ([True, False, True, False], [False, True, False, True])


def test_a_blocked_hot_lane_of_thousands_does_not_stop_the_others_and_memory_stays_bounded() -> None:
    store = Store()
    lanes = Lanes(room=200, lane_room=20, enough=4, page=50)
    for _ in range(3_000):
        store.add("hot")
    others = [store.add(f"p{number}").id for number in range(10)]
    store.feed(lanes)
    first = lanes.start(0.0)
    assert first is not None and first.id == "m1"
    lanes.wait("m1", due=1e9)
    seen: list[str] = []
    for _ in range(5):
        store.feed(lanes)
        for id in starts(lanes, 1.0):
            seen.append(id)
            lanes.done(id)
            del store.items[int(id[1:])]
    assert seen == others
    assert len(lanes) <= 20 + 50


def test_a_hot_lane_of_thousands_is_worked_off_in_order_without_reading_it_over_and_over() -> None:
    store = Store()
    lanes = Lanes(room=200, lane_room=20, enough=4, page=50)
    for number in range(2_000):
        store.add("hot")
        if number % 100 == 0:
            store.add(f"p{number}")
    order = []
    while store.items:
        store.feed(lanes)
        for id in starts(lanes):
            order.append(id)
            lanes.done(id)
            del store.items[int(id[1:])]
        assert len(lanes) <= 200 + 50
    assert len(order) == 2_020
    hot = [int(id[1:]) for id in order]
    assert sorted(hot) == list(range(1, 2_021))
    assert store.read < 2_020 * 12


@st.composite
def scripts(draw: st.DrawFn) -> tuple[list[list[str]], list[int], dict[str, int]]:
    lane = st.sampled_from(["a", "b", "c", "d"])
    messages = draw(st.lists(st.lists(lane, max_size=3), min_size=1, max_size=40))
    choices = draw(st.lists(st.integers(0, 1_000), min_size=1, max_size=60))
    sizes = draw(
        st.fixed_dictionaries(
            {
                "room": st.integers(1, 12),
                "lane_room": st.integers(1, 4),
                "enough": st.integers(1, 4),
                "page": st.integers(1, 6),
                "marks": st.integers(1, 6),
            }
        )
    )
    return messages, choices, sizes


@settings(max_examples=400, deadline=None)
@given(scripts())
def test_whatever_happens_a_lane_keeps_its_order_runs_one_at_a_time_and_everything_gets_its_turn(
    script: tuple[list[list[str]], list[int], dict[str, int]],
) -> None:
    messages, choices, sizes = script
    store, lanes = Store(), Lanes(**sizes)
    for message in messages:
        store.add(*message)
    running: dict[str, Item] = {}
    delivered: list[Item] = []
    fed, now, failures = 0, 0.0, 0
    for step in range(2_000):
        if len(delivered) == len(messages):
            break
        store.feed(lanes)
        item = lanes.start(now)
        if item is not None:
            busy = {lane for other in running.values() for lane in other.lanes}
            assert not busy & set(item.lanes), "two messages of one lane are running"
            earlier = {lane for seq in store.items if seq < item.seq for lane in store.items[seq].lanes}
            assert not earlier & set(item.lanes), "a message overtook an undelivered one of its lane"
            running[item.id] = item
            fed += 1
        choice = choices[step % len(choices)]
        if running and (item is None or choice % 2):
            chosen = sorted(running.values(), key=lambda item: item.seq)[choice % len(running)]
            del running[chosen.id]
            if choice % 5 == 0 and failures < 100:
                failures += 1
                lanes.wait(chosen.id, now + choice % 7)
            elif choice % 5 == 1 and failures < 100:
                failures += 1
                lanes.put_back(chosen.id)
            else:
                lanes.done(chosen.id)
                delivered.append(chosen)
                del store.items[chosen.seq]
        now += 1.0
    assert len(delivered) == len(messages), "a message starved"
    assert lanes.running == 0 and len(lanes) == 0
