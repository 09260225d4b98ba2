"""The listener against a scripted peer: streams, order, limits, lifecycle (fault catalogue, sections A and C)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from typing import Any, cast

import pytest
from scripted_peer import PATIENCE, Echo, Recorder, bench, eventually, listener, refuse

from hl7bridge.errors import UnavailableError
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.gate import HangUp, Limits, Refusal, Unkept
from hl7bridge.mllp.observer import Observer
from hl7bridge.mllp.peer import Peer
from hl7bridge.mllp.server import MllpServer

SOON = 0.02  # a deadline that a test lets pass


async def test_one_message_is_answered() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"
        assert b.echo.seen == [b"one"]


async def test_a_thousand_messages_on_one_connection_are_answered_in_order() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(b"".join(frame(b"%d" % i) for i in range(1000)))
        assert [await peer.answer() for _ in range(1000)] == [b"ACK %d" % i for i in range(1000)]
        assert b.echo.seen == [b"%d" % i for i in range(1000)]


async def test_single_bytes_make_a_message() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(*(bytes([byte]) for byte in frame(b"slow")))
        assert await peer.answer() == b"ACK slow"


async def test_answers_wait_for_the_answer_before_them() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold 1") + frame(b"2") + frame(b"3"))
        await eventually(lambda: len(b.echo.seen) == 3)
        assert b.echo.seen == [b"hold 1", b"2", b"3"]  # handled side by side
        b.echo.go.set()
        assert [await peer.answer() for _ in range(3)] == [b"ACK hold 1", b"ACK 2", b"ACK 3"]


async def test_a_message_that_is_due_no_answer_gets_none_and_the_next_gets_its_own() -> None:
    async with bench() as b:
        b.echo.answers[b"quiet"] = None
        peer = await b.peer()
        await peer.send(frame(b"quiet") + frame(b"loud"))
        assert await peer.answer() == b"ACK loud"


async def test_junk_before_between_and_behind_is_counted_and_ignored() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(b"junk" + frame(b"one") + b"xx" + frame(b"two") + b"yyy")
        assert [await peer.answer(), await peer.answer()] == [b"ACK one", b"ACK two"]
        assert [fact for fact in b.recorder.said if fact[0] == "junk"] == [("junk", 4), ("junk", 2), ("junk", 3)]


async def test_fs_without_cr_is_answered_after_a_pause() -> None:
    async with bench(limits=Limits(end_pause=0.005)) as b:
        peer = await b.peer()
        await peer.send(b"\x0bone\r\x1c")
        assert await peer.answer() == b"ACK one\r"


async def test_fs_without_cr_is_no_message_where_the_cr_is_required() -> None:
    async with bench({"require_cr": True, "frame_timeout": SOON}) as b:
        peer = await b.peer()
        await peer.send(b"\x0bone\r\x1c")
        assert await peer.closed()
        assert b.echo.seen == []
        assert ("dropped", "frame") in b.recorder.said


async def test_a_message_cut_off_by_the_next_is_not_handled_and_the_next_is() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(b"\x0bhalf" + frame(b"whole"))
        assert await peer.answer() == b"ACK whole"
        assert b.echo.seen == [b"whole"]
        assert ("broken", 4, "cut") in b.recorder.said


async def test_an_fs_inside_a_payload_is_answered_negatively_in_its_place() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold 1") + b"\x0bbad\x1cbad\x1c\r" + frame(b"3"))
        await b.recorder.until("broken", 7, "embedded-fs")
        b.echo.go.set()
        assert [await peer.answer() for _ in range(3)] == [b"ACK hold 1", b"NAK broken bad", b"ACK 3"]
        assert b.echo.seen == [b"hold 1", b"3"]


async def test_two_messages_and_a_half_then_fin_gives_two_answers() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold 1") + frame(b"hold 2") + b"\x0bhalf")
        peer.half_close()
        await b.recorder.until("broken", 4, "eof")
        b.echo.go.set()
        assert [await peer.answer(), await peer.answer()] == [b"ACK hold 1", b"ACK hold 2"]
        assert await peer.closed()
        assert ("unanswered", 1) not in b.recorder.said


async def test_a_reset_in_the_middle_of_a_message_is_counted_and_nothing_is_handled() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(b"\x0bhalf a mess")
        await b.recorder.until("opened")
        await eventually(lambda: any(c._framer.in_frame for c in b.server._connections))
        peer.reset()
        await b.recorder.until("closed")
        assert ("broken", 11, "eof") in b.recorder.said
        assert b.echo.seen == []


async def test_a_peer_that_is_gone_before_its_answer_is_counted_as_unanswered() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold 1"))
        await b.recorder.until("frame", 6)
        peer.reset()
        await b.recorder.until("unanswered", 1)
        b.echo.go.set()
        other = await b.peer()
        await other.send(frame(b"2"))
        assert await other.answer() == b"ACK 2"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_probe_that_connects_and_leaves_costs_nothing(how: str) -> None:
    async with bench() as b:
        for _ in range(10):
            peer = await b.peer()
            peer.reset() if how == "rst" else await peer.close()
        await eventually(lambda: b.recorder.said.count(("closed",)) == 10)
        assert set(b.recorder.said) == {("opened",), ("closed",)}
        assert b.server.connections == 0


async def test_a_message_too_large_is_refused_with_what_was_read_and_its_connection_closed() -> None:
    async with bench({"max_message_bytes": 100}) as b:
        peer, other = await b.peer(), await b.peer()
        await peer.send(frame(b"first") + b"\x0bMSH" + b"x" * 200)
        assert await peer.answer() == b"ACK first"
        assert await peer.answer() == b"NAK too-large MSH"
        await peer.send(b"x" * 5000, b"\x1c\r" + frame(b"never"))
        assert await peer.closed()
        await other.send(frame(b"x" * 100))
        assert (await other.answer()).startswith(b"ACK xxx")
        assert b.echo.seen == [b"first", b"x" * 100]


async def test_a_megabyte_of_garbage_closes_the_connection() -> None:
    async with bench() as b:
        peer = await b.peer()
        with contextlib.suppress(ConnectionError):
            await peer.send(*[b"\xff" * 65536] * 16)
        await b.recorder.until("dropped", "junk")
        assert await peer.closed()


async def test_garbage_without_a_block_does_not_hold_a_connection_for_the_idle_time() -> None:
    async with bench({"frame_timeout": SOON}) as b:
        peer = await b.peer()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await peer.closed()
        assert ("dropped", "junk") in b.recorder.said


async def test_a_sender_that_says_nothing_is_let_go_after_the_idle_time() -> None:
    async with bench({"idle_timeout": SOON}) as b:
        peer = await b.peer()
        assert await peer.closed()
        assert ("dropped", "idle") in b.recorder.said


async def test_silence_after_a_message_counts_from_its_answer() -> None:
    async with bench({"idle_timeout": SOON}) as b:
        peer = await b.peer()
        await peer.send(frame(b"hold"))
        await b.recorder.until("frame", 4)
        await asyncio.sleep(3 * SOON)
        assert ("dropped", "idle") not in b.recorder.said  # we are late, not the peer
        b.echo.go.set()
        assert await peer.answer() == b"ACK hold"
        assert await peer.closed()
        assert ("dropped", "idle") in b.recorder.said


@pytest.mark.parametrize("before", [b"", frame(b"first")], ids=["first message", "second message"])
async def test_a_message_without_an_end_times_out_and_is_not_handled(before: bytes) -> None:
    async with bench({"frame_timeout": SOON}) as b:
        peer = await b.peer()
        await peer.send(before + b"\x0bMSH|never ends\r")
        if before:
            assert await peer.answer() == b"ACK first"
        assert await peer.closed()
        assert ("dropped", "frame") in b.recorder.said
        assert ("broken", 15, "eof") in b.recorder.said
        assert len(b.echo.seen) == bool(before)


async def test_a_message_that_trickles_in_for_ever_is_cut_off() -> None:
    async with bench({"frame_timeout": 5, "total_frame_timeout": 2 * SOON}) as b:
        peer = await b.peer()
        await peer.send(b"\x0b")
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while ("dropped", "total-frame") not in b.recorder.said:
                    await peer.send(b"x")
                    await asyncio.sleep(SOON / 10)
        assert await peer.closed()


async def test_a_peer_that_never_reads_its_answers_is_not_read_and_cut_off() -> None:
    async with bench({"frame_timeout": SOON}, Limits(in_flight=4)) as b:
        b.echo.answers[b"big"] = b"x" * 3_000_000
        peer = await b.peer()
        cast(asyncio.Transport, peer.writer.transport).pause_reading()
        with contextlib.suppress(ConnectionError):
            await peer.send(*[frame(b"big")] * 20)
        await b.recorder.until("dropped", "unread")
        await b.recorder.until("closed")
        assert len(b.echo.seen) < 20  # what it would not read the answers of was not taken either
        other = await b.peer()
        await other.send(frame(b"2"))
        assert await other.answer() == b"ACK 2"


async def test_a_flood_is_read_only_as_fast_as_it_is_answered() -> None:
    async with bench(limits=Limits(in_flight=8)) as b:
        peer = await b.peer()
        await peer.send(b"".join(frame(b"hold %d" % i) for i in range(100)))
        await b.recorder.until("frame", 6)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(b.echo.seen) == 8
        b.echo.go.set()
        assert [await peer.answer() for _ in range(100)] == [b"ACK hold %d" % i for i in range(100)]


async def test_a_block_that_is_refused_keeps_its_place_behind_frames_that_wait_for_room() -> None:
    async with bench(limits=Limits(in_flight=2)) as b:
        peer = await b.peer()
        frames = [frame(b"hold %d" % i) for i in range(5)]
        await peer.send(b"".join((*frames, frame(b"bad\x1cbyte"), frame(b"hold 5"))))
        await b.recorder.until("broken", 8, "embedded-fs")
        b.echo.go.set()
        came = [await peer.answer() for _ in range(7)]
        assert came == [*(b"ACK hold %d" % i for i in range(5)), b"NAK broken bad", b"ACK hold 5"]


async def test_bytes_in_flight_are_limited_too_but_one_large_message_passes() -> None:
    async with bench(limits=Limits(in_flight_bytes=1000)) as b:
        peer = await b.peer()
        large = b"hold" + b"x" * 300_000
        sending = asyncio.create_task(peer.send(frame(large), frame(large)))
        await b.recorder.until("frame", len(large))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(b.echo.seen) == 1
        b.echo.go.set()
        await sending
        assert [await peer.answer(), await peer.answer()] == [b"ACK " + large] * 2


async def test_sixteen_mebibytes_pass() -> None:
    async with bench() as b:
        peer = await b.peer()
        payload = b"MSH" + b"x" * (16 * 1024 * 1024 - 3)
        b.echo.answers[payload] = b"taken"
        await peer.send(frame(payload))
        assert await peer.answer() == b"taken"


async def test_a_connection_past_the_limit_is_closed_and_its_slot_is_free_again() -> None:
    async with bench({"max_connections": 2}) as b:
        one, two = await b.peer(), await b.peer()
        await one.send(frame(b"1"))
        await two.send(frame(b"2"))
        assert [await one.answer(), await two.answer()] == [b"ACK 1", b"ACK 2"]
        three = await b.peer()
        assert await three.closed()
        assert b.recorder.said.count(("denied", "full")) == 1
        one.reset()
        await b.recorder.until("closed")
        four = await b.peer()
        await four.send(frame(b"4"))
        assert await four.answer() == b"ACK 4"


async def test_two_senders_interleaved_byte_by_byte_get_their_own_answers() -> None:
    async with bench() as b:
        one, two = await b.peer(), await b.peer()
        for x, y in zip(frame(b"aaa"), frame(b"bbb"), strict=True):
            await one.send(bytes([x]))
            await two.send(bytes([y]))
        assert [await two.answer(), await one.answer()] == [b"ACK bbb", b"ACK aaa"]


async def test_a_handler_that_raises_is_answered_negatively_and_the_next_message_is_taken() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"boom") + frame(b"fine"))
        assert [await peer.answer(), await peer.answer()] == [b"NAK failed boo", b"ACK fine"]
        assert ("failed", "ValueError") in b.recorder.said


async def test_when_not_even_a_refusal_can_be_made_the_connection_ends() -> None:
    def broken(head: bytes, refusal: Refusal, peer: Peer) -> bytes:
        raise KeyError("x")

    async with bench(refusing=broken) as b:
        peer = await b.peer()
        await peer.send(frame(b"boom"))
        assert await peer.closed()
        assert ("dropped", "failed") in b.recorder.said


class Raising(Observer):
    """Every method raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


