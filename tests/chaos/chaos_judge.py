"""What must hold after the chaos: senders' answers against the journal and the endpoint's effects. No IO.

Each invariant is a function from the evidence to the breaches it found; `judge` is all of them. test_chaos_judge.py
shows every one of them a breach.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos_endpoint import Delivery
from chaos_feed import SENTINEL, Message
from chaos_receiver import ApplicationAck


@dataclass
class Evidence:
    """What was seen: `sent` in each sender's order; `journal` in order of arrival, as `messages list --json` tells it."""

    sent: list[Message] = field(default_factory=list)
    positive: dict[str, set[bytes]] = field(default_factory=dict)  # control id -> the different positive answers it got
    wrong_answers: list[str] = field(default_factory=list)  # what was wrong with an answer, said where it was read
    journal: Sequence[Mapping[str, Any]] = ()
    letters: frozenset[str] = frozenset()  # ids of messages with a dead letter's directory
    deliveries: Sequence[Delivery] = ()
    bundles: Mapping[str, set[bytes]] = field(default_factory=dict)  # message -> the different bytes that were sent
    writers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plain_posts: Sequence[str] = ()
    broken: Sequence[str] = ()
    application_acks: Sequence[ApplicationAck] = ()  # in the order in which they came
    log: str = ""
    ended_by_itself: int = 0


def judge(seen: Evidence) -> list[str]:
    """Every breach, each as a sentence. Empty: all held."""
    return [breach for invariant in INVARIANTS for breach in invariant(seen)]


def acknowledged_is_kept(seen: Evidence) -> Iterator[str]:
    """Every positive answer stands for a message that was delivered or is a dead letter, with its directory."""
    entries = {entry["control_id"]: entry for entry in seen.journal}
    applied = {delivery.request_id for delivery in seen.deliveries}
    for message in seen.sent:
        if message.control_id not in seen.positive:
            continue
        entry = entries.get(message.control_id)
        if entry is None:
            yield f"{message.control_id}: acknowledged and not in the journal"
        elif entry["state"] == "delivered":
            if entry["id"] not in applied:
                yield f"{message.control_id}: called delivered, and the endpoint never applied it"
            if message.fate == "dead":
                yield f"{message.control_id}: delivered although it cannot be"
        elif entry["state"] == "dead":
            if message.fate == "delivered":
                yield f"{message.control_id}: a dead letter ({entry['reason']}) although nothing is wrong with it"
            if entry["id"] not in seen.letters:
                yield f"{message.control_id}: a dead letter without its directory"
        else:
            yield f"{message.control_id}: acknowledged and still {entry['state']}"


def a_resend_is_the_same_message(seen: Evidence) -> Iterator[str]:
    """However often it was sent, a message stands in the journal once, and nothing stands there that was not sent."""
    known = {message.control_id for message in seen.sent}
    for control_id, times in Counter(entry["control_id"] for entry in seen.journal).items():
        if times > 1:
            yield f"{control_id}: {times} times in the journal"
        if control_id not in known:
            yield f"{control_id}: in the journal and never sent"


def effects_are_exactly_once(seen: Evidence) -> Iterator[str]:
    """No message changed a resource twice, no create was repeatable, nothing took effect that is not kept."""
    for key, writers in seen.writers.items():
        for writer, times in Counter(writers).items():
            if times > 1:
                yield f"{key.partition('?')[0]}: changed {times} times by message {writer}"
    for request_id in seen.plain_posts:
        yield f"message {request_id}: a create without a condition"
    ids = {entry["id"] for entry in seen.journal}
    for request_id in {delivery.request_id for delivery in seen.deliveries} - ids:
        yield f"message {request_id}: delivered and not in the journal"
    yield from seen.broken


def a_bundle_is_always_the_same(seen: Evidence) -> Iterator[str]:
    """However often a message is sent to the endpoint, over restarts and in whichever process it was made: one bundle."""
    for request_id, digests in seen.bundles.items():
        if len(digests) > 1:
            yield f"message {request_id}: {len(digests)} different bundles"


def order_is_kept(seen: Evidence) -> Iterator[str]:
    """The endpoint applied each patient's messages in the order of their sender; a repetition only straight away."""
    place = {message.control_id: number for number, message in enumerate(seen.sent)}
    lanes = {message.control_id: message.lanes for message in seen.sent}
    control_id = {entry["id"]: entry["control_id"] for entry in seen.journal}
    last: dict[str, str] = {}
    for delivery in seen.deliveries:
        this = control_id.get(delivery.request_id, "")
        for lane in lanes.get(this, ()):
            before = last.get(lane)
            if before is not None and place[before] > place[this]:
                yield f"{this}: applied after {before} of the same patient"
            last[lane] = this


def answers_are_right(seen: Evidence) -> Iterator[str]:
    """One answer a message, in order, with its MSH-10 byte for byte; a resend gets the first one again."""
    yield from seen.wrong_answers
    for control_id, answers in seen.positive.items():
        if len(answers) > 1:
            yield f"{control_id}: {len(answers)} different positive answers"


def owed(seen: Evidence) -> dict[str, str]:
    """The application ACKs that have to come: control id -> AA, or AE for whatever is negative."""
    asked = {message.control_id: message.application for message in seen.sent}
    states = {entry["control_id"]: entry["state"] for entry in seen.journal}
    wanted = {"delivered": ("AL", "SU"), "dead": ("AL", "ER")}
    return {
        control_id: "AA" if state == "delivered" else "AE"
        for control_id, state in states.items()
        if asked.get(control_id, "") in wanted.get(state, ())
    }


def an_application_ack_is_exactly_one(seen: Evidence) -> Iterator[str]:
    """Who asked for one got one that says what became of the message, taken, the same bytes however often it came."""
    came: dict[str, list[ApplicationAck]] = defaultdict(list)
    for one in seen.application_acks:
        came[one.answers].append(one)
    expected = owed(seen)
    for control_id in expected.keys() - came.keys():
        yield f"{control_id}: its application ACK never came"
    for control_id in came.keys() - expected.keys():
        yield f"{control_id}: an application ACK that nobody asked for, or of another MSA-2"
    for control_id, code in expected.items():
        found = came[control_id]
        if len({one.digest for one in found}) > 1:
            yield f"{control_id}: different application ACKs"
        if any((one.code == "AA") != (code == "AA") for one in found):
            yield f"{control_id}: the application ACK says {found[0].code}, its fate says {code}"
        if found and not any(one.taken for one in found):
            yield f"{control_id}: its application ACK was never taken"
    of: dict[str, set[str]] = defaultdict(set)
    for one in seen.application_acks:
        of[one.control_id].add(one.answers)
    for control_id, answers in of.items():
        if len(answers) > 1:
            yield f"application ACK {control_id}: one MSH-10 for {len(answers)} messages"


def nothing_leaks(seen: Evidence) -> Iterator[str]:
    """No value of a message stands in the daemon's log, whatever ended it."""
    if SENTINEL in seen.log:
        yield f"the log holds values of messages ({seen.log.count(SENTINEL)} places)"


def the_daemon_stands(seen: Evidence) -> Iterator[str]:
    """It ends when it is told to, never by itself."""
    if seen.ended_by_itself:
        yield f"the daemon ended by itself {seen.ended_by_itself} times"


INVARIANTS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    acknowledged_is_kept,
    a_resend_is_the_same_message,
    effects_are_exactly_once,
    a_bundle_is_always_the_same,
    order_is_kept,
    answers_are_right,
    an_application_ack_is_exactly_one,
    nothing_leaks,
    the_daemon_stands,
)
