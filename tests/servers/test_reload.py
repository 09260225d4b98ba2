"""Tables change while a real daemon works: nothing is lost, nothing is half of one version and half of another."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon

WITHIN = 90.0  # seconds; two cores may be busy
ADMIT = (
    "MSH|^~\\&|ADT|NORTH|||20240501120000+0100||ADT^A01|{id}|P|2.5\rEVN|A01|20240501120000+0100\r"
    "PID|1||{id}^^^NORTH^MR||DOE^EVE|||F|EVY\rPV1|1|I|||||||||||||||||{id}^^^NORTH|FC\r"
)


def edit(site: Path, word: str) -> None:
    """Every version of the tables says its word in two resources, by two tables."""
    (site / "segments").mkdir(parents=True, exist_ok=True)
    (site / "segments" / "PID-Patient.yaml").write_text(
        f"table: PID-Patient\nrows:\n  PID-9: {{to: name#word.text, value: {word}}}\n"
    )
    (site / "segments" / "PV1-Encounter.yaml").write_text(
        f"table: PV1-Encounter\nrows:\n  PV1-20: {{to: type#word.text, value: {word}}}\n"
    )


def words(bundle: dict[str, Any]) -> set[str]:
    """The words of the versions that a bundle shows."""
    found: set[str] = set()
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Patient":
            found |= {name["text"] for name in resource["name"] if "text" in name}
        if resource["resourceType"] == "Encounter":
            found |= {type["text"] for type in resource.get("type", ()) if "text" in type}
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "north"
    edit(folder, "one")
    return folder


@pytest.fixture
def daemon(tmp_path: Path, ports: tuple[int, int, int], site: Path) -> Iterator[Daemon]:
    mllp, http, _ = ports
    running = Daemon(tmp_path / "d", mllp, http, f"file:{tmp_path / 'out'}", mappings={"overlays": [str(site)]})
    running.start()
    yield running
    running.kill()


class Sender(threading.Thread):
    """Sends admissions one after another and counts the positive answers."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answered: list[str] = []
        self.refused: list[str] = []
        self._port, self._ended = port, threading.Event()

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            stream = connection.makefile("rb")
            number = 0
            while not self._ended.is_set():
                number += 1
                control_id = f"C{number}"
                connection.sendall(b"\x0b" + ADMIT.format(id=control_id).encode() + b"\x1c\r")
                answer = b""
                while not answer.endswith(b"\x1c\r"):
                    answer += stream.read(1)
                (self.answered if b"MSA|AA" in answer else self.refused).append(control_id)
                time.sleep(0.01)

    def end(self) -> None:
        self._ended.set()
        self.join(WITHIN)


def until(true: Callable[[], bool], daemon: Daemon) -> None:
    end = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < end, daemon.tail()
        time.sleep(0.05)


def active(daemon: Daemon) -> str:
    return str(versions(daemon)[0]["version"])


def versions(daemon: Daemon) -> list[dict[str, Any]]:
    done = daemon.run("mappings", "versions", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def audit(daemon: Daemon) -> list[tuple[str, str]]:
    import sqlite3

    with sqlite3.connect(daemon.folder / "journal" / "journal.sqlite3") as file:
        return list(file.execute("SELECT action, subject FROM audit ORDER BY number"))


def health(daemon: Daemon) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/readyz", timeout=10) as answer:
        checks: dict[str, Any] = json.load(answer)["checks"]
        return checks


def hup(daemon: Daemon) -> None:
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGHUP)


def test_reload_under_traffic_loses_no_message_and_mixes_no_versions(
    daemon: Daemon, site: Path, tmp_path: Path
) -> None:
    sender = Sender(daemon.port)
    sender.start()
    word_of = {active(daemon): "one"}
    until(lambda: len(sender.answered) > 20, daemon)

    edit(site, "two")
    done = daemon.run("mappings", "activate", "--json")
    assert done.returncode == 0, done.stderr
    word_of[json.loads(done.stdout)["version"]] = "two"
    assert json.loads(done.stdout)["changes"] == "rows ~2"
    until(lambda: len(sender.answered) > 60, daemon)

    (site / "segments" / "PID-Patient.yaml").write_text("table: PID-Patient\nrows:\n  PID-9: {to: nmae, value: bad}\n")
    done = daemon.run("mappings", "activate")
    assert done.returncode == 3
    assert "north/segments/PID-Patient.yaml:3: Patient has no element 'nmae'; did you mean 'name'?" in done.stderr
    hup(daemon)
    until(lambda: sum(one["action"] == "refuse" for one in versions(daemon)) == 2, daemon)
    assert health(daemon)["tables-refused"]["ok"] is False

    edit(site, "three")
    for count in (2, 3):  # the second brings nothing new, and is as good as the first
        hup(daemon)
        until(lambda: daemon.log.read_text().count("tables activated") == count, daemon)  # noqa: B023
    word_of[active(daemon)] = "three"
    until(lambda: len(sender.answered) > 100, daemon)

    done = daemon.run("mappings", "rollback", "--json")
    assert done.returncode == 0, done.stderr
    assert word_of[json.loads(done.stdout)["version"]] == "two"
    count = len(sender.answered)
    until(lambda: len(sender.answered) > count + 20, daemon)
    sender.end()

    assert not sender.refused
    messages = daemon.settled(WITHIN)
    assert len(messages) == len(sender.answered)
    assert {message["state"] for message in messages} == {"delivered"}
    bundles = {path.stem: path for path in (tmp_path / "out").glob("*/*.json")}
    for message in messages:
        (path,) = [path for stem, path in bundles.items() if message["id"] in stem]
        assert words(json.loads(path.read_bytes())) == {word_of[message["mapping_version"]]}
    assert {message["mapping_version"] for message in messages} == set(word_of)
    ordered = [word_of[m["mapping_version"]] for m in sorted(messages, key=lambda m: int(m["control_id"][1:]))]
    assert [w for n, w in enumerate(ordered) if n == 0 or ordered[n - 1] != w] == ["one", "two", "three", "two"]

    lines = [(one["action"], word_of.get(one["version"], "")) for one in versions(daemon)[::-1]]
    assert lines == [
        ("start", "one"),
        ("activate", "two"),
        ("refuse", ""),
        ("refuse", ""),
        ("activate", "three"),
        ("activate", "three"),
        ("rollback", "two"),
    ]
    assert [action for action, _ in audit(daemon)] == [
        "change configuration",
        "activate mappings",
        "refuse mappings",
        "refuse mappings",
        "activate mappings",
        "activate mappings",
        "rollback mappings",
    ]
    info = [name for name in daemon.metrics() if name.startswith("hl7bridge_mapping_info")]
    assert len(info) == 1 and f'mapping_version="{messages[0]["mapping_version"]}"' in info[0]
    assert 'source="active"' in info[0]


