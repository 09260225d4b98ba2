"""Times: the zone that times without an offset are taken to be in, and this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hl7bridge import zone
from hl7bridge.config import Config
from hl7bridge.examine.finding import Finding, Grade

EARLIEST = 1_735_689_600.0  # 2025-01-01: a clock before the program's own time is not set


def zones(config: Config) -> Iterator[Finding]:
    """One finding a listener."""
    machine = str(zone.machine())
    for listener in config.listeners:
        if listener.timezone is None:
            grade: Grade = "warn" if machine in ("UTC", "Etc/UTC", "localtime") else "ok"
            remedy = "set timezone of the listener if its senders are elsewhere" if grade == "warn" else ""
            text = f"times without an offset take the machine's zone, {machine}"
            yield Finding(grade, f"listener {listener.name} zone", text, remedy)
        else:
            yield Finding("ok", f"listener {listener.name} zone", f"times without an offset are {listener.timezone}")


def clock() -> Iterator[Finding]:
    """Was it ever set?"""
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        yield Finding("FAIL", "clock", f"says {told}", "set it: MSH-7, retention and certificates depend on it")
    else:
        yield Finding("ok", "clock", f"says {told}")
