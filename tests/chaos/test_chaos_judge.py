"""Each invariant of the chaos run sees its breach, and a clean run is called clean; the plan depends on the seed alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from chaos_driver import moods, plan
from chaos_endpoint import Delivery
from chaos_feed import POISON, SENTINEL, Message, real, synthetic
from chaos_judge import INVARIANTS, Evidence, judge
from chaos_receiver import ApplicationAck


def clean() -> Evidence:
    """Two patients, three messages, the last a dead letter; the second was sent twice, as its application ACK was."""
    sent = [
        Message("a1", b"", frozenset({"a"}), "delivered"),
        Message("a2", b"", frozenset({"a"}), "delivered", "AL"),
        Message("b1", b"", frozenset({"b"}), "dead", "ER"),
    ]
    states = {"a1": "delivered", "a2": "delivered", "b1": "dead"}
    return Evidence(
        sent=sent,
        positive={message.control_id: {b"yes"} for message in sent},
        journal=[{"id": f"id-{c}", "control_id": c, "state": state, "reason": ""} for c, state in states.items()],
        letters=frozenset({"id-b1"}),
        deliveries=[Delivery("id-a1", b"1"), Delivery("id-a2", b"2"), Delivery("id-a2", b"2")],
        bundles={"id-a1": {b"1"}, "id-a2": {b"2"}},
        application_acks=[
            ApplicationAck("a2", "AA", "k1", b"1", False),
            ApplicationAck("a2", "AA", "k1", b"1", True),
            ApplicationAck("b1", "AE", "k2", b"2", True),
        ],
        writers={"Patient?identifier=a": ["id-a1", "id-a2"]},
    )


def _entry(seen: Evidence, control_id: str) -> Any:
    return next(entry for entry in seen.journal if entry["control_id"] == control_id)


def lost(seen: Evidence) -> None:
    seen.journal = seen.journal[1:]


def never_applied(seen: Evidence) -> None:
    seen.deliveries = seen.deliveries[1:]


def still_waiting(seen: Evidence) -> None:
    _entry(seen, "a2")["state"] = "waiting"


def dead_without_a_reason(seen: Evidence) -> None:
    _entry(seen, "a2")["state"] = "dead"


def delivered_although_impossible(seen: Evidence) -> None:
    _entry(seen, "b1")["state"] = "delivered"


def no_directory(seen: Evidence) -> None:
    seen.letters = frozenset()


def twice_in_the_journal(seen: Evidence) -> None:
    seen.journal = [*seen.journal, {**_entry(seen, "a1"), "id": "other"}]


def never_sent(seen: Evidence) -> None:
    seen.journal = [*seen.journal, {**_entry(seen, "a1"), "id": "other", "control_id": "z9"}]


def an_effect_twice(seen: Evidence) -> None:
    seen.writers = {"Patient?identifier=a": ["id-a1", "id-a2", "id-a1"]}


def a_plain_create(seen: Evidence) -> None:
    seen.plain_posts = ["id-a1"]


def other_bytes(seen: Evidence) -> None:
    seen.bundles = {**seen.bundles, "id-a2": {b"2", b"3"}}


def no_application_ack(seen: Evidence) -> None:
    seen.application_acks = seen.application_acks[:2]


def an_application_ack_never_taken(seen: Evidence) -> None:
    seen.application_acks = [seen.application_acks[0], seen.application_acks[2]]


def two_application_acks(seen: Evidence) -> None:
    seen.application_acks = [*seen.application_acks, ApplicationAck("a2", "AA", "k3", b"3", True)]


def an_application_ack_unasked(seen: Evidence) -> None:
    seen.application_acks = [*seen.application_acks, ApplicationAck("a1", "AA", "k3", b"3", True)]


def an_application_ack_of_another_fate(seen: Evidence) -> None:
    seen.application_acks = [*seen.application_acks[:2], ApplicationAck("b1", "AA", "k2", b"2", True)]


def one_msh_10_for_two(seen: Evidence) -> None:
    seen.application_acks = [*seen.application_acks[:2], ApplicationAck("b1", "AE", "k1", b"2", True)]


def delivered_from_nowhere(seen: Evidence) -> None:
    seen.deliveries = [*seen.deliveries, Delivery("id-x", b"3")]


def overtaken(seen: Evidence) -> None:
    seen.deliveries = [Delivery("id-a2", b"2"), Delivery("id-a1", b"1")]


def repeated_too_late(seen: Evidence) -> None:
    seen.deliveries = [*seen.deliveries, Delivery("id-a1", b"1")]


def a_wrong_answer(seen: Evidence) -> None:
    seen.wrong_answers = ["a1: answered with another MSA-2"]


def two_answers(seen: Evidence) -> None:
    seen.positive["a1"] = {b"yes", b"yes, again"}


def a_name_in_the_log(seen: Evidence) -> None:
    seen.log = f"oh {SENTINEL}"


def an_end_of_its_own(seen: Evidence) -> None:
    seen.ended_by_itself = 1


BREACHES: dict[str, tuple[Callable[[Evidence], None], ...]] = {
    "acknowledged_is_kept": (
        lost,
        never_applied,
        still_waiting,
        dead_without_a_reason,
        delivered_although_impossible,
        no_directory,
    ),
    "a_resend_is_the_same_message": (twice_in_the_journal, never_sent),
    "effects_are_exactly_once": (an_effect_twice, a_plain_create, delivered_from_nowhere),
    "a_bundle_is_always_the_same": (other_bytes,),
    "order_is_kept": (overtaken, repeated_too_late),
    "answers_are_right": (a_wrong_answer, two_answers),
    "an_application_ack_is_exactly_one": (
        no_application_ack,
        an_application_ack_never_taken,
        two_application_acks,
        an_application_ack_unasked,
        an_application_ack_of_another_fate,
        one_msh_10_for_two,
    ),
    "nothing_leaks": (a_name_in_the_log,),
    "the_daemon_stands": (an_end_of_its_own,),
}


def test_a_clean_run_has_no_breach() -> None:
    assert judge(clean()) == []


def test_every_invariant_has_a_breach_here() -> None:
    assert set(BREACHES) == {invariant.__name__ for invariant in INVARIANTS}


@pytest.mark.parametrize(
    ("invariant", "breach"), [(name, breach) for name, breaches in BREACHES.items() for breach in breaches]
)
def test_an_invariant_sees_its_breach(invariant: str, breach: Callable[[Evidence], None]) -> None:
    seen = clean()
    breach(seen)
    found = [one.__name__ for one in INVARIANTS if list(one(seen))]
    assert invariant in found


def test_the_same_seed_is_the_same_plan_and_the_same_messages() -> None:
    for made in (plan, moods, lambda seed: synthetic("S", seed)):
        first, again, other = (list(islice(made(seed), 200)) for seed in ("1", "1", "2"))
        assert first == again != other


def test_the_feed_holds_what_a_run_needs() -> None:
    messages = list(islice(synthetic("S", "1"), 3000))
    assert len({message.control_id for message in messages}) == 3000
    assert sum(len(message.lanes) == 2 for message in messages) > 20, "merges"
    assert sum(POISON.encode() in message.raw for message in messages) > 20
    assert sum(message.fate == "dead" for message in messages) > 40
    assert any(len(message.control_id) > 180 for message in messages)
    assert any(not message.control_id.isascii() for message in messages)
    asking = list(islice(synthetic("S", "1", enhanced=True), 300))
    assert {message.application for message in asking} == {"AL", "ER", "SU", "NE"}
    assert all(f"|AL|{message.application}||".encode() in message.raw for message in asking)


def test_a_real_feed_is_shared_out_by_patient_and_keeps_its_order(tmp_path: Path) -> None:
    feed = tmp_path / "feed.hl7"
    feed.write_bytes(
        b"\n\n".join(
            b"MSH|^~\\&|A|B|||2024||ADT^A08|%d|P|2.5\nPID|1||P%d^^^X\n" % (number, number % 17) for number in range(200)
        )
        + b"\n\nMSH|^~\\&|A|B|||2024||ADT^A40|merge|P|2.5\nPID|1||P1^^^X~P2^^^X\nMRG|P3^^^X\n"
    )
    shares = real(feed, 3, 1000)
    assert sum(len(share) for share in shares) == 201
    homes = [frozenset(lane for message in share for lane in message.lanes) for share in shares]
    assert all(not (one & other) for place, one in enumerate(homes) for other in homes[place + 1 :])
    assert sum({"p1", "p2", "p3"} <= home for home in homes) == 1, "a merge keeps its patients together"
    for share in shares:
        numbers = [int(message.control_id) for message in share if message.control_id != "merge"]
        assert numbers == sorted(numbers)
