"""The daemon's ear for commands on the same machine: one JSON line asked, one answered, over a Unix socket.

What holds: the socket stands in the journal's folder, which only its owner can enter, and who asks is told by the
kernel, not by the one who asks. There is one daemon for a journal, so whoever holds the journal's lock may take the
place of a socket that a crash left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from hl7bridge.errors import UnavailableError

SOCKET = "control.sock"
LONGEST = 1024 * 1024  # bytes of a line
ANSWER_WITHIN = 300.0  # seconds; loading large tables on a busy machine takes a while
_PATH_MAX = 100  # bytes: a socket's address holds 108

Answer = Callable[[Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]  # request, who asks


class Control:
    """The daemon's side. `answer` must not raise."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self._folder, self._answer = folder, answer
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Raises UnavailableError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / SOCKET).unlink()
            with _address(self._folder) as address:
                self._server = await asyncio.start_unix_server(self._serve, address, limit=LONGEST)
            (self._folder / SOCKET).chmod(0o600)
        except OSError as error:
            raise UnavailableError(f"{self._folder / SOCKET}: {error.strerror or type(error).__name__}") from None

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / SOCKET).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            who = _who(writer.get_extra_info("socket"))
            answer = await self._answer(request if isinstance(request, dict) else {}, who)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):  # who asked went away, or spoke something else
            pass
        finally:
            writer.close()


def ask(folder: Path, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The running daemon's answer; None when none is running. Raises UnavailableError when it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_WITHIN)
        try:
            with _address(folder) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise UnavailableError(f"{folder / SOCKET}: {error.strerror or type(error).__name__}") from None
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise UnavailableError(f"hl7bridge did not answer: {type(error).__name__}") from None
    return answer if isinstance(answer, dict) else None


@contextlib.contextmanager
def _address(folder: Path) -> Any:
    """The socket's address: its path, or where that is too long for one, the same place by an open folder."""
    path = str((folder / SOCKET).absolute())
    if len(os.fsencode(path)) <= _PATH_MAX:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def _who(connection: socket.socket) -> str:
    """The operating system's name of who is at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
