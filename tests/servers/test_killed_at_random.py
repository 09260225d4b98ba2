"""SIGKILL at random moments: no message that got a positive ACK is missing afterwards, none has two effects."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from daemon import Daemon

from hl7bridge.errors import Hl7BridgeError
from hl7bridge.mllp.client import MllpClient

KILLS = 15
BACKLOG = 150  # acknowledged and not delivered: senders go slowly then, so that kills meet deliveries and the end comes
UNDER_WAY_EVERY = 2  # every second kill waits for deliveries
SENDERS = 4
PROGRESS_WITHIN = 60.0  # seconds in which a handful of messages must be answered


class Endpoint(ThreadingHTTPServer):
    """A FHIR endpoint that only keeps what it was sent: bodies by request id."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: dict[str, list[bytes]] = defaultdict(list)
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A daemon that is killed resets its connections: that is what is tested."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fhir"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.received[self.headers["X-Request-ID"]].append(body)
        entries = body.count(b'"fullUrl"')
        answer = b'{"resourceType":"Bundle","type":"transaction-response","entry":[%s]}' % b",".join(
            [b'{"response":{"status":"201 Created"}}'] * entries
        )
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print what they want printed themselves."""


def _message(control_id: str, patient: int) -> bytes:
    return (
        f"MSH|^~\\&|CHAOS|TEST|||20240305143012+0100||ADT^A08|{control_id}|P|2.5.1\r"
        f"EVN|A08|20240305143012+0100\r"
        f"PID|1||P{patient}^^^T&1.2.3.4&ISO^MR||Test^Chaos||19610317|F\r"
        f"PV1|1|I|||||||||||||||||V{patient}^^^T&1.2.3.4&ISO^VN\r"
    ).encode()


class Sender:
    """Sends as fast as it is answered, until deliveries fall behind; what has no answer when the daemon dies is sent again."""

    def __init__(self, name: int, port: int, behind: Callable[[], int]) -> None:
        self.name, self.port, self.behind = name, port, behind
        self.count = 0
        self.acknowledged: list[str] = []
        self.again = 0

    async def run(self, stop: asyncio.Event) -> None:
        control_id = ""
        while not stop.is_set():
            client = MllpClient("127.0.0.1", self.port, timeout=5.0)
            try:
                while not stop.is_set():
                    if not control_id:
                        self.count += 1
                        control_id = f"S{self.name}-{self.count}"
                    reply = await client.send(_message(control_id, self.count % 7))
                    assert reply.accepted
                    self.acknowledged.append(control_id)
                    control_id = ""
                    if self.behind() > BACKLOG:
                        await asyncio.sleep(0.1)
            except (OSError, Hl7BridgeError):
                self.again += 1
                await asyncio.sleep(0.02)
            finally:
                await client.close()


async def _until(holds: Callable[[], bool], tasks: list[asyncio.Task[None]]) -> None:
    """Waits for it; a sender that failed ends the wait with its failure."""
    async with asyncio.timeout(PROGRESS_WITHIN):
        while not holds():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)


async def _kill_repeatedly(daemon: Daemon, endpoint: Endpoint, senders: list[Sender], seed: int) -> None:
    choose = random.Random(seed)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(sender.run(stop)) for sender in senders]
    for number in range(KILLS):
        before = sum(len(s.acknowledged) for s in senders)
        if number % UNDER_WAY_EVERY:
            delivered = len(endpoint.received)
            await _until(lambda delivered=delivered: len(endpoint.received) >= delivered + 3, tasks)
        await _until(lambda before=before: sum(len(s.acknowledged) for s in senders) >= before + 5, tasks)
        await asyncio.sleep(choose.uniform(0, 0.15))
        daemon.kill()
        await asyncio.to_thread(daemon.start)
    stop.set()
    await asyncio.gather(*tasks)


@pytest.mark.slow
def test_no_acknowledged_message_is_lost_or_takes_effect_twice_over_many_kills(
    tmp_path: Path, ports: tuple[int, int, int], say: Callable[[str], None]
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    endpoint = Endpoint()
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    daemon = Daemon(tmp_path / "d", ports[0], ports[1], endpoint.base_url, translate={"workers": 0})
    senders: list[Sender] = []

    def behind() -> int:
        return sum(len(sender.acknowledged) for sender in senders) - len(endpoint.received)

    senders += [Sender(i, ports[0], behind) for i in range(SENDERS)]
    daemon.start()
    try:
        asyncio.run(_kill_repeatedly(daemon, endpoint, senders, seed))
        messages = daemon.settled(120)
    finally:
        daemon.stop()
        endpoint.shutdown()
        endpoint.server_close()
    acknowledged = {control_id for sender in senders for control_id in sender.acknowledged}
    ids = {m["control_id"]: m["id"] for m in messages}
    twice = sum(len(bodies) > 1 for bodies in endpoint.received.values())
    say(
        f"seed {seed}: {KILLS} kills, {len(acknowledged)} acknowledged, {sum(s.again for s in senders)} sent again, "
        f"{twice} delivered more than once (each time the same bytes)"
    )
    assert len(ids) == len(messages), "a message that was sent again is the same message"
    assert acknowledged <= ids.keys(), "every acknowledged message is in the journal"
    assert all(m["state"] == "delivered" for m in messages)
    assert {ids[c] for c in acknowledged} <= endpoint.received.keys(), "and reached the endpoint"
    assert all(len(set(bodies)) == 1 for bodies in endpoint.received.values()), "sent twice it is the same bundle"
