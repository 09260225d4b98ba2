"""What a sender in enhanced mode is answered, captured: samples/enhanced through intake, journal, tables and channel.

The clock and the ids are pinned, so that the same comes out each time; everything else is what the daemon runs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hl7bridge import load_mappings, translate
from hl7bridge.admission import events_of
from hl7bridge.config import ApplicationAcks, Config, Listener
from hl7bridge.errors import MessageError
from hl7bridge.intake import Intake
from hl7bridge.joints import owe
from hl7bridge.journal.acknowledgements import Acknowledgements
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.framing import Frame, Framer, frame
from hl7bridge.mllp.peer import Peer
from hl7bridge.replies import Replies

ZONE = ZoneInfo("Europe/Vienna")
NOW = datetime(2024, 3, 5, 14, 31, 30, tzinfo=ZONE).timestamp()
COMES_WITHIN = 20.0  # seconds
_BLOCK = re.compile(r"<!-- answers: (\w+) -->\n\n```\n[^`]*```")


def answers(samples: Path) -> dict[str, bytes]:
    """samples/enhanced/expected: file name to content. NAME.accept.hl7 and, where one is owed, NAME.application.hl7.

    Segments end with LF, as in the samples themselves.
    """
    with _in(ZONE):
        found = asyncio.run(_answers(sorted((samples / "enhanced").glob("*.hl7"))))
    return {name: answer.replace(b"\r", b"\n") for name, answer in found.items()}


def with_answers(text: str, answered: dict[str, bytes]) -> str:
    """A page whose blocks below `<!-- answers: NAME -->` are the answers to that sample."""

    def block(found: re.Match[str]) -> str:
        names = [f"{found[1]}.{kind}.hl7" for kind in ("accept", "application")]
        told = "\n".join(answered[name].decode() for name in names if name in answered)
        return f"<!-- answers: {found[1]} -->\n\n```\n{told}```"

    return _BLOCK.sub(block, text)


async def _answers(files: list[Path]) -> dict[str, bytes]:
    came: asyncio.Queue[bytes] = asyncio.Queue()
    server = await asyncio.start_server(partial(_receive, came=came), "127.0.0.1", 0)
    channel = ApplicationAcks(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    listener = Listener(name="epic", application_acks=channel, timezone=str(ZONE))
    tables, found, numbers = load_mappings(), {}, itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        journal = await SqliteJournal.open(folder, min_free_bytes=0, clock=lambda: NOW)
        ids = partial(_id, numbers)
        intake = Intake(listener, journal, events_of(tables.events), clock=lambda: NOW, zone=ZONE, new_id=ids,
                        owe=partial(owe, Acknowledgements(journal)))  # fmt: skip
        replies = Replies(journal, Config(listeners=(listener,)), _never, ids, clock=lambda: NOW)
        running = asyncio.create_task(replies.run())
        try:
            for file in files:
                raw = file.read_bytes()
                accept: Any = await intake.handle(raw, Peer("127.0.0.1", 1))
                found[f"{file.stem}.accept.hl7"] = bytes(accept)
                await _settle(journal, raw, tables)
                if raw.split(b"|")[15] == b"AL":
                    found[f"{file.stem}.application.hl7"] = await asyncio.wait_for(came.get(), COMES_WITHIN)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            server.close()
            await journal.close()
    return found


async def _settle(journal: SqliteJournal, raw: bytes, tables: Any) -> None:
    """As the worker does it: delivered, or a dead letter for the tables' reason."""
    (entry,) = [entry async for entry in journal.find(Filter(states=(State.RECEIVED,)))]
    try:
        translate(raw, tables)
    except MessageError as error:
        await journal.apply(Change(entry.id, State.DEAD, 1, reason=error.reason.code, at=NOW))
    else:
        await journal.apply(Change(entry.id, State.DELIVERED, 1, at=NOW))


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came: asyncio.Queue[bytes]) -> None:
    """The sender's side: takes application ACKs, and answers them as they ask."""
    framer = Framer(1 << 20)
    while data := await reader.read(65536):
        for event in framer.feed(data):
            if isinstance(event, Frame):
                came.put_nowait(event.payload)
                own = event.payload.split(b"|")[9]
                head = b"MSH|^~\\&|EPIC|LAKESIDE|HL7BRIDGE|LAKESIDE|20240305143131+0100||ACK|300501|P|2.5.1"
                writer.write(frame(head + b"\rMSA|CA|" + own + b"\r"))
    writer.close()


async def _never(_: object) -> MessageError | None:
    return None  # only `after: translated` asks


def _id(numbers: Iterator[int]) -> str:
    return f"5b1f0a2c7d{next(numbers):010d}"


@contextmanager
def _in(zone: ZoneInfo) -> Iterator[None]:
    """Local time is that of the samples, whatever machine makes the documents."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = str(zone)
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
