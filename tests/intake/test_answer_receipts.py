"""The receipts say of every answer whether it was written to the socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path

from recording_journal import RecordingJournal

from hl7bridge.admission import events_of
from hl7bridge.config import Listener
from hl7bridge.intake import Intake
from hl7bridge.mllp.client import MllpClient
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.server import MllpServer

EVENTS = events_of([("ADT", "A01")])


def message(control_id: str) -> bytes:
    return f"MSH|^~\\&|A|B|C|D|20240101||ADT^A01|{control_id}|P|2.5\rPID|1||7\r".encode()


@contextlib.asynccontextmanager
async def listening(journal: RecordingJournal):  # type: ignore[no-untyped-def]
    listener = Listener(host="127.0.0.1", port=0)
    intake = Intake(listener, journal, EVENTS)  # type: ignore[arg-type]
    server = MllpServer(listener, intake.handle, intake.refuse)
    await server.start()
    try:
        yield server.port
    finally:
        await server.drain(5)


async def test_an_answer_that_was_written_is_noted_and_a_resend_s_as_such() -> None:
    journal = RecordingJournal()
    async with listening(journal) as port, MllpClient("127.0.0.1", port) as client:
        await client.send(message("C1"))
        await client.send(message("C1"))
    assert journal.answers == [(0, True, False), (0, True, True)]


async def test_each_message_of_a_batch_has_its_answer_noted() -> None:
    journal = RecordingJournal()
    async with listening(journal) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame(b"BHS|^~\\&|A\r" + message("C1") + message("C2") + b"BTS|2\r"))
        await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 5)
        writer.close()
        await writer.wait_closed()
    assert [written for _, written, _ in journal.answers] == [True, True]


async def test_an_answer_for_a_sender_that_reset_the_connection_meanwhile_is_noted_as_not_written() -> None:
    journal = RecordingJournal()
    journal.go.clear()
    async with listening(journal) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame(message("C1")))
        await writer.drain()
        async with asyncio.timeout(5):
            while not journal.came:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await asyncio.sleep(0.1)
        journal.go.set()
        async with asyncio.timeout(5):
            while not journal.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert journal.answers == [(0, False, False)]


def test_the_answer_itself_is_nothing_but_bytes(tmp_path: Path) -> None:
    from hl7bridge.mllp.gate import Reply

    said: list[bool] = []
    reply = Reply(b"MSH|", said.append)
    assert reply == b"MSH|"
    assert b"".join([reply, b"x"]) == b"MSH|x"
    reply.sent(True)
    assert said == [True]
