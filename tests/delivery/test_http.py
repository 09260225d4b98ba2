"""Connections toward a server that writes any bytes: kept, closed, asked once more, given up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from hl7bridge.delivery import connection, http
from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.connection import Connection
from hl7bridge.delivery.http import Http, placed
from hl7bridge.delivery.outcome import TransportFailure

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK = Response(200, {"content-length": "2"}, b"ok")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class Server:
    """`talk` plays one connection, told its number. `heads`: of the requests that were read."""

    def __init__(self, talk: Talk) -> None:
        self._talk, self.heads, self.connections = talk, list[bytes](), 0
        self.url, self.talks = "", list[asyncio.Task[None]]()

    async def take(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.talks.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await self._talk(reader, writer, self.connections)
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def talking(talk: Callable[[Server], Talk], **keys: float) -> AsyncIterator[tuple[Server, Http]]:
    server = Server(lambda *_: asyncio.sleep(0))
    server._talk = talk(server)
    client = Http(keys.get("timeout", 5.0), int(keys.get("limit", 2)), None)
    async with await asyncio.start_server(server.came, "127.0.0.1", 0) as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/fhir"
        yield server, client
        await client.close()
        for playing in server.talks:
            playing.cancel()
        await asyncio.gather(*server.talks)


def answering(*answers: bytes) -> Callable[[Server], Talk]:
    """These answers on each connection, the last one for ever."""

    def made(server: Server) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
            left = list(answers)
            while True:
                await server.take(reader)
                writer.write(left.pop(0) if len(left) > 1 else left[0])

        return talk

    return made


async def post(client: Http, server: Server, body: bytes = b"{}") -> Response | TransportFailure:
    return await client.request("POST", server.url, {"X-Request-ID": "1"}, body)


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with talking(answering(ANSWER)) as (server, client):
        for _ in range(5):
            assert await post(client, server) == OK
        assert server.connections == 1
        assert all(head.startswith(b"POST /fhir HTTP/1.1\r\nHost: 127.0.0.1:") for head in server.heads)


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER.replace(b"Content-Length", b"Connection: close\r\nContent-Length"),
        ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
    ],
)
async def test_a_connection_that_may_not_go_on_is_not_used_again(answer: bytes) -> None:
    async with talking(answering(answer)) as (server, client):
        for _ in range(2):
            response = await post(client, server)
            assert isinstance(response, Response) and response.body == b"ok"
        assert server.connections == 2


async def test_bytes_that_nobody_asked_for_end_a_connection_and_are_no_answer() -> None:
    def made(server: Server) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
            await server.take(reader)
            writer.write(ANSWER)
            if number == 1:
                await asyncio.sleep(0.01)
                writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        return talk

    async with talking(made) as (server, client):
        assert await post(client, server) == OK
        await asyncio.sleep(0.05)
        assert not client._all
        assert await post(client, server) == OK
        assert server.connections == 2


async def test_what_stands_in_the_way_on_a_kept_connection_is_asked_once_more_only_where_nothing_can_happen_twice() -> (
    None
):
    def made(server: Server) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
            for _ in range(number):
                await server.take(reader)
                writer.write(ANSWER)
            await server.take(reader)  # and ends without an answer

        return talk

    async with talking(made) as (server, client):
        for method, answer in (("GET", OK), ("POST", TransportFailure("disconnected"))):
            assert await post(client, server) == OK
            assert await client.request(method, server.url, {}) == answer


async def test_a_connection_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEP", 0.02)
    async with talking(answering(ANSWER)) as (server, client):
        assert await post(client, server) == OK
        async with asyncio.timeout(5):
            while client._all:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not client._kept
        assert await post(client, server) == OK


async def test_a_connection_that_was_kept_too_long_is_not_used_though_it_is_there() -> None:
    async with talking(answering(ANSWER)) as (server, client):
        assert await post(client, server) == OK
        (kept,) = client._all
        kept._until = 0.0
        assert await post(client, server) == OK
        assert server.connections == 2 and kept not in client._all


async def test_a_body_that_ends_with_the_connection_is_not_whole_when_that_was_reset() -> None:
    def made(server: Server) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
            await server.take(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhal")
            await writer.drain()
            await asyncio.sleep(0.05)
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return talk

    async with talking(made) as (server, client):
        assert await post(client, server) == Response(200, {}, b"", truncated=True)


async def test_an_answer_that_comes_before_all_was_sent_counts_and_ends_the_connection() -> None:
    def made(server: Server) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
            server.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.2)

        return talk

    async with talking(made) as (server, client):
        for _ in range(2):
            response = await post(client, server, b" " * 32 * 1024 * 1024)
            assert isinstance(response, Response) and response.status == 413
        assert server.connections == 2


async def test_a_large_body_arrives_whole() -> None:
    async with talking(answering(ANSWER)) as (server, client):
        assert await post(client, server, b"x" * 5_000_000) == OK
        assert b"Content-Length: 5000000\r\n" in server.heads[0]


async def test_time_is_up_without_an_answer_with_half_of_one_and_in_the_queue() -> None:
    async with talking(answering(b""), timeout=0.05, limit=1) as (server, client):
        first, second = await asyncio.gather(post(client, server), post(client, server))
        assert first == second == TransportFailure("timeout")
    async with talking(answering(ANSWER[:-1]), timeout=0.05) as (server, client):
        assert await post(client, server) == Response(200, {"content-length": "2"}, b"", truncated=True)
        assert not client._kept


class StillLoop:
    """Of a loop what a connection's timer needs; `timers`: when they ring."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, list[float]()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, _: object) -> StillLoop:
        self.timers.append(when)
        return self

    def when(self) -> float:
        return self.timers[-1]

    def cancel(self) -> None:
        self.timers.pop()


