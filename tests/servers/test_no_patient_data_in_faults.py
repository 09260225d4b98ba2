"""The sentinel again, while everything goes wrong: wire, endpoint, disk, translators, defects of our own, and crashes.

A message's values are in no log (level debug), metric, health page, answer, listing or process title, whatever happened
to the message.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from defective_daemon import MARKERS

SENTINEL = "ZQXSENTINELXQZ"
HERE = Path(__file__).resolve().parent
BODY = f"<html>{SENTINEL}</html>".encode()
OUTCOME = (
    '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid",'
    f'"diagnostics":"{SENTINEL}","details":{{"text":"{SENTINEL}"}},"expression":["{SENTINEL}"]}}]}}'
).encode()
# what the endpoint answers, one after the other: status, reason phrase and headers quote the patient where they can
ANSWERS: tuple[tuple[int, dict[str, str], bytes], ...] = (
    (500, {}, OUTCOME),
    (200, {"Content-Type": "text/html"}, BODY),
    (302, {"Location": f"http://127.0.0.1:1/{SENTINEL}"}, BODY),
    (503, {"Retry-After": SENTINEL}, BODY),
    (401, {"WWW-Authenticate": f'Basic realm="{SENTINEL}"'}, OUTCOME),
    (409, {"Content-Type": SENTINEL}, OUTCOME),
    (404, {"Content-Type": "text/html"}, BODY),
    (413, {"X-Patient": SENTINEL}, BODY),
    (
        200,
        {},
        b'{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"ZQXSENTINELXQZ"}}]}',
    ),
    (200, {}, OUTCOME),
    (200, {"Content-Encoding": "gzip"}, BODY),
    (422, {}, OUTCOME),
)


# how the log tells of each of the defects
TOLD = (
    "internal-error",
    "intake failed on a message",
    "no HTTP answer (Quoting)",
    "an exception nobody waited for",
    "a thread was stopped by an exception",
    "a library's message",
)


class _Evil(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Iterator[tuple[int, dict[str, str], bytes]]
    asked: list[int]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = next(self.answers)
        self.asked.append(status)
        with suppress(OSError):
            self.send_response(status, SENTINEL)
            for name, value in {"Content-Type": "application/fhir+json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Defective(Daemon):
    """The daemon with defects that quote the message."""

    defects = False

    def command(self, *words: str) -> list[str]:
        if self.defects and words == ("serve",):
            return [sys.executable, str(HERE / "defective_daemon.py"), "--config", str(self.config), *words]
        return super().command(*words)


def _patient(control_id: str) -> bytes:
    return (
        f"MSH|^~\\&|CHAOS|TEST|||20240305143012+0100||ADT^A04|{control_id}|P|2.5.1\r"
        f"EVN|A04|20240305143012+0100|||{SENTINEL}\r"
        f"PID|1||{SENTINEL}{control_id}^^^{SENTINEL}^MR||{SENTINEL}^{SENTINEL}||19610317|F|||{SENTINEL}^^{SENTINEL}\r"
        f"PV1|1|I|{SENTINEL}||||||||||||||||{SENTINEL}^^^{SENTINEL}\r"
    ).encode()


def _send(port: int, data: bytes, *, reset: bool = False, read: bool = True) -> bytes:
    """What comes back until the daemon hangs up or is silent for a second."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, suppress(OSError):
        connection.sendall(data)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        connection.shutdown(socket.SHUT_WR)
        while read and (part := connection.recv(65536)):
            received += part
    return received


def _framed(payload: bytes) -> bytes:
    return b"\x0b" + payload + b"\x1c\r"


def _wire(port: int) -> dict[str, bytes]:
    """Everything that may go wrong between a sender and the listener."""
    whole, junk = _patient("WIRE"), SENTINEL.encode() * 50
    return {
        "junk": _send(port, junk + _framed(whole) + junk),
        "garbage": _send(port, junk * 2000),
        "a message cut off": _send(port, b"\x0b" + whole[:200]),
        "a message cut off by the next": _send(port, b"\x0b" + whole[:200] + _framed(whole)),
        "an end inside": _send(port, b"\x0b" + whole + b"\x1cX" + whole + b"\x1c\r"),
        "an end inside MSH": _send(port, b"\x0bMSH|^~\\&|A\x1cB|" + junk + b"\r" + whole + b"\x1c\r"),
        "a reset": _send(port, _framed(whole), reset=True),
        "too large": _send(port, _framed(whole + b"NTE|1||" + junk * 200 + b"\r")),
        "two in one block": _send(port, _framed(whole + whole)),
        "a wrong batch": _send(
            port, _framed(f"BHS|^~\\&|||||||{SENTINEL}|{SENTINEL}\r".encode() + whole + f"BTS|{SENTINEL}\r".encode())
        ),
        "no MSH": _send(port, _framed(junk)),
        "nobody reads": _send(port, _framed(whole) * 3, read=False),
        "TLS": _send(port, b"\x16\x03\x01\x02\x00\x01" + junk),
    }


def _pages(daemon: Daemon) -> dict[str, str]:
    pages = {}
    for page in ("healthz", "readyz", "metrics", SENTINEL.lower()):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/{page}", timeout=20) as answer:
                pages[page] = answer.read().decode()
        except urllib.error.HTTPError as error:
            pages[page] = error.read().decode() if page != SENTINEL.lower() else ""
            error.close()
    return pages


