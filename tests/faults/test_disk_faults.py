"""A disk that fails under the running daemon: no positive answer while it does, and everything goes on when it is well.

The faults are put into the system calls of the running daemon by strace, so SQLite and the kernel's interface are the
real ones. A sync that failed takes with it what it should have covered, in the judgement here as on a real disk.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from traced_daemon import TracedDaemon, exchange, missing
from traced_evidence import Traced, answered_before_synced, lost_after_power_failures, message, two_free_ports

from hl7bridge.journal.files import DATABASE

CUTS = 25
MESSAGES = 40
WAL_HEADER = 32  # bytes
WELL_WITHIN = 40  # times that all is sent again
# what fails, and which calls of the thread that writes: late enough that the daemon runs, over before the test ends
FAULTS = {
    "an fsync that fails": ("fdatasync:error=EIO:when=40..45",),
    "a full disk": ("pwrite64:error=ENOSPC:when=250..290",),
    "a disk that has become read-only": ("pwrite64:error=EROFS:when=250..290",),
}
_ANSWERS = re.compile(rb"MSA\|(\w\w)\|([^\r|]+)[^\x1c]*")


def trusted_too_early(traced: Traced) -> list[str]:
    """Messages written after a sync of the journal had failed and answered before the database was written through.

    Syncs of other files, such as bundles that are delivered meanwhile, may fail as well and are not the journal's.
    """
    database = str(traced.journal / DATABASE)
    # a log that is begun anew (its header is written) holds nothing that is needed: all of it is in the synced database
    through = [
        call.done
        for call in traced.calls
        if (call.name == "fdatasync" and call.path == database)
        or (call.name == "pwrite64" and call.path == database + "-wal" and len(call.data) == WAL_HEADER)
    ]
    writes = [call for call in traced.calls if call.name == "pwrite64" and call.path == database + "-wal"]
    failed, unsynced = [], set()
    for call in traced.calls:
        if call.name == "pwrite64":
            unsynced.add(call.path)
        elif call.name == "fdatasync":
            unsynced.discard(call.path)
        elif call.name == "failed sync" and call.path in unsynced and call.path.startswith(database):
            failed.append(call.done)
    early = []
    for control_id, answered in traced.answers.items():
        written = max(call.done for call in writes if call.done < answered and control_id.encode() in call.data)
        before = max((line for line in failed if line < written), default=None)
        if before is not None and not any(before < line < answered for line in through):
            early.append(control_id)
    return early


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_answered_positively_while_the_disk_fails_and_all_is_taken_when_it_is_well(
    tmp_path: Path, fault: str
) -> None:
    if reason := missing():
        pytest.skip(reason)
    daemon = TracedDaemon(tmp_path, two_free_ports(), inject=FAULTS[fault])
    frames = [message(f"disk-{n}.", n) for n in range(MESSAGES)]
    daemon.start()
    try:
        first = exchange(daemon.port, frames, 1)
        for _ in range(WELL_WITHIN):  # the fault lasts for a number of calls, however many messages share one
            again = exchange(daemon.port, frames, 20)
            if again.count(b"MSA|AA|") == MESSAGES:
                break
    finally:
        daemon.stop()
    told = {
        control_id: (code, answer.group())
        for answer in _ANSWERS.finditer(first)
        for code, control_id in [answer.groups()]
    }
    assert len(told) == MESSAGES, "every message has an answer"
    refused = {control_id for control_id, (code, _) in told.items() if code != b"AA"}
    assert refused, "the fault hit"
    assert all(code == b"AR" and b"|207^" in answer for code, answer in told.values() if code != b"AA")
    assert again.count(b"MSA|AA|") == MESSAGES, "sent again when the disk is well, everything is taken"
    for code, answer in told.values():
        if code == b"AA":
            assert answer in again, "what had been taken is answered as the first time"
    traced = Traced.of(daemon)
    assert len(traced.answers) == MESSAGES
    assert answered_before_synced(traced) == []
    assert trusted_too_early(traced) == []
    assert lost_after_power_failures(traced, tmp_path / "cuts", CUTS, seed=11) == []
