"""A real daemon whose translating processes are killed, and whose tables are read again, while messages come."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
WITHIN = 120.0  # seconds for what takes a few on a quiet machine
MESSAGES = 60
ADMIT = (SAMPLES / "adt_a01_admit.hl7").read_bytes().replace(b"\n", b"\r")
CONTROL_ID = ADMIT.split(b"|")[9]
CONFIG = """
listeners: [{name: adt, host: 127.0.0.1, port: 0}]
observe: {host: 127.0.0.1, port: 0, log_format: json}
journal: {min_free_bytes: 0}
translate: {workers: 2}
"""


def children(of: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == of and state != "Z":
            found.append(int(stat.parent.name))
    return found


async def until_ready(log: asyncio.StreamReader) -> int:
    """The listener's port."""
    port = 0
    async for line in log:
        if b"listening" in line and (found := re.search(rb'"port":(\d+)', line)):
            port = int(found[1])
        if b'"ready"' in line:
            return port
    raise AssertionError("the daemon did not start")


async def read_away(log: asyncio.StreamReader, into: list[bytes]) -> None:
    async for line in log:
        into.append(line)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    (tmp_path / "site.yaml").write_text(CONFIG)
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hl7bridge",
        "--config",
        "site.yaml",
        "serve",
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    yield running
    if running.returncode is None:
        running.kill()
        await running.wait()


async def test_every_message_is_delivered_while_processes_die_and_tables_change(
    daemon: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    assert daemon.stderr is not None
    lines: list[bytes] = []
    async with asyncio.timeout(WITHIN):
        port = await until_ready(daemon.stderr)
        reading = asyncio.create_task(read_away(daemon.stderr, lines))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(MESSAGES):
            writer.write(b"\x0b" + ADMIT.replace(CONTROL_ID, b"C%d" % number) + b"\x1c\r")
            assert b"MSA|CA" in await reader.readuntil(b"\x1c\r")
            if number == MESSAGES // 3:
                daemon.send_signal(signal.SIGHUP)
            if number in (0, MESSAGES // 2):
                for pid in children(daemon.pid)[:1]:
                    os.kill(pid, signal.SIGKILL)
        writer.close()
        while len(list((tmp_path / "var" / "out").rglob("*.json"))) < MESSAGES:
            assert not list((tmp_path / "var" / "dlq").rglob("*.hl7"))
            await asyncio.sleep(0.05)
        left = children(daemon.pid)
        daemon.send_signal(signal.SIGTERM)
        assert await daemon.wait() == 0
        await reading
    assert left
    assert not [pid for pid in left if os.path.exists(f"/proc/{pid}")]  # noqa: ASYNC240, PTH110
    assert any(b"tables activated" in line for line in lines)
    assert any(b"it is replaced" in line for line in lines)
