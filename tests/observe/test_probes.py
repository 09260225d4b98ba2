"""What a probe asks, and the bytes of the answer."""

from __future__ import annotations

import pytest

from hl7bridge.observe.probes import Answer, Request, read, refusal, written

HOST = "Host: bridge:9661"


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/healthz", "/healthz"),
        ("/healthz?verbose=1", "/healthz"),
        ("http://bridge:9661/readyz", "/readyz"),
        ("HTTP://bridge?x", "/"),
        ("/metrics/http://x", "/metrics/http://x"),
    ],
)
def test_the_path_is_without_host_and_query(target: str, path: str) -> None:
    assert read(head(f"GET {target} HTTP/1.1", HOST)) == Request("GET", path, stays=True)


@pytest.mark.parametrize(
    "line", ["Connection: close", "connection:Keep-Alive, CLOSE", "Content-Length: 3", "Transfer-Encoding: chunked"]
)
def test_after_these_words_the_connection_ends(line: str) -> None:
    assert read(head("GET / HTTP/1.1", HOST, line)) == Request("GET", "/", stays=False)


def test_http_1_0_needs_no_host_and_ends_with_its_answer() -> None:
    assert read(head("HEAD /readyz HTTP/1.0")) == Request("HEAD", "/readyz", stays=False)


def test_an_empty_line_before_a_request_is_forgiven() -> None:
    assert read(b"\r\n" + head("GET / HTTP/1.1", HOST)).refused == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET /healthz",), 400),
        (("G\u00c4T / HTTP/1.1", HOST), 400),
        (("GET / HTTP/1.1",), 400),
        (("GET / HTTP/1.1", HOST, "no colon"), 400),
        (("GET / HTTP/1.1", HOST, "Content-Length : 4"), 400),
        (("GET / HTTP/1.1", HOST, " folded: line"), 400),
        (("GET / HTTP/1.1", HOST, ": nameless"), 400),
        (("PRI * HTTP/2.0",), 400),
        (("",), 400),
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(lines: tuple[str, ...], status: int) -> None:
    request = read(head(*lines))
    assert (request.refused, request.stays) == (status, False)


def test_an_answer_has_its_date_type_and_length() -> None:
    assert written(Answer(200, b"{}\n", "application/json"), "GET", True, 784111777.0) == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n"
        b"Content-Length: 3\r\nCache-Control: no-store\r\n\r\n{}\n"
    )


def test_head_is_told_the_length_and_gets_no_body() -> None:
    answer = written(Answer(200, b"body"), "HEAD", False, 0.0)
    assert b"Content-Length: 4\r\n" in answer
    assert answer.endswith(b"Connection: close\r\n\r\n")


def test_a_method_that_is_not_served_hears_which_are() -> None:
    assert b"405 Method Not Allowed\r\n" in written(refusal(405), "POST", True, 0.0)
    assert b"Allow: GET, HEAD\r\n" in written(refusal(405), "POST", True, 0.0)
