"""The daemon with TLS (fault catalogue 50, 52, 53): who speaks for whom, what is audited, what health and metrics say."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from test_bridge import ADMIT, ANSWER_WITHIN, config, get, msa, stand_in_tables

sys.path.append(str(Path(__file__).resolve().parents[1] / "mllp"))
from paper_authority import Authority, fingerprint

from hl7bridge.bridge import Bridge
from hl7bridge.config import Tls
from hl7bridge.journal.audit import read, verify
from hl7bridge.mllp.denial import Denial
from hl7bridge.observe.metrics import Metrics
from hl7bridge.tls.contexts import client_context

__all__ = ["stand_in_tables"]  # fixtures of every test here


class House:
    """An authority, the files of a listener, two senders of its own and one nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.live = folder / "live"
        self.live.mkdir()
        self.put("server")
        self.epic = self.authority.issue("epic.example", names=())
        self.lab = self.authority.issue("lab.example")
        self.stranger = self.authority.issue("stranger.example")
        self.tls: dict[str, Any] = {
            "certificate": str(self.live / "server.crt"),
            "key": str(self.live / "server.key"),
            "ca": self.authority.file,
            "client": "require",
            "clients": [
                {"name": "epic.example", "senders": ["ADT|NORTH"]},
                {"fingerprint": fingerprint(self.lab[0]), "senders": ["LAB"]},
            ],
        }

    def put(self, name: str, ends: float = 365) -> None:
        for source, suffix in zip(self.authority.issue("localhost", name, ends=ends), ("crt", "key"), strict=True):
            shutil.copy(source, self.live / f"server.{suffix}")

    def context(self, files: tuple[str, str]) -> ssl.SSLContext:
        return client_context(Tls(ca=self.authority.file, certificate=files[0], key=files[1]))


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "house"
    folder.mkdir()
    return House(folder)


@pytest.fixture
async def bridge(tmp_path: Path, told: io.StringIO, house: House) -> AsyncIterator[Bridge]:
    running = Bridge(config(tmp_path, tls=house.tls), structlog.stdlib.get_logger("hl7bridge"))
    await running.start()
    yield running
    await running.stop()


