"""The adapters between the rooms: when the worker is told, and what an `ack: delivered` is answered."""

from __future__ import annotations

from typing import Any

import pytest

from hl7bridge import reasons
from hl7bridge.errors import JournalError
from hl7bridge.joints import WakingJournal, undelivered
from hl7bridge.journal.protocol import Appended, Received, State, Then
from hl7bridge.reasons import Reason
from hl7bridge.worker import Settled


class Told:
    """Journal and worker in one: notes what happens, in order."""

    def __init__(self, duplicate: bool = False, settled: Settled | None = None, fails: bool = False) -> None:
        self.notes: list[str] = []
        self._duplicate, self._settled, self._fails = duplicate, settled, fails

    def store(self, _: Received, then: Then) -> None:
        if self._fails:
            then(JournalError("the disk is full"))
            return
        self.notes.append("committed")
        then(Appended("m1", b"", self._duplicate, False, 7))

    def entry(self, message: Received, appended: Appended) -> str:
        return f"made of {appended.id}"

    def came(self, seq: int, size: int, make: Any) -> None:
        assert (seq, size) == (7, 3)
        self.notes.append(make() if make is not None else "nothing to deliver")

    def parked(self, id: str) -> None:
        self.notes.append(f"parked {id}")

    async def delivered(self, id: str, timeout: float) -> Settled | None:  # noqa: ASYNC109
        self.notes.append(f"waited {timeout:g} s for {id}")
        return self._settled


def message(state: State = State.RECEIVED) -> Received:
    return Received(b"raw", b"", 0.0, "adt", "", "", "", "", (), b"", "AA", state)


@pytest.mark.parametrize(
    ("duplicate", "state", "notes"),
    [
        (False, State.RECEIVED, ["committed", "made of m1"]),
        (False, State.DEAD, ["committed", "parked m1", "nothing to deliver"]),
        (True, State.RECEIVED, ["committed"]),
    ],
)
def test_the_worker_is_told_of_what_is_new_and_only_after_the_commit(
    duplicate: bool, state: State, notes: list[str]
) -> None:
    told: Any = Told(duplicate)
    outcomes: list[Any] = []
    WakingJournal(told, told).store(message(state), outcomes.append)
    assert told.notes == notes
    assert outcomes == [Appended("m1", b"", duplicate, False, 7)]


def test_the_worker_is_not_told_of_what_was_not_stored() -> None:
    told: Any = Told(fails=True)
    outcomes: list[Any] = []
    WakingJournal(told, told).store(message(), outcomes.append)
    assert isinstance(outcomes[0], JournalError)
    assert told.notes == []


@pytest.mark.parametrize(
    ("settled", "reason"),
    [
        (Settled(State.DELIVERED, ""), None),
        (Settled(State.DEAD, "endpoint-rejected"), reasons.ENDPOINT_REJECTED),
        (Settled(State.DEAD, "of-another-version"), reasons.INTERNAL_ERROR),
        (None, reasons.DELIVERY_PENDING),
    ],
)
async def test_what_is_not_delivered_in_time_has_a_reason(settled: Settled | None, reason: Reason | None) -> None:
    told: Any = Told(settled=settled)
    assert await undelivered(told, "m1", 7) is reason
    assert told.notes == ["waited 7 s for m1"]
