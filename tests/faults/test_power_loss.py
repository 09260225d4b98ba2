"""Power loss: an fsync stands before every positive answer, and what was synced is a journal that holds it.

Two arguments, both from traced system calls of the running daemon:
- before the first byte of an answer goes to the socket, an fdatasync of the write-ahead log has come back that began after
  the message was written into it;
- whatever a power failure leaves of the writes (the synced ones, and any sectors of the others) opens as a journal and
  holds every message that was answered until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from traced_daemon import TracedDaemon, exchange, missing
from traced_evidence import Traced, answered_before_synced, lost_after_power_failures, message, two_free_ports

from hl7bridge.journal.files import DATABASE

CUTS = 60
WAYS = {"single": (1, 30, 1), "concurrent": (6, 15, 1), "pipelined": (1, 90, 20)}  # connections, messages each, window


def trace(folder: Path, ports: tuple[int, int], synchronous: str = "") -> Traced:
    daemon = TracedDaemon(folder, ports, synchronous)
    daemon.start()
    try:
        for way, (connections, count, window) in WAYS.items():
            shares = [[message(f"{way}-{c}-{n}.", c * count + n) for n in range(count)] for c in range(connections)]
            with ThreadPoolExecutor(connections) as threads:
                for answers in threads.map(lambda share, window=window: exchange(daemon.port, share, window), shares):
                    assert answers.count(b"MSA|AA|") == count
    finally:
        daemon.stop()
    return Traced.of(daemon)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    if reason := missing():
        pytest.skip(reason)
    yield trace(tmp_path_factory.mktemp("traced"), two_free_ports())


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """The control: with SQLite's weaker setting, which syncs at checkpoints only, both arguments must fail."""
    if reason := missing():
        pytest.skip(reason)
    yield trace(tmp_path_factory.mktemp("unsynced"), two_free_ports(), "NORMAL")


@pytest.mark.parametrize("way", WAYS)
def test_an_fsync_of_the_log_comes_back_before_every_positive_answer(traced: Traced, way: str) -> None:
    connections, count, _ = WAYS[way]
    assert sum(control_id.startswith(way) for control_id in traced.answers) == connections * count
    assert [late for late in answered_before_synced(traced) if late.startswith(way)] == []


def test_whatever_a_power_failure_leaves_opens_and_holds_every_answered_message(traced: Traced, tmp_path: Path) -> None:
    synced = [call for call in traced.calls if call.name == "fdatasync" and call.path.endswith(DATABASE)]
    assert len(synced) > 1, "the log was copied into the database while it was traced"
    assert lost_after_power_failures(traced, tmp_path, CUTS, seed=7) == []


def test_without_that_fsync_both_arguments_fail(unsynced: Traced, tmp_path: Path) -> None:
    assert len(answered_before_synced(unsynced)) > len(unsynced.answers) // 2
    assert lost_after_power_failures(unsynced, tmp_path, 10, seed=7)
