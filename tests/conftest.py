"""What every test shares: an odd time zone, free ports, the log, the corpus, and the real FHIR server and validator.

What is absent is skipped with one clear line: `corpus` without ../shared/corpus (or HL7BRIDGE_CORPUS), `fhir_server`
`validator` and `validator_r5` without a JDK, Maven, or ../shared/servers (or HL7BRIDGE_SERVERS).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import pytest
import structlog

ROOT = Path(__file__).resolve().parent.parent
os.environ["TZ"] = "Asia/Kathmandu"  # +05:45: whoever takes UTC or whole hours for granted is found out
time.tzset()
for name in [name for name in os.environ if name.startswith("HL7BRIDGE_")]:
    if name not in ("HL7BRIDGE_CORPUS", "HL7BRIDGE_SERVERS"):
        del os.environ[name]  # the tester's own configuration must not leak in

if os.environ.get("LOOP") == "uvloop":  # every test that needs a loop runs on uvloop's
    asyncio.set_event_loop_policy(import_module("uvloop").EventLoopPolicy())

READY_WITHIN = 180.0  # seconds; the FHIR server needs 12-20 s, much longer on a loaded machine
ANSWER_WITHIN = 300.0  # seconds for the validator's first file: 15 alone, minutes on a loaded machine
STOP_WITHIN = 30.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones begin first, so that several processes (pytest-xdist) end at about the same time."""
    longest = ("servers", "chaos", "guide", "faults", "fuzz")
    items.sort(
        key=lambda item: next((i for i, room in enumerate(longest) if item.path.parent.name == room), len(longest))
    )


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real messages."""
    folder = Path(os.environ.get("HL7BRIDGE_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not (folder / "messages").is_dir():
        pytest.skip("no corpus: ../shared/corpus is absent (or set HL7BRIDGE_CORPUS)")
    return folder


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    return a_free_port()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Whatever a test makes of the log, the next one finds it as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def told(logging_as_before: None) -> io.StringIO:
    """What the daemon logs: JSON, one object a line, from debug on."""
    from hl7bridge.observe.log import configure

    stream = io.StringIO()
    configure("json", "debug", stream)
    return stream


# ---- real servers ----


def servers_folder(name: str) -> Path:
    """The folder of the servers, with `name` built; skips when that cannot be."""
    folder = Path(os.environ.get("HL7BRIDGE_SERVERS") or ROOT.parent / "shared" / "servers").resolve()
    if not (folder / "build.sh").exists():
        pytest.skip("no real servers: ../shared/servers is absent (or set HL7BRIDGE_SERVERS)")
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"no real servers: {tool} is not installed")
    cache = servers_cache() / name
    if not (cache / "classes").is_dir():
        built = subprocess.run(["bash", str(folder / "build.sh"), name], capture_output=True, text=True, check=False)
        assert built.returncode == 0, f"building {name} failed:\n{built.stdout[-2000:]}\n{built.stderr[-2000:]}"
    return folder


def servers_cache() -> Path:
    """Where the servers are built."""
    return Path(os.environ.get("SERVERS_CACHE") or Path.home() / ".cache" / "hl7bridge-servers")


class FhirServer:
    """A real HAPI FHIR server over a file database, so that its data outlive a kill.

    `base_url`: http://127.0.0.1:PORT/fhir. `kill()` is a SIGKILL, `stop()` a SIGTERM; `start()` begins again over the
    same data.
    """

    def __init__(self, folder: Path, port: int, data: Path) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/fhir"
        # H2 writes a commit out up to half a second late by default: what it said yes to would be gone after a kill
        database = f"jdbc:h2:file:{data / 'h2'};WRITE_DELAY=0"
        self._command = ["bash", str(folder / "fhirserver" / "run.sh"), str(port), database]
        self._log = data / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the server serves."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + READY_WITHIN
        while b"READY " not in self._log.read_bytes():
            code = self._process.poll()
            assert code is None, f"the FHIR server ended with {code}:\n{self.log()}"
            assert time.monotonic() < until, f"the FHIR server is not ready after {READY_WITHIN:g} s:\n{self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        """The end of what it printed."""
        return self._log.read_bytes()[-4000:].decode(errors="replace")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.kill()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_WITHIN)


@pytest.fixture(scope="session")
def fhir_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    """The server, started once for the session. Tests bring their own identifiers."""
    folder = servers_folder("fhirserver")
    server = FhirServer(folder, a_free_port(), tmp_path_factory.mktemp("fhirserver"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def fresh_fhir_server(tmp_path: Path) -> Iterator[FhirServer]:
    """An empty server of the test's own: for tests that count everything in it."""
    server = FhirServer(servers_folder("fhirserver"), a_free_port(), tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Validator:
    """The official validator, kept running. Call it with a file or a bundle's bytes.

    Gives a dictionary: fatal, error, warning, dangling_urn_refs (numbers), issues (list of severity, id, at, text).
    """

    def __init__(self, command: list[str], scratch: Path) -> None:
        self._scratch = scratch / "bundle.json"
        self._log = (scratch / "validator.log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def __call__(self, bundle: Path | bytes) -> dict[str, Any]:
        if isinstance(bundle, bytes):
            self._scratch.write_bytes(bundle)
            bundle = self._scratch
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None and answers is not None
        asked.write(f"{bundle.resolve()}\n".encode())
        asked.flush()
        line = _line_within(answers, ANSWER_WITHIN, self._process.kill)
        assert line, "the validator ended without an answer"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # it ended by itself
                    stream.close()
        self._process.kill()
        self._process.wait(STOP_WITHIN)
        self._log.close()


def _line_within(stream: IO[bytes], seconds: float, too_late: Callable[[], None]) -> bytes:
    """One line; `too_late` is called when it does not come, and must end the stream."""
    timer = threading.Timer(seconds, too_late)
    timer.start()
    try:
        return stream.readline()
    finally:
        timer.cancel()


@pytest.fixture(scope="session")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    """The official R4 validator, started once for the session."""
    run = servers_folder("validate") / "validate" / "run.sh"
    running = Validator(["bash", str(run), "--stdin"], tmp_path_factory.mktemp("validator"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def r5_package() -> Path:
    """The jar with R5's definitions, of the R4 validator's version; Maven brings it beside that one's jars."""
    servers_folder("validate")
    jars = servers_cache() / "validate" / "lib"
    (own,) = jars.glob("hapi-fhir-validation-[0-9]*.jar")
    version = own.stem.removeprefix("hapi-fhir-validation-")
    folder = servers_cache() / "r5"
    package = folder / f"hapi-fhir-validation-resources-r5-{version}.jar"
    if not package.is_file():
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        artifact = f"ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r5:{version}"
        asked = ["mvn", "-q", "-B", copy, f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        brought = subprocess.run(asked, capture_output=True, text=True, check=False)
        if brought.returncode or not package.is_file():
            pytest.skip("no R5 validator: Maven does not bring hapi-fhir-validation-resources-r5")
    return package


@pytest.fixture(scope="session")
def validator_r5(r5_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    """The official R5 validator: the jars of the R4 one, and R5's definitions."""
    jars = f"{servers_cache() / 'validate' / 'lib'}/*:{r5_package}"
    source = ROOT / "tests" / "servers" / "r5" / "JudgeR5.java"
    running = Validator(
        ["java", "-Xmx2g", "-XX:+UseSerialGC", "-cp", jars, str(source)], tmp_path_factory.mktemp("validator-r5")
    )
    try:
        yield running
    finally:
        running.close()
