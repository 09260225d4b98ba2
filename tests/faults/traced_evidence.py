"""What a trace proves: which answers came before their fsync, and what a power failure would have taken."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from power_loss import Disk
from traced_daemon import Call, TracedDaemon

from hl7bridge.errors import JournalError
from hl7bridge.journal.files import DATABASE
from hl7bridge.journal.protocol import Filter
from hl7bridge.journal.sqlite import SqliteJournal

_ANSWER = re.compile(rb"MSA\|AA\|([^\r|]+)")


@dataclass
class Traced:
    """The calls, and on which line the positive answer of each control id began to be sent."""

    journal: Path
    calls: list[Call]
    answers: dict[str, int]

    @classmethod
    def of(cls, daemon: TracedDaemon) -> Traced:
        """Of a daemon that has ended."""
        calls = daemon.calls()
        answers: dict[str, int] = {}
        for call in calls:
            if call.name in ("sendto", "sendmsg", "write", "writev") and call.path.startswith("socket"):
                for control_id in _ANSWER.findall(call.data):
                    answers.setdefault(control_id.decode(), call.begun)
        return cls(daemon.journal, calls, answers)


def message(control_id: str, patient: int) -> bytes:
    return (
        (
            f"MSH|^~\\&|POWER|TEST|||20240305143012+0100||ADT^A08|{control_id}|P|2.5.1\r"
            f"EVN|A08|20240305143012+0100\rPID|1||P{patient}^^^T&1.2.3.4&ISO^MR||Test^Power||19610317|F\r"
        ).encode()
        + b"NTE|1||"
        + b"x" * 700
        + b"\r"
    )


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def answered_before_synced(traced: Traced) -> list[str]:
    """The control ids whose answer began before a sync that covers their message had come back."""
    log = str(traced.journal / DATABASE) + "-wal"
    writes = [call for call in traced.calls if call.name == "pwrite64" and call.path == log]
    syncs = [call for call in traced.calls if call.name in ("fdatasync", "fsync") and call.path == log]
    late = []
    for control_id, answered in traced.answers.items():
        written = next((call.done for call in writes if control_id.encode() in call.data), None)
        assert written is not None, "the message was never seen in the log"
        if not any(sync.begun > written and sync.done < answered for sync in syncs):
            late.append(control_id)
    return late


def lost_after_power_failures(traced: Traced, folder: Path, cuts: int, seed: int) -> list[str]:
    """What a power failure at random moments took although it was answered, or why the journal did not open."""
    choose = random.Random(seed)
    last = max(traced.answers.values())
    first = min(traced.answers.values())
    moments = sorted(choose.choice([choose.randrange(first, last + 2), choose.choice(list(traced.answers.values())) + 1])
                     for _ in range(cuts))  # fmt: skip
    disk, place, lost = Disk(traced.journal), 0, []
    for number, moment in enumerate(moments):
        while place < len(traced.calls) and traced.calls[place].done < moment:
            disk.play(traced.calls[place])
            place += 1
        left = folder / f"cut{number}"
        disk.cut(left, choose)
        told = {control_id for control_id, line in traced.answers.items() if line < moment}
        try:
            found = asyncio.run(_control_ids(left))
        except (JournalError, sqlite3.Error) as error:
            lost.append(f"cut {number}: {error}")
            continue
        lost += [f"cut {number}: {control_id}" for control_id in told - found]
    return lost


async def _control_ids(folder: Path) -> set[str]:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    try:
        return {entry.control_id async for entry in journal.find(Filter(), with_raw=True) if entry.raw}
    finally:
        await journal.close()
