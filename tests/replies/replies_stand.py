"""A sender's side for application ACKs: a receiver that follows a script, and the bridge's half around a real journal."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from hl7bridge import reasons
from hl7bridge.admission import events_of
from hl7bridge.config import ApplicationAcks, Config, Listener, Retry
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.errors import MessageError
from hl7bridge.intake import Intake
from hl7bridge.joints import owe
from hl7bridge.journal.acknowledgements import Acknowledgement, Acknowledgements
from hl7bridge.journal.protocol import Change, Entry, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.framing import Frame, Framer, frame
from hl7bridge.mllp.peer import Peer
from hl7bridge.replies import Observer, Replies
from hl7bridge.replies import channel as channels
from hl7bridge.replies import replies as running

PATIENCE = 10.0
EVENTS = events_of([("ADT", "A01")])
Answer = Callable[[bytes, int], bytes | None]  # the ACK that came and which it is -> the answer, None: hang up


def message(
    control_id: str = "C1", accept: str = "AL", application: str = "AL", version: str = "2.5", **keys: str
) -> bytes:
    kind = keys.get("type", "ADT^A01")
    msh = f"MSH|^~\\&|LAB|NORTH|EHR|SOUTH|2024||{kind}|{control_id}|P|{version}|||{accept}|{application}"
    return f"{msh}\rEVN|A01\rPID|1||{control_id}7^^^MRN\r".encode()


def fields(ack: bytes, segment: bytes) -> list[bytes]:
    found = next((line.split(b"|") for line in ack.split(b"\r") if line.startswith(segment + b"|")), [])
    return [b"MSH", b"|", *found[1:]] if segment == b"MSH" and found else found


def commit(ack: bytes, code: bytes = b"CA") -> bytes:
    return b"MSH|^~\\&|LAB|NORTH|EHR|SOUTH|2024||ACK|R1|P|2.5\rMSA|" + code + b"|" + fields(ack, b"MSH")[10] + b"\r"


class Receiver:
    """Takes application ACKs. `answer` may be changed while it runs."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.connections = 0
        self.answer: Answer = lambda ack, _: commit(ack)
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self.shown: list[str] = []  # the common name of the certificate that each connection showed
        self._server: asyncio.Server | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        certificate = writer.get_extra_info("peercert") or {}
        self.shown += [value for part in certificate.get("subject", ()) for _, value in part]
        framer = Framer(1 << 20)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for event in framer.feed(data):
                    if isinstance(event, Frame):
                        self.came.append(event.payload)
                        said = self.answer(event.payload, len(self.came))
                        if said is None:
                            writer.close()
                            return
                        writer.write(frame(said))
        writer.close()

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self, "127.0.0.1", port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()


class Notes(Observer):
    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def settled(self, channel: str, code: str, state: str, message_id: str, detail: str) -> None:
        self.said.append((state, code, detail))

    def put_off(self, channel: str, code: str, why: str, attempts: int) -> None:
        self.said.append(("put-off", code, why))

    def circuit(self, channel: str, state: str, why: str) -> None:
        self.said.append(("circuit", state))

    def without_channel(self, channel: str) -> None:
        self.said.append(("without-channel", channel))


class Stand:
    """Intake and journal in one folder; `replies` runs beside where a test starts it."""

    def __init__(self, journal: SqliteJournal, keys: dict[str, Any], retry: Retry, receiver: Receiver) -> None:
        acks = ApplicationAcks(host="127.0.0.1", port=receiver.port, **keys.pop("acks", {}))
        self.listener = Listener(**{"name": "lab", "application_acks": acks, **keys})
        self.config = Config(listeners=(self.listener,), retry=retry)
        self.journal = journal
        self.rows = Acknowledgements(journal)
        self.receiver = receiver
        self.notes = Notes()
        self.untranslatable = False
        self._numbers = itertools.count(1)
        self.intake = Intake(
            self.listener, journal, EVENTS, new_id=self._new_id, owe=partial(owe, Acknowledgements(journal))
        )

    def _new_id(self) -> str:
        return f"OWN{next(self._numbers)}"

    async def why_not(self, entry: Entry) -> MessageError | None:
        return MessageError(reasons.NOT_TRANSLATABLE) if self.untranslatable else None

    async def give(self, raw: bytes) -> bytes | None:
        return await self.intake.handle(raw, Peer("192.0.2.1", 1))

    async def settle(self, control_id: str, state: State, reason: str = "") -> str:
        found = [entry async for entry in self.journal.find(Filter(control_id=control_id))]
        await self.journal.apply(Change(found[0].id, state, 1, reason=reason))
        return found[0].id

    @contextlib.asynccontextmanager
    async def replies(self, tls_observer: EndpointObserver | None = None) -> AsyncIterator[Replies]:
        made = Replies(self.journal, self.config, self.why_not, self._new_id, self.notes, tls_observer)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                met = condition()
                if met if isinstance(met, bool) else await met:
                    return
                await asyncio.sleep(0.01)

    async def until_said(self, *facts: str) -> None:
        await self.until(lambda: any(said[: len(facts)] == facts for said in self.notes.said))

    async def of(self, id: str) -> Acknowledgement:
        (row,) = await self.rows.of(id)
        return row


@contextlib.asynccontextmanager
async def stand(
    folder: Path, keys: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None, **retry: float
) -> AsyncIterator[Stand]:
    receiver = Receiver()
    receiver.tls = tls
    await receiver.listen()
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    try:
        yield Stand(
            journal, dict(keys or {}), Retry(**{"first": 0.01, "cap": 0.02, "circuit_probe": 0.05} | retry), receiver
        )
    finally:
        await journal.close()
        await receiver.close()


__all__ = ["Receiver", "Stand", "channels", "commit", "fields", "message", "running", "stand"]