async def test_an_observer_that_raises_does_not_break_receiving() -> None:
    async def handle(payload: bytes, peer: Peer) -> bytes:
        return b"ACK"

    server = MllpServer(listener(), handle, refuse, Raising())
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"junk" + frame(b"one"))
    assert await reader.readuntil(b"\x1c\r") == frame(b"ACK")
    writer.close()
    await writer.wait_closed()
    await server.drain(PATIENCE)
    assert server.observer_failures >= 3


async def test_draining_answers_what_came_whole_and_takes_nothing_more() -> None:
    async with bench() as b:
        busy, idle, half = await b.peer(), await b.peer(), await b.peer()
        await busy.send(frame(b"hold 1") + frame(b"2"))
        await half.send(b"\x0bhalf")
        await b.recorder.until("frame", 1)
        draining = asyncio.create_task(b.server.drain(PATIENCE))
        await b.recorder.until("dropped", "drain")
        assert await idle.closed()
        assert await half.closed()
        with contextlib.suppress(ConnectionError):
            await half.send(b"more\x1c\r")
            await busy.send(frame(b"late"))
        b.echo.go.set()
        assert [await busy.answer(), await busy.answer()] == [b"ACK hold 1", b"ACK 2"]
        assert await busy.closed()
        for peer in (busy, half):
            await peer.close()
        assert await draining == 0
        assert b.echo.seen == [b"hold 1", b"2"]
        with pytest.raises(OSError):
            await b.peer()


