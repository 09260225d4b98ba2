"""The daemon under strace: which system calls it made, in which order, with the bytes it wrote.

Source of the order: strace writes a line when a call is entered and not done before another thread's ("unfinished"), and
a line when it is done; the lines of one file are in the order the kernel told of them. So a call that is done on a line
before another begins was done before it.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CALLS = "openat,pwrite64,pwritev,write,writev,sendto,sendmsg,fdatasync,fsync,ftruncate,unlink,unlinkat,rename,renameat2"
LONGEST = 20_000  # bytes of a string that strace prints: a page of the journal is 8192
STARTS_WITHIN = 120.0
CHECKPOINT_PAGES = 60  # so that the log is copied into the database several times in a short trace
_LINE = re.compile(r"^(\d+) +(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: [A-Z]+ \(.*\))*$", re.DOTALL)
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")

# the journal as it is, but for the size of its log; SYNCHRONOUS is how a control is made that must fail
_PROGRAM = """
import sys
from hl7bridge.journal import files
files.CHECKPOINT_PAGES = {pages}
right = files.connect
def connect(*args, **more):
    connection = right(*args, **more)
    if {synchronous!r}:
        connection.execute("PRAGMA synchronous = " + {synchronous!r})
    return connection
files.connect = connect
sys.argv[0] = "hl7bridge"
from hl7bridge.__main__ import main
main()
"""


def missing() -> str:
    """Why no system call can be traced here; "" when they can."""
    if shutil.which("strace") is None:
        return "no strace: system calls cannot be traced"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "strace may not trace here (ptrace is forbidden)"


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. `begun` and `done` are line numbers; `path` of the file, `socket:[…]`, or the new name's source."""

    name: str
    path: str
    data: bytes
    number: int  # an offset, a size
    other: str  # the new path of a rename
    flags: str
    begun: int
    done: int


class TracedDaemon:
    """`hl7bridge serve` under strace in `folder`; `calls` after `stop`.

    `inject`: strace's words for calls that fail, such as "fdatasync:error=EIO:when=20..22" (counted for each thread).
    """

    def __init__(
        self, folder: Path, ports: tuple[int, int], synchronous: str = "", inject: tuple[str, ...] = ()
    ) -> None:
        self.port, self.http_port = ports
        self.journal = folder / "journal"
        self.trace = folder / "trace"
        self._log = folder / "daemon.log"
        config = folder / "hl7bridge.yaml"
        settings = {
            "listeners": [{"host": "127.0.0.1", "port": self.port}],
            "journal": {"path": str(self.journal), "min_free_bytes": 0},
            "dead_letters": {"path": str(folder / "dlq")},
            "fhir": {"base_url": f"file:{folder / 'out'}"},
            "translate": {"workers": 0},
            "observe": {"host": "127.0.0.1", "port": self.http_port},
        }
        config.write_text(yaml.safe_dump(settings))
        program = _PROGRAM.format(pages=CHECKPOINT_PAGES, synchronous=synchronous)
        faults = [word for fault in inject for word in ("-e", f"inject={fault}")]
        self._command = [
            *("strace", *faults, "-f", "-y", "-xx", "-s", str(LONGEST), "-o", str(self.trace), "-e", f"trace={CALLS}"),
            *(sys.executable, "-c", program, "--config", str(config), "serve"),
        ]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + STARTS_WITHIN
        while not self._ready():
            told = self._log.read_text()[-2000:]
            assert self.process.poll() is None and time.monotonic() < until, told
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM for the daemon; strace ends with it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            subprocess.run(["kill", child], check=False)
        self.process.wait(60)

    def calls(self) -> list[Call]:
        return list(read_trace(self.trace.read_text().splitlines()))


def read_trace(lines: list[str]) -> Iterator[Call]:
    """The calls that came back without an error, and the syncs that failed, in the order in which they were done."""
    open_calls: dict[str, tuple[str, int]] = {}
    for place, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, text = found.groups()
        begun = place
        if text.endswith("<unfinished ...>"):
            open_calls[thread] = (text.removesuffix("<unfinished ...>").rstrip(), place)
            continue
        if text.startswith("<..."):
            first, begun = open_calls.pop(thread, ("", place))
            text = first + text.partition("resumed>")[2]
        call = _call(text, begun, place)
        if call is not None:
            yield call


def _call(text: str, begun: int, done: int) -> Call | None:
    found = _CALL.match(text)
    if found is None:
        return None
    name, arguments = found[1], found[2]
    failed = int(found[3]) < 0
    if failed and name not in ("fdatasync", "fsync"):
        return None
    strings = [bytes.fromhex(part.replace("\\x", "")) for part in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)]
    target = re.match(r"\d+<([^>]*)>", arguments)
    path = _text(target[1]) if target else ""
    if name in ("pwrite64",):
        return Call(name, path, strings[0], int(arguments.rpartition(", ")[2]), "", "", begun, done)
    if name in ("write", "sendto", "writev", "sendmsg", "pwritev"):
        return Call(name, path, b"".join(strings), 0, "", "", begun, done)
    if name == "ftruncate":
        return Call(name, path, b"", int(arguments.rpartition(", ")[2]), "", "", begun, done)
    if name in ("fdatasync", "fsync"):
        return Call("failed sync" if failed else name, path, b"", 0, "", "", begun, done)
    paths = [part.decode() for part in strings]
    other = paths[1] if len(paths) > 1 else ""
    return Call(name, paths[0] if paths else "", b"", 0, other, arguments, begun, done)


def _text(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if _HEX.fullmatch(path) else path


def exchange(port: int, frames: list[bytes], window: int) -> bytes:
    """Sends the messages over one connection, at most `window` unanswered; all answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        received, sent = b"", 0
        while received.count(b"\x1c\r") < len(frames):
            while sent < len(frames) and sent - received.count(b"\x1c\r") < window:
                connection.sendall(b"\x0b" + frames[sent] + b"\x1c\r")
                sent += 1
            part = connection.recv(65536)
            assert part, "hung up"
            received += part
        return received
