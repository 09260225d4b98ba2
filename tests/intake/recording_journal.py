"""A journal that remembers what it was told to append, and can be made to fail or to wait."""

from __future__ import annotations

import asyncio
from typing import Any

from hl7bridge.intake import IntakeObserver
from hl7bridge.journal.protocol import Appended, Received, Then


class RecordingJournal:
    """Only `store`. `failure` is told; while `go` is not set, messages have taken their place but nothing is told."""

    def __init__(self) -> None:
        self.came: list[Received] = []
        self.committed: list[Received] = []
        self.failure: Exception | None = None
        self.answers: list[tuple[int, bool, bool]] = []
        self.go = asyncio.Event()
        self.go.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def store(self, message: Received, then: Then) -> None:
        self.came.append(message)
        task = asyncio.get_running_loop().create_task(self._tell(message, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, message: Received, then: Then) -> None:
        await self.go.wait()
        then(self._stored(message))

    def _stored(self, message: Received) -> Appended | Exception:
        if self.failure is not None:
            return self.failure
        same_id = [
            (number, other)
            for number, other in enumerate(self.committed)
            if (other.sender, other.control_id) == (message.sender, message.control_id)
        ]
        for number, other in same_id:
            if other.sha256 == message.sha256:
                return Appended(f"id{number}", other.ack, True, False)
        self.committed.append(message)
        return Appended(f"id{len(self.committed) - 1}", message.ack, False, bool(same_id))

    def answered(self, seq: int, written: bool, resend: bool = False) -> None:
        self.answers.append((seq, written, resend))


class Notes(IntakeObserver):
    """Writes down what intake says, without seconds."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def received(self, listener: str, type: str) -> None:
        self.said.append(("received", type))

    def acknowledged(self, listener: str, code: str, reason: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.said.append(("acknowledged", code, reason))

    def duplicate(self, listener: str) -> None:
        self.said.append(("duplicate",))

    def reused_control_id(self, listener: str) -> None:
        self.said.append(("reused",))

    def parked(self, listener: str, type: str, reason: str) -> None:
        self.said.append(("parked", type, reason))

    def acknowledgement(self, listener: str) -> None:
        self.said.append(("acknowledgement",))

    def findings(self, listener: str, type: str, count: int) -> None:
        self.said.append(("findings", type, count))

    def failed(self, listener: str, error: BaseException) -> None:
        self.said.append(("failed", type(error).__name__))
