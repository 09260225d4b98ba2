"""A directory that takes bundles where there is no server: one file a message, whole or not at all."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from hl7bridge.delivery.disk import day, make_folder, sweep_beside, write_file
from hl7bridge.delivery.http import errno_name
from hl7bridge.delivery.outcome import Delivered, Outcome, TransportFailure, judge
from hl7bridge.delivery.shipment import Probe, Shipment


class FileEndpoint:
    """Writes `<received date>/<message-id>.json`, whole or not at all. Delivering twice gives the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def deliver(self, shipment: Shipment) -> Outcome:
        try:
            await asyncio.to_thread(self._write, shipment)
        except OSError as error:
            return judge(TransportFailure("disk", errno_name(error)), shipment.entries, time.time())
        return Delivered(201)

    async def probe(self) -> Probe:
        return await asyncio.to_thread(self._probe)

    async def close(self) -> None:
        await asyncio.to_thread(sweep_beside, self._folder)

    def _write(self, shipment: Shipment) -> None:
        path = self._folder / day(shipment.received_at) / f"{shipment.id}.json"
        write_file(self._folder, path, shipment.bundle)

    def _probe(self) -> Probe:
        trial = self._folder / f".probe-{secrets.token_hex(4)}"
        try:
            make_folder(self._folder)
            trial.write_bytes(b"")
            trial.unlink()
        except OSError as error:
            return Probe(
                False, f"{self._folder} cannot be written ({errno_name(error)}): see its owner, mode and free space"
            )
        return Probe(True, f"bundles are written to {self._folder}")
