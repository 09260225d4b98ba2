"""`hl7bridge mappings watch` as a process: a report now, one after each save, a quiet end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GOOD = Path(__file__).parents[1] / "mapping" / "good"
WITHIN = 60.0  # seconds


class Watching:
    def __init__(self, folder: Path) -> None:
        words = [sys.executable, "-m", "hl7bridge", "mappings", "watch", "--alone", str(folder)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def until(self, reports: int) -> str:
        """The newest report, once there are so many."""
        end = time.monotonic() + WITHIN
        while self.text.count("Ctrl-C ends.") < reports:
            assert time.monotonic() < end, self.text
            time.sleep(0.02)
        return self.text.split("Ctrl-C ends.")[reports - 1]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "site"))


@pytest.fixture
def watching(site: Path) -> Iterator[Watching]:
    running = Watching(site)
    yield running
    running.process.kill()
    running.process.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_every_save_is_followed_by_a_report(watching: Watching, site: Path) -> None:
    assert "ok: 3 of 3 examples hold" in watching.until(1)
    file = site / "segments" / "PID-Patient.yaml"
    good = file.read_text()
    file.write_text(good.replace("EVERYWOMAN}", "SOMEBODY}"))
    report = watching.until(2)
    assert "PID-Patient.yaml" in report and '- expected  "SOMEBODY"' in report and '+ found     "EVERYWOMAN"' in report
    file.write_text(good.replace("to: name", "to: nmae"))
    assert "did you mean 'name'?" in watching.until(3)
    file.write_text(good)
    assert "ok: 3 of 3 examples hold" in watching.until(4)
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(WITHIN) == 0
    assert "Traceback" not in watching.text