def test_the_active_version_serves_after_a_restart_whatever_the_folders_say(daemon: Daemon, site: Path) -> None:
    edit(site, "two")
    assert daemon.run("mappings", "activate").returncode == 0
    version = active(daemon)
    edit(site, "three")
    assert daemon.stop() == 0
    daemon.start()
    assert f"version {version}, activated" in health(daemon)["tables"]["detail"]
    doctor = daemon.run("doctor").stdout
    assert f"version {version}, activated" in doctor
    assert "the configuration's folders hold other tables" in doctor and "mappings activate" in doctor
    shown = daemon.run("config", "show").stdout
    assert "mappings (active)" in shown and version in shown


def test_without_a_daemon_the_next_start_serves_what_is_activated(daemon: Daemon, site: Path) -> None:
    first = active(daemon)
    assert daemon.stop() == 0
    edit(site, "two")
    done = daemon.run("mappings", "activate")
    assert done.returncode == 0 and "is what the next start serves" in done.stdout, done.stderr
    second = active(daemon)
    assert daemon.run("mappings", "rollback").returncode == 0
    assert daemon.run("mappings", "rollback").returncode == 2  # there is nothing before the first
    assert daemon.run("mappings", "activate", second[:6]).returncode == 0
    daemon.start()
    assert second in health(daemon)["tables"]["detail"] and first != second


def test_a_new_event_is_taken_after_a_reload_and_a_dead_letter_tells_its_version(
    daemon: Daemon, site: Path, tmp_path: Path
) -> None:
    def answer(event: str) -> bytes:
        with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
            message = ADMIT.format(id=f"X{event}{time.monotonic_ns()}").replace("ADT^A01", f"ADT^{event}")
            connection.settimeout(WITHIN)
            connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
            return connection.recv(10_000)

    assert b"MSA|AR" in answer("ZA9")
    (site / "messages").mkdir()
    (site / "messages" / "ADT_ZA9.yaml").write_text(
        "message: ADT_ZA9\nevents: [ZA9]\nstructure: MSH EVN PID PV1\n"
        "rows:\n  PID: {use: PID-Patient, into: Patient#patient}\n"
        "unmapped:\n  MSH: not here\n  EVN: not here\n  PV1: not here\n"
    )
    done = daemon.run("mappings", "activate")
    assert done.returncode == 0, done.stderr
    assert b"MSA|AA" in answer("ZA9")
    (site / "codes").mkdir()
    (site / "codes" / "AdministrativeSex.yaml").write_text("codes: AdministrativeSex\notherwise: error\n")
    assert daemon.run("mappings", "activate").returncode == 0
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        bad = ADMIT.format(id="BAD").replace("|F|EVY", "|Q|EVY")
        connection.sendall(b"\x0b" + bad.encode() + b"\x1c\r")
        connection.recv(1000)
    until(lambda: bool(list((daemon.folder / "dlq").glob("*/*/*/reason.json"))), daemon)
    (letter,) = (daemon.folder / "dlq").glob("*/*/*/reason.json")
    assert json.loads(letter.read_bytes())["mapping_version"] == active(daemon)
    (dead,) = daemon.messages("--state", "dead")
    assert dead["mapping_version"] == active(daemon)


def test_an_example_that_does_not_hold_refuses_the_version(daemon: Daemon, site: Path) -> None:
    file = site / "segments" / "PID-Patient.yaml"
    file.write_text(
        file.read_text() + "examples:\n  - name: a nickname\n    given: PID|||||||||EVY\n"
        "    expect: {name: [{text: other}]}\n"
    )
    before = active(daemon)
    done = daemon.run("mappings", "activate")
    assert done.returncode == 3
    assert "north/segments/PID-Patient.yaml:5: example 'a nickname'" in done.stderr
    assert daemon.run("mappings", "versions", "--json").stdout.count('"active": true') == 1
    assert next(one["version"] for one in versions(daemon) if one["active"]) == before
