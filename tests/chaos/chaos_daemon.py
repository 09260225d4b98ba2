"""`hl7bridge serve` under the driver's hands: started, killed, paused, started again, as a supervisor would."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
STARTS_WITHIN = 90.0
ENDS_WITHIN = 60.0


class ChaosDaemon:
    """The daemon over `folder` (configuration, log) and `state` (journal, dead letters: the file system that fills).

    `ports`: of its two listeners (the second one has application ACKs), of its health; `peers`: the endpoint's address, and the port that takes application ACKs.
    """

    def __init__(
        self,
        folder: Path,
        state: Path,
        ports: tuple[int, int, int],
        peers: tuple[str, int],
        seed: str,
        broken: str = "",
    ) -> None:
        self._choose = random.Random(f"{seed} workers")
        port, enhanced_port, self.http_port = ports
        self.state = state
        self.broken = broken
        self.config = folder / "hl7bridge.yaml"
        self.log = folder / "daemon.log"
        settings: dict[str, Any] = {
            "listeners": [
                {"name": "plain", "host": "127.0.0.1", "port": port, "timezone": "Europe/Vienna"},
                {
                    "name": "enhanced",
                    "host": "127.0.0.1",
                    "port": enhanced_port,
                    "timezone": "Europe/Vienna",
                    "application_acks": {"host": "127.0.0.1", "port": peers[1], "timeout": 2},
                },
            ],
            "journal": {"path": str(state / "journal"), "min_free_bytes": 0},
            "dead_letters": {"path": str(state / "dlq")},
            "fhir": {"base_url": peers[0], "timeout": 2, "concurrency": 4},
            "retry": {"first": 0.1, "cap": 1, "circuit_probe": 0.3},
            "observe": {"host": "127.0.0.1", "port": self.http_port, "log_format": "json", "log_level": "debug"},
            "drain_timeout": 4,
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.ended_by_itself = 0
        self.hard = False  # the disk is full: a start may fail, and is tried again

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hl7bridge", "--config", str(self.config), *words]

    async def start(self) -> None:
        """Until it is ready. One that ends on the way is started again, which only a full disk excuses."""
        until = time.monotonic() + STARTS_WITHIN
        self._spawn()
        while not await self.ready():
            assert time.monotonic() < until, f"the daemon is not ready:\n{self.tail()}"
            assert self.process is not None
            if self.process.poll() is not None:
                self.ended_by_itself += not self.hard
                await asyncio.sleep(0.3)
                self._spawn()
            await asyncio.sleep(0.03)

    def _spawn(self) -> None:
        self.starts += 1
        command = self.command("serve")
        if self.broken:
            command = [sys.executable, str(HERE / "broken_daemon.py"), self.broken, *command[3:]]
        with self.log.open("ab") as log:
            # threads, one process or two, another number each time: what is in the journal must not care
            workers = {"HL7BRIDGE_TRANSLATE__WORKERS": str(self._choose.choice([0, 0, 1, 2]))}
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **workers}
            )

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    async def ready(self) -> bool:
        def ask() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)

        try:
            return await asyncio.to_thread(ask)
        except OSError:
            return False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            assert self.process is not None
            self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        self.signal(number)
        assert self.process is not None
        await asyncio.to_thread(self.process.wait, ENDS_WITHIN)

    def kill_a_translator(self, which: float) -> bool:
        """SIGKILL for one of its translating processes; `which` from 0 to 1 says which. False: there is none."""
        assert self.process is not None
        with suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children:
                os.kill(int(children[int(which * len(children))]), signal.SIGKILL)
                return True
        return False

    async def messages(self, *filters: str) -> list[dict[str, Any]]:
        """What the journal says, in order of arrival."""
        words = self.command("messages", "list", "--json", "--limit", "100000000", *filters)
        ran = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False, timeout=600)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return [json.loads(line) for line in reversed(ran.stdout.splitlines())]

    def letters(self) -> frozenset[str]:
        """The ids of all dead letters' directories that are whole."""
        return frozenset(file.parent.name for file in (self.state / "dlq").glob("*/*/*/reason.json"))
