"""Blocks come out of the stream the same however it was cut (fault catalogue, section A)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.mllp.framing import (
    HEAD_BYTES,
    Broken,
    Cause,
    Discarded,
    Event,
    Frame,
    Framer,
    Junk,
    TooLarge,
    frame,
)

A = b"MSH|^~\\&|A\rPID|1\r"
B = b"MSH|^~\\&|B\rPID|2\r"
LIMIT = 64


def merged(events: list[Event]) -> list[Event]:
    """Junk that came in pieces counted as one."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Junk) and result and isinstance(result[-1], Junk):
            result[-1] = Junk(result[-1].count + event.count)
        else:
            result.append(event)
    return result


def fed(pieces: list[bytes], require_cr: bool = False, limit: int = LIMIT, eof: bool = True) -> list[Event]:
    framer = Framer(limit, require_cr)
    events: list[Event] = []
    for piece in pieces:
        events += framer.feed(piece)
        assert framer.buffered <= limit + 2 + len(piece)
    return merged(events + (framer.eof() if eof else []))


CASES: dict[str, tuple[bytes, list[Event]]] = {
    "one block": (frame(A), [Frame(A)]),
    "two blocks in one write": (frame(A) + frame(B), [Frame(A), Frame(B)]),
    "three blocks in one write": (frame(A) * 3, [Frame(A)] * 3),
    "junk before": (b"junk" + frame(A), [Junk(4), Frame(A)]),
    "junk between": (frame(A) + b"junk" + frame(B), [Frame(A), Junk(4), Frame(B)]),
    "junk behind": (frame(A) + b"junk", [Frame(A), Junk(4)]),
    "a message without VT": (A + b"\x1c\r" + frame(B), [Junk(len(A) + 2), Frame(B)]),
    "only junk": (b"x" * 500, [Junk(500)]),
    "CR LF behind a block": (frame(A) + b"\n" + frame(B), [Frame(A), Frame(B)]),
    "blank lines behind a block": (frame(A) + b"\r\n\r\n" + frame(B), [Frame(A), Frame(B)]),
    "FS LF": (b"\x0b" + A + b"\x1c\n" + frame(B), [Frame(A), Frame(B)]),
    "FS then VT": (b"\x0b" + A + b"\x1c" + frame(B), [Frame(A), Frame(B)]),
    "FS at the end of the stream": (b"\x0b" + A + b"\x1c", [Frame(A)]),
    "empty block": (b"\x0b\x1c\r", [Frame(b"")]),
    "VT CR": (b"\x0b\r", [Broken(1, b"\r", Cause.EOF)]),
    "whitespace block": (frame(b" \r\n "), [Frame(b" \r\n ")]),
    "VT inside a payload": (
        b"\x0bMSH|cut" + frame(B),
        [Broken(7, b"MSH|cut", Cause.CUT), Frame(B)],
    ),
    "FS inside a payload": (
        b"\x0bMSH|a\x1cb\r\x1c\r" + frame(B),
        [Broken(8, b"MSH|a\x1cb\r", Cause.EMBEDDED_FS), Frame(B)],
    ),
    "FS FS CR": (b"\x0bA\x1c\x1c\r", [Broken(2, b"A\x1c", Cause.EMBEDDED_FS)]),
    "pipelined behind junk that holds a block's marks": (
        b"j\x0bunk\x1cx" + frame(A) + frame(B),
        [Junk(1), Broken(5, b"unk\x1cx", Cause.CUT), Frame(A), Frame(B)],
    ),
    "no end of block": (frame(A) + b"\x0bMSH", [Frame(A), Broken(3, b"MSH", Cause.EOF)]),
    "exactly at the limit": (frame(b"x" * LIMIT), [Frame(b"x" * LIMIT)]),
    "one byte past the limit": (
        frame(b"x" * (LIMIT + 1)) + frame(A),
        [TooLarge(b"x" * (LIMIT + 1)), Discarded(LIMIT + 1), Frame(A)],
    ),
    "far past the limit": (
        frame(b"x" * 400) + frame(A),
        [TooLarge(b"x" * (LIMIT + 1)), Discarded(400), Frame(A)],
    ),
    "too large and cut by the next block": (
        b"\x0b" + b"x" * 100 + frame(A),
        [TooLarge(b"x" * (LIMIT + 1)), Discarded(100), Frame(A)],
    ),
    "too large, an FS inside, FS VT at its end": (
        b"\x0b" + b"x" * 100 + b"\x1cy\x1c" + frame(A),
        [TooLarge(b"x" * (LIMIT + 1)), Discarded(102), Frame(A)],
    ),
    "at the limit, then an FS that is not the end": (
        b"\x0b" + b"x" * LIMIT + b"\x1cy\x1c\r",
        [TooLarge(b"x" * LIMIT + b"\x1c"), Discarded(LIMIT + 2)],
    ),
    "too large and unfinished": (b"\x0b" + b"x" * 100, [TooLarge(b"x" * (LIMIT + 1)), Discarded(100)]),
    "a block behind every kind of line end": (
        b"\n" + frame(b"MSH\nPID\n") + frame(b"MSH\r\nPID\r\n\r\n") + frame(b"MSH\rPID"),
        [Junk(1), Frame(b"MSH\nPID\n"), Frame(b"MSH\r\nPID\r\n\r\n"), Frame(b"MSH\rPID")],
    ),
    "the commit bytes of release 2 are an empty-headed block": (b"\x0b\x06\x1c\r", [Frame(b"\x06")]),
}

