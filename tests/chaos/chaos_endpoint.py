"""A FHIR endpoint in the driver's process: it applies transactions, remembers every effect, and misbehaves on demand.

What holds:
- A transaction is applied in one step between two awaits, whole or not at all; what is not answered, or answered with
  nonsense, may have been applied nevertheless. That is the endpoint a bridge has to live with.
- It judges effects, not requests: a conditional create of what is there does nothing; a PUT or a patch that comes again
  straight after itself does nothing new; anything else is one more effect.
- It never applies what it has only begun to read, and never later than it answers or hangs up: an endpoint that wakes
  up with an old request after a newer one would make any order impossible.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chaos_feed import POISON

# how it may answer, and how often in the mood `mixed`; with `after` the effects stand before things go wrong. What opens
# the circuit at once never comes in `mixed`: nothing else would be asked for then.
MANNERS = {
    "ok": 24,
    "slow": 4,
    "hang": 1,
    "hang_after": 1,
    "cut": 2,
    "cut_after": 4,
    "half_after": 4,
    "500": 2,
    "503": 0,
    "429": 0,
    "409": 2,
    "401": 0,
    "302": 0,
    "html_200": 2,
    "html_502": 2,
}
MOODS = ("ok", "mixed", "refuse", *(manner for manner in MANNERS if manner != "ok"))
HANGS = 5.0  # seconds, longer than the daemon waits
_REASONS = {
    "200": "OK",
    "302": "Found",
    "401": "Unauthorized",
    "409": "Conflict",
    "422": "Unprocessable",
    "429": "Slow",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One transaction that was applied."""

    request_id: str
    digest: bytes


class ScriptedEndpoint:
    """`start`, set `mood`, read `deliveries`, `writers` and `plain_posts`, `stop`."""

    def __init__(self, seed: str) -> None:
        self.mood = "ok"
        self.deliveries: list[Delivery] = []
        self.bundles: dict[str, set[bytes]] = defaultdict(set)  # every whole request of a message, applied or not
        self.asked: Counter[str] = Counter()
        self.writers: dict[str, list[str]] = defaultdict(list)  # resource -> the messages that changed it, in order
        self.plain_posts: list[str] = []  # requests that would create again each time they come
        self.broken: list[str] = []  # transactions that could not be applied, and why
        self.manners: Counter[str] = Counter()
        self.requests = 0
        self._choose = random.Random(f"{seed} endpoint")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=64 * 1024 * 1024)

    async def stop(self) -> None:
        """Hang up on everyone and stop listening: connections are refused from now on."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def be(self, mood: str) -> None:
        if mood == "refuse":
            await self.stop()
        elif self._server is None:
            await self.start()
        self.mood = mood

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    # ---- one connection ----

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the daemon was killed, or the mood changed to refuse
        finally:
            self._open.discard(writer)
            with suppress(OSError):
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests += 1
        request_id = headers.get("x-request-id", "")
        self.asked[request_id] += 1
        self.bundles[request_id].add(hashlib.sha256(body).digest())
        manner = self.mood
        if manner == "mixed":
            manner = self._choose.choices(list(MANNERS), list(MANNERS.values()))[0]
        self.manners[manner] += 1
        if manner in ("hang", "cut"):
            await asyncio.sleep(HANGS if manner == "hang" else 0)
            return False
        if not (manner in ("ok", "slow") or manner.endswith("_after")):
            await self._say(writer, *_refusal(manner))
            return True
        status, answer = self._transaction(request_id, body)
        if manner == "hang_after":
            await asyncio.sleep(HANGS)
            return False
        if manner == "cut_after":
            return False
        if manner == "slow":
            await asyncio.sleep(self._choose.uniform(0.05, 1.0))
        if manner == "half_after":
            await self._say(writer, status, {}, answer, len(answer) // 2)
            writer.transport.abort()
            return False
        await self._say(writer, status, {}, answer)
        return True

    async def _say(
        self, writer: asyncio.StreamWriter, status: str, more: dict[str, str], body: bytes, sent: int | None = None
    ) -> None:
        headers = {"Content-Type": "application/fhir+json", **more, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n{head}\r\n".encode() + body[:sent])
        await writer.drain()

    # ---- what it holds ----

    def _transaction(self, request_id: str, body: bytes) -> tuple[str, bytes]:
        """Applies the bundle; the status and the answer."""
        bundle = json.loads(body)
        entries: list[dict[str, Any]] = bundle["entry"]
        if any(POISON in (name.get("family") or "") for name in _names(entries)):
            return "422", _outcome("this patient is refused by the test")
        present = set(self.writers)
        changes: list[tuple[str, bool]] = []
        posts: list[str] = []
        in_order = sorted(
            entries, key=lambda entry: ("DELETE", "POST", "PUT", "PATCH").index(entry["request"]["method"])
        )
        for entry in in_order:
            request = entry["request"]
            method, url, condition = request["method"], request["url"], request.get("ifNoneExist")
            if method == "POST" and condition is None:
                posts.append(url)
                continue
            key = f"{url}?{condition}" if method == "POST" else url
            if method == "PATCH" and key not in present:
                self.broken.append(f"{request_id}: a patch of what is not there")
                return "404", _outcome("nothing to patch")
            if method != "POST" or key not in present:
                changes.append((key, True))
            present.add(key)
        for key, _ in changes:
            writers = self.writers[key]
            if not writers or writers[-1] != request_id:
                writers.append(request_id)
        self.plain_posts += [request_id] * len(posts)
        self.deliveries.append(Delivery(request_id, hashlib.sha256(body).digest()))
        answer = {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": {"status": "200 OK"}} for _ in entries],
        }
        return "200", json.dumps(answer).encode()


def _names(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [name for entry in entries for name in _list(entry.get("resource", {}).get("name"))]


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _outcome(text: str) -> bytes:
    issue = {"severity": "error", "code": "invalid", "diagnostics": text}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def _refusal(manner: str) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of an answer that applied nothing."""
    page = b"<html><body>Please log in</body></html>"
    if manner.startswith("html_"):
        return manner.removeprefix("html_"), {"Content-Type": "text/html"}, page
    if manner == "302":
        return "302", {"Location": "http://127.0.0.1:1/login"}, b""
    if manner in ("503", "429"):
        return manner, {"Retry-After": "1"}, b""
    return manner, {}, _outcome("not now")