async def test_draining_cuts_off_what_does_not_end_in_time() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold"))
        await b.recorder.until("frame", 4)
        assert await b.server.drain(SOON) == 1
        assert await peer.closed()
        assert ("unanswered", 1) in b.recorder.said


async def test_draining_waits_for_a_message_whose_sender_is_gone() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"hold"))
        await b.recorder.until("frame", 4)
        peer.reset()
        await b.recorder.until("closed")
        draining = asyncio.create_task(b.server.drain(PATIENCE))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not draining.done()
        b.echo.go.set()
        assert await draining == 0


async def test_a_remote_close_while_idle_leaves_no_work_behind() -> None:
    async with bench() as b:
        peer = await b.peer()
        await b.recorder.until("opened")
        peer.half_close()
        await b.recorder.until("closed")
        assert b.server.connections == 0
        assert await peer.closed()


async def test_a_port_that_is_taken_is_named() -> None:
    async with bench() as b:
        second = MllpServer(listener(port=b.server.port, name="lab"), b.echo, refuse)
        with pytest.raises(UnavailableError, match=f"listener lab cannot listen on 127.0.0.1:{b.server.port}"):
            await second.start()
        await second.drain(PATIENCE)


async def test_a_host_that_is_unknown_is_named() -> None:
    server = MllpServer(listener(host="no-such-host.invalid"), Echo(), refuse)
    with pytest.raises(UnavailableError, match=r"cannot listen on no-such-host\.invalid"):
        await server.start()


