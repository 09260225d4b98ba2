"""What is fuzzed: one function for each target, from any bytes to nothing, raising only when something is wrong.

Plain functions, so that a crash is replayed by pytest without the fuzzer (test_fuzz.py). What must hold stands in each.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from pathlib import Path

from hl7bridge import reasons
from hl7bridge.errors import MessageError, PeerError
from hl7bridge.hl7v2 import ack
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.header import read_header
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mllp.framing import Event, Frame, Framer, Junk
from hl7bridge.mllp.framing import frame as framed
from hl7bridge.translation import translate

CORPUS = Path(__file__).resolve().parent / "corpus"  # TARGET.b64: an input a line, grown from our samples by the fuzzer
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
LIMIT = 4096  # of a message in the target `framing`: small, so that the fuzzer reaches it
CHARSETS = (None, "cp1252", "UNICODE UTF-8")


def framing(data: bytes) -> None:
    """The events are the same however the stream is cut; no frame holds a mark or is too long; no byte is lost."""
    if len(data) < 2:
        return
    require_cr, cut, stream = bool(data[0] & 1), data[0] >> 1, data[1:]
    whole = Framer(LIMIT, require_cr)
    events = whole.feed(stream) + whole.eof()
    pieces = Framer(LIMIT, require_cr)
    others: list[Event] = []
    size = 1 + cut % 13
    for start in range(0, len(stream), size):
        others += pieces.feed(stream[start : start + size])
        assert pieces.buffered <= LIMIT + 1, "memory is bounded"
    others += pieces.eof()
    assert _joined(events) == _joined(others), "the cuts count"
    for event in events:
        if isinstance(event, Frame):
            assert len(event.payload) <= LIMIT
            assert b"\x0b" not in event.payload and b"\x1c" not in event.payload
            again = Framer(LIMIT, require_cr)
            (same,) = again.feed(framed(event.payload)) + again.eof()
            assert same == event, "what came out goes in again"


def _joined(events: list[Event]) -> list[Event]:
    """Junk that was counted in parts, counted together."""
    joined: list[Event] = []
    for event in events:
        if joined and isinstance(event, Junk) and isinstance(joined[-1], Junk):
            joined[-1] = Junk(joined[-1].count + event.count)
        else:
            joined.append(event)
    return joined


def parser(data: bytes) -> None:
    """A message, or a refusal of its own kind that can be answered; the answer has MSH-10 byte for byte."""
    for piece in split(data):
        assert isinstance(piece.raw, bytes)
    header = None
    try:
        header = read_header(data)
    except PeerError as error:
        assert error.reason.code
    else:
        refusal = ack.reject(header, reasons.UNPARSABLE, _stamp())
        assert refusal is None or not (b"\x1c" in refusal or b"\x0b" in refusal), "an answer fits into a block"
        if not (b"\x1c" in data or b"\x0b" in data):  # which no frame holds
            answer = ack.accept(header, _stamp())
            assert answer is None or header.control_id in answer
    try:
        message = parse(data, charset_fallback=CHARSETS[len(data) % 3], header=header)
    except MessageError as error:
        assert error.reason.code
        return
    for segment in message.segments:
        for number in range(1, min(len(segment.fields), 40)):
            for repetition in segment.repetitions(number):
                message.text(repetition)
    assert "|" not in repr(message)


@functools.cache
def _stamp() -> ack.Stamp:
    from datetime import UTC, datetime

    return ack.Stamp(datetime(2024, 3, 5, tzinfo=UTC), "1")


@functools.cache
def _tables() -> Mappings:
    return load_mappings()


def translator(data: bytes) -> None:
    """A bundle that is JSON and the same the second time, or a refusal of a kind that is documented."""
    fallback = CHARSETS[len(data) % 3]
    try:
        first = translate(data, _tables(), charset_fallback=fallback).bundle
    except MessageError as error:
        assert error.reason.code
        return
    bundle = json.loads(first)
    assert bundle["type"] == "transaction" and bundle["entry"]
    urls = [entry["fullUrl"] for entry in bundle["entry"] if entry["request"]["method"] != "PATCH"]
    assert len(urls) == len(set(urls)), "an entry stands there once"
    assert translate(data, _tables(), charset_fallback=fallback).bundle == first


TARGETS: dict[str, Callable[[bytes], None]] = {"framing": framing, "parser": parser, "translator": translator}


def seeds(target: str) -> list[bytes]:
    """What a run begins with: our samples, in blocks for the framing, and what earlier runs found interesting."""
    found = [base64.b64decode(line) for line in (CORPUS / f"{target}.b64").read_text("ascii").split()]
    return [*_samples(target), *found]


def _samples(target: str) -> list[bytes]:
    messages = [piece.raw for file in sorted(SAMPLES.glob("*.hl7")) for piece in split(file.read_bytes())]
    if target == "framing":
        small = [message[:300] for message in messages]
        marks = [b"\x0bA\r\x1c\n\x0bB\r\x1c\x0bC\x1cD\x1c\r", b"\x0b\x1c\r", b"junk\x0bA\x0bB\x1c\r\n"]
        return [bytes([n % 256]) + framed(small[n]) + framed(small[n - 1]) for n in range(len(small))] + [
            b"\x00" + mark for mark in marks
        ]
    return messages
