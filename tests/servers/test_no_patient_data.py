"""A sentinel planted in every field of a message never appears in logs, metrics, ACKs, errors or listings."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon

SENTINEL = "ZQXSENTINELXQZ"
FIELDS = 45


def _planted(segment: str, count: int = FIELDS, **kept: str) -> str:
    """A segment with the sentinel in every component and subcomponent of every field, but for the fields kept."""
    full = f"{SENTINEL}^{SENTINEL}&{SENTINEL}^{SENTINEL}^{SENTINEL}~{SENTINEL}"
    return "|".join([segment, *(kept.get(f"_{n}", full) for n in range(1, count))])


def _message(event: str, control_id: str, *segments: str, charset: str = "") -> bytes:
    head = f"MSH|^~\\&|APP|FAC|||20240305143012+0100||{event}|{control_id}|P|2.5.1||||||{charset}"
    return "\r".join((head, *segments)).encode() + b"\r"


MESSAGES = {
    "a whole admission": _message(
        "ADT^A01",
        "S1",
        _planted("EVN", 8),
        _planted("PID"),
        _planted("PD1", 20),
        _planted("NK1"),
        _planted("PV1", 54),
        _planted("PV2"),
        _planted("AL1", 7),
        _planted("DG1", 22),
        _planted("PR1", 20),
        _planted("ZXX", 10),
    ),
    "a result": _message(
        "ORU^R01",
        "S2",
        _planted("PID"),
        _planted("PV1", 54),
        _planted("ORC", 30),
        _planted("OBR", 50),
        _planted("OBX", 20, _2="NM"),
        _planted("OBX", 20, _2="ST"),
        _planted("OBX", 20, _2="ED"),
        _planted("OBX", 20),
        _planted("NTE", 5),
        _planted("SPM", 30),
    ),
    "an event without a table": _message("ADT^A99", "S3", _planted("PID")),
    "a type without a table": _message(f"{SENTINEL}^{SENTINEL}", "S4", _planted("PID")),
    "two patients": _message("ADT^A01", "S5", _planted("PID"), _planted("PID"), _planted("PV1")),
    "bytes that fit no charset": _message("ADT^A01", "S6", _planted("PID"), charset="UNICODE UTF-8")
    + b"NTE|1||\xff\xfe\r",
    "no MSH at all": f"PID|1||{SENTINEL}\r".encode(),
    "a control id is missing": _message("ADT^A01", "", _planted("PID")),
    "a patient whose bundle the endpoint refuses": _message(
        "ADT^A04",
        "S7",
        f"EVN|A04|20240305143012+0100|||{SENTINEL}",
        f"PID|1||{SENTINEL}^^^{SENTINEL}^MR||{SENTINEL}^{SENTINEL}",
        f"PV1|1|I|||||||||||||||||{SENTINEL}^^^{SENTINEL}",
    ),
}


class _Refusing(BaseHTTPRequestHandler):
    """Refuses every bundle and quotes it, as real servers do."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = (
            '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid",'
            f'"diagnostics":"cannot store {SENTINEL}"}}]}}'
        ).encode()
        self.send_response(422)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _exchange(port: int, payload: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\x0b" + payload + b"\x1c\r")
        received = b""
        while not received.endswith(b"\x1c\r"):
            part = connection.recv(65536)
            if not part:
                break
            received += part
    return received


@pytest.mark.parametrize("validate", ["off", "reject"])
def test_no_value_of_a_message_leaves_the_process_but_in_bundles_and_dead_letters(
    tmp_path: Path, ports: tuple[int, int, int], validate: str
) -> None:
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    endpoint.daemon_threads = True
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    base_url = f"http://127.0.0.1:{endpoint.server_address[1]}/fhir"
    daemon = Daemon(tmp_path / "d", ports[0], ports[1], base_url, listener={"validate": validate})
    text = daemon.config.read_text().replace("log_format: json", "log_format: json\n  log_level: debug")
    daemon.config.write_text(text)
    daemon.start()
    seen: dict[str, Any] = {}
    try:
        for name, payload in MESSAGES.items():
            answer = _exchange(ports[0], payload)
            assert answer.startswith(b"\x0bMSH"), f"{name} was not answered"
            seen[f"the ACK of {name}"] = answer.decode("latin-1")
            file = tmp_path / f"{len(seen)}.hl7"
            file.write_bytes(payload)
            for words in (("translate", "-o", str(tmp_path / "out"), str(file)), ("validate", str(file))):
                ran = daemon.run(*words)
                assert "Traceback" not in ran.stderr
                seen[f"{words[0]} of {name}"] = ran.stdout + ran.stderr
        (tmp_path / "sent.hl7").write_bytes(b"\r".join(p for p in MESSAGES.values() if p.startswith(b"MSH")))
        ran = daemon.run("send", str(tmp_path / "sent.hl7"), "--port", str(ports[0]))
        seen["send"] = ran.stdout + ran.stderr
        messages = daemon.settled(60)
        assert validate == "reject" or {m["state"] for m in messages} == {"dead"}
        for words in (("messages", "list"), ("dlq", "list"), ("config", "show"), ("doctor",)):
            ran = daemon.run(*words)
            seen[" ".join(words)] = ran.stdout + ran.stderr
        for message in messages:
            for words in (("messages", "show", message["id"]), ("dlq", "show", message["id"])):
                ran = daemon.run(*words)
                hidden = "\n".join(
                    line
                    for line in ran.stdout.splitlines()
                    if "OperationOutcome" not in line and "cannot store" not in line
                )
                seen[f"{words[0]} show {message['type']}"] = hidden + ran.stderr
        seen["metrics"] = "\n".join(daemon.metrics())
    finally:
        daemon.stop()
        endpoint.shutdown()
        endpoint.server_close()
    seen["the log"] = daemon.log.read_text()
    found = [where for where, text in seen.items() if SENTINEL in text.upper()]
    assert not found, f"the sentinel stands in {found}"
    assert "message" in seen["the log"], "there is a log to search"
