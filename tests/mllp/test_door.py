"""Who comes in, and how a port is bound (fault catalogue 21, 41 to 44, 46, 49): addresses, descriptors, probes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paper_authority import Authority
from scripted_peer import PATIENCE, Echo, Recorder, bench, eventually, listener, refuse

from hl7bridge.config import ListenerTls, Tls
from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.door import AT_ONCE
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.gate import Limits
from hl7bridge.mllp.peer import allowed, networks
from hl7bridge.mllp.server import MllpServer
from hl7bridge.tls.contexts import client_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "authority")


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ListenerTls:
    certificate, key = authority.issue("localhost")
    return ListenerTls(certificate=certificate, key=key, ca=authority.file)


# ---- addresses ----


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("10.20.3.4", True),
        ("::ffff:10.20.3.4", True),
        ("10.21.0.1", False),
        ("2001:db8::9", True),
        ("2001:db8::9%eth0", True),
        ("2001:db9::9", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("/run/socket", False),
        ("", False),
    ],
)
def test_an_address_is_allowed_when_a_network_holds_it(address: str, is_allowed: bool) -> None:
    among = networks(("10.20.0.0/16", "2001:db8::/32", "192.0.2.7"))
    assert allowed(address, among) == is_allowed


@pytest.mark.parametrize("with_tls", [False, True], ids=["clear", "tls"])
async def test_an_address_that_is_not_allowed_is_closed_before_a_byte_is_read(tls: ListenerTls, with_tls: bool) -> None:
    async with bench({"allow": ("10.0.0.0/8", "2001:db8::/32"), "tls": tls if with_tls else None}) as b:
        peer = await b.peer()
        assert await peer.closed()
        assert [fact for fact in b.recorder.said if fact[0] != "ending"] == [("denied", "address")]
        assert b.echo.seen == []


async def test_an_address_that_is_allowed_is_served() -> None:
    async with bench({"allow": ("10.0.0.0/8", "127.0.0.0/8")}) as b:
        peer = await b.peer()
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"


# ---- binding ----


async def test_a_port_that_is_freed_in_time_is_bound() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = MllpServer(listener(port=port, bind_wait=PATIENCE), Echo(), refuse, limits=Limits(bind_pause=0.01))
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0.05)
        assert not starting.done()
    await starting
    assert server.port == port
    await server.drain(PATIENCE)


async def test_a_port_that_stays_taken_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = MllpServer(
            listener(port=taken.getsockname()[1], bind_wait=0.05), Echo(), refuse, limits=Limits(bind_pause=0.01)
        )
        with pytest.raises(UnavailableError, match=r"Address already in use; `ss -ltnp` tells who has it"):
            await server.start()


async def test_an_address_no_interface_has_is_named() -> None:
    server = MllpServer(listener(host="192.0.2.77"), Echo(), refuse)
    with pytest.raises(UnavailableError, match="no interface of this machine has that address"):
        await server.start()


async def test_two_listeners_share_a_port_on_two_interfaces() -> None:
    async with bench() as b:
        other_echo = Echo()
        other = MllpServer(listener(host="127.0.0.2", port=b.server.port), other_echo, refuse)
        await other.start()
        first = await b.peer()
        await first.send(frame(b"one"))
        assert await first.answer() == b"ACK one"
        _, writer = await asyncio.open_connection("127.0.0.2", other.port)
        writer.write(frame(b"two"))
        await eventually(lambda: other_echo.seen == [b"two"])
        writer.close()
        assert b.echo.seen == [b"one"]
        await other.drain(PATIENCE)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "localhost"])
async def test_all_interfaces_include_loopback(host: str) -> None:
    echo = Echo()
    server = MllpServer(listener(host=host), echo, refuse)
    await server.start()
    try:
        ports = [sock.getsockname()[1] for sock in server._door._sockets if sock.family == socket.AF_INET]  # type: ignore[union-attr]
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(frame(b"one"))
        async with asyncio.timeout(PATIENCE):
            assert await reader.readuntil(b"\r") == frame(b"ACK one")
        writer.close()
    finally:
        await server.drain(PATIENCE)


# ---- descriptors ----

STARVED = """
import asyncio, contextlib, resource, socket, sys
sys.path[:0] = sys.argv[1:]
from scripted_peer import Recorder, bench, eventually
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.gate import Limits