async def test_running_out_of_file_descriptors_is_survived() -> None:
    loop = asyncio.get_running_loop()
    async with bench(limits=Limits(accept_pause=0.01)) as b:
        waiting = socket.socket()
        waiting.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = max(int(name) for name in os.listdir("/dev/fd") if name.isdigit())  # noqa: PTH208 - numbers, not files
        held: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 2, hard))
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.dup(0))
            await loop.sock_connect(waiting, ("127.0.0.1", b.server.port))
            await b.recorder.until("starved", "EMFILE")
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await loop.sock_sendall(waiting, frame(b"one"))
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(waiting, 100) == frame(b"ACK one")
        waiting.close()
        await b.recorder.until("closed")


def test_a_peer_is_called_by_its_certificate_or_its_address() -> None:
    assert Peer("192.0.2.1", 5, "lab.example.org").name == "lab.example.org"
    assert Peer("192.0.2.1", 5).name == "192.0.2.1"


async def test_nothing_a_recorder_sees_holds_payload_bytes() -> None:
    recorder = Recorder()
    for event in [b"\x0bSENT\x1cINEL\x1c\r", frame(b"SENTINEL"), b"SENTINEL"]:
        async with bench() as b:
            b.server._observer = recorder
            peer = await b.peer()
            await peer.send(event)
            peer.half_close()
            await peer.closed()
    assert "SENT" not in repr(recorder.said)


async def test_a_peer_that_is_let_go_may_still_read_and_even_write_for_a_moment() -> None:
    """A socket closed at once would answer the peer's next bytes with a reset, and take the last answer down."""
    async with bench({"max_message_bytes": 100}) as b:
        peer = await b.peer()
        await peer.send(frame(b"x" * 200))
        await b.recorder.until("dropped", "too-large")
        await peer.send(b"more" * 10_000)
        for _ in range(20):
            await asyncio.sleep(0)
        assert b.server.connections == 1
        assert await peer.answer() == b"NAK too-large xxx"
        assert await peer.closed()
        await peer.close()
        await b.recorder.until("closed")


async def test_a_peer_that_does_not_go_is_cut_off_after_that_moment() -> None:
    async with bench({"max_message_bytes": 100}, Limits(linger=SOON)) as b:
        peer = await b.peer()
        await peer.send(frame(b"x" * 200))
        await b.recorder.until("closed")
        assert ("dropped", "too-large") in b.recorder.said


async def test_a_last_answer_that_is_never_read_does_not_keep_the_connection() -> None:
    async with bench({"frame_timeout": SOON, "max_message_bytes": 100}, Limits(linger=SOON)) as b:
        b.echo.answers[b"big"] = b"x" * 8_000_000
        peer = await b.peer()
        cast(asyncio.Transport, peer.writer.transport).pause_reading()
        await peer.send(frame(b"big") + frame(b"x" * 200))
        await b.recorder.until("closed")
        assert b.server.connections == 0


