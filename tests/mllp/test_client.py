"""The MLLP sender against servers that misbehave (fault catalogue, section E)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_peer import PATIENCE

from hl7bridge.mllp.client import (
    Mismatched,
    MllpClient,
    NoAnswer,
    NotCommitted,
    NotSent,
    Reply,
    control_id_of,
    read_reply,
)
from hl7bridge.mllp.framing import Frame, Framer, frame

Talk = Callable[["Talker"], Awaitable[None]]


def message(control_id: str) -> bytes:
    return f"MSH|^~\\&|A|B|C|D|20240101||ADT^A01|{control_id}|P|2.5\rPID|1\r".encode()


def ack(control_id: str, code: str = "AA") -> bytes:
    return f"MSH|^~\\&|C|D|A|B|20240101||ACK|X1|P|2.5\rMSA|{code}|{control_id}\r".encode()


class Talker:
    """The server's end of one connection, as its script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._framer = Framer(1 << 20)
        self._came: list[bytes] = []

    async def message(self) -> bytes:
        while not self._came:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self._came += [e.payload for e in self._framer.feed(data) if isinstance(e, Frame)]
        return self._came.pop(0)

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            while await self.reader.read(65536):
                pass


@contextlib.asynccontextmanager
async def talking(*scripts: Talk) -> AsyncIterator[tuple[int, list[int]]]:
    """A server whose n-th connection follows the n-th script; its port, and a list that grows with each connection."""
    opened: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        with contextlib.suppress(ConnectionError, EOFError, IndexError):
            await scripts[len(opened) - 1](Talker(reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], opened
    finally:
        server.close()
        await server.wait_closed()


async def answering(talker: Talker) -> None:
    while True:
        await talker.say(frame(ack(control_id_of(await talker.message()).decode())))


async def test_a_message_gets_its_answer() -> None:
    async with talking(answering) as (port, _), MllpClient("127.0.0.1", port) as client:
        reply = await client.send(message("A1"))
        assert (reply.ack_code, reply.control_id, reply.accepted) == (b"AA", b"A1", True)


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR", "XX", ""])
async def test_a_code_that_is_not_positive_is_not_accepted(code: str) -> None:
    async def refusing(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack("A1", code)))

    async with talking(refusing) as (port, _), MllpClient("127.0.0.1", port) as client:
        reply = await client.send(message("A1"))
        assert not reply.accepted
        assert reply.ack_code == code.encode()


@pytest.mark.parametrize("other", ["A", "A11", "a1", "1", "B2", "", "A1 "])
async def test_an_answer_to_another_control_id_is_never_ours(other: str) -> None:
    async def confused(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack(other)))
        await talker.until_closed()

    async with talking(confused, answering) as (port, opened), MllpClient("127.0.0.1", port) as client:
        with pytest.raises(Mismatched):
            await client.send(message("A1"))
        assert (await client.send(message("A2"))).control_id == b"A2"  # on a new connection
        assert len(opened) == 2


@pytest.mark.parametrize("answer", [b"", b"OK", b"MSH|^~\\&|||||||ACK|1|P|2.5\r", b"MSH", b"MSH \x00"])
async def test_an_answer_that_is_no_acknowledgement_is_an_error(answer: bytes) -> None:
    async def odd(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(answer))
        await talker.until_closed()

    async with talking(odd) as (port, _), MllpClient("127.0.0.1", port) as client:
        with pytest.raises(Mismatched, match="no HL7 acknowledgement"):
            await client.send(message("A1"))


async def test_a_late_answer_is_not_taken_for_the_next_message() -> None:
    late = asyncio.Event()

    async def slow(talker: Talker) -> None:
        await talker.message()
        await late.wait()
        await talker.say(frame(ack("A1")))

    async with talking(slow, answering) as (port, opened), MllpClient("127.0.0.1", port, timeout=0.02) as client:
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.02 s"):
            await client.send(message("A1"))
        late.set()
        assert (await client.send(message("A2"))).control_id == b"A2"
        assert len(opened) == 2