async def main():
    async with bench(limits=Limits(accept_pause=0.01)) as b:
        waiting = [socket.create_connection(("127.0.0.1", b.server.port)) for _ in range(60)]
        await b.recorder.until("starved", "EMFILE")
        for one in waiting[:40]:
            one.close()
        b.recorder.said.clear()
        loop = asyncio.get_running_loop()
        waiting[-1].setblocking(False)
        await loop.sock_sendall(waiting[-1], frame(b"last"))
        async with asyncio.timeout(10):
            assert await loop.sock_recv(waiting[-1], 100) == frame(b"ACK last")
        for one in waiting:
            one.close()
    print("served")

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
asyncio.run(main())
"""


def test_a_process_out_of_descriptors_goes_on_when_some_are_free_again(tmp_path: Path) -> None:
    here = Path(__file__).parent
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", STARVED, str(here), str(here.parents[1])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert child.stdout == "served\n", child.stderr[-2000:]
    assert child.stderr == ""


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOBUFS])
async def test_a_system_out_of_files_or_memory_is_survived(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    accept = socket.socket.accept
    broken = [True]

    def failing(self: socket.socket) -> tuple[socket.socket, Any]:
        if broken[0]:
            raise OSError(number, "full")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with bench(limits=Limits(accept_pause=0.01)) as b:
        peer = await b.peer()
        await b.recorder.until("starved", errno.errorcode[number])
        broken[0] = False
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"


async def test_draining_while_out_of_descriptors_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def failing(self: socket.socket) -> tuple[socket.socket, Any]:
        calls.append(1)
        raise OSError(errno.EMFILE, "full")

    monkeypatch.setattr(socket.socket, "accept", failing)
    recorder = Recorder()
    server = MllpServer(listener(), Echo(), refuse, recorder, Limits(accept_pause=60))
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)):
        await recorder.until("starved", "EMFILE")
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(calls) == 1  # no spin over the connection that waits
        assert await server.drain(PATIENCE) == 0


# ---- probes, floods, silence ----


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_probes_of_a_tls_port_are_no_errors_and_leave_nothing_behind(tls: ListenerTls, how: str) -> None:
    async with bench({"tls": tls}) as b:
        for _ in range(10):
            probe = socket.create_connection(("127.0.0.1", b.server.port))
            if how == "rst":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            probe.close()
        door = b.server._door
        assert door is not None
        if how == "fin":
            await eventually(lambda: b.recorder.said.count(("probed",)) == 10)
        else:
            peer = await b.peer()  # behind the ten in the queue
            await peer.close()
            await b.recorder.until("probed")
        await eventually(lambda: not door._handshakes)
        assert {fact for fact in b.recorder.said if fact[0] != "ending"} == {("probed",)}
        assert b.server.connections == 0


async def test_stalled_handshakes_are_limited_and_take_no_place_of_a_sender(
    tls: ListenerTls, authority: Authority
) -> None:
    async with bench({"tls": tls, "max_connections": 2, "frame_timeout": PATIENCE}) as b:
        sender = await b.peer(client_context(Tls(ca=authority.file)))
        stalled = [await b.peer(), await b.peer()]
        refused = await b.peer()
        assert await refused.closed()
        assert b.recorder.said.count(("denied", "full")) == 1
        await sender.send(frame(b"one"))
        assert await sender.answer() == b"ACK one"
        for one in stalled:
            await one.close()
        await b.recorder.until("probed")
        again = await b.peer(client_context(Tls(ca=authority.file)))
        await again.send(frame(b"two"))
        assert await again.answer() == b"ACK two"


async def test_a_plain_message_to_a_tls_port_is_told_as_such(tls: ListenerTls) -> None:
    async with bench({"tls": tls}) as b:
        plain = await b.peer()
        await plain.send(frame(b"MSH|^~\\&|EPIC"))
        await b.recorder.until("denied", "no-tls")


async def test_what_a_refused_peer_still_sends_does_not_take_the_alert_from_it(
    tls: ListenerTls, authority: Authority
) -> None:
    """Closing over unread bytes resets the connection, and some systems then throw away what has come."""
    context = client_context(Tls(ca=authority.file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    async with bench({"tls": tls.model_copy(update={"minimum": "1.3"})}) as b:
        plain = await b.peer()
        await plain.send(outgoing.read() + b"x" * 100_000)
        async with asyncio.timeout(PATIENCE):
            assert (await plain.reader.readexactly(7))[:2] == b"\x15\x03"
            for _ in range(3):  # a reset would come back for the first, and end the second
                await plain.send(b"x" * 1000)
                await asyncio.sleep(0.01)
            plain.half_close()
            assert await plain.reader.read() == b""


async def test_a_message_in_the_record_that_ends_the_handshake_is_answered(
    tls: ListenerTls, authority: Authority
) -> None:
    """TLS 1.3: the client's Finished and its first data leave in one segment."""
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(Tls(ca=authority.file))
    spoken = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with bench({"tls": tls}) as b:
        reader, writer = await asyncio.open_connection("127.0.0.1", b.server.port)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    spoken.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))
            spoken.write(frame(b"one") + frame(b"two"))
            writer.write(outgoing.read())  # Finished and data together
            answer = b""
            while len(answer) < len(frame(b"ACK one") + frame(b"ACK two")):
                try:
                    answer += spoken.read()
                except ssl.SSLWantReadError:
                    incoming.write(await reader.read(65536))
        assert answer == frame(b"ACK one") + frame(b"ACK two")
        writer.close()


async def test_many_who_come_at_once_are_all_served() -> None:
    async with bench() as b:
        peers = await asyncio.gather(*(b.peer() for _ in range(3 * AT_ONCE)))
        for number, peer in enumerate(peers):
            await peer.send(frame(b"%d" % number))
        assert [await peer.answer() for peer in peers] == [b"ACK %d" % n for n in range(3 * AT_ONCE)]


async def test_after_a_remote_close_the_event_loop_sleeps() -> None:
    """A spin would be a wake-up for every look: there are none but ours."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("only asyncio's own loop can be watched waking up")
    async with bench() as b:
        quiet = await b.peer()
        leaving = await b.peer()
        await b.recorder.until("opened")
        await leaving.close()
        await b.recorder.until("closed")
        selector = loop._selector  # type: ignore[attr-defined]
        wakes: list[int] = []
        select = selector.select
        selector.select = lambda timeout=None: (wakes.append(1), select(timeout))[1]
        try:
            await asyncio.sleep(0.1)
        finally:
            selector.select = select
        assert len(wakes) < 10
        await quiet.send(frame(b"one"))
        assert await quiet.answer() == b"ACK one"


async def test_keepalive_is_set_as_configured_and_may_be_off() -> None:
    for seconds in (0, 17):
        async with bench({"keepalive": seconds}) as b:
            await b.peer()
            await b.recorder.until("opened")
            [connection] = b.server._connections
            connected = connection._transport.get_extra_info("socket")
            assert bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(seconds)
            if seconds:
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                assert [connected.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [17, 10, 6]
