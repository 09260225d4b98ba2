"""The worker: order, retries, outages, dead letters, replays, restarts and the end."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_fakes import (
    BROKEN,
    CONFLICT,
    INVALID,
    OK,
    REFUSED,
    START,
    WRONG_PASSWORD,
    Bench,
    Bundle,
    ScriptedEndpoint,
)

from hl7bridge import reasons
from hl7bridge.delivery.answer import Issue
from hl7bridge.delivery.endpoint import Shipment
from hl7bridge.delivery.outcome import Blame, Dead, Misconfigured, Outcome, RetryAt
from hl7bridge.errors import JournalError, TranslationError
from hl7bridge.journal.protocol import Change, Entry, State
from hl7bridge.worker.seams import Translator
from hl7bridge.worker.worker import AHEAD, AHEAD_BYTES

MakeBench = Callable[..., Bench]
SENTINEL = "ZZSENTINELZZ"


async def test_what_the_journal_holds_is_delivered_in_order_for_each_patient(bench: Bench) -> None:
    for number in range(60):
        bench.journal.add(f"patient{number % 5}")
    await bench.work()
    assert len(bench.endpoint.delivered) == len(bench.endpoint.sent) == 60
    for patient in range(5):
        own = [int(id[1:]) for id in bench.endpoint.delivered if (int(id[1:]) - 1) % 5 == patient]
        assert own == sorted(own)
    assert 1 < bench.endpoint.most <= 4
    assert {change.mapping_version for change in bench.journal.changes} == {"v1"}


async def test_a_merge_is_delivered_after_what_came_before_and_before_what_came_after_for_both_patients(
    bench: Bench,
) -> None:
    ids = [bench.journal.add(*lanes) for lanes in (["a"], ["b"], ["a", "b"], ["a"], ["b"])]
    bench.endpoint.script = {ids[0]: [BROKEN, BROKEN]}
    await bench.work()
    place = bench.endpoint.delivered.index
    assert max(place(ids[0]), place(ids[1])) < place(ids[2]) < min(place(ids[3]), place(ids[4]))


async def test_a_message_appended_while_the_worker_rests_is_delivered_when_it_is_woken(bench: Bench) -> None:
    async with bench:
        await bench.until(lambda: bench.journal.claims > 0)
        id = bench.journal.add("a")
        bench.worker.wake()
        await bench.settled(id)


async def test_what_commits_hand_over_is_delivered_though_every_place_is_taken_and_nothing_else_stirs(
    bench: Bench,
) -> None:
    async with bench:
        await bench.until(lambda: bench.journal.claims > 0)
        ids = [bench.journal.add(f"patient{number % 20}") for number in range(60)]
        for id in ids:
            entry = bench.journal.entries[id]
            bench.worker.came(entry.seq, len(entry.raw), lambda entry=entry: entry)  # type: ignore[misc]
            await asyncio.sleep(0)
        await bench.settled(*ids)
    assert sorted(bench.endpoint.delivered) == sorted(ids)


async def test_500s_and_then_200_is_delivered_once_and_the_lane_waits_for_it(bench: Bench) -> None:
    first, second, other = bench.journal.add("a"), bench.journal.add("a"), bench.journal.add("b")
    bench.endpoint.script = {first: [BROKEN, BROKEN, BROKEN]}
    await bench.work()
    assert bench.endpoint.sent.count(first) == 4
    assert bench.endpoint.delivered == [other, first, second]
    waiting = [change for change in bench.journal.changes if change.id == first][:3]
    assert all(change.state is State.WAITING and change.detail.startswith("HTTP 500") for change in waiting)


async def test_a_conflict_is_tried_again_within_half_a_second(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.script = {id: [CONFLICT, CONFLICT]}
    await bench.work()
    pauses = [told[-1] for told in bench.observer.named("retried")]
    assert len(pauses) == 2 and all(isinstance(pause, float) and 0.05 <= pause <= 0.5 for pause in pauses)
    assert not bench.observer.named("circuit")


async def test_a_weekend_without_an_endpoint_loses_nothing_and_does_not_run_hot(make_bench: MakeBench) -> None:
    bench = make_bench(give_up_after=600.0, circuit_probe=10.0)
    for number in range(30):
        bench.journal.add(f"p{number % 7}")
    bench.endpoint.otherwise = REFUSED
    async with bench:
        await bench.until(lambda: bench.clock.now > 3 * 86_400 / 100)
        assert bench.worker.circuit.state.value != "closed"
        outage = bench.clock.now
        assert len(bench.endpoint.sent) < 5 + 4 + outage / 10.0 + 1
        bench.endpoint.otherwise = OK
        await bench.settled()
    assert all(bench.journal.state(id) is State.DELIVERED for id in bench.journal.entries)
    assert all(change.attempts == 0 for change in bench.journal.changes)


@pytest.mark.parametrize("answer", [BROKEN, CONFLICT], ids=["500", "409"])
async def test_an_outage_of_500s_or_409s_longer_than_the_schedule_makes_no_dead_letter(
    make_bench: MakeBench, answer: Outcome
) -> None:
    bench = make_bench(give_up_after=30.0, cap=10.0)
    for number in range(6):
        bench.journal.add(f"p{number}")
    bench.endpoint.otherwise = answer
    async with bench:
        await bench.until(lambda: bench.clock.now > 3_000)
        bench.endpoint.otherwise = OK
        await bench.settled()
    assert {entry.state for entry in bench.journal.entries.values()} == {State.DELIVERED}


async def test_a_wrong_password_lets_everything_wait_and_once_mended_everything_is_delivered(bench: Bench) -> None:
    for number in range(20):
        bench.journal.add(f"p{number}")
    bench.endpoint.otherwise = WRONG_PASSWORD
    async with bench:
        await bench.until(lambda: bench.clock.now > 3_600)
        assert len(bench.endpoint.sent) < 4 + 3_600 / 60 + 10
        assert bench.worker.circuit.why == "HTTP 401"
        bench.endpoint.otherwise = OK
        await bench.settled()
    assert {entry.state for entry in bench.journal.entries.values()} == {State.DELIVERED}
    assert list(bench.letters.scan()) == []


async def test_a_redirect_opens_the_circuit_and_makes_no_dead_letter(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.script = {id: [Misconfigured("HTTP 301", 301)]}
    await bench.work()
    assert bench.journal.state(id) is State.DELIVERED
    assert bench.observer.named("circuit")[0] == ("open", "HTTP 301")


async def test_a_bundle_that_always_fails_while_others_pass_is_given_up_and_frees_its_lane(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(give_up_after=20.0, cap=10.0)
    poison, behind = bench.journal.add("a"), bench.journal.add("a")
    issue = Issue("error", "exception", SENTINEL)
    answer = RetryAt(None, "HTTP 500", Blame.EITHER, issues=(issue,), status=500)
    bench.endpoint.script = {poison: [answer] * 1_000}
    async with bench:
        while bench.journal.state(poison) is not State.DEAD:
            bench.journal.add("b")
            bench.worker.wake()
            await asyncio.sleep(0.002)
        await bench.settled(behind)
    entry = bench.journal.entries[poison]
    assert entry.reason == reasons.RETRIES_EXHAUSTED.code
    assert entry.attempts > 3
    assert SENTINEL not in entry.detail
    found = bench.letters.find(poison)
    assert found is not None and found.content is not None
    assert found.content["operation_outcome"][0]["diagnostics"] == SENTINEL


async def test_a_message_that_always_fails_does_not_keep_the_circuit_open_alone(bench: Bench) -> None:
    poison = bench.journal.add("a")
    bench.endpoint.script = {poison: [BROKEN] * 100_000}
    async with bench:
        await bench.until(lambda: bench.worker.circuit.state.value == "open")
        others = [bench.journal.add(f"p{number}") for number in range(5)]
        bench.worker.wake()
        await bench.settled(*others)
    assert bench.journal.state(poison) is State.WAITING


async def test_a_page_not_found_is_dead_once_others_pass_and_never_before(bench: Bench) -> None:
    lost = bench.journal.add("a")
    dead = Dead(reasons.ENDPOINT_NOT_FOUND, "HTTP 404, not from a FHIR server", status=404)
    bench.endpoint.script = {lost: [RetryAt(None, dead.detail, Blame.EITHER, instead=dead, status=404)] * 10_000}
    async with bench:
        await bench.until(lambda: len(bench.endpoint.sent) > 20)
        assert bench.journal.state(lost) is State.WAITING
        while bench.journal.state(lost) is not State.DEAD:
            bench.journal.add("b")
            bench.worker.wake()
            await asyncio.sleep(0.002)
    assert bench.journal.entries[lost].reason == reasons.ENDPOINT_NOT_FOUND.code


async def test_an_unresolved_reference_is_tried_a_few_times_and_then_dead(bench: Bench) -> None:
    id = bench.journal.add("a")
    dead = Dead(reasons.ENDPOINT_NOT_FOUND, "HTTP 404", status=404)
    bench.endpoint.otherwise = RetryAt(None, "HTTP 404", Blame.MESSAGE, quick=True, instead=dead, status=404)
    await bench.work()
    assert bench.endpoint.sent.count(id) == 4
    assert bench.journal.entries[id].reason == reasons.ENDPOINT_NOT_FOUND.code


def poisoned(entry: Entry) -> Bundle:
    if entry.seq == 1:
        raise TranslationError(reasons.NOT_TRANSLATABLE, "segments/PID.yaml: PID-5 leads nowhere")
    return Bundle()


async def test_a_message_the_tables_cannot_translate_is_a_dead_letter_and_frees_its_lane(bench: Bench) -> None:
    bad, behind, other = bench.journal.add("a"), bench.journal.add("a"), bench.journal.add("b")
    bench.translate = poisoned
    await bench.work()
    assert bench.endpoint.sent.count(bad) == 0
    assert {bench.journal.state(behind), bench.journal.state(other)} == {State.DELIVERED}
    found = bench.letters.find(bad)
    assert found is not None and found.content is not None and found.damaged is None
    assert found.path.relative_to(bench.letters.root).as_posix() == "not-translatable/2023-11-14/m1"
    assert {path.name for path in found.files} == {"message.hl7", "reason.json"}
    assert found.content["detail"] == "segments/PID.yaml: PID-5 leads nowhere"
    assert found.content["whose_turn"] == "analyst"
    assert found.content["control_id"] == "C1"


async def test_with_hold_a_dead_letter_keeps_its_lane_closed_also_after_a_restart_until_it_is_replayed(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(lane="hold")
    bad, behind, other = bench.journal.add("a"), bench.journal.add("a"), bench.journal.add("b")
    bench.translate = poisoned
    await bench.work(bad, other)
    assert bench.journal.state(behind) is State.RECEIVED
    bench.renewed()
    async with bench:
        await bench.until(lambda: bench.clock.now > 60)
        assert bench.journal.state(behind) is State.RECEIVED
        bench.translate = lambda entry: Bundle()
        await bench.journal.replay(bad)
        await bench.settled(behind)
    assert bench.endpoint.delivered == [other, bad, behind]


async def test_with_hold_a_purged_dead_letter_frees_its_lane(make_bench: MakeBench) -> None:
    bench = make_bench(lane="hold")
    bad, behind = bench.journal.add("a"), bench.journal.add("a")
    bench.translate = poisoned
    async with bench:
        await bench.until(lambda: bench.journal.state(bad) is State.DEAD)
        del bench.journal.entries[bad]
        await bench.settled(behind)


async def test_an_unexpected_exception_is_that_message_s_dead_letter_and_quotes_nothing(bench: Bench) -> None:
    bad, good = bench.journal.add("a"), bench.journal.add("a")

    def translate(entry: Entry) -> Bundle:
        if entry.id == bad:
            raise KeyError(SENTINEL)
        return Bundle()

    bench.translate = translate
    await bench.work()
    entry = bench.journal.entries[bad]
    assert entry.reason == reasons.INTERNAL_ERROR.code
    assert entry.detail.startswith("KeyError at test_worker.py:")
    assert bench.journal.state(good) is State.DELIVERED
    assert SENTINEL not in repr(bench.observer.told) + entry.detail


async def test_an_endpoint_that_raises_is_not_the_message_s_fault(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.script = {id: [RuntimeError(SENTINEL), RuntimeError(SENTINEL)]}
    await bench.work()
    assert bench.journal.state(id) is State.DELIVERED
    assert SENTINEL not in repr(bench.observer.told)


async def test_an_observer_that_raises_stops_nothing(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.observer.told = None  # type: ignore[assignment]
    await bench.work()
    assert bench.journal.state(id) is State.DELIVERED


async def test_a_dead_letter_that_cannot_be_written_leaves_the_message_undelivered_until_it_can(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.otherwise = INVALID
    bench.letters.root.mkdir()
    reason = bench.letters.root / INVALID.reason.code
    reason.write_bytes(b"")  # a file where the folder should be
    async with bench:
        await bench.until(lambda: bench.endpoint.sent.count(id) > 2)
        assert bench.journal.state(id) is State.RECEIVED
        reason.unlink()
        await bench.settled(id)
    assert bench.journal.state(id) is State.DEAD
    assert bench.letters.find(id) is not None


async def test_a_journal_that_fails_for_a_while_loses_nothing_and_nothing_overtakes(bench: Bench) -> None:
    first, second = bench.journal.add("a"), bench.journal.add("a")
    bench.journal.broken = {"apply": 6, "claimable": 3}
    await bench.work()
    assert bench.endpoint.delivered == [first, second]
    assert bench.observer.named("trouble")


async def test_a_message_that_somebody_settled_while_it_was_in_flight_is_left_as_it_is(bench: Bench) -> None:
    gone, retried, behind = bench.journal.add("a"), bench.journal.add("b"), bench.journal.add("a")

    def taken_away(shipment: Shipment) -> Outcome:
        del bench.journal.entries[shipment.id]
        return OK if shipment.id == gone else BROKEN

    bench.endpoint.script = {gone: [taken_away], retried: [taken_away]}
    async with bench:
        await bench.settled(behind)
        await bench.until(lambda: bench.clock.now > 60 and bench.worker.in_flight == 0)
    assert bench.endpoint.sent.count(gone) == bench.endpoint.sent.count(retried) == 1


async def test_a_journal_that_cannot_be_read_at_the_start_ends_the_run_with_its_error(bench: Bench) -> None:
    bench.journal.broken = {"find": 1}
    with pytest.raises(JournalError):
        await bench.worker.run()
    assert await bench.worker.drain()


async def test_a_restart_keeps_the_order_behind_a_message_that_waits(bench: Bench) -> None:
    first = bench.journal.add("a", state=State.WAITING, next_attempt=START + 40.0, attempts=3)
    second, other = bench.journal.add("a"), bench.journal.add("b")
    await bench.work()
    assert bench.endpoint.delivered == [other, first, second]
    assert bench.clock.now >= 39.0
    assert bench.journal.entries[first].attempts == 3


async def test_a_clock_that_was_set_back_while_the_daemon_was_down_delays_nothing_for_ever(bench: Bench) -> None:
    id = bench.journal.add("a", state=State.WAITING, next_attempt=START + 10 * 365 * 86_400.0)
    await bench.work()
    assert bench.journal.state(id) is State.DELIVERED
    assert bench.clock.now < 2 * 3_600


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_a_clock_that_jumps_while_running_gives_nothing_up_and_stops_nothing(bench: Bench, jump: float) -> None:
    id = bench.journal.add("a")

    def jumped(_: Shipment) -> Outcome:
        bench.clock.jump += jump
        return BROKEN

    bench.endpoint.script = {id: [jumped, BROKEN]}
    await bench.work()
    assert bench.journal.state(id) is State.DELIVERED
    assert bench.clock.now < 100


async def test_a_crash_between_the_endpoint_s_200_and_the_journal_sends_again_before_anything_behind(
    bench: Bench,
) -> None:
    first, second = bench.journal.add("a"), bench.journal.add("a")
    bench.journal.broken = {"apply": 10**9}
    bench.config = bench.config.model_copy(update={"drain_timeout": 0.01})
    bench.renewed()
    async with bench:
        await bench.until(lambda: bench.endpoint.delivered == [first])
    bench.journal.broken = {}
    bench.renewed()
    await bench.work()
    assert bench.endpoint.delivered == [first, first, second]


async def test_a_dead_letter_is_replayed_with_mended_tables_delivered_and_its_directory_goes(bench: Bench) -> None:
    bad = bench.journal.add("a")
    bench.translate = poisoned
    async with bench:
        await bench.settled(bad)
        assert bench.letters.find(bad) is not None
        bench.translate = lambda entry: Bundle(mapping_version="v2")
        await bench.journal.replay(bad)
        await bench.journal.replay(bad)
        await bench.until(lambda: bench.journal.state(bad) is State.DELIVERED)
        await bench.until(lambda: bench.letters.find(bad) is None)
    assert bench.endpoint.sent == [bad]
    assert bench.journal.entries[bad].mapping_version == "v2"


async def test_a_replay_that_fails_again_replaces_the_directory_and_keeps_only_one(bench: Bench) -> None:
    bad = bench.journal.add("a")
    bench.translate = poisoned
    async with bench:
        await bench.settled(bad)
        bench.translate = lambda entry: Bundle()
        bench.endpoint.otherwise = INVALID
        await bench.journal.replay(bad)
        await bench.until(lambda: bench.journal.entries[bad].reason == "endpoint-rejected")
    found = list(bench.letters.scan())
    assert [(letter.id, letter.reason) for letter in found] == [(bad, "endpoint-rejected")]
    assert found[0].content is not None and found[0].content["replays"] == 1
    assert (found[0].path / "bundle.json").read_bytes() == Bundle().bundle


async def test_many_replays_behind_the_worker_s_back_in_a_long_backlog_are_all_found(bench: Bench) -> None:
    dead = [bench.journal.add(f"p{number}", state=State.DEAD, reason="not-translatable") for number in range(300)]
    for _ in range(300):
        bench.journal.add("hot")
    bench.endpoint.script = {"m301": [BROKEN] * 100_000}
    async with bench:
        await bench.until(lambda: "m301" in bench.endpoint.sent)
        for id in dead:
            await bench.journal.replay(id)
        await bench.settled(*dead)
    assert all(bench.journal.state(id) is State.DELIVERED for id in dead)


async def test_a_message_parked_on_arrival_gets_its_directory_told_or_not(bench: Bench) -> None:
    early = bench.journal.add("a", state=State.DEAD, reason="unsupported-event", detail="ADT^A99")
    async with bench:
        await bench.until(lambda: bench.letters.find(early) is not None)
        received = bench.clock.time()
        untold = bench.journal.add("a", state=State.DEAD, reason="unsupported-event", received_at=received)
        await bench.until(lambda: bench.letters.find(untold) is not None)
        told = bench.journal.add("a", state=State.DEAD, reason="unsupported-event", received_at=0.0)
        bench.worker.parked(told)
        await bench.until(lambda: bench.letters.find(told) is not None)
    assert bench.endpoint.sent == []


async def test_at_the_start_a_missing_directory_is_written_again_and_one_of_a_delivered_message_goes(
    bench: Bench,
) -> None:
    dead, delivered = bench.journal.add("a"), bench.journal.add("b")
    bench.endpoint.otherwise = INVALID
    await bench.work()
    bench.letters.remove(dead)
    await bench.journal.replay(delivered)
    bench.journal.entries[delivered] = bench.journal.entries[delivered]._replace(state=State.DELIVERED, replays=0)
    stranger = bench.letters.root / "endpoint-rejected" / "2020-01-01" / "stranger"
    stranger.mkdir(parents=True)
    bench.renewed()
    async with bench:
        await bench.until(lambda: bench.letters.find(dead) is not None and bench.letters.find(delivered) is None)
    assert stranger.is_dir()


async def test_delivered_tells_how_a_message_ended_or_that_it_takes_too_long(bench: Bench) -> None:
    good, bad, stuck = bench.journal.add("a"), bench.journal.add("b"), bench.journal.add("c")
    bench.endpoint.script = {bad: [INVALID], stuck: [BROKEN] * 1_000}
    async with bench:
        waiting = [asyncio.create_task(bench.worker.delivered(id, 5.0)) for id in (good, bad)]
        ends = await asyncio.gather(*waiting)
        assert [end and (end.state, end.reason) for end in ends] == [
            (State.DELIVERED, ""),
            (State.DEAD, "endpoint-rejected"),
        ]
        assert await bench.worker.delivered(good, 5.0) == ends[0]
        assert await bench.worker.delivered(stuck, 0.01) is None
        assert await bench.worker.delivered("unknown", 5.0) is None


async def test_drain_ends_what_is_in_flight_and_starts_nothing_more(bench: Bench) -> None:
    for number in range(10):
        bench.journal.add(f"p{number}")
    bench.endpoint.gate = asyncio.Event()
    async with bench:
        await bench.until(lambda: len(bench.endpoint.running) == 4)
        draining = asyncio.create_task(bench.worker.drain())
        await asyncio.sleep(0.005)
        assert not draining.done()
        bench.endpoint.gate.set()
        assert await draining
    states = [bench.journal.state(id) for id in bench.journal.entries]
    assert states.count(State.DELIVERED) == len(bench.endpoint.sent) == 4
    assert states.count(State.RECEIVED) == 6


async def test_further_messages_are_translated_while_others_are_sent(bench: Bench) -> None:
    for number in range(AHEAD + 40):
        bench.journal.add(f"p{number}")
    bench.endpoint.gate = asyncio.Event()
    async with bench:
        await bench.until(lambda: len(bench.observer.named("translated")) == 4 + AHEAD)
        await asyncio.sleep(0.01)
        assert len(bench.observer.named("translated")) == 4 + AHEAD
        assert len(bench.endpoint.running) == 4
        bench.endpoint.gate.set()
        await bench.settled()
    assert bench.endpoint.most == 4
    assert len(bench.endpoint.delivered) == AHEAD + 40


async def test_large_messages_are_not_translated_ahead(bench: Bench) -> None:
    for number in range(20):
        bench.journal.add(f"p{number}", raw=b"MSH|^~\\&|" + b"x" * AHEAD_BYTES)
    bench.endpoint.gate = asyncio.Event()
    async with bench:
        await bench.until(lambda: len(bench.observer.named("translated")) == 4)
        await asyncio.sleep(0.01)
        assert bench.worker.in_flight == 4
        bench.endpoint.gate.set()
        await bench.settled()


async def test_what_waited_when_the_circuit_opened_goes_back_uncounted_and_is_delivered_later(bench: Bench) -> None:
    ids = [bench.journal.add(f"p{number}") for number in range(20)]
    bench.endpoint.gate = asyncio.Event()
    bench.endpoint.script = {id: [WRONG_PASSWORD] for id in ids[:4]}
    async with bench:
        await bench.until(lambda: len(bench.observer.named("translated")) == 20)
        bench.endpoint.gate.set()
        await bench.until(lambda: bench.worker.circuit.state.value == "open")
        await bench.settled()
    assert bench.endpoint.sent[:4] == ids[:4]
    assert len(bench.endpoint.sent) == 24  # only the first four were ever refused
    assert all(entry.attempts == 0 for entry in bench.journal.entries.values())


async def test_what_waits_for_its_turn_is_translated_again_when_other_tables_are_in_service(bench: Bench) -> None:
    class Versioned(Translator):
        version = "old"

        @property
        def tables(self) -> object:
            return self.version

        async def translate(self, entry: Entry) -> Bundle:
            return Bundle(mapping_version=self.version)

    bench.renewed(Versioned())
    ids = [bench.journal.add(f"p{number}") for number in range(10)]
    bench.endpoint.gate = asyncio.Event()
    async with bench:
        await bench.until(lambda: len(bench.observer.named("translated")) == 10)
        Versioned.version = "new"
        bench.endpoint.gate.set()
        await bench.settled()
    versions = [bench.journal.entries[id].mapping_version for id in ids]
    assert (versions.count("old"), versions.count("new")) == (4, 6)


async def test_drain_gives_up_on_an_endpoint_that_hangs_and_leaves_its_messages_undelivered(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.gate = asyncio.Event()
    async with bench:
        await bench.until(lambda: bench.endpoint.running == {id})
        assert not await bench.worker.drain(0.01)
    assert bench.journal.state(id) is State.RECEIVED
    assert not list(bench.letters.scan())


async def test_a_worker_whose_task_is_cancelled_ends_and_a_drain_before_the_start_returns(bench: Bench) -> None:
    assert await bench.worker.drain()
    bench.renewed()
    bench.journal.add("a")
    bench.endpoint.gate = asyncio.Event()
    task = asyncio.create_task(bench.worker.run())
    await bench.until(lambda: bool(bench.endpoint.running))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bench.endpoint.running


async def test_an_idle_worker_looks_into_the_journal_once_a_second(bench: Bench) -> None:
    async with bench:
        await bench.until(lambda: bench.clock.now > 100)
        assert bench.journal.claims <= bench.clock.now + 3


async def test_with_the_circuit_open_and_a_backlog_the_worker_does_not_run_hot(bench: Bench) -> None:
    for number in range(500):
        bench.journal.add(f"p{number % 50}")
    bench.endpoint.otherwise = REFUSED
    async with bench:
        await bench.until(lambda: bench.clock.now > 200)
        assert bench.journal.claims <= 2 * bench.clock.now + 20
        assert bench.clock.naps < 20


async def test_what_was_translated_when_the_circuit_opened_is_put_back_unsent(make_bench: MakeBench) -> None:
    bench = make_bench(circuit_probe=1e9)
    for number in range(4):
        bench.journal.add(f"p{number}")
    slow = threading.Event()

    def translate(entry: Entry) -> Bundle:
        if entry.seq != 1:
            assert slow.wait(5.0)
        return Bundle()

    bench.translate = translate
    bench.endpoint.script = {"m1": [WRONG_PASSWORD]}
    async with bench:
        await bench.until(lambda: bench.worker.circuit.state.value == "open")
        slow.set()
        await bench.until(lambda: len(bench.observer.named("translated")) == 4 and bench.worker.in_flight == 0)
    assert bench.endpoint.sent == ["m1"]
    assert [bench.journal.state(id) for id in ("m2", "m3", "m4")] == [State.RECEIVED] * 3


async def test_a_failing_message_between_passing_ones_does_not_open_the_circuit(bench: Bench) -> None:
    poison = bench.journal.add("a")
    for number in range(200):
        bench.journal.add(f"p{number % 3}")
    bench.endpoint.script = {poison: [BROKEN] * 3}
    await bench.work()
    assert not bench.observer.named("circuit")


async def test_the_files_of_a_dead_letter_are_private(bench: Bench) -> None:
    id = bench.journal.add("a")
    bench.endpoint.otherwise = INVALID
    await bench.work()
    found = bench.letters.find(id)
    assert found is not None
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.files} == {0o600}
    folders: list[Path] = [found.path, found.path.parent, found.path.parent.parent]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert json.loads((found.path / "reason.json").read_bytes())["endpoint_status"] == 422


async def test_nobody_hears_what_the_server_said_of_the_patient(bench: Bench) -> None:
    issue = Issue("error", "invalid", SENTINEL, SENTINEL)
    bench.journal.add("a")
    bench.endpoint.otherwise = Dead(reasons.ENDPOINT_REJECTED, "HTTP 422 (invalid)", (issue,), 422)
    await bench.work()
    assert SENTINEL not in repr(bench.observer.told) + repr(bench.journal.changes)
    assert isinstance(bench.endpoint, ScriptedEndpoint)


@pytest.mark.parametrize("fate", [State.DELIVERED, None])
async def test_a_message_that_is_settled_while_it_becomes_a_dead_letter_leaves_no_directory(
    bench: Bench, fate: State | None
) -> None:
    """A part of a continued message times out in the moment in which it is joined; or somebody purges it."""
    id = bench.journal.add("a")
    bench.endpoint.script = {id: [Dead(reasons.ENDPOINT_REJECTED, "HTTP 422", (), 422)]}
    apply = bench.journal.apply

    async def overtaken(change: Change) -> None:
        if change.state is State.DEAD:
            assert bench.letters.find(id) is not None, "the directory comes first"
            if fate is None:
                bench.journal.entries.pop(id)
            else:
                bench.journal.entries[id] = bench.journal.entries[id]._replace(state=fate)
        await apply(change)

    bench.journal.apply = overtaken  # type: ignore[method-assign]
    async with bench:
        await bench.until(lambda: bool(bench.observer.named("trouble")))
        await bench.until(lambda: bench.letters.find(id) is None)
    assert not bench.observer.named("dead")
