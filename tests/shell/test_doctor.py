"""`doctor` on setups that are well, and on each that is not: what it says, what it advises, how it ends."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

sys.path.append(str(Path(__file__).resolve().parents[1] / "mllp"))
from paper_authority import Authority

from hl7bridge.cli.main import cli
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_OK, EXIT_UNAVAILABLE, Mistake, TablesError
from hl7bridge.examine import disks, ports, times
from hl7bridge.examine.everything import examine
from hl7bridge.examine.finding import Finding


class Tables:
    events = frozenset({("ADT", "A01")})
    version = "abc"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and tables that load at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hl7bridge.service.tablesets.load", lambda *_: Tables())


def config(**keys: object) -> Config:
    defaults: dict[str, object] = {
        "listeners": [{"host": "127.0.0.1", "port": 0}],
        "observe": {"host": "127.0.0.1", "port": 0},
        "journal": {"min_free_bytes": 0},
        "encryption": {"accept_clear": True},
    }
    return Config.model_validate(defaults | keys)


async def findings(**keys: object) -> dict[str, Finding]:
    return {finding.subject: finding for finding in await examine(config(**keys))}


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


async def test_a_good_setup_is_all_ok_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = await findings()
    assert {finding.grade for finding in found.values()} == {"ok"}, found
    assert found["tables"].text == "1 events, version abc"
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_port_that_is_taken_fails_with_advice(taken_port: int) -> None:
    finding = (await findings(listeners=[{"host": "127.0.0.1", "port": taken_port}]))["listener default"]
    assert finding.grade == "FAIL"
    assert finding.text == f"127.0.0.1:{taken_port} cannot be bound: Address already in use"
    assert "ss -ltnp" in finding.remedy


async def test_a_port_that_our_own_daemon_holds_is_ok(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def running(_: Config) -> bool:
        return True

    monkeypatch.setattr(ports, "is_running", running)
    finding = (await findings(listeners=[{"host": "127.0.0.1", "port": taken_port}]))["listener default"]
    assert (finding.grade, finding.text) == ("ok", f"127.0.0.1:{taken_port} is taken, and hl7bridge is running")


async def test_clear_text_on_every_interface_is_a_warning() -> None:
    assert (await findings(listeners=[{"port": 0}]))["listener default"].grade == "warn"


async def test_tls_files_tell_their_end_and_who_may_read_the_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("localhost", ends=3)
    os.chmod(key, 0o644)  # noqa: PTH101
    tls = {"certificate": certificate, "key": key, "ca": authority.file, "client": "require", "minimum": "1.3"}
    keys = {"listeners": [{"host": "127.0.0.1", "port": 0, "tls": tls | {"clients": [{"name": "epic"}]}}]}
    told = [(one.grade, one.text) for one in await examine(config(**keys)) if one.subject == "listener default TLS"]
    assert told == [
        ("ok", "certificate and key fit, TLS 1.3, clients: require, 1 clients listed"),
        ("warn", f"certificate {certificate} ends in 3 days"),
        ("ok", f"ca {authority.file} ends in 365 days"),
        ("warn", f"{key} can be read by others (mode 0644)"),
    ]
    authority.issue("localhost", begins=-9, ends=-1)
    told = [(one.grade, one.text) for one in await examine(config(**keys)) if one.subject == "listener default TLS"]
    assert ("FAIL", f"certificate {certificate} has ended") in told


async def test_tls_files_that_are_not_there_fail() -> None:
    tls = {"certificate": "c.pem", "key": "k.pem"}
    finding = (await findings(listeners=[{"host": "127.0.0.1", "port": 0, "tls": tls}]))["listener default TLS"]
    assert (finding.grade, finding.text) == ("FAIL", "tls.certificate: there is no file c.pem")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)  # noqa: ASYNC240
    assert (await findings())["journal"].grade == "FAIL"


async def test_a_file_where_a_folder_should_be_fails(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("", "utf-8")
    found = await findings(journal={"path": "/proc/none", "min_free_bytes": 0})
    assert found["journal"].grade == "FAIL"
    assert found["journal"].remedy == "let this user write there, or set journal.path"


async def test_too_little_space_fails() -> None:
    finding = (await findings(journal={"min_free_bytes": 2**62}))["journal disk"]
    assert finding.grade == "FAIL"
    assert "AR/CE 207" in finding.remedy


async def test_a_journal_on_a_network_file_system_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "_file_system", lambda _: "nfs4")
    found = [f for f in await examine(config()) if f.subject == "journal disk"]
    assert (found[0].grade, found[0].remedy) == ("FAIL", "put the journal on a local disk (SQLite WAL)")


async def test_tables_that_do_not_load_fail_with_their_first_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TablesError([Mistake("PID.yaml", 3, 1, "first"), Mistake("PID.yaml", 4, 1, "second")])

    monkeypatch.setattr("hl7bridge.service.tablesets.load", broken)
    finding = (await findings())["tables"]
    assert (finding.grade, finding.text) == ("FAIL", "PID.yaml:3: first (and 1 more)")


async def test_a_machine_without_a_zone_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert (await findings())["listener default zone"].grade == "warn"
    listener = {"host": "127.0.0.1", "port": 0, "timezone": "Europe/Vienna"}
    assert (await findings(listeners=[listener]))["listener default zone"].grade == "ok"


async def test_a_clock_that_was_never_set_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times.time, "time", lambda: 0.0)
    assert (await findings())["clock"].grade == "FAIL"


async def test_an_endpoint_that_is_not_there_fails(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/fhir"
    finding = (await findings(fhir={"base_url": url}))[f"endpoint {url}"]
    assert finding.grade == "FAIL"
    assert "fhir.base_url" in finding.remedy


async def test_an_endpoint_that_answers_with_its_capabilities_is_ok() -> None:
    async def metadata(_: web.Request) -> web.Response:
        return web.json_response({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})

    app = web.Application()
    app.router.add_get("/fhir/metadata", metadata)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/fhir"
    assert (await findings(fhir={"base_url": url}))[f"endpoint {url}"].grade == "ok"
    await runner.cleanup()


async def test_a_secret_that_cannot_be_resolved_fails_before_anything_is_sent() -> None:
    fhir = {"base_url": "https://fhir.example/r4", "bearer_token": "env:NOT_SET"}
    finding = (await findings(fhir=fhir))["endpoint https://fhir.example/r4"]
    assert (finding.grade, finding.text) == ("FAIL", "secret env:NOT_SET: the environment variable is not set")


def test_the_command_tells_each_line_with_its_grade_and_ends_with_4_when_one_fails(
    tmp_path: Path, taken_port: int
) -> None:
    head = "observe: {host: 127.0.0.1, port: 0}\njournal: {min_free_bytes: 0}\nlisteners:\n- {host: 127.0.0.1, port: "
    (tmp_path / "good.yaml").write_text(head + "0}", "utf-8")
    (tmp_path / "bad.yaml").write_text(f"{head}{taken_port}}}", "utf-8")
    good = CliRunner().invoke(cli, ["--config", "good.yaml", "doctor"])
    assert good.exit_code == EXIT_OK
    assert "ok    listener default: 127.0.0.1:0 can be bound\n" in good.output
    bad = CliRunner().invoke(cli, ["--config", "bad.yaml", "doctor", "--quiet"])
    assert bad.exit_code == EXIT_UNAVAILABLE
    assert bad.stdout.startswith(f"FAIL  listener default: 127.0.0.1:{taken_port} cannot be bound: ")
    assert "\n      -> see who has it" in bad.stdout
    assert bad.stderr.endswith("failed\n")


async def test_a_receiver_of_application_acks_is_tried_and_one_that_is_away_fails(taken_port: int) -> None:
    def listening(port: int) -> dict[str, object]:
        channel = {"host": "127.0.0.1", "port": port}
        return {"listeners": [{"name": "lab", "host": "127.0.0.1", "port": 0, "application_acks": channel}]}

    there = (await findings(**listening(taken_port)))[f"application ACKs of lab to 127.0.0.1:{taken_port}"]
    assert there.grade == "ok"
    away = (await findings(**listening(1)))["application ACKs of lab to 127.0.0.1:1"]
    assert away.grade == "FAIL" and "kept and sent when it is back" in away.remedy
