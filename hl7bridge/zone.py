"""Time zones by name; "machine" is the zone this machine is set to.

A v2 time without an offset means the sender's local time. It takes the zone the site configured, never UTC by guess.
"""

from __future__ import annotations

import os
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MACHINE = "machine"
_LOCALTIME = Path("/etc/localtime")
_MARK = "zoneinfo/"


def named(name: str) -> tzinfo:
    """The zone called `name` (Europe/Vienna), or the machine's. Raises ValueError for a name nobody knows."""
    if name == MACHINE:
        return machine()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone called {name!r}; use a name like Europe/Vienna, or {MACHINE!r}"
        ) from None


def machine() -> tzinfo:
    """TZ, else what /etc/localtime points to or holds, else UTC because a machine without a zone runs on it."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    try:
        target = str(_LOCALTIME.resolve(strict=True))
        if _MARK in target:
            return ZoneInfo(target.rpartition(_MARK)[2])
        with _LOCALTIME.open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
