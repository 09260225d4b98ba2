"""Which event loop the daemon would run on."""

from __future__ import annotations

from collections.abc import Iterator

from hl7bridge.config import Config
from hl7bridge.errors import UnavailableError
from hl7bridge.examine.finding import Finding
from hl7bridge.looping import chosen


def event_loop(config: Config) -> Iterator[Finding]:
    try:
        loop = chosen(config.event_loop)
    except UnavailableError as error:
        yield Finding("FAIL", "event loop", str(error), "install it, or set event_loop to auto")
    else:
        yield Finding("ok", "event loop", f"{loop.told} runs the daemon")
