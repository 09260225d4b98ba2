"""The daemon whole: start, run, drain, stop, over real sockets, a real journal and a folder as endpoint.

Only the tables are a stand-in, so that these tests are about the daemon: ADT^A01 is known and becomes `{"of": …}`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from hl7bridge import bridge as bridging
from hl7bridge import reasons, reloading
from hl7bridge.bridge import Bridge
from hl7bridge.config import Config, Settings
from hl7bridge.config.tree import Tree
from hl7bridge.errors import JournalError, PeerError, UnavailableError

ADMIT = b"MSH|^~\\&|ADT|NORTH|||20240501120000||ADT^A01|%s|P|2.5\rEVN|A01\rPID|1||%s^^^NORTH^MR||EVERYWOMAN^EVE\r"
ANSWER_WITHIN = 5.0  # seconds


class Tables:
    """Stands for TableSets: knows ADT^A01 and ADT^A99."""

    sets: Mapping[tuple[str, ...], Any]
    version = "abc"
    types = frozenset({"ADT^A01", "ADT^A99"})
    stores_lineage = False

    def __init__(self, _config: Config) -> None:
        self.sets = {(): self}

    @property
    def mappings(self) -> Tables:
        return self

    def versions(self, _listener: object) -> list[str]:
        return ["abc"]

    def events(self, _listener: object) -> frozenset[tuple[str, str]]:
        return frozenset({("ADT", "A01"), ("ADT", "A99")})

    def setting(self, _listener: str, _header: object, _peer: str = "") -> Setting:
        return Setting()


class EventsOnly:
    version = "abc"
    events = frozenset({("ADT", "A01")})


@dataclass
class Setting:
    mappings: object = field(default_factory=EventsOnly)
    zone: tzinfo | None = None
    charset_fallback: str | None = None
    tokens: object = None


@dataclass
class Translated:
    bundle: bytes
    entries: int = 1
    mapping_version: str = "abc"
    issues: dict[Any, int] = field(default_factory=dict)


def translate(raw: bytes, *_: object, **__: object) -> Translated:
    if b"A99" in raw:
        raise PeerError(reasons.NOT_TRANSLATABLE)
    return Translated(json.dumps({"of": raw.split(b"|")[9].decode()}).encode())


@pytest.fixture(autouse=True)
def stand_in_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sets(Tables):
        def __init__(self, config: Config) -> None:
            self.sets = {(): EventsOnly()}

    monkeypatch.setattr(reloading.activation, "from_folders", lambda config: (Sets(config), "abc"))
    monkeypatch.setattr(reloading.Reloading, "_keep", lambda _: None)
    monkeypatch.setattr("hl7bridge.translators.answer.translate", translate)


def config(folder: Path, **listener: object) -> Config:
    return Config.model_validate(
        {
            "listeners": [{"name": "adt", "host": "127.0.0.1", "port": 0, **listener}],
            "observe": {"host": "127.0.0.1", "port": 0},
            "journal": {"path": str(folder / "journal"), "min_free_bytes": 0},
            "fhir": {"base_url": f"file:{folder / 'out'}"},
            "dead_letters": {"path": str(folder / "dlq")},
            "translate": {"workers": 0},
            "drain_timeout": 5,
        }
    )


@pytest.fixture
async def bridge(tmp_path: Path, told: io.StringIO) -> AsyncIterator[Bridge]:
    running = Bridge(config(tmp_path), structlog.stdlib.get_logger("hl7bridge"))
    await running.start()
    yield running
    await running.stop()


async def answer_to(port: int, payload: bytes) -> bytes:
    """Sends one frame, gives the payload of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x0b" + payload + b"\x1c\r")
    answer = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), ANSWER_WITHIN)
    writer.close()
    await writer.wait_closed()
    return answer[1:-2]


def msa(answer: bytes) -> list[bytes]:
    return next(line for line in answer.split(b"\r") if line.startswith(b"MSA")).split(b"|")[:3]


async def until(folder: Path, pattern: str, count: int = 1) -> list[Path]:
    """Waits until so many files are there."""
    async with asyncio.timeout(ANSWER_WITHIN):
        while len(found := sorted(folder.glob(pattern))) < count:  # noqa: ASYNC110, ASYNC240 (files, not ours to signal)
            await asyncio.sleep(0.005)
    return found