def _titles(daemon: Daemon) -> str:
    """Command lines and names of the daemon's process, its threads and its children."""
    assert daemon.process is not None
    told = []
    for process in (daemon.process.pid, *_children(daemon)):
        with suppress(OSError):
            told.append(Path(f"/proc/{process}/cmdline").read_text())
            told += [file.read_text() for file in Path(f"/proc/{process}/task").glob("*/comm")]
    return "\n".join(told)


def _children(daemon: Daemon) -> list[int]:
    assert daemon.process is not None
    file = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []


def _until(holds: Callable[[], bool], daemon: Daemon, within: float = 120) -> None:
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, daemon.tail()
        time.sleep(0.1)


@pytest.fixture
def asked() -> list[int]:
    """The status of every answer the endpoint gave."""
    return []


@pytest.fixture
def evil(asked: list[int]) -> Iterator[str]:
    handler = type("_Evil", (_Evil,), {"answers": itertools.cycle(ANSWERS), "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
    server.shutdown()
    server.server_close()


@pytest.fixture
def daemon(tmp_path: Path, ports: tuple[int, int, int], evil: str) -> Iterator[Defective]:
    more: dict[str, Any] = {"retry": {"first": 0.05, "cap": 0.2, "circuit_probe": 0.1, "circuit_after": 100}}
    daemon = Defective(
        tmp_path / "d", ports[0], ports[1], evil, listener={"max_message_bytes": 100_000}, drain_timeout=3, **more
    )
    daemon.config.write_text(
        daemon.config.read_text().replace("log_format: json", "log_format: json\n  log_level: debug")
    )
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.kill()


def _nowhere(daemon: Daemon, seen: dict[str, Any]) -> None:
    seen["the log"] = daemon.log.read_text(errors="replace")
    for words in (("messages", "list"), ("dlq", "list"), ("messages", "list", "--json")):
        ran = daemon.run(*words)
        seen[" ".join(words)] = ran.stdout + ran.stderr
    found = [where for where, text in seen.items() if SENTINEL in str(text).upper()]
    assert not found, f"the sentinel stands in {found}"
    assert '"level":"debug"' in seen["the log"] or '"level":"warning"' in seen["the log"], "there is a log to search"


def test_whatever_goes_wrong_outside_no_value_of_a_message_is_told(daemon: Defective, asked: list[int]) -> None:
    """Wire, endpoint, a journal that is locked, dead letters that cannot be written, translators and daemon killed."""
    daemon.start()
    seen: dict[str, Any] = dict(_wire(daemon.port))
    for number in range(3 * len(ANSWERS)):
        seen[f"answer {number}"] = _send(daemon.port, _framed(_patient(f"E{number}")))
    _until(lambda: len(asked) > 2 * len(ANSWERS), daemon)
    seen |= {f"titles and {page}": text for page, text in _pages(daemon).items()} | {"titles": _titles(daemon)}
    for child in _children(daemon):
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
    letters = daemon.folder / "dlq"
    letters.rename(daemon.folder / "elsewhere") if letters.exists() else None
    letters.write_text("no folder")
    locked = sqlite3.connect(daemon.folder / "journal" / "journal.sqlite3", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    refused = _send(daemon.port, _framed(_patient("LOCKED")))
    locked.execute("ROLLBACK")
    locked.close()
    assert b"207" in refused, "nothing is answered positively while the journal is locked"
    seen["refused"] = refused
    seen["after"] = _send(daemon.port, _framed(_patient("AFTER")))
    assert b"MSA|AA" in seen["after"]
    daemon.kill()
    letters.unlink()
    daemon.start()
    seen["again"] = _send(daemon.port, _framed(_patient("AGAIN")))
    before = len(asked)
    _until(lambda: len(asked) > before, daemon)
    seen |= {f"{page} after the crash": text for page, text in _pages(daemon).items()}
    assert daemon.stop() == 0
    _nowhere(daemon, seen)


def test_a_defect_that_quotes_the_message_is_told_without_its_text(daemon: Defective) -> None:
    """Exceptions in translation, admission, delivery, a forgotten task, a thread, and a warning."""
    daemon.defects = True
    daemon.config.write_text(daemon.config.read_text() + "translate:\n  workers: 0\n")
    daemon.start()
    seen: dict[str, Any] = {}
    for marker in MARKERS:
        # the control id is the sender's to choose and may be told; the sentinel behind it may not
        answer = _send(daemon.port, _framed(_patient(marker).replace(b"|TEST|", f"|{SENTINEL}|".encode(), 1)))
        assert answer, f"{marker} was not answered"
        seen[f"the ACK of {marker}"] = answer.replace(SENTINEL.encode(), b"", 1)  # MSH-6 of the answer is MSH-4
    _until(lambda: all(word in daemon.log.read_text(errors="replace") for word in TOLD), daemon)
    daemon.stop()
    told = daemon.log.read_text(errors="replace")
    assert "Traceback" not in told
    log = {"the log": told}
    found = [where for where, text in (seen | log).items() if SENTINEL in str(text).upper()]
    assert not found, f"the sentinel stands in {found}"
