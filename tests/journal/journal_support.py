"""What the journal's tests share: messages to append, a clock that stands still, a connection that fails."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from hl7bridge.journal.protocol import Received, State

NOW = 1_700_000_000.0


class Clock:
    """Stands still until told otherwise."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def received(number: int = 1, **changed: Any) -> Received:
    """A message whose control id and bytes follow from `number`."""
    raw = changed.pop("raw", b"MSH|^~\\&|LAB|HOSP|||20240101||ADT^A01|%d|P|2.5\rPID|1||%d^^^HOSP\r" % (number, number))
    values: dict[str, Any] = {
        "raw": raw,
        "sha256": hashlib.sha256(raw or b"").digest(),
        "received_at": NOW,
        "listener": "default",
        "peer": "192.0.2.1",
        "sender": "LAB|HOSP",
        "control_id": str(number),
        "type": "ADT^A01",
        "lanes": (f"lane{number % 7}",),
        "ack": b"MSA|AA|%d\r" % number,
        "ack_code": "AA",
    }
    return Received(**(values | changed))


def parked(number: int = 1, **changed: Any) -> Received:
    return received(number, state=State.DEAD, reason="unsupported-event", detail="no table", **changed)


class Ill(sqlite3.Connection):
    """A writing connection whose next statements that begin with a given word fail; it also notes what was executed."""

    failures: dict[str, list[sqlite3.Error]]
    trace: list[str]

    def execute(self, sql: str, *terms: Any) -> sqlite3.Cursor:
        word = sql.split()[0]
        waiting = type(self).failures.get(word)
        if waiting:
            raise waiting.pop(0)
        cursor = super().execute(sql, *terms)
        type(self).trace.append(word)
        return cursor


def ill() -> type[Ill]:
    """A class of its own for each test."""
    return type("Ill", (Ill,), {"failures": {}, "trace": []})