async def get(bridge: Bridge, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{bridge.health.port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_a_message_is_acknowledged_and_its_bundle_written(bridge: Bridge, tmp_path: Path) -> None:
    answer = await answer_to(bridge.servers[0].port, ADMIT % (b"C1", b"12345"))
    assert msa(answer) == [b"MSA", b"AA", b"C1"]
    (file,) = await until(tmp_path / "out", "*/*.json")
    assert json.loads(file.read_bytes()) == {"of": "C1"}


async def test_a_message_that_cannot_be_translated_becomes_a_dead_letter(bridge: Bridge, tmp_path: Path) -> None:
    await answer_to(bridge.servers[0].port, (ADMIT % (b"C1", b"12345")).replace(b"ADT^A01", b"ADT^A99"))
    (reason,) = await until(tmp_path / "dlq", "*/*/*/reason.json")
    assert reason.parts[-4] == "not-translatable"


async def test_it_is_ready_once_it_has_started_and_not_while_it_drains(bridge: Bridge) -> None:
    status, text = await get(bridge, "/readyz")
    assert status == 200, text
    assert json.loads(text)["checks"]["listeners"]["detail"] == f"adt on {bridge.servers[0].port}"
    assert (await get(bridge, "/healthz"))[0] == 200
    await bridge.drain()
    status, text = await get(bridge, "/readyz")
    assert (status, json.loads(text)["failing"]) == (503, ["phase"])


async def test_a_journal_that_cannot_be_written_makes_it_unhealthy(bridge: Bridge, tmp_path: Path) -> None:
    (tmp_path / "journal").rename(tmp_path / "gone")
    try:
        assert (await get(bridge, "/healthz"))[0] == 503
    finally:
        (tmp_path / "gone").rename(tmp_path / "journal")


async def test_metrics_count_what_happened(bridge: Bridge, tmp_path: Path) -> None:
    await answer_to(bridge.servers[0].port, ADMIT % (b"C1", b"12345"))
    await until(tmp_path / "out", "*/*.json")
    await answer_to(bridge.servers[0].port, ADMIT % (b"C1", b"12345"))
    await answer_to(bridge.servers[0].port, b"MSH|^~\\&|A|B|||20240501120000||ZZZ^SECRET|C2|P|2.5\r")
    await bridge.drain()
    _, text = await get(bridge, "/metrics")
    for line in (
        'hl7bridge_received_total{listener="adt",type="ADT^A01"} 2.0',
        'hl7bridge_received_total{listener="adt",type="other"} 1.0',
        'hl7bridge_acknowledged_total{code="AA",listener="adt",reason=""} 2.0',
        'hl7bridge_acknowledged_total{code="AR",listener="adt",reason="unsupported-type"} 1.0',
        'hl7bridge_duplicates_total{listener="adt"} 1.0',
        'hl7bridge_translated_total{listener="adt",type="ADT^A01"} 1.0',
        'hl7bridge_delivered_total{listener="adt",type="ADT^A01"} 1.0',
        'hl7bridge_receive_to_ack_seconds_count{listener="adt"} 3.0',
        'hl7bridge_receive_to_delivered_seconds_count{listener="adt"} 1.0',
        'hl7bridge_connections_total{listener="adt"} 3.0',
        'hl7bridge_open_connections{listener="adt"} 0.0',
        'hl7bridge_build_info{mapping_version="abc",version="0.1.0"} 1.0',
        "hl7bridge_undelivered 0.0",
    ):
        assert line in text.splitlines()
    assert "SECRET" not in text


async def test_nothing_of_a_message_is_logged(bridge: Bridge, told: io.StringIO, tmp_path: Path) -> None:
    await answer_to(bridge.servers[0].port, ADMIT % (b"CONTROL", b"12345"))
    await until(tmp_path / "out", "*/*.json")
    await bridge.drain()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    events = [line["event"] for line in lines]
    assert events[:2] == ["health and metrics", "journal open"]
    assert {"tables loaded", "dead letters", "delivering", "listening in clear text", "ready", "drained"} <= set(events)
    assert not [line for line in lines if "dropped_fields" in line]
    for sentinel in ("CONTROL", "12345", "EVERYWOMAN", "NORTH"):
        assert sentinel not in told.getvalue()


async def test_draining_answers_what_came_whole_and_the_next_start_goes_on(
    bridge: Bridge, tmp_path: Path, told: io.StringIO
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.servers[0].port)
    frames = b"".join(b"\x0b" + ADMIT % (b"C%d" % n, b"P%d" % n) + b"\x1c\r" for n in range(20))
    writer.write(frames)
    first = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), ANSWER_WITHIN)
    await bridge.drain()
    rest = await asyncio.wait_for(reader.read(), ANSWER_WITHIN)
    writer.close()
    await bridge.stop()
    answered = (first + rest).count(b"MSA|AA|")
    assert answered >= 1
    again = Bridge(config(tmp_path), structlog.stdlib.get_logger("hl7bridge"))
    await again.start()
    try:
        delivered = await until(tmp_path / "out", "*/*.json", answered)
    finally:
        await again.stop()
    assert len(delivered) >= answered


