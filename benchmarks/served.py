"""`hl7bridge serve` in a process of its own over a temporary folder, for the benchmarks.

Its modules are compiled, as an installation has them, also where the shell forbids Python to keep what it compiled.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bare import free_port, wait_for_port

QUIET_LOOKS = 6  # looks in a row, a tenth of a second apart, at which no CPU time was used


@cache
def compiled() -> Mapping[str, str]:
    """The environment of this process, in which Python keeps compiled modules: in a folder of this run if need be."""
    environment = dict(os.environ)
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        folder = tempfile.mkdtemp(prefix="hl7bridge-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        environment["PYTHONPYCACHEPREFIX"] = folder
    return environment


class Served:
    """A running daemon. `base_url`: of the FHIR endpoint; default a directory. `settings`: further HL7BRIDGE_* keys."""

    def __init__(self, base_url: str | None = None, folder: Path | None = None, **settings: str) -> None:
        self._temporary = tempfile.TemporaryDirectory()
        self.port, self.http = free_port(), free_port()
        base = self.folder = folder or Path(self._temporary.name)
        environment = {
            **compiled(),
            "HL7BRIDGE_LISTENERS__0__PORT": str(self.port),
            "HL7BRIDGE_LISTENERS__0__HOST": "127.0.0.1",
            "HL7BRIDGE_JOURNAL__PATH": str(base / "journal"),
            "HL7BRIDGE_DEAD_LETTERS__PATH": str(base / "dlq"),
            "HL7BRIDGE_FHIR__BASE_URL": base_url or f"file:{base / 'out'}",
            "HL7BRIDGE_OBSERVE__PORT": str(self.http),
            "HL7BRIDGE_OBSERVE__HOST": "127.0.0.1",
            "HL7BRIDGE_OBSERVE__LOG_LEVEL": "error",
            **{f"HL7BRIDGE_{key}": value for key, value in settings.items()},
        }
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hl7bridge", "serve"], env=environment, cwd=base, stdout=subprocess.DEVNULL
        )
        wait_for_port(self.port, alive=lambda: self.process.poll() is None)
        self.started_in = time.perf_counter() - begin  # seconds from the command to a port that answers

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 while there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = (line for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(line.rpartition(" ")[2]) for line in found if all(part in line for part in wanted))

    def resident(self) -> int:
        """Bytes in memory of the daemon itself, without its translating processes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def resident_translators(self) -> list[int]:
        """The same of each translating process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        texts = [Path(f"/proc/{child}/status").read_text() for child in children]
        return [int(text.partition("VmRSS:")[2].split()[0]) * 1024 for text in texts]

    def settle(self, within: float = 60.0) -> None:
        """Returns when the daemon and its translating processes have nothing to do: a start is over, a feed is done."""
        until, quiet, before = time.monotonic() + within, 0, -1
        while quiet < QUIET_LOOKS and time.monotonic() < until:
            time.sleep(0.1)
            ticks = self._ticks()
            quiet = quiet + 1 if ticks <= before + 1 else 0
            before = ticks

    def _ticks(self) -> int:
        """CPU time of the daemon and its children, in hundredths of a second."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in (str(pid), *children)]
        return sum(int(line[11]) + int(line[12]) for line in lines)

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._temporary.cleanup()
