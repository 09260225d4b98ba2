"""The main job: the feed by `send` into `serve` and the real FHIR server: nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from daemon import Daemon

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split

SETTLES_WITHIN = 900.0  # seconds for the whole feed into a server on two shared cores


def _expected(feed: Path) -> tuple[int, dict[str, set[str]]]:
    """How many messages have a table, and the distinct Patient and Encounter identities their bundles write."""
    mappings = load_mappings()
    identities: dict[str, set[str]] = {"Patient": set(), "Encounter": set()}
    accepted = 0
    for piece in split(feed.read_bytes()):
        try:
            result = translate(piece.raw, mappings, zone=ZoneInfo("Europe/Vienna"))
        except MessageError as error:
            accepted += error.reason.code not in ("unsupported-type", "unsupported-event")
            continue
        accepted += 1
        for entry in result.resource["entry"]:
            type_ = entry["resource"]["resourceType"]
            if type_ in identities:
                request = entry["request"]
                identities[type_].add(request.get("ifNoneExist") or request["url"].partition("?")[2])
    return accepted, identities


def _count(base_url: str, type_: str) -> int:
    """How many resources of the type a client finds, each once.

    Counted by reading them: after a SIGKILL the test server's `_summary=count` counts rows of its table that belong to a
    transaction it never finished, and that no search returns.
    """
    found: set[str] = set()
    url: str | None = f"{base_url}/{type_}?_elements=identifier&_count=500"
    while url:
        request = urllib.request.Request(url, headers={"Cache-Control": "no-cache"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            page = json.load(answer)
        found.update(entry["resource"]["id"] for entry in page.get("entry", ()))
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return len(found)


def _counts(base_url: str) -> dict[str, int]:
    types = ("Patient", "Encounter", "Observation", "DiagnosticReport", "Practitioner", "Provenance", "MessageHeader")
    return {type_: _count(base_url, type_) for type_ in types}


def _states(messages: list[dict[str, Any]]) -> dict[str, int]:
    return {state: sum(m["state"] == state for m in messages) for state in ("delivered", "dead")}


def _send(daemon: Daemon, feed: Path, connections: int) -> dict[str, Any]:
    answer = daemon.run("send", str(feed), "--port", str(daemon.port), "--connections", str(connections), "--json")
    assert answer.returncode in (0, 1), answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.servers
@pytest.mark.corpus
@pytest.mark.slow
def test_the_feed_arrives_once_however_often_it_is_sent(
    corpus: Path, fresh_fhir_server: Any, tmp_path: Path, ports: tuple[int, int, int], say: Callable[[str], None]
) -> None:
    feed = corpus / "simhospital_sample.hl7"
    accepted, identities = _expected(feed)
    daemon = Daemon(tmp_path / "first", ports[0], ports[1], fresh_fhir_server.base_url)
    daemon.start()
    try:
        began = time.monotonic()
        sent = {name: value for name, value in _send(daemon, feed, 8).items() if name != "failures"}
        acknowledged = time.monotonic() - began
        messages = daemon.settled(SETTLES_WITHIN)
        say(f"sent {sent} in {acknowledged:.1f} s, settled after {time.monotonic() - began:.1f} s: {_states(messages)}")
        assert len(messages) == accepted
        assert sum(_states(messages).values()) == accepted, "every accepted message is delivered or dead"
        assert all(m["reason"] for m in messages if m["state"] == "dead")
        first = _counts(fresh_fhir_server.base_url)
        say(f"server: {first}")
        assert first["Patient"] == len(identities["Patient"])
        assert first["Encounter"] == len(identities["Encounter"])

        _send(daemon, feed, 8)  # the same bytes: the stored ACKs, no effect
        daemon.settled(SETTLES_WITHIN)
        assert _counts(fresh_fhir_server.base_url) == first
        assert len(daemon.messages()) == accepted
    finally:
        assert daemon.stop() == 0

    again = Daemon(tmp_path / "second", ports[0], ports[1], fresh_fhir_server.base_url)
    again.start()  # an empty journal: everything is delivered a second time, and must change nothing
    try:
        _send(again, feed, 8)
        assert _states(again.settled(SETTLES_WITHIN)) == _states(messages)
        assert _counts(fresh_fhir_server.base_url) == first
    finally:
        assert again.stop() == 0


@pytest.mark.servers
@pytest.mark.corpus
@pytest.mark.slow
def test_the_feed_arrives_once_when_the_server_is_killed_and_restarted_in_the_middle(
    corpus: Path, fresh_fhir_server: Any, tmp_path: Path, ports: tuple[int, int, int], say: Callable[[str], None]
) -> None:
    feed = corpus / "simhospital_sample.hl7"
    accepted, identities = _expected(feed)
    daemon = Daemon(
        tmp_path / "d", ports[0], ports[1], fresh_fhir_server.base_url, retry={"circuit_probe": 1.0, "cap": 2.0}
    )
    daemon.start()
    try:
        sender = subprocess.Popen(
            daemon.command("send", str(feed), "--port", str(ports[0]), "--connections", "8"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + SETTLES_WITHIN
        while len(daemon.messages("--state", "delivered")) < accepted // 4:
            assert time.monotonic() < until, daemon.tail()
            time.sleep(0.5)
        fresh_fhir_server.kill()
        before = len(daemon.messages("--state", "delivered"))
        assert before < accepted, "the server was to be killed in the middle"
        assert sender.wait(60) in (0, 1), "senders are answered while the endpoint is away"
        fresh_fhir_server.start()
        messages = daemon.settled(SETTLES_WITHIN)
        say(f"killed after {before} of {accepted}: {_states(messages)}")
        assert sum(_states(messages).values()) == accepted
        counts = _counts(fresh_fhir_server.base_url)
        assert counts["Patient"] == len(identities["Patient"])
        assert counts["Encounter"] == len(identities["Encounter"])
    finally:
        assert daemon.stop() == 0


@pytest.mark.servers
def test_a_dead_letter_of_a_broken_code_table_is_replayed_with_the_mended_table_and_delivered(
    fhir_server: Any, tmp_path: Path, ports: tuple[int, int, int]
) -> None:
    site = tmp_path / "site"
    (site / "codes").mkdir(parents=True)
    table = site / "codes" / "AdministrativeSex.yaml"
    table.write_text("codes: AdministrativeSex\nmap: {Q: other}\notherwise: error\n")
    daemon = Daemon(tmp_path / "d", ports[0], ports[1], fhir_server.base_url, mappings={"overlays": [str(site)]})
    message = tmp_path / "m.hl7"
    message.write_bytes(
        b"MSH|^~\\&|REPLAY|TEST|||20240305143012+0100||ADT^A04|RPL-1|P|2.5.1\r"
        b"PID|1||RPL77^^^RPL&1.2.3.77&ISO^MR||Test^Replay||19610317|X\r"
        b"PV1|1|O|||||||||||||||||RV77^^^RPL&1.2.3.77&ISO^VN\r"
    )
    daemon.start()
    try:
        assert daemon.run("send", str(message), "--port", str(ports[0])).returncode == 0, (
            "it is accepted: it is durable"
        )
        assert [m["reason"] for m in daemon.settled(60)] == ["not-translatable"]
        listed = daemon.run("dlq", "list")
        assert "not-translatable" in listed.stdout and "RPL77" not in listed.stdout
    finally:
        daemon.stop()
    table.write_text("codes: AdministrativeSex\nmap: {X: other}\n")
    daemon.start()
    try:
        replayed = daemon.run("dlq", "replay", "--all")
        assert replayed.returncode == 0, replayed.stderr
        assert [m["state"] for m in daemon.settled(60)] == ["delivered"]
        search = f"{fhir_server.base_url}/Patient?identifier=urn:oid:1.2.3.77%7CRPL77"
        with urllib.request.urlopen(search, timeout=60) as answer:
            found = json.load(answer)
        assert [e["resource"]["gender"] for e in found["entry"]] == ["other"]
        assert not list((tmp_path / "d" / "dlq").rglob("reason.json"))
    finally:
        assert daemon.stop() == 0