async def test_delivered_is_answered_only_when_the_bundle_is_there(tmp_path: Path, told: io.StringIO) -> None:
    running = Bridge(config(tmp_path, ack="delivered"), structlog.stdlib.get_logger("hl7bridge"))
    await running.start()
    try:
        good = await answer_to(running.servers[0].port, ADMIT % (b"C1", b"12345"))
        assert msa(good) == [b"MSA", b"AA", b"C1"]
        assert len(list((tmp_path / "out").glob("*/*.json"))) == 1
        bad = await answer_to(running.servers[0].port, (ADMIT % (b"C2", b"12345")).replace(b"ADT^A01", b"ADT^A99"))
        assert msa(bad) == [b"MSA", b"AE", b"C2"]
    finally:
        await running.stop()


async def test_translated_is_answered_negatively_when_the_tables_cannot(tmp_path: Path, told: io.StringIO) -> None:
    running = Bridge(config(tmp_path, ack="translated"), structlog.stdlib.get_logger("hl7bridge"))
    await running.start()
    try:
        port = running.servers[0].port
        assert msa(await answer_to(port, ADMIT % (b"C1", b"12345")))[1] == b"AA"
        bad = (ADMIT % (b"C2", b"12345")).replace(b"ADT^A01", b"ADT^A99")
        assert msa(await answer_to(port, bad))[1] == b"AE"
    finally:
        await running.stop()


async def test_a_port_that_is_taken_ends_the_start_and_leaves_nothing_open(tmp_path: Path, told: io.StringIO) -> None:
    log = structlog.stdlib.get_logger("hl7bridge")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        failing = Bridge(config(tmp_path, port=taken.getsockname()[1]), log)
        with pytest.raises(UnavailableError, match="listener adt cannot listen on 127"):
            await failing.start()
        await failing.stop()
    again = Bridge(config(tmp_path), log)  # the journal's lock is free
    await again.start()
    await again.stop()


async def test_a_part_that_ends_by_itself_ends_the_daemon(bridge: Bridge) -> None:
    async def part() -> None:
        return

    bridge._begin("part", part())
    with pytest.raises(UnavailableError, match="the part ended by itself"):
        await asyncio.wait_for(bridge.run(), ANSWER_WITHIN)


async def test_a_part_that_fails_ends_the_daemon_with_its_error(bridge: Bridge) -> None:
    async def part() -> None:
        raise JournalError("the disk is gone")

    bridge._begin("part", part())
    with pytest.raises(JournalError, match="the disk is gone"):
        await asyncio.wait_for(bridge.run(), ANSWER_WITHIN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, told: io.StringIO, number: signal.Signals) -> None:
    log = structlog.stdlib.get_logger("hl7bridge")
    serving = asyncio.create_task(bridging.serve(Settings(config(tmp_path), None, Tree()), log))
    async with asyncio.timeout(ANSWER_WITHIN):
        while '"ready"' not in told.getvalue():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(serving, ANSWER_WITHIN)
    events = [json.loads(line)["event"] for line in told.getvalue().splitlines()]
    assert events[0] == "hl7bridge starts"
    steps = [event for event in events if event != "receipts sealed"]  # at its own time
    assert steps[-4:] == ["asked to end", "draining", "drained", "hl7bridge ended"]


async def test_a_changed_configuration_is_in_the_audit_once(bridge: Bridge, tmp_path: Path) -> None:
    for timeout in ("7", "7", "8"):
        await bridge.note_configuration({"drain_timeout": timeout})
    assert bridge._journal is not None
    entries = await bridge._journal.audited()
    assert [(one.action, one.detail) for one in entries] == [
        ("change configuration", "drain_timeout: was the default, is 7"),
        ("change configuration", "drain_timeout: was 7, is 8"),
    ]


async def test_being_asked_to_end_ends_run(bridge: Bridge) -> None:
    running = asyncio.create_task(bridge.run())
    await asyncio.sleep(0)
    bridge.end()
    await asyncio.wait_for(running, ANSWER_WITHIN)