async def say(bridge: Bridge, context: ssl.SSLContext, *payloads: bytes) -> list[bytes]:
    """The answers on one connection."""
    port = bridge.condition.ports["adt"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    answers = []
    for payload in payloads:
        writer.write(b"\x0b" + payload + b"\x1c\r")
        answers.append((await asyncio.wait_for(reader.readuntil(b"\x1c\r"), ANSWER_WITHIN))[1:-2])
    writer.close()
    return answers


def audit(tmp_path: Path) -> list[tuple[str, str, str, str]]:
    """Every entry; the chain is whole."""
    file = tmp_path / "journal" / "journal.sqlite3"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        entries = read(connection, 0, 1000)
        assert verify(connection).whole
    connection.close()
    return [(entry.actor, entry.action, entry.subject, entry.detail) for entry in entries]


async def test_a_certificate_speaks_for_its_own_senders_only(
    bridge: Bridge, house: House, tmp_path: Path, told: io.StringIO
) -> None:
    enhanced = ADMIT.replace(b"|P|2.5\r", b"|P|2.5|||AL|NE\r")
    own = (ADMIT % (b"1", b"1")).replace(b"|ADT|NORTH|", b"|LAB|SOUTH|")
    others = ADMIT % (b"2", b"SECRET"), enhanced % (b"3", b"SECRET")
    good, wrong, again = await say(bridge, house.context(house.lab), own, *others)
    assert msa(good) == [b"MSA", b"AA", b"1"]
    assert msa(wrong) == [b"MSA", b"AR", b"2"]
    assert msa(again) == [b"MSA", b"CR", b"3"]
    assert b"ERR||MSH^1^3|207^" in wrong and b"does not speak for this sender" in wrong
    [fine] = await say(bridge, house.context(house.epic), ADMIT % (b"2", b"2"))
    assert msa(fine) == [b"MSA", b"AA", b"2"]  # what was refused is not in the journal
    _, metrics = await get(bridge, "/metrics")
    counted = 'hl7bridge_acknowledged_total{code="AR",listener="adt",reason="sender-not-allowed"} 1.0'
    assert counted in metrics
    await bridge.stop()
    entries = [entry for entry in audit(tmp_path) if entry[1] == "refuse sender"]
    digest = fingerprint(house.lab[0]).rpartition("=")[2].replace(":", "").lower()
    detail = f"sender-not-allowed; from 127.0.0.1 (lab.example); certificate {digest}; as ADT|NORTH"
    assert entries == [("127.0.0.1 (lab.example)", "refuse sender", "listener adt", detail)] * 2  # one, and one more
    logged = told.getvalue()
    assert "its certificate does not speak for this sender" in logged
    assert "NORTH" not in logged and "SECRET" not in logged


async def test_who_is_not_let_in_is_counted_logged_and_audited_without_flood(
    bridge: Bridge, house: House, tmp_path: Path, told: io.StringIO
) -> None:
    for _ in range(20):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await say(bridge, house.context(house.stranger), ADMIT % (b"1", b"1"))
    async with asyncio.timeout(ANSWER_WITHIN):
        counted = 'connections_refused_total{cause="not-listed",listener="adt"} 20.0'
        while counted not in (await get(bridge, "/metrics"))[1]:
            pass
    await bridge.stop()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    refused = [line for line in lines if line["event"] == "connection refused"]
    assert [line["count"] for line in refused] == [1, 19]
    assert refused[0]["detail"] == f"not-listed: {Denial.NOT_LISTED.told}"
    assert refused[0]["fingerprint"] == fingerprint(house.stranger[0]).rpartition("=")[2].replace(":", "").lower()
    entries = [entry for entry in audit(tmp_path) if entry[1] == "refuse connection"]
    assert [entry[0] for entry in entries] == ["127.0.0.1 (stranger.example)"] * 2
    assert entries[1][3].endswith("; 19 times")


async def test_an_address_that_is_not_allowed_is_audited(tmp_path: Path, told: io.StringIO) -> None:
    bridge = Bridge(config(tmp_path, allow=["10.0.0.0/8"]), structlog.stdlib.get_logger("hl7bridge"))
    await bridge.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.condition.ports["adt"])
    assert await asyncio.wait_for(reader.read(), ANSWER_WITHIN) == b""
    writer.close()
    await bridge.stop()
    assert ("127.0.0.1", "refuse connection", "listener adt", "address; from 127.0.0.1") in audit(tmp_path)


async def test_sighup_takes_a_new_certificate_and_a_bad_one_is_told_by_health_metric_and_log(
    bridge: Bridge, house: House, told: io.StringIO
) -> None:
    (house.live / "server.key").write_text("no key")
    bridge.reload()
    _, ready = await get(bridge, "/readyz")
    check = json.loads(ready)["checks"]["tls-adt"]
    assert not check["ok"] and check["detail"].startswith("new files are unfit, the old serve on: tls.certificate: ")
    assert json.loads(ready)["status"] == "ok"  # senders are served
    assert msa((await say(bridge, house.context(house.epic), ADMIT % (b"1", b"1")))[0])[1] == b"AA"
    house.put("second", ends=5)
    bridge.reload()
    _, ready = await get(bridge, "/readyz")
    check = json.loads(ready)["checks"]["tls-adt"]
    assert check["ok"] and f"certificate {house.live}/server.crt ends in 5 days" in check["detail"]
    _, metrics = await get(bridge, "/metrics")
    assert 'hl7bridge_certificate_reloads_total{listener="adt",outcome="done"} 1.0' in metrics
    assert 'hl7bridge_certificate_reloads_total{listener="adt",outcome="refused"} 1.0' in metrics
    [seconds] = [
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith("hl7bridge_certificate_expiry_seconds{") and 'key="certificate"' in line
    ]
    assert 4 * 86_400 < seconds < 5 * 86_400
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [line["level"] for line in lines if line["event"].startswith("new TLS files are unfit")] == ["error"]
    [due] = [line for line in lines if line["event"] == "a TLS file needs to be replaced"]
    assert due["detail"].endswith("ends in 5 days")


def test_the_metrics_of_certificates_have_bounded_labels() -> None:
    described = {metric.name: metric.labels for metric in Metrics().described}
    assert described["hl7bridge_connections_refused_total"] == ("listener", "cause")
    assert described["hl7bridge_certificate_expiry_seconds"] == ("listener", "key", "file")
