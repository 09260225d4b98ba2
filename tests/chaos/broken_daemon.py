"""`hl7bridge serve` broken on purpose: `broken_daemon.py NAME --config FILE serve`. Each name is a defect that must be found.

What a mutation proves is that the driver sees the breach; which invariant found it stands beside its name.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from chaos_feed import SENTINEL


def ack_before_commit() -> None:
    """acknowledged_is_kept: the answer is given when the message is queued, a moment before it is on the disk."""
    from hl7bridge.journal.protocol import Appended
    from hl7bridge.journal.sqlite import SqliteJournal

    right = SqliteJournal.store

    def store(self: Any, message: Any, then: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(then, Appended("", message.ack, False, False))
        loop.call_later(0.2, right, self, message, lambda outcome: None)

    SqliteJournal.store = store  # type: ignore[method-assign]


def delivered_before_sent() -> None:
    """acknowledged_is_kept: a message is marked delivered before it is sent."""
    from hl7bridge.delivery import endpoint

    right = endpoint.HttpEndpoint.deliver

    async def deliver(self: Any, shipment: Any) -> Any:
        if next(count) % 7 == 0:
            from hl7bridge.delivery.outcome import Delivered

            return Delivered()
        return await right(self, shipment)

    count = itertools.count(1)
    endpoint.HttpEndpoint.deliver = deliver  # type: ignore[method-assign]


def lanes_off() -> None:
    """order_is_kept: no message knows its patient."""
    from hl7bridge.intake import preparing

    preparing.lanes_of = lambda message: ()


def resends_are_new() -> None:
    """a_resend_is_the_same_message: what was sent again counts as another message."""
    from hl7bridge.journal import sqlite

    right = sqlite.SqliteJournal.store

    def store(self: Any, message: Any, then: Any) -> Any:
        import dataclasses
        import hashlib

        raw = message.raw + b"ZZZ|%d\r" % int.from_bytes(os.urandom(4))
        return right(self, dataclasses.replace(message, raw=raw, sha256=hashlib.sha256(raw).digest()), then)

    sqlite.SqliteJournal.store = store  # type: ignore[method-assign]


def creates_without_condition() -> None:
    """effects_are_exactly_once: every create creates again."""
    _bundles(lambda bundle: bundle.replace(b'"ifNoneExist"', b'"ifNoneExists"'))


def never_the_same_bundle() -> None:
    """a_bundle_is_always_the_same: another try sends other bytes."""
    _bundles(lambda bundle: bundle.replace(b'"female"', b'"female"' + b" " * (os.urandom(1)[0] % 50)))


def _bundles(change: Callable[[bytes], bytes]) -> None:
    import dataclasses

    from hl7bridge.delivery import endpoint

    right = endpoint.HttpEndpoint.deliver

    async def deliver(self: Any, shipment: Any) -> Any:
        return await right(self, dataclasses.replace(shipment, bundle=change(shipment.bundle)))

    endpoint.HttpEndpoint.deliver = deliver  # type: ignore[method-assign]


def an_answer_too_many() -> None:
    """answers_are_right: now and then an answer is sent twice."""
    _answers(lambda answer, number: answer + b"\x1c\r\x0b" + answer if number % 50 == 0 else answer)


def another_control_id() -> None:
    """answers_are_right: now and then MSA-2 is cut short."""
    _answers(lambda answer, number: answer[:-2] + b"\r" if number % 50 == 0 else answer)


def _answers(change: Callable[[bytes, int], bytes]) -> None:
    from hl7bridge.intake import Intake

    right = Intake._positive
    count = itertools.count(1)

    def positive(self: Any, *arguments: Any) -> Any:
        answer = right(self, *arguments)
        return answer and change(answer, next(count))

    Intake._positive = positive  # type: ignore[method-assign]


def dead_without_letters() -> None:
    """acknowledged_is_kept: a dead letter has no directory."""
    from hl7bridge.delivery.deadletter import DeadLetters

    DeadLetters.write = lambda self, *args, **more: None  # type: ignore[assignment, method-assign]


def application_acks_unsent() -> None:
    """an_application_ack_is_exactly_one: now and then one is called sent and was not."""
    from hl7bridge.replies.channel import Channel

    right = Channel._one
    count = itertools.count(1)

    async def one(self: Any, row: Any) -> None:
        if next(count) % 7 == 0:
            await self._settle(row, "sent", "answered CA")
        else:
            await right(self, row)

    Channel._one = one  # type: ignore[method-assign]


def application_acks_anew() -> None:
    """an_application_ack_is_exactly_one: another try has another MSH-10."""
    import dataclasses

    from hl7bridge.replies.channel import Channel

    right = Channel._one

    async def one(self: Any, row: Any) -> None:
        raw = row.raw.replace(row.control_id.encode(), os.urandom(8).hex().encode())
        await right(self, dataclasses.replace(row, raw=raw))

    Channel._one = one  # type: ignore[method-assign]


def application_acks_always_positive() -> None:
    """an_application_ack_is_exactly_one: a dead letter is acknowledged as delivered."""
    from hl7bridge.replies import judgement

    judgement._reason = lambda code, after: None


def application_acks_to_another() -> None:
    """an_application_ack_is_exactly_one: MSA-2 is a part of MSH-10."""
    import dataclasses

    from hl7bridge.replies import replies

    right = replies.built

    def built(*args: Any) -> Any:
        made = right(*args)
        return made and dataclasses.replace(made, raw=made.raw.replace(b"MSA|AA|S", b"MSA|AA|"))

    replies.built = built


def a_name_in_the_log() -> None:
    """nothing_leaks: the log quotes a patient."""
    sys.stderr.write(f"an exception: {SENTINEL}\n")


MUTATIONS: dict[str, Callable[[], None]] = {
    work.__name__.replace("_", "-"): work
    for work in (
        ack_before_commit,
        delivered_before_sent,
        lanes_off,
        resends_are_new,
        creates_without_condition,
        never_the_same_bundle,
        an_answer_too_many,
        another_control_id,
        dead_without_letters,
        application_acks_unsent,
        application_acks_anew,
        application_acks_always_positive,
        application_acks_to_another,
        a_name_in_the_log,
    )
}

if __name__ == "__main__":
    MUTATIONS[sys.argv[1]]()
    sys.argv = ["hl7bridge", *sys.argv[2:]]
    from hl7bridge.__main__ import main

    main()
