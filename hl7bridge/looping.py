"""Which event loop runs the daemon: uvloop where it is installed (`pip install hl7bridge[fast]`), else asyncio's own.

Both keep the same promises; the tests of the ports, the endpoint and the daemon run with either. uvloop takes a fifth
of the main process' CPU away (docs/decisions/0039-uvloop-where-it-is-installed.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from hl7bridge.errors import UnavailableError

Wanted = Literal["auto", "asyncio", "uvloop"]


@dataclass(frozen=True, slots=True)
class Loop:
    """`make` gives a new one; None: as asyncio makes it. `told`: its name and version, for log and doctor."""

    told: str
    make: Callable[[], asyncio.AbstractEventLoop] | None = None


def chosen(wanted: Wanted) -> Loop:
    """Raises UnavailableError where `uvloop` is asked for by name and is not there."""
    if wanted == "asyncio":
        return Loop("asyncio")
    try:
        uvloop = import_module("uvloop")
    except ImportError:
        if wanted == "uvloop":
            raise UnavailableError("event_loop: uvloop is not installed: pip install 'hl7bridge[fast]'") from None
        return Loop("asyncio")
    return Loop(f"uvloop {uvloop.__version__}", uvloop.new_event_loop)
