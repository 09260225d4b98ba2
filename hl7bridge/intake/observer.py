"""What intake tells metrics and logs: listener names, types, codes and seconds; nothing else of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hl7bridge.mllp.peer import Peer


class IntakeObserver:
    """Every method does nothing by default; one that raises is ignored."""

    def received(self, listener: str, type: str) -> None:
        """A message came whole. `type`: ADT^A01, "" when it has none; a sender can put anything there."""

    def acknowledged(self, listener: str, code: str, reason: str, seconds: float) -> None:
        """It was answered, or `none` was due. `reason`: "" or a code of the catalogue; seconds since its last byte."""

    def duplicate(self, listener: str) -> None:
        """It had come before, and got the stored answer."""

    def reused_control_id(self, listener: str) -> None:
        """Its control id had come before, with other bytes: taken as a new message."""

    def parked(self, listener: str, type: str, reason: str) -> None:
        """It was stored as a dead letter on arrival."""

    def acknowledgement(self, listener: str) -> None:
        """It was itself an acknowledgement: nothing is done with it."""

    def impostor(self, listener: str, peer: Peer, sender: str) -> None:
        """It named a sender that its connection's certificate does not speak for. `sender`: MSH-3|MSH-4 as sent."""

    def without_channel(self, listener: str) -> None:
        """It asks for an application ACK as an exchange of its own, and no channel for those is configured."""

    def findings(self, listener: str, type: str, count: int) -> None:
        """`validate` found that many errors in it."""

    def failed(self, listener: str, error: BaseException) -> None:
        """A defect of the bridge. The error's text may quote the message: log only its type and place."""


class Telling:
    """Tells the observer of one listener; `failures`: how often that failed, which changes nothing else."""

    def __init__(self, observer: IntakeObserver, listener: str) -> None:
        self.failures = 0
        self._observer, self._listener = observer, listener

    def __call__(self, method: Callable[..., None], *facts: Any) -> None:
        try:
            getattr(self._observer, method.__name__)(self._listener, *facts)
        except Exception:
            self.failures += 1
