"""Pauses, what counts against a message, and the circuit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hl7bridge.delivery.outcome import Blame
from hl7bridge.delivery.retry import (
    FLOOR,
    PATIENCE,
    QUICK_TO,
    QUICK_TRIES,
    Circuit,
    CircuitState,
    Permit,
    Schedule,
    Tries,
)


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    schedule = Schedule(first=1.0, cap=10.0)
    assert [schedule.ceiling(tries) for tries in (0, 1, 2, 3, 4, 5, 10_000)] == [1, 1, 2, 4, 8, 10, 10]


@given(st.integers(0, 5_000), st.floats(0, 1, exclude_max=True), st.booleans(), st.none() | st.floats(0, 3_600))
def test_a_pause_is_never_nothing_never_past_the_cap_and_never_undercuts_the_server(
    tries: int, chance: float, quick: bool, after: float | None
) -> None:
    pause = Schedule(first=1.0, cap=300.0).pause(tries, chance, after, quick)
    assert pause >= FLOOR
    assert pause <= max(300.0, after or 0.0)
    assert after is None or pause >= after
    if quick and tries <= QUICK_TRIES and after is None:
        assert pause <= QUICK_TO


def test_the_default_schedule_lasts_as_long_as_it_says() -> None:
    schedule = Schedule()
    attempts = next(attempts for attempts in range(10_000) if schedule.exhausted(attempts))
    assert 1_700 < attempts < 1_760
    assert schedule.lasts(attempts) >= schedule.give_up_after > schedule.lasts(attempts - 1)


def test_attempts_count_only_while_others_pass() -> None:
    tries = Tries(0, seen=7)
    assert [tries.failed(Blame.EITHER, 7) for _ in range(100)] == [False] * 100
    assert tries.attempts == 0
    assert tries.failed(Blame.EITHER, 8)
    assert not tries.failed(Blame.EITHER, 8)
    assert tries.attempts == 1


def test_failures_that_are_the_endpoints_or_the_operators_never_count() -> None:
    tries = Tries(0, seen=0)
    for passed in range(1, 100):
        assert not tries.failed(Blame.ENDPOINT, passed)
        assert not tries.failed(None, passed)
    assert tries.attempts == 0


def test_a_weekend_of_any_failures_gives_nothing_up_even_when_the_first_others_pass_on_monday() -> None:
    schedule = Schedule(give_up_after=60.0)
    tries = Tries(0, seen=0)
    for blame in [Blame.MESSAGE, Blame.EITHER, Blame.ENDPOINT, None] * 10_000:
        assert not tries.failed(blame, 0)
    assert tries.failed(Blame.EITHER, 1)
    assert not schedule.exhausted(tries.attempts)


def test_an_unresolved_reference_loses_patience_by_itself_and_a_page_not_found_only_when_others_pass() -> None:
    tries = Tries(0, seen=0)
    for _ in range(PATIENCE):
        assert not tries.lost_patience(Blame.MESSAGE, False)
        counted = tries.failed(Blame.MESSAGE, 0)
    assert tries.lost_patience(Blame.MESSAGE, counted)
    assert not tries.lost_patience(Blame.EITHER, counted)
    for passed in range(1, PATIENCE + 1):
        counted = tries.failed(Blame.EITHER, passed)
    assert tries.lost_patience(Blame.EITHER, counted)


def permit(circuit: Circuit, now: float) -> Permit:
    given = circuit.permit(now)
    assert given is not None
    return given


def test_the_circuit_opens_after_failures_in_a_row_and_lets_one_probe_through_at_a_time() -> None:
    changes: list[tuple[str, str]] = []
    circuit = Circuit(3, 10.0, 300.0, lambda state, why: changes.append((state.value, why)))
    for now in (0.0, 1.0):
        circuit.failed(permit(circuit, now), now, "HTTP 500")
    circuit.passed(permit(circuit, 2.0))
    for now in (3.0, 4.0, 5.0):
        assert circuit.state is CircuitState.CLOSED
        circuit.failed(permit(circuit, now), now, "HTTP 500")
    assert circuit.permit(5.0) is None and circuit.permit(14.9) is None
    probe = permit(circuit, 15.0)
    assert probe.probe
    assert circuit.permit(1_000.0) is None
    circuit.failed(probe, 16.0, "HTTP 502")
    assert circuit.permit(25.9) is None
    circuit.passed(permit(circuit, 26.0))
    assert not permit(circuit, 26.0).probe
    assert changes == [
        ("open", "HTTP 500"),
        ("half-open", "HTTP 500"),
        ("open", "HTTP 502"),
        ("half-open", "HTTP 502"),
        ("closed", ""),
    ]


def test_a_wrong_password_opens_the_circuit_at_once_and_is_tried_ever_more_rarely() -> None:
    circuit = Circuit(5, 10.0, 60.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 401", at_once=True)
    now, pauses = 0.0, []
    for _ in range(5):
        pauses.append(circuit.probe_at(now) - now)
        now = circuit.probe_at(now)
        circuit.failed(permit(circuit, now), now, "HTTP 401", at_once=True)
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0]
    now = circuit.probe_at(now)
    circuit.passed(permit(circuit, now))
    circuit.failed(permit(circuit, now), now, "HTTP 401", at_once=True)
    assert circuit.probe_at(now) == now + 10.0


def test_a_server_that_asks_for_a_pause_gets_it_from_everyone() -> None:
    circuit = Circuit(5, 10.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 429", after=120.0)
    assert circuit.permit(119.9) is None
    assert permit(circuit, 120.0).probe


def test_what_was_sent_before_the_circuit_opened_says_nothing_bad_of_now_but_a_late_success_closes_it() -> None:
    circuit = Circuit(1, 10.0)
    early, late = permit(circuit, 0.0), permit(circuit, 0.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 500")
    circuit.failed(early, 9.0, "HTTP 500")
    assert circuit.probe_at(9.0) == 10.0
    circuit.passed(late)
    assert circuit.state is CircuitState.CLOSED


def test_a_failure_from_before_an_outage_does_not_open_the_circuit_after_it() -> None:
    circuit = Circuit(1, 10.0)
    early = permit(circuit, 0.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 500")
    circuit.passed(permit(circuit, 10.0))
    circuit.failed(early, 11.0, "no answer in time")
    assert circuit.state is CircuitState.CLOSED


def test_a_success_from_before_an_earlier_outage_does_not_close_the_circuit() -> None:
    circuit = Circuit(1, 10.0)
    ancient = permit(circuit, 0.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 500")
    circuit.failed(permit(circuit, 10.0), 10.0, "HTTP 500")
    circuit.passed(ancient)
    assert circuit.state is CircuitState.OPEN


def test_a_probe_that_was_not_sent_may_be_sent_again_at_once() -> None:
    circuit = Circuit(1, 10.0)
    circuit.failed(permit(circuit, 0.0), 0.0, "HTTP 500")
    probe = permit(circuit, 10.0)
    circuit.returned(probe)
    assert permit(circuit, 10.0).probe


def test_a_clock_set_back_by_an_hour_only_restarts_the_pause() -> None:
    circuit = Circuit(1, 10.0)
    circuit.failed(permit(circuit, 3_600.0), 3_600.0, "HTTP 500")
    assert circuit.permit(0.0) is None
    assert permit(circuit, 10.0).probe


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(["pass", "fail", "auth", "late", "give back"]), st.floats(0, 30)), max_size=60)
)
def test_whatever_happens_an_open_circuit_sends_at_most_one_probe_a_pause(script: list[tuple[str, float]]) -> None:
    circuit = Circuit(2, 10.0, 40.0)
    now, out, opened_at = 0.0, list[Permit](), 0.0
    for step, wait in script:
        now += wait
        before = circuit.state
        leave = circuit.permit(now)
        if before is CircuitState.OPEN and leave is not None:
            assert leave.probe
            assert now >= opened_at + 10.0
        if before is CircuitState.HALF_OPEN:
            assert leave is None
        if leave is not None:
            out.append(leave)
        if not out:
            continue
        done = out.pop(0 if step == "late" else -1)
        if step == "pass":
            circuit.passed(done)
        elif step == "give back":
            circuit.returned(done)
        else:
            was = circuit.probe_at(now) if circuit.state is CircuitState.OPEN else None
            circuit.failed(done, now, "x", at_once=step == "auth")
            if circuit.state is CircuitState.OPEN and circuit.probe_at(now) != was:
                opened_at = now
    assert circuit.probe_at(now) <= now + 40.0
