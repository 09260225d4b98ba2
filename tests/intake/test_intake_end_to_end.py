"""Sockets, framing, policy and the SQLite journal together: what a sender sees is what is on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.admission import events_of
from hl7bridge.config import Listener
from hl7bridge.hl7v2.batch import split
from hl7bridge.intake import Intake
from hl7bridge.journal.protocol import Filter, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.client import MllpClient
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.server import MllpServer

CORPUS = Path(os.environ.get("HL7BRIDGE_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
FILES = sorted((CORPUS / "messages").glob("*.hl7"))
EVENTS = events_of([("ADT", f"A{n:02}") for n in (1, 2, 3, 4, 8)] + [("ORU", "R01")])


def message(control_id: str, type: str = "ADT^A01") -> bytes:
    return f"MSH|^~\\&|A|B|C|D|20240101||{type}|{control_id}|P|2.5\rPID|1||7\r".encode()


@contextlib.asynccontextmanager
async def running(folder: Path, **keys: Any) -> AsyncIterator[tuple[int, SqliteJournal, MllpServer]]:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    listener = Listener(**{"host": "127.0.0.1", "port": 0, **keys})
    intake = Intake(listener, journal, EVENTS)
    server = MllpServer(listener, intake.handle, intake.refuse)
    await server.start()
    try:
        yield server.port, journal, server
    finally:
        await server.drain(5)
        await journal.close()


async def stored(journal: SqliteJournal) -> list[str]:
    return [entry.control_id async for entry in journal.find(Filter())]


async def test_what_is_accepted_is_on_disk_in_the_order_it_came(tmp_path: Path) -> None:
    async with running(tmp_path) as (port, journal, _), MllpClient("127.0.0.1", port, window=50) as client:
        replies = await asyncio.gather(*(client.send(message(f"C{i:03}")) for i in range(200)))
        assert {reply.ack_code for reply in replies} == {b"AA"}
        assert await stored(journal) == [f"C{i:03}" for i in range(200)]


async def test_a_resend_after_a_lost_answer_and_a_restart_gets_the_first_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as (port, _, server):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frame(message("C1")))
        await writer.drain()
        writer.close()  # nobody reads the answer
        await writer.wait_closed()
        await server.drain(5)
    async with running(tmp_path) as (port, journal, _), MllpClient("127.0.0.1", port) as client:
        [entry] = [entry async for entry in journal.find(Filter())]
        reply = await client.send(message("C1"))
        assert reply.accepted
        assert (await client.send(message("C1"))).raw == reply.raw
        assert await stored(journal) == ["C1"]
        assert (entry.state, entry.ack_code, entry.raw) == (State.RECEIVED, "AA", message("C1"))


async def test_a_batch_a_parked_and_a_refused_message(tmp_path: Path) -> None:
    async with running(tmp_path, unknown_events="park", max_message_bytes=1000) as (port, journal, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        batch = b"BHS|^~\\&|A\r" + message("C1") + message("C2", "XXX^Y01") + message("") + b"BTS|3\r"
        writer.write(frame(batch) + frame(b"junk") + b"\x0b" + message("C3") + b"x" * 1000 + b"\x1c\r")
        answers = await asyncio.wait_for(reader.read(), 5)
        assert [part[:9] for part in answers.split(b"\r") if part.startswith(b"MSA")] == [
            b"MSA|AA|C1", b"MSA|AA|C2", b"MSA|AE|", b"MSA|AE|", b"MSA|AE|C3"
        ]  # fmt: skip
        assert await stored(journal) == ["C1", "C2"]
        dead = [entry async for entry in journal.find(Filter(states=(State.DEAD,)))]
        assert [(entry.control_id, entry.reason) for entry in dead] == [("C2", "unsupported-type")]
        writer.close()
        await writer.wait_closed()


async def test_a_full_journal_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path, min_free_bytes=0, max_backlog=1)
    listener = Listener(host="127.0.0.1", port=0)
    intake = Intake(listener, journal, EVENTS)
    server = MllpServer(listener, intake.handle, intake.refuse)
    await server.start()
    async with MllpClient("127.0.0.1", server.port) as client:
        assert (await client.send(message("C1"))).ack_code == b"AA"
        assert (await client.send(message("C2"))).ack_code == b"AR"
        assert (await client.send(message("C1"))).ack_code == b"AA"  # it is stored, whatever the backlog
    await server.drain(5)
    assert await stored(journal) == ["C1"]
    await journal.close()


@pytest.mark.corpus
async def test_real_messages_are_all_answered_and_what_is_accepted_is_stored(tmp_path: Path) -> None:
    if not FILES:
        pytest.skip("no corpus of real messages: set HL7BRIDGE_CORPUS")
    silent = (b"|NE|NE", b"|ER")
    pieces = [piece.raw for file in FILES for piece in split(file.read_bytes())]
    async with (
        running(tmp_path, charset_fallback="cp1252") as (port, journal, _),
        MllpClient("127.0.0.1", port, timeout=5) as client,
    ):
        accepted = 0
        for raw in pieces:
            if any(mark in raw[:400].split(b"\r")[0] for mark in silent):
                await client.post(raw)
            else:
                accepted += (await client.send(raw)).accepted
        assert client.connected_times == 1
        assert accepted > 40
        assert len(await stored(journal)) >= accepted
