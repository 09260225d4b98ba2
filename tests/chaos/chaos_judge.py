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


@dataclass
class Evidence:
    """What was seen: `sent` in each sender's order; `journal` in order of arrival, as `messages list --json` tells it."""

    sent: list[Message] = field(default_factory=list)
    positive: dict[str, set[bytes]] = field(default_factory=dict)  # control id -> the different positive answers it got
    wrong_answers: list[str] = field(default_factory=list)  # what was wrong with an answer, said where it was read
    journal: Sequence[Mapping[str, Any]] = ()
    letters: frozenset[str] = frozenset()  # ids of messages with a dead letter's directory
    deliveries: Sequence[Delivery] = ()
    writers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plain_posts: Sequence[str] = ()
    broken: Sequence[str] = ()
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
    """No message changed a resource twice, no create was repeatable, every repetition was the same bytes."""
    for key, writers in seen.writers.items():
        for writer, times in Counter(writers).items():
            if times > 1:
                yield f"{key.partition('?')[0]}: changed {times} times by message {writer}"
    for request_id in seen.plain_posts:
        yield f"message {request_id}: a create without a condition"
    bytes_of: dict[str, set[bytes]] = defaultdict(set)
    for delivery in seen.deliveries:
        bytes_of[delivery.request_id].add(delivery.digest)
    for request_id, digests in bytes_of.items():
        if len(digests) > 1:
            yield f"message {request_id}: {len(digests)} different bundles"
    ids = {entry["id"] for entry in seen.journal}
    for request_id in bytes_of.keys() - ids:
        yield f"message {request_id}: delivered and not in the journal"
    yield from seen.broken


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
    order_is_kept,
    answers_are_right,
    nothing_leaks,
    the_daemon_stands,
)
