"""The whole examination, in the order a message takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hl7bridge.config import Config
from hl7bridge.examine import disks, ports
from hl7bridge.examine.at_rest import at_rest
from hl7bridge.examine.endpoint import application_acks, endpoint
from hl7bridge.examine.finding import Finding
from hl7bridge.examine.loop import event_loop
from hl7bridge.examine.tables import tables
from hl7bridge.examine.times import clock, zones


async def examine(config: Config) -> list[Finding]:
    """Everything, in the order a message takes."""
    running = await ports.is_running(config)
    findings = [
        *ports.ports(config, running),
        *ports.files_limit(config),
        *disks.journal(config),
        *disks.folder("dead letters", Path(config.dead_letters.path), "dead_letters.path"),
        *at_rest(config),
        *await asyncio.to_thread(lambda: list(tables(config))),
        *zones(config),
        *clock(),
        *event_loop(config),
    ]
    return [*findings, *await endpoint(config), *await application_acks(config)]
