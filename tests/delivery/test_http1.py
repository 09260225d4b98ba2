"""The bytes of HTTP/1.1 toward a server: answers whole, byte by byte and at every split, and what is none."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.http1 import HEAD_MAX, INFORMED_MAX, AnswerReader, NotHttp, request_head

MOST = 1_000
OK = b"HTTP/1.1 200 OK\r\n"


def splits(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def read(parts: list[bytes], ended: bool = False) -> AnswerReader:
    reader = AnswerReader(MOST)
    for part in parts:
        if reader.feed(part):
            break
    if ended and not reader.whole:
        reader.ended()
    return reader


def packed(coding: str, data: bytes) -> bytes:
    return OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding.encode(), len(data)) + data


def bare(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


WHOLE = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    "no body": (b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n", b"", True),
    "an empty body": (OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n{", b"{", True),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok", True),
    "a wish to close": (OK + b"Connection: Close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "HTTP/1.0 kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello", True),
    "trailers": (OK + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n", b"0123456789", True),
    "after informational ones": (
        b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n{",
        b"{",
        True,
    ),
    "gzip": (packed("gzip", gzip.compress(b"hello")), b"hello", True),
    "gzip in two members": (packed("GZIP", gzip.compress(b"hel") + gzip.compress(b"lo")), b"hello", True),
    "deflate": (packed("deflate", zlib.compress(b"hello")), b"hello", True),
    "deflate without its frame": (packed("deflate", bare(b"hello")), b"hello", True),
    "a packing that is not known": (packed("br", b"hello"), b"hello", True),
    "nothing, packed": (packed("gzip", b""), b"", True),
    "as long as may be": (OK + b"Content-Length: 1000\r\n\r\n" + b" " * MOST, b" " * MOST, True),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_is_read_however_it_is_cut(name: str) -> None:
    data, body, reusable = WHOLE[name]
    for parts in splits(data) if len(data) < 300 else [[data]]:
        reader = read(parts)
        assert reader.whole and reader.response().body == body and not reader.response().truncated
        assert reader.reusable is reusable


@pytest.mark.parametrize("name", WHOLE)
def test_what_follows_an_answer_is_never_taken_for_the_next(name: str) -> None:
    data, body, _ = WHOLE[name]
    reader = read([data + b"HTTP/1.1 200 OK\r\n"])
    assert reader.whole and reader.response().body == body and not reader.reusable


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_that_breaks_off_is_not_whole(name: str) -> None:
    data, _, _ = WHOLE[name]
    for end in range(len(data)):
        reader = read([data[:end]], ended=True)
        assert not reader.whole
        if reader.begun:
            assert reader.response().truncated and reader.response().body == b""
            assert reader.response().status in (200, 204)


def test_headers_are_known_by_their_names_in_lower_case() -> None:
    head = b"ETag: W/1\r\nContent-Type:application/json \r\nX: 1\r\nx: 2\r\nContent-Length: 0\r\n\r\n"
    assert read([OK + head]).response() == Response(
        200,
        {"etag": "W/1", "content-type": "application/json", "x": "2", "content-length": "0"},
        b"",
    )


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    for parts in splits(OK + b"\r\nhello"):
        reader = read(parts, ended=True)
        assert reader.whole and reader.response().body == b"hello" and not reader.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b" : folded first\r\n\r\n",
        OK + b"Name : value\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +5\r\n\r\n",
        OK + b"Content-Length: 5, 5\r\n\r\n",
        OK + "Content-Length: ５\r\n\r\n".encode(),
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999999\r\n\r\n",
        OK + b"X-Folded: a\r\n  b\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        OK + b"X: " + b"x" * HEAD_MAX,
        OK + b"X: " + b"x" * HEAD_MAX + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (INFORMED_MAX + 1) + OK + b"\r\n",
    ],
)
def test_what_is_no_http_answer_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotHttp) as caught:
        read([data])
    assert caught.value.args == ()


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 1001\r\n\r\n",
        b"\r\n" + b" " * (MOST + 1),
        b"Transfer-Encoding: chunked\r\n\r\n3E9\r\n" + b" " * 1001,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n%s\r\n" % (b" " * 100) * 11,
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * HEAD_MAX,
        b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n" + gzip.compress(b"hello")[:10],
        b"Content-Encoding: deflate\r\nContent-Length: 4\r\n\r\nnope",
    ],
)
def test_a_body_that_is_not_to_be_had_leaves_the_status(rest: bytes) -> None:
    reader = read([OK + rest])
    assert reader.whole and reader.response().truncated and reader.response().status == 200
    assert reader.response().body == b""


def test_a_body_is_unpacked_up_to_its_bound() -> None:
    small = gzip.compress(b" " * MOST)
    assert read([packed("gzip", small)]).response().body == b" " * MOST
    assert read([packed("gzip", gzip.compress(b" " * (MOST + 1)))]).response().truncated
    assert read([packed("gzip", small + small)]).response().truncated


@given(st.binary(max_size=200), st.lists(st.integers(0, 250), max_size=5))
def test_bytes_of_any_kind_are_an_answer_or_none(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for head in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        whole, parts = [head + data], [head, *(data[a:b] for a, b in pairwise(places))]
        assert outcome(whole) == outcome(parts)


def outcome(parts: list[bytes]) -> object:
    try:
        reader = read(parts, ended=True)
    except NotHttp:
        return "not HTTP"
    return (reader.whole, reader.begun and reader.response())


def test_a_request_says_its_headers_once_and_where_its_body_ends() -> None:
    given = {
        "User-Agent": "a",
        "host": "other",
        "user-agent": "b",
        "Transfer-Encoding": "chunked",
        "content-length": "9",
    }
    head = request_head("POST", "/fhir?x", "hospital.example:8080", given, 2)
    assert head == (
        b"POST /fhir?x HTTP/1.1\r\nhost: other\r\nAccept-Encoding: gzip, deflate\r\nuser-agent: b\r\n"
        b"Content-Length: 2\r\n\r\n"
    )
    assert b"Content-Length" not in request_head("GET", "/", "h", {}, None)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "\udc80"])
def test_a_value_that_would_end_its_header_is_not_sent(value: str) -> None:
    with pytest.raises(ValueError, match=r"one line|surrogates"):
        request_head("POST", "/", "h", {"X": value}, 0)