def test_a_timer_is_kept_from_request_to_request_but_not_past_a_deadline() -> None:
    loop = StillLoop()
    kept = Connection(cast(asyncio.AbstractEventLoop, loop), lambda _: None)
    kept._watch(30.0)
    assert loop.timers == [connection.KEEP]
    loop.now = 10.0
    kept._watch(40.0)
    assert loop.timers == [connection.KEEP]
    kept._watch(12.0)  # it waited for its turn, and has less time left
    assert loop.timers == [12.0]
    kept._look()  # rang early
    assert loop.timers == [12.0, 12.0]


async def test_a_request_that_is_given_up_leaves_no_connection_behind() -> None:
    async with talking(answering(b"")) as (server, client):
        task = asyncio.create_task(post(client, server))
        while not server.heads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert not client._all and not client._free.locked()


async def test_no_connection_in_time_is_told_apart_from_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(http.aiohappyeyeballs, "start_connection", never)
    monkeypatch.setattr(http, "CONNECT_MAX", 0.01)
    assert await Http(5.0, 1, None).request("GET", "http://127.0.0.1:9/", {}) == TransportFailure("connect-timeout")


@pytest.mark.parametrize(
    ("address", "host", "authority", "target"),
    [
        ("http://hospital.example", "hospital.example", "hospital.example", "/"),
        ("http://hospital.example:80/fhir", "hospital.example", "hospital.example", "/fhir"),
        ("http://hospital.example:8080/a b?c=d#e", "hospital.example", "hospital.example:8080", "/a%20b?c=d"),
        ("https://[::1]:8443/fhir/", "::1", "[::1]:8443", "/fhir/"),
        ("http://krankenhäuser.example/", "xn--krankenhuser-ncb.example", "xn--krankenhuser-ncb.example", "/"),
    ],
)
def test_an_address_is_taken_apart(address: str, host: str, authority: str, target: str) -> None:
    place = placed(address)
    assert (place.host, place.authority, place.target) == (host, authority, target)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://",
        "http:///fhir",
        "http://h:99999/",
        "ftp://h/",
        "file:x",
        "http://user:pass@h/",
        "http://user@h/",
        "http://[::",
    ],
)
async def test_what_is_no_address_of_a_server_is_the_operator_s(address: str) -> None:
    assert await Http(5.0, 1, None).request("GET", address, {}) == TransportFailure("address")