STRICT: dict[str, tuple[bytes, list[Event]]] = {
    "one block": (frame(A) + frame(B), [Frame(A), Frame(B)]),
    "FS LF does not end a block": (
        b"\x0bA\r\x1c\n" + frame(B),
        [Broken(4, b"A\r\x1c\n", Cause.CUT), Frame(B)],
    ),
    "FS VT does not end a block": (b"\x0bA\r\x1c" + frame(B), [Broken(3, b"A\r\x1c", Cause.CUT), Frame(B)]),
    "FS at the end of the stream does not end a block": (b"\x0bA\r\x1c", [Broken(3, b"A\r\x1c", Cause.EOF)]),
    "CR LF behind a block is still tolerated": (frame(A) + b"\n" + frame(B), [Frame(A), Frame(B)]),
}

EVERY = [pytest.param(*case, False, id=name) for name, case in CASES.items()]
EVERY += [pytest.param(*case, True, id=f"strict: {name}") for name, case in STRICT.items()]


@pytest.mark.parametrize(("stream", "expected", "require_cr"), EVERY)
def test_a_stream_gives_its_events_in_one_piece(stream: bytes, expected: list[Event], require_cr: bool) -> None:
    assert fed([stream], require_cr) == expected


@pytest.mark.parametrize(("stream", "expected", "require_cr"), EVERY)
def test_a_stream_gives_its_events_byte_by_byte(stream: bytes, expected: list[Event], require_cr: bool) -> None:
    assert fed([stream[i : i + 1] for i in range(len(stream))], require_cr) == expected


@pytest.mark.parametrize(("stream", "expected", "require_cr"), EVERY)
def test_a_stream_gives_its_events_at_every_split(stream: bytes, expected: list[Event], require_cr: bool) -> None:
    for at in range(len(stream) + 1):
        assert fed([stream[:at], stream[at:]], require_cr) == expected, at


@pytest.mark.parametrize(("stream", "expected", "require_cr"), EVERY)
def test_a_block_behind_the_stream_is_still_found(stream: bytes, expected: list[Event], require_cr: bool) -> None:
    """Whatever came before, the next whole block is a frame: the framer always finds its way back."""
    assert fed([stream, frame(B)], require_cr)[-1] == Frame(B)


MARKS = st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", b"\x1c\r", b"A", b"MSH|", b"x" * 20])
STREAMS = st.one_of(st.lists(MARKS, max_size=40).map(b"".join), st.binary(max_size=300))


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=12), require_cr=st.booleans())
def test_any_bytes_cut_anywhere_give_the_same_events(stream: bytes, cuts: list[int], require_cr: bool) -> None:
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(at)]
    whole = fed([stream], require_cr, limit=24)
    assert fed(pieces, require_cr, limit=24) == whole
    assert fed([stream[i : i + 1] for i in range(len(stream))], require_cr, limit=24) == whole


@given(stream=STREAMS)
def test_a_frame_never_holds_a_mark_of_a_block(stream: bytes) -> None:
    for event in fed([stream]):
        if isinstance(event, Frame):
            assert b"\x0b" not in event.payload and b"\x1c" not in event.payload
            assert len(event.payload) <= LIMIT


@given(payloads=st.lists(st.binary(max_size=LIMIT).map(lambda b: b.replace(b"\x0b", b"").replace(b"\x1c", b""))))
def test_whatever_is_framed_comes_out_again(payloads: list[bytes]) -> None:
    assert fed([b"".join(map(frame, payloads))]) == [Frame(p) for p in payloads]


def test_an_fs_behind_a_segment_end_is_the_end_after_a_pause() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"\x0b" + A + b"\x1c") == []
    assert framer.end_pending
    assert framer.pause() == [Frame(A)]
    assert not framer.in_frame
    assert framer.feed(b"\r" + frame(B)) == [Frame(B)]  # the CR that came late belongs to the end