async def test_a_peer_that_vanishes_is_noticed_by_the_kernel() -> None:
    async with bench({"keepalive": 61}) as b:
        await b.peer()
        await b.recorder.until("opened")
        [connection] = b.server._connections
        connected = connection._transport.get_extra_info("socket")
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 61


async def test_a_handler_that_hangs_up_ends_the_connection_behind_the_answers_before() -> None:
    """A sender would take the next message's answer for the one it did not get."""
    async with bench() as b:
        real = b.server.handle

        async def handle(payload: bytes, peer: Peer) -> bytes | None:
            answer = await real(payload, peer)
            if payload == b"disk full":
                raise HangUp
            return answer

        b.server.handle = handle
        peer = await b.peer()
        await peer.send(frame(b"hold") + frame(b"disk full") + frame(b"behind"))
        await eventually(lambda: len(b.echo.seen) == 3)
        b.echo.go.set()
        assert await peer.answer() == b"ACK hold"
        assert await peer.closed()
        await b.recorder.until("dropped", "hung-up")
        await b.recorder.until("unanswered", 2)
        other = await b.peer()
        await other.send(frame(b"next"))
        assert await other.answer() == b"ACK next"


async def test_which_blocks_need_a_cr_may_depend_on_their_sender() -> None:
    async with bench() as b:
        b.server.requires_cr = lambda head, peer: head.startswith(b"strict")
        peer = await b.peer()
        await peer.send(b"\x0bstrict\x1c\n" + b"\x0bloose\x1c\n" + frame(b"strict"))
        assert [await peer.answer(), await peer.answer()] == [b"ACK loose", b"ACK strict"]
        assert ("broken", 8, "cut") in b.recorder.said


async def test_a_defect_in_the_question_for_the_cr_leaves_the_listeners_own_rule() -> None:
    def broken(head: bytes, peer: Peer) -> bool:
        raise RuntimeError

    async with bench() as b:
        b.server.requires_cr = broken
        peer = await b.peer()
        await peer.send(b"\x0bloose\x1c\n")
        assert await peer.answer() == b"ACK loose"
        await b.recorder.until("failed", "RuntimeError")


R2 = {"commit_bytes": True}


async def test_with_mllp_release_2_the_commit_byte_comes_first_and_only_after_the_handler() -> None:
    async with bench(R2) as b:
        peer = await b.peer()
        b.echo.answers[b"quiet"] = None
        await peer.send(frame(b"hold") + frame(b"quiet"))
        await eventually(lambda: len(b.echo.seen) == 2)
        assert not peer._answers
        b.echo.go.set()
        said = [await peer.answer() for _ in range(3)]
        assert said == [b"\x06", b"ACK hold", b"\x06"]


async def test_with_mllp_release_2_what_was_not_kept_is_a_nak() -> None:
    async with bench(R2 | {"max_message_bytes": 100}) as b:
        b.echo.answers[b"refused"] = Unkept(b"AE")
        b.echo.answers[b"silent"] = Unkept()
        peer = await b.peer()
        await peer.send(frame(b"refused") + frame(b"silent") + frame(b"boom") + frame(b"abcd\x1ce") + frame(b"x" * 200))
        said = [await peer.answer() for _ in range(9)]
        assert said[:3] == [b"\x15", b"AE", b"\x15"]
        assert said[3] == b"\x15" and said[4].startswith(b"NAK failed")
        assert said[5] == b"\x15" and said[6].startswith(b"NAK broken")
        assert said[7] == b"\x15" and said[8].startswith(b"NAK too-large")


async def test_with_mllp_release_2_the_peers_commit_bytes_are_no_messages_in_whatever_pieces_they_come() -> None:
    async with bench(R2) as b:
        peer = await b.peer()
        await peer.send(frame(b"one"))
        assert [await peer.answer(), await peer.answer()] == [b"\x06", b"ACK one"]
        await peer.send(*(bytes([byte]) for byte in frame(b"\x06") + frame(b"\x15")), frame(b"two"))
        assert [await peer.answer(), await peer.answer()] == [b"\x06", b"ACK two"]
        assert b.echo.seen == [b"one", b"two"]


async def test_without_mllp_release_2_a_commit_byte_is_a_message_like_any_other() -> None:
    async with bench() as b:
        peer = await b.peer()
        await peer.send(frame(b"\x06"))
        assert await peer.answer() == b"ACK \x06"