async def test_a_server_that_hangs_up_before_its_answer_is_no_answer() -> None:
    async def hanging_up(talker: Talker) -> None:
        await talker.message()

    async with talking(hanging_up, answering) as (port, opened), MllpClient("127.0.0.1", port) as client:
        with pytest.raises(NoAnswer, match="closed the connection before it answered"):
            await client.send(message("A1"))
        assert (await client.send(message("A1"))).accepted
        assert len(opened) == 2


async def test_an_answer_in_pieces_and_without_its_last_piece() -> None:
    async def fragments(talker: Talker) -> None:
        await talker.message()
        block = frame(ack("A1"))
        await talker.say(*(block[i : i + 1] for i in range(len(block))))
        await talker.message()
        await talker.say(frame(ack("A2"))[:-3])

    async with talking(fragments) as (port, _), MllpClient("127.0.0.1", port) as client:
        assert (await client.send(message("A1"))).accepted
        with pytest.raises(NoAnswer):
            await client.send(message("A2"))


async def test_an_answer_without_cr_counts_when_the_server_closes_and_junk_around_one_is_ignored() -> None:
    async def sloppy(talker: Talker) -> None:
        await talker.message()
        await talker.say(b"junk" + frame(ack("A1")) + b"\njunk")
        await talker.message()
        await talker.say(frame(ack("A2"))[:-1])

    async with talking(sloppy) as (port, _), MllpClient("127.0.0.1", port) as client:
        assert (await client.send(message("A1"))).accepted
        assert (await client.send(message("A2"))).accepted


async def test_a_second_answer_to_an_answered_message_is_counted_and_harms_nothing() -> None:
    async def twice(talker: Talker) -> None:
        while True:
            id = control_id_of(await talker.message()).decode()
            await talker.say(frame(ack(id, "CA")), frame(ack(id, "AA")))

    async with talking(twice) as (port, opened), MllpClient("127.0.0.1", port) as client:
        for number in range(5):
            assert (await client.send(message(f"A{number}"))).ack_code == b"CA"
        assert client.extra_replies >= 4
        assert len(opened) == 1


async def test_messages_in_flight_side_by_side_get_their_own_answers() -> None:
    async def backwards(talker: Talker) -> None:
        ids = [control_id_of(await talker.message()).decode() for _ in range(4)]
        await talker.say(*(frame(ack(id)) for id in reversed(ids)))

    async with talking(backwards) as (port, opened), MllpClient("127.0.0.1", port, window=4) as client:
        replies = await asyncio.gather(*(client.send(message(f"A{i}")) for i in range(4)))
        assert [reply.control_id for reply in replies] == [b"A0", b"A1", b"A2", b"A3"]
        assert len(opened) == 1  # and one socket, though four asked for it at once


async def test_no_more_messages_are_in_flight_than_the_window_allows() -> None:
    async def counting(talker: Talker) -> None:
        for _ in range(3):
            first = [await talker.message(), await talker.message()]
            for _ in range(10):
                await asyncio.sleep(0)
            assert not talker._came
            await talker.say(*(frame(ack(control_id_of(m).decode())) for m in first))

    async with talking(counting) as (port, _), MllpClient("127.0.0.1", port, window=2) as client:
        replies = await asyncio.gather(*(client.send(message(f"A{i}")) for i in range(6)))
        assert all(reply.accepted for reply in replies)


async def test_when_the_sender_stops_waiting_the_answer_cannot_reach_another() -> None:
    got = asyncio.Event()

    async def slow(talker: Talker) -> None:
        await talker.message()
        got.set()
        await talker.until_closed()

    async with talking(slow, answering) as (port, _), MllpClient("127.0.0.1", port) as client:
        sending = asyncio.create_task(client.send(message("A1")))
        await got.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await client.send(message("A2"))).accepted


