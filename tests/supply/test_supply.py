"""What is shipped is known: the bill of materials, the lock file, imports without a network, the service's sandbox."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from hl7bridge import supply
from hl7bridge.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
WORST_EXPOSURE = 2.0  # systemd's scale from 0 to 10
AN_HOUR = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def installed() -> None:
    try:
        metadata.version("hl7bridge")
    except metadata.PackageNotFoundError:
        pytest.skip("hl7bridge is not installed here but run from its sources")


def name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def locked() -> dict[str, str]:
    return {name(found[1]): found[2] for found in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, re.M)}


def printed(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    done = CliRunner().invoke(cli, ["sbom"])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("installed")
def test_the_bill_of_materials_keeps_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="no cyclonedx-python-lib")
    from cyclonedx.schema import SchemaVersion

    validator = validation.JsonStrictValidator(SchemaVersion.V1_6)
    text = printed(monkeypatch)
    assert validator.validate_str(text) is None
    broken = json.loads(text)
    del broken["components"][0]["name"]
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.usefixtures("installed")
def test_the_bill_names_every_package_that_is_needed_and_no_other() -> None:
    bill = supply.bill("1", AN_HOUR)
    libraries = {part["name"]: part["version"] for part in bill["components"] if part["type"] == "library"}
    assert set(libraries) == set(locked())
    wanted = configparser.ConfigParser()
    wanted.read(ROOT / "setup.cfg")
    for line in wanted["options"]["install_requires"].split("\n"):
        if line.strip():
            assert name(re.split(r"[ <>=]", line.strip())[0]) in libraries
    refs = {part["bom-ref"] for part in bill["components"]} | {"hl7bridge"}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= refs


@pytest.mark.usefixtures("installed")
def test_every_package_has_a_licence() -> None:
    for part in supply.bill("1", AN_HOUR)["components"]:
        assert part["type"] == "platform" or part.get("licenses"), part["name"]


@pytest.mark.usefixtures("installed")
def test_two_bills_of_one_installation_are_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = printed(monkeypatch)
    assert printed(monkeypatch) == first
    assert json.loads(first)["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.usefixtures("installed")
def test_the_serial_number_follows_the_content() -> None:
    before = supply.bill("1", AN_HOUR)["serialNumber"]
    assert supply.bill("2", AN_HOUR)["serialNumber"] != before


@pytest.mark.usefixtures("installed")
def test_the_lock_file_holds_exactly_what_is_shipped_with_a_hash_for_each() -> None:
    assert set(locked()) == set(supply.closure())
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    constraints = {name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    assert {package: constraints[package] for package in locked()} == locked()
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        if "==" in entry:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert "index-url" not in LOCK
    assert "find-links" not in LOCK


NO_NETWORK = """
import pathlib, pkgutil, socket, sys
def refused(*_, **__):
    raise SystemExit("the network was asked for")
class Closed(socket.socket):
    connect = connect_ex = sendto = bind = refused
socket.socket = Closed
socket.getaddrinfo = socket.create_connection = socket.gethostbyname = refused
import hl7bridge
for found in pkgutil.walk_packages(hl7bridge.__path__, "hl7bridge."):
    if not found.name.endswith(("__main__", "_build")):
        __import__(found.name)
mappings = hl7bridge.load_mappings()
hl7bridge.translate(pathlib.Path(sys.argv[1]).read_bytes().replace(b"\\n", b"\\r"), mappings)
print("imported and translated")
"""


def test_nothing_asks_for_the_network_on_import_or_to_translate() -> None:
    sample = ROOT / "samples" / "adt_a01_admit.hl7"
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, str(sample)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "imported and translated", done.stderr[-2000:]


def test_the_service_runs_in_a_sandbox() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    unit = ROOT / "deploy" / "hl7bridge.service"
    asked = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for .*?: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip("systemd-analyze cannot judge a file here")
    assert float(found[1]) <= WORST_EXPOSURE
    verify = ["systemd-analyze", "verify", str(unit)]
    known = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    # the command is not installed there; anything else that it names is a mistake in the unit
    assert [line for line in known.stderr.splitlines() if unit.name in line and "not executable" not in line] == []


def test_the_units_commands_exist() -> None:
    text = (ROOT / "deploy" / "hl7bridge.service").read_text("utf-8")
    called = re.findall(r"bin/hl7bridge --config \S+ (.+)", text)
    assert called
    for words in called:
        assert CliRunner().invoke(cli, [*words.split(), "--help"]).exit_code == 0, words
