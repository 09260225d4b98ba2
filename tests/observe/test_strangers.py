"""Who was not let in: the first at once, the rest as a sum, and the audit of those who are not who may connect."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from typing import Any

import pytest
import structlog

from hl7bridge.errors import JournalError
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.peer import Peer
from hl7bridge.observe import strangers as module
from hl7bridge.observe.log import Log
from hl7bridge.observe.strangers import MOST_KINDS, QUIET, Strangers


class Desk:
    """Strangers with a clock of their own, and the entries of the audit."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream
        self.now = 0.0
        self.entries: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        log: Log = structlog.stdlib.get_logger("hl7bridge")
        self.strangers = Strangers(log, lambda: self.now)
        self.strangers.audit = self.audit

    async def audit(self, *entry: str) -> None:
        if self.failure:
            raise self.failure
        self.entries.append(entry)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def desk(told: io.StringIO) -> Desk:
    return Desk(told)


async def test_repeats_are_summed_up_and_none_is_left_out(desk: Desk) -> None:
    peer = Peer("192.0.2.1", 1)
    for _ in range(1000):
        desk.strangers.denied("adt", peer, Denial.EXPIRED)
    assert [line["count"] for line in desk.lines()] == [1]
    await desk.strangers.close()
    assert [line["count"] for line in desk.lines()] == [1, 999]
    assert [entry[3] for entry in desk.entries] == ["expired; from 192.0.2.1", "expired; from 192.0.2.1; 999 times"]
    assert desk.entries[0][:3] == ("192.0.2.1", "refuse connection", "listener adt")


async def test_sums_are_told_while_it_runs_and_a_quiet_one_is_forgotten(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.01)
    running = asyncio.create_task(desk.strangers.run())
    peer = Peer("192.0.2.1", 1)
    for _ in range(3):
        desk.strangers.denied("adt", peer, Denial.NOT_TLS)
    desk.now += QUIET
    async with asyncio.timeout(5):
        while len(desk.lines()) < 2 or desk.strangers._known:
            desk.now += QUIET
            await asyncio.sleep(0.005)
    assert [line["count"] for line in desk.lines()] == [1, 2]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    desk.strangers.denied("adt", peer, Denial.NOT_TLS)
    assert [line["count"] for line in desk.lines()] == [1, 2, 1]  # the first of a new row


async def test_what_is_no_failure_of_a_node_is_not_audited(desk: Desk) -> None:
    for denial in Denial:
        desk.strangers.denied("adt", Peer("192.0.2.1", 1), denial)
    await desk.strangers.close()
    audited = {entry[3].partition(";")[0] for entry in desk.entries}
    assert audited == {denial.value for denial in Denial if denial.of_node}
    assert audited.isdisjoint({"full", "stalled", "no-tls", "tls-version", "handshake"})
    assert {line["detail"].partition(": ")[2] for line in desk.lines()} == {denial.told for denial in Denial}


async def test_a_scanner_with_many_addresses_fills_neither_memory_nor_log(desk: Desk) -> None:
    for number in range(3 * MOST_KINDS):
        desk.strangers.denied("adt", Peer(f"198.51.{number // 250}.{number % 250}", 1), Denial.ADDRESS)
    assert len(desk.strangers._known) <= MOST_KINDS + 1
    await desk.strangers.close()
    assert sum(line["count"] for line in desk.lines()) == 3 * MOST_KINDS
    assert len(desk.lines()) <= MOST_KINDS + 2


async def test_an_audit_that_fails_is_told_and_ends_nothing(desk: Desk) -> None:
    desk.failure = JournalError("the disk is full")
    desk.strangers.impostor("adt", Peer("192.0.2.1", 1, "lab", "ab" * 32), "EPIC|LAKESIDE")
    await desk.strangers.close()
    assert [line["event"] for line in desk.lines()][1:] == ["an entry of the audit is missing"]
    assert "LAKESIDE" not in desk.stream.getvalue()


async def test_what_a_sender_called_itself_stands_in_the_audit_only_and_is_cut(desk: Desk) -> None:
    desk.strangers.impostor("adt", Peer("192.0.2.1", 1, "lab", "ab" * 32), "EPIC|" + "x" * 500)
    await desk.strangers.close()
    [entry] = desk.entries
    assert entry[:3] == ("192.0.2.1 (lab)", "refuse sender", "listener adt")
    assert entry[3] == f"sender-not-allowed; from 192.0.2.1 (lab); certificate {'ab' * 32}; as EPIC|{'x' * 95}"
    assert "EPIC" not in desk.stream.getvalue()