async def test_closing_tells_the_messages_in_flight() -> None:
    got = asyncio.Event()

    async def slow(talker: Talker) -> None:
        await talker.message()
        got.set()
        await talker.until_closed()

    async with talking(slow) as (port, _):
        client = MllpClient("127.0.0.1", port)
        sending = asyncio.create_task(client.send(message("A1")))
        await got.wait()
        await client.close()
        with pytest.raises(NoAnswer):
            await sending


async def test_a_server_that_is_not_there_is_named() -> None:
    async with talking() as (port, _):
        pass
    async with MllpClient("127.0.0.1", port) as client:
        with pytest.raises(NotSent, match=f"no connection to 127.0.0.1:{port}"):
            await client.send(message("A1"))


async def test_a_message_without_control_id_is_answered_by_an_answer_without_one() -> None:
    async def both(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack("", "AE")))
        await talker.message()
        await talker.say(frame(ack("A1")))

    async with talking(both) as (port, _), MllpClient("127.0.0.1", port) as client:
        assert (await client.send(message(""))).ack_code == b"AE"
        with pytest.raises(Mismatched):
            await client.send(message(""))


async def test_a_message_that_wants_no_answer_is_posted_and_an_answer_to_it_is_told() -> None:
    extra: list[Reply] = []

    async def objecting(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack("A1", "CE")))
        await talker.message()
        await talker.say(frame(ack("A2")))

    async with talking(objecting) as (port, _), MllpClient("127.0.0.1", port, on_extra=extra.append) as client:
        await client.post(message("A1"))
        assert (await client.send(message("A2"))).accepted
        assert [(reply.ack_code, reply.control_id) for reply in extra] == [(b"CE", b"A1")]


async def test_a_peer_that_does_not_read_is_no_answer() -> None:
    stop = asyncio.Event()

    async def deaf(talker: Talker) -> None:
        talker.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    async with talking(deaf) as (port, _), MllpClient("127.0.0.1", port, timeout=0.05) as client:
        with pytest.raises(NoAnswer):
            await asyncio.wait_for(client.send(message("A1") + b"x" * 30_000_000), PATIENCE)
        stop.set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (message("A1"), b"A1"),
        (b"\xef\xbb\xbfMSH|^~\\&|A|B|C|D|1||ADT|\xfc\xff|P|2.5", b"\xfc\xff"),
        (b"MSH#^~\\&#A#B#C#D#1##ADT#A|1#P#2.5\n", b"A|1"),
        (b"MSH|^~\\&|A\rPID|1|2|3|4|5|6|7|8|9|10\r", b""),
        (b"PID|1\r", b""),
        (b"", b""),
        (b"MSH", b""),
    ],
)
def test_the_control_id_is_read_byte_for_byte(text: bytes, expected: bytes) -> None:
    assert control_id_of(text) == expected


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda b: b"MSH|^~\\&|\rMSA|" + b))
def test_any_bytes_are_a_reply_or_none(payload: bytes) -> None:
    assert isinstance(read_reply(payload), Reply | None)
    assert isinstance(control_id_of(payload), bytes)


def test_a_reply_does_not_show_its_bytes() -> None:
    reply = read_reply(ack("SENTINEL"))
    assert reply is not None
    assert "SENTINEL" not in repr(reply)


def release_2(port: int, **keys: float) -> MllpClient:
    return MllpClient("127.0.0.1", port, timeout=keys.get("timeout", PATIENCE), commit_bytes=True)


async def test_with_mllp_release_2_a_message_is_out_when_its_commit_byte_came_in_whatever_pieces() -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(*(bytes([byte]) for byte in frame(b"\x06")))
        await talker.say(frame(ack("1", "CA")))
        assert await talker.message() == b"\x06"  # ours, for the HL7 answer
        await talker.message()
        await talker.say(frame(b"\x06"))
        await talker.until_closed()

    async with talking(script) as (port, opened), release_2(port) as client:
        assert (await client.send(message("1"))).ack_code == b"CA"
        await client.post(message("2"))
        assert len(opened) == 1


