"""Merges, links and swaps as senders send them: both patients wait for them, under many workers and across restarts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from worker_fakes import BROKEN, CONFLICT, INVALID, Bench

from hl7bridge.admission import lanes_of
from hl7bridge.hl7v2.message import parse
from hl7bridge.journal.protocol import State

MakeBench = Callable[..., Bench]

ONE, TWO, OTHER = "PID|1||1^^^LAKESIDE^MR~77^^^MPI^PI", "PID|1||2^^^LAKESIDE^MR", "PID|1||3^^^LAKESIDE^MR"
INTO_TWO = (TWO, "MRG|1^^^LAKESIDE^MR")  # the patient of MRG is merged into the patient of PID
BOTH = (TWO, "PV1|1|I", "PID|2||1^^^LAKESIDE^MR")
TOUCHING_BOTH = {
    **dict.fromkeys(("A18", "A30", "A34", "A35", "A36", "A39", "A40", "A41", "A43", "A44", "A45"), INTO_TWO),
    **dict.fromkeys(("A46", "A47", "A48", "A49", "A50", "A51"), INTO_TWO),
    **dict.fromkeys(("A17", "A24", "A37"), BOTH),
}


def lanes(event: str, *segments: str) -> tuple[str, ...]:
    return lanes_of(parse("\r".join((f"MSH|^~\\&|A|B|C|D|1||ADT^{event}|1|P|2.5", *segments)).encode()))


def story(bench: Bench, event: str) -> dict[str, str]:
    """What comes before, the event itself, what comes after, and a patient it does not concern."""
    add = bench.journal.add
    return {
        "before one": add(*lanes("A08", ONE)),
        "before two": add(*lanes("A08", TWO)),
        "event": add(*lanes(event, *TOUCHING_BOTH[event])),
        "after one": add(*lanes("A08", ONE)),
        "after two": add(*lanes("A08", TWO)),
        "other": add(*lanes("A08", OTHER)),
        "after one, by another number": add(*lanes("A08", "PID|1||77^^^MPI^PI")),
    }


def assert_in_order(order: list[str], ids: dict[str, str]) -> None:
    place = {name: order.index(id) for name, id in ids.items()}
    assert max(place["before one"], place["before two"]) < place["event"]
    assert place["event"] < min(place["after one"], place["after two"])
    assert place["after one"] < place["after one, by another number"]


@pytest.mark.parametrize("event", TOUCHING_BOTH)
@pytest.mark.parametrize("slow", ["before one", "before two", "event"])
async def test_an_event_of_two_patients_waits_for_both_and_both_wait_for_it(
    make_bench: MakeBench, event: str, slow: str
) -> None:
    bench = make_bench(concurrency=16)
    ids = story(bench, event)
    bench.endpoint.script = {ids[slow]: [BROKEN, CONFLICT, BROKEN]}
    await bench.work()
    assert_in_order(bench.endpoint.delivered, ids)
    assert bench.endpoint.delivered.index(ids["other"]) < bench.endpoint.delivered.index(ids[slow])


@pytest.mark.parametrize("event", ["A40", "A18", "A24", "A37"])
async def test_the_order_holds_when_the_daemon_is_restarted_while_the_event_waits(
    make_bench: MakeBench, event: str
) -> None:
    bench = make_bench(concurrency=16, first=100.0)
    ids = story(bench, event)
    bench.endpoint.script = {ids["event"]: [BROKEN, BROKEN]}
    for _ in range(2):
        async with bench:
            await bench.until(lambda: bench.journal.state(ids["event"]) is State.WAITING)
        bench.renewed()
    await bench.work()
    assert_in_order(bench.endpoint.delivered, ids)
    assert len(bench.endpoint.delivered) == len(ids)  # nothing twice


@pytest.mark.parametrize(("lane", "expected"), [("free", State.DELIVERED), ("hold", State.RECEIVED)])
async def test_a_merge_that_becomes_a_dead_letter_frees_both_lanes_or_holds_both(
    make_bench: MakeBench, lane: str, expected: State
) -> None:
    bench = make_bench(lane=lane, concurrency=16)
    ids = story(bench, "A40")
    bench.endpoint.script = {ids["event"]: [INVALID]}
    async with bench:
        await bench.settled(ids["before one"], ids["before two"], ids["event"], ids["other"])
        if lane == "free":
            await bench.settled()
        await bench.until(lambda: bench.clock.now > 30)
        states = [bench.journal.state(ids[name]) for name in ids if name.startswith("after")]
        assert states == [expected] * 3
        assert bench.journal.state(ids["other"]) is State.DELIVERED
        if lane == "hold":
            await bench.journal.replay(ids["event"])
            await bench.settled()
            assert_in_order(bench.endpoint.delivered, ids)


async def test_a_hundred_patients_under_sixteen_workers_with_failures_and_restarts_stay_in_order(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(concurrency=16, circuit_after=1_000)
    of: dict[str, list[str]] = {}
    for number in range(600):
        patient = f"PID|1||{number * 7919 % 100}^^^LAKESIDE^MR"
        id = bench.journal.add(*lanes("A08", patient))
        of.setdefault(patient, []).append(id)
        if number % 11 == 0:
            bench.endpoint.script[id] = [BROKEN] * (number % 3 + 1)
    for least in (100, 300, 600):
        async with bench:
            await bench.until(lambda least=least: len(bench.endpoint.delivered) >= least, 30.0)  # type: ignore[misc]
        if least < 600:
            bench.renewed()
    place = {id: index for index, id in enumerate(bench.endpoint.delivered)}
    assert len(place) == len(bench.endpoint.delivered) == 600
    for own in of.values():
        assert [place[id] for id in own] == sorted(place[id] for id in own)
    assert bench.endpoint.most > 4


async def test_a_clock_set_forward_by_years_over_a_restart_makes_no_storm(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=4, circuit_after=5, circuit_probe=10.0)
    for number in range(200):
        bench.journal.add(f"p{number}", state=State.WAITING, next_attempt=bench.clock.time() + 100.0, attempts=1)
    bench.clock.jump = 10 * 365 * 86_400.0
    bench.endpoint.otherwise = BROKEN
    async with bench:
        await bench.until(lambda: bench.clock.now > 1_000)
        assert len(bench.endpoint.sent) <= 5 + 4 + 1_000 / 10 + 1


async def test_an_open_circuit_is_probed_by_one_message_at_a_time(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=16, circuit_after=3, circuit_probe=10.0)
    for number in range(100):
        bench.journal.add(f"p{number}")
    bench.endpoint.otherwise = BROKEN
    async with bench:
        await bench.until(lambda: bench.worker.circuit.state.value == "open" and bench.worker.in_flight == 0)
        before, bench.endpoint.most = len(bench.endpoint.sent), 0
        await bench.until(lambda: bench.clock.now > 200)
        probes = len(bench.endpoint.sent) - before
    assert bench.endpoint.most == 1
    assert 10 <= probes <= 21