def test_an_fs_in_the_middle_of_a_segment_is_no_end_after_a_pause() -> None:
    framer = Framer(LIMIT)
    framer.feed(b"\x0bMSH|half of a val\x1c")
    assert framer.pause() == []
    assert framer.feed(b"ue\r\x1c\r") == [Broken(21, b"MSH|half of a val\x1cue\r", Cause.EMBEDDED_FS)]


def test_a_pause_ends_nothing_when_a_cr_is_required_or_no_fs_stands_last() -> None:
    strict = Framer(LIMIT, require_cr=True)
    strict.feed(b"\x0bA\r\x1c")
    assert strict.pause() == []
    framer = Framer(LIMIT)
    framer.feed(b"\x0bA\r")
    assert framer.pause() == []


def test_a_pause_ends_the_discarding_of_a_block_that_was_too_large() -> None:
    framer = Framer(4)
    assert framer.feed(b"\x0b123456\x1c") == [TooLarge(b"12345")]
    assert framer.pause() == [Discarded(6)]


def test_after_the_end_of_the_stream_the_framer_is_as_new() -> None:
    framer = Framer(LIMIT)
    framer.feed(b"\x0bhalf")
    assert framer.eof() == [Broken(4, b"half", Cause.EOF)]
    assert framer.eof() == []
    assert framer.feed(frame(A)) == [Frame(A)]


def test_a_megabyte_without_vt_leaves_nothing_in_memory() -> None:
    framer = Framer(LIMIT)
    for _ in range(16):
        framer.feed(b"\xff" * 65536)
        assert framer.buffered == 0


def test_a_block_that_is_too_large_is_not_kept() -> None:
    framer = Framer(1000)
    framer.feed(b"\x0b")
    for _ in range(16):
        framer.feed(b"x" * 65536)
        assert framer.buffered == 0
    assert framer.in_frame


def test_the_head_of_a_large_block_is_limited() -> None:
    [large] = Framer(100_000).feed(b"\x0b" + b"x" * 100_001)
    assert isinstance(large, TooLarge)
    assert len(large.head) == HEAD_BYTES


def test_sixteen_mebibytes_in_small_pieces_are_looked_at_once() -> None:
    """Quadratic work would be 250,000 times the block's size and not end within a test's patience."""
    framer = Framer(16 * 1024 * 1024)
    piece = b"x" * 65536
    framer.feed(b"\x0b")
    for _ in range(256):
        assert framer.feed(piece) == []
    [whole] = framer.feed(b"\x1c\r")
    assert isinstance(whole, Frame)
    assert len(whole.payload) == 16 * 1024 * 1024


def test_no_event_shows_payload_bytes() -> None:
    for event in fed([b"\x0bSENTINEL" + frame(b"SENTINEL") + b"\x0bSENT\x1cINEL\x1c\r" + frame(b"SENTINEL" * 20)]):
        assert "SENT" not in repr(event)


def strict_for_a(head: bytes) -> bool:
    return head.startswith(A[:9] + b"A")


@pytest.mark.parametrize("end", [b"\x1c\n", b"\x1c", b"\x1c\r"])
def test_where_a_cr_is_required_may_depend_on_the_block(end: bytes) -> None:
    stream = b"\x0b" + B + end + b"\x0b" + A + end + frame(B)
    strict = Broken(len(A) + len(end) - 1 if end != b"\x1c" else len(A) + 1, (A + end)[: len(A) + len(end)], Cause.CUT)
    for cut in range(len(stream) + 1):
        framer = Framer(LIMIT, strict_for_a)
        events = merged([*framer.feed(stream[:cut]), *framer.feed(stream[cut:]), *framer.eof()])
        if end == b"\x1c\r":
            assert events == [Frame(B), Frame(A), Frame(B)]
        else:
            assert events[0] == Frame(B) and events[-1] == Frame(B)
            assert isinstance(events[1], Broken) and events[1].cause is strict.cause and len(events) == 3


def test_a_block_too_large_ends_as_its_first_bytes_say() -> None:
    for block, ends in ((A, False), (B, True)):
        framer = Framer(10, strict_for_a)
        events = framer.feed(b"\x0b" + block + b"\x1c\n" + b"x")
        assert isinstance(events[0], TooLarge)
        assert any(isinstance(event, Discarded) for event in events) == ends


def test_a_pause_ends_no_block_that_requires_its_cr() -> None:
    for block, ends in ((A, False), (B, True)):
        framer = Framer(LIMIT, strict_for_a)
        assert framer.feed(b"\x0b" + block + b"\x1c") == []
        assert framer.end_pending == ends
        assert bool(framer.pause()) == ends