async def test_with_mllp_release_2_a_nak_is_not_committed_and_the_message_may_be_sent_again() -> None:
    async def refusing(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(b"\x15"))
        await talker.until_closed()

    async def taking(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(b"\x06"), frame(ack("1")))
        await talker.until_closed()

    async with talking(refusing, refusing, taking) as (port, opened), release_2(port, timeout=0.2) as client:
        with pytest.raises(NotCommitted):
            await client.send(message("1"))
        with pytest.raises(NotCommitted):
            await client.post(message("1"))
        await client.close()
        assert (await client.send(message("1"))).accepted
        assert len(opened) == 3


async def test_with_mllp_release_2_an_hl7_answer_behind_the_nak_says_why() -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(b"\x15"), frame(ack("1", "AE")))
        await talker.until_closed()

    async with talking(script) as (port, _), release_2(port) as client:
        assert (await client.send(message("1"))).ack_code == b"AE"


async def test_with_mllp_release_2_no_commit_byte_is_no_answer_whatever_hl7_says() -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack("1")))
        await talker.until_closed()

    async with talking(script, script) as (port, opened), release_2(port, timeout=0.1) as client:
        with pytest.raises(NoAnswer):
            await client.send(message("1"))
        with pytest.raises(NoAnswer):
            await client.post(message("2"))
        assert len(opened) == 2  # the late byte of the first cannot be taken for the second's


async def test_with_mllp_release_2_a_commit_byte_nobody_waits_for_ends_the_connection() -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(b"\x06"), frame(ack("1")), frame(b"\x06"))
        await talker.until_closed()

    async def second(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(b"\x06"), frame(ack("2")))
        await talker.until_closed()

    async with talking(script, second) as (port, opened), release_2(port) as client:
        assert (await client.send(message("1"))).accepted
        async with asyncio.timeout(PATIENCE):
            while client._wire is not None and not client._wire.ended:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        assert (await client.send(message("2"))).accepted
        assert len(opened) == 2


async def test_reconnecting_opens_exactly_one_socket_however_many_send_at_once() -> None:
    async def hanging_up(talker: Talker) -> None:
        await talker.message()

    async def taking(talker: Talker) -> None:
        for _ in range(8):
            raw = await talker.message()
            await talker.say(frame(ack(control_id_of(raw).decode())))
        await talker.until_closed()

    async with (
        talking(hanging_up, taking) as (port, opened),
        MllpClient("127.0.0.1", port, window=8, timeout=PATIENCE) as client,
    ):
        with pytest.raises(NoAnswer):
            await client.send(message("0"))
        replies = await asyncio.gather(*(client.send(message(str(n))) for n in range(8)))
        assert [reply.control_id for reply in replies] == [str(n).encode() for n in range(8)]
        assert len(opened) == client.connected_times == 2


async def test_an_application_ack_behind_the_accept_ack_is_an_answer_of_its_own() -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(ack("1", "CA")) + frame(ack("1", "AE")))
        await talker.message()
        await talker.say(frame(ack("2", "CA")))
        await talker.until_closed()

    extras: list[Reply] = []
    async with (
        talking(script) as (port, _),
        MllpClient("127.0.0.1", port, timeout=PATIENCE, on_extra=extras.append) as client,
    ):
        assert (await client.send(message("1"))).ack_code == b"CA"
        assert (await client.send(message("2"))).ack_code == b"CA"
        assert [(reply.ack_code, reply.control_id) for reply in extras] == [(b"AE", b"1")]


@pytest.mark.parametrize("answer", [b"", b"\r", b"MSA|AA|1\r", b"MSH|^~\\&|A\rMSA\r", b"<html>no</html>"])
async def test_an_answer_that_is_empty_or_not_hl7_is_never_a_yes(answer: bytes) -> None:
    async def script(talker: Talker) -> None:
        await talker.message()
        await talker.say(frame(answer))
        await talker.until_closed()

    async with talking(script) as (port, _), MllpClient("127.0.0.1", port, timeout=PATIENCE) as client:
        with pytest.raises(Mismatched):
            await client.send(message("1"))
