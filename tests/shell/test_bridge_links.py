"""The daemon whole, for senders that ask for more than an answer: application ACKs, sequence numbers, parts, MLLP Release 2."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import structlog
from click.testing import CliRunner
from test_bridge import answer_to, config, msa, stand_in_tables, until

from hl7bridge.bridge import Bridge
from hl7bridge.cli.messages import messages
from hl7bridge.mllp.framing import Frame, Framer, frame

__all__ = ["stand_in_tables"]  # fixtures

PATIENCE = 10.0


def admit(
    control_id: str, *, number: str = "", pointer: str = "", asks: str = "", more: str = "PID|1||7^^^NORTH^MR"
) -> bytes:
    msh = f"MSH|^~\\&|ADT|NORTH|||20240501120000||ADT^A01|{control_id}|P|2.5|{number}|{pointer}|{asks}"
    return f"{msh}\rEVN|A01\r{more}\r".encode()


@contextlib.asynccontextmanager
async def running(folder: Path, **listener: object) -> AsyncIterator[Bridge]:
    bridge = Bridge(config(folder, **listener), structlog.stdlib.get_logger("hl7bridge"))
    await bridge.start()
    try:
        yield bridge
    finally:
        await bridge.stop()


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[tuple[int, asyncio.Queue[bytes]]]:
    """A sender's own port: takes application ACKs and answers them."""
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer(1 << 20)
        while data := await reader.read(65536):
            for event in framer.feed(data):
                if isinstance(event, Frame):
                    came.put_nowait(event.payload)
                    own = event.payload.split(b"|")[9]
                    writer.write(frame(b"MSH|^~\\&|ADT|NORTH|||2024||ACK|R1|P|2.5\rMSA|CA|" + own + b"\r"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()


async def test_an_application_ack_follows_the_delivery_and_is_shown(tmp_path: Path, told: io.StringIO) -> None:
    async with receiver() as (port, came):
        channel = {"host": "127.0.0.1", "port": port}
        async with running(tmp_path, application_acks=channel) as bridge:
            accept = await answer_to(bridge.servers[0].port, admit("C1", asks="AL|AL"))
            assert msa(accept)[1:3] == [b"CA", b"C1"]
            ack = await asyncio.wait_for(came.get(), PATIENCE)
            assert msa(ack)[1:3] == [b"AA", b"C1"]
            refused = await answer_to(bridge.servers[0].port, admit("C2", asks="AL|AL").replace(b"A01|C2", b"A99|C2"))
            assert msa(refused)[1] == b"CA"
            assert msa(await asyncio.wait_for(came.get(), PATIENCE))[1:3] == [b"AE", b"C2"]
            settled = bridge.metrics.application_acks("adt", "AE", "sent")
            async with asyncio.timeout(PATIENCE):
                while not settled.value:  # noqa: ASYNC110 - a metric has no event
                    await asyncio.sleep(0.01)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{bridge.health.port}/metrics") as page,
            ):
                assert 'hl7bridge_application_acks_pending{channel="adt"} 0.0' in await page.text()
    shown = await asyncio.to_thread(CliRunner().invoke, messages, ["show", "C2"], obj=config(tmp_path))
    assert "application ACK:" in shown.output and "sent" in shown.output and "answered CA" in shown.output
    as_json = await asyncio.to_thread(CliRunner().invoke, messages, ["show", "C1", "--json"], obj=config(tmp_path))
    assert '"application_acks": [{' in as_json.output and '"code": "AA"' in as_json.output


async def test_parts_are_delivered_as_one_and_a_lonely_one_is_a_dead_letter(tmp_path: Path, told: io.StringIO) -> None:
    async with running(tmp_path, fragment_timeout=0.3) as bridge:
        port = bridge.servers[0].port
        assert msa(await answer_to(port, admit("C1", more="PID|1||7^^^NORTH^MR\rDSC|X|F")))[1] == b"AA"
        assert msa(await answer_to(port, admit("C2", pointer="X", more="PV1|1|I")))[1] == b"AA"
        (bundle,) = await until(tmp_path / "out", "*/*.json")
        assert bundle.read_bytes() == b'{"of": "C1"}'
        assert msa(await answer_to(port, admit("C3", more="PID|1||8^^^NORTH^MR\rDSC|Y|F")))[1] == b"AA"
        (letter,) = await until(tmp_path / "dlq", "incomplete/*/*/message.hl7")
        assert b"|C3|" in letter.read_bytes()
        assert msa(await answer_to(port, admit("C4", pointer="Y", more="PV1|1|I")))[1] == b"AA"
        async with asyncio.timeout(PATIENCE):
            while letter.exists():  # noqa: ASYNC110 - a directory that goes has no event
                await asyncio.sleep(0.01)


async def test_numbers_are_held_by_the_whole_daemon(tmp_path: Path, told: io.StringIO) -> None:
    async with running(tmp_path, sequence_numbers=True) as bridge:
        port = bridge.servers[0].port
        start = b"MSH|^~\\&|ADT|NORTH|||2024||^|S1|P|2.5|0\r"
        assert b"\rMSA|AA|S1||-1\r" in await answer_to(port, start)
        assert b"\rMSA|AA|C1||1\r" in await answer_to(port, admit("C1", number="1"))
        assert msa(await answer_to(port, admit("C3", number="3")))[1] == b"AE"
        await until(tmp_path / "out", "*/*.json")


async def test_mllp_release_2_says_committed_before_it_answers(tmp_path: Path, told: io.StringIO) -> None:
    async with running(tmp_path, commit_bytes=True) as bridge:
        assert await answer_to(bridge.servers[0].port, admit("C1")) == b"\x06"
        assert await answer_to(bridge.servers[0].port, b"nothing") == b"\x15"


@pytest.mark.parametrize("version", ["2.5", "2.9"])
async def test_what_nobody_takes_without_a_channel_is_counted(tmp_path: Path, told: io.StringIO, version: str) -> None:
    async with running(tmp_path) as bridge:
        raw = admit("C1", asks="AL|AL").replace(b"|2.5|", f"|{version}|".encode())
        assert msa(await answer_to(bridge.servers[0].port, raw))[1] == b"CA"
        assert bridge.metrics.application_acks_unwanted("adt").value == 1
