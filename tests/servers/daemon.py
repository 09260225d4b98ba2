"""A running daemon for the tests that need the whole house: `hl7bridge serve` as a process, and what to ask it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

STARTS_WITHIN = 60.0  # seconds; two cores may be busy with a FHIR server
STOPS_WITHIN = 60.0


class Daemon:
    """`hl7bridge serve` over its own folder. The ports stay the same over restarts, so senders find it again."""

    def __init__(self, folder: Path, mllp_port: int, http_port: int, base_url: str, **more: Any) -> None:
        self.folder = folder
        self.port = mllp_port
        self.http_port = http_port
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "hl7bridge.yaml"
        settings: dict[str, Any] = {
            "listeners": [
                {"host": "127.0.0.1", "port": mllp_port, "timezone": "Europe/Vienna", **more.pop("listener", {})}
            ],
            "journal": {"path": str(folder / "journal")},
            "dead_letters": {"path": str(folder / "dlq")},
            "fhir": {"base_url": base_url, **more.pop("fhir", {})},
            "observe": {"host": "127.0.0.1", "port": http_port, "log_format": "json"},
            **more,
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hl7bridge", "--config", str(self.config), *words]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command("serve"), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + STARTS_WITHIN
        while not self.ready():
            assert self.process.poll() is None, f"the daemon ended:\n{self.tail()}"
            assert time.monotonic() < until, f"the daemon is not ready:\n{self.tail()}"
            time.sleep(0.02)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(STOPS_WITHIN)

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        environment: Mapping[str, str] = {**os.environ, "COLUMNS": "160"}
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )

    def messages(self, *filters: str) -> list[dict[str, Any]]:
        answer = self.run("messages", "list", "--json", "--limit", "1000000", *filters)
        assert answer.returncode == 0, answer.stderr
        return [json.loads(line) for line in answer.stdout.splitlines()]

    def settled(self, within: float) -> list[dict[str, Any]]:
        """Waits until every message is delivered or dead; all messages."""
        until = time.monotonic() + within
        while True:
            waiting = len(self.messages("--state", "received")) + len(self.messages("--state", "waiting"))
            if not waiting:
                return self.messages()
            assert time.monotonic() < until, f"{waiting} messages are still waiting:\n{self.tail()}"
            time.sleep(1.0)
