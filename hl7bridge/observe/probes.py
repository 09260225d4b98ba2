"""What a probe or a scrape asks in HTTP, and an answer's bytes: GET and HEAD, nothing more. Sans-IO; RFC 9110, 9112.

What holds: what a request says is httptools' to read (llhttp, strict). A request is its head alone. One that announces
a body is answered, and its connection ends, so that no byte of a body is ever taken for a request.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

METHODS = ("GET", "HEAD")
END = b"\r\n\r\n"  # of a head
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is without host and query. `refused`: the status that is the answer, whatever was asked; 0: none yet.

    `stays`: may the connection be used again?
    """

    method: str
    path: str
    stays: bool
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a request, whatever its method."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


class _Head:
    """What the parser tells of a request's head."""

    def __init__(self) -> None:
        self.parser = HttpRequestParser(self)
        self.url = b""
        self.names: set[bytes] = set()
        self.whole = self.stays = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, _: bytes) -> None:
        self.names.add(name.lower())

    def on_headers_complete(self) -> None:
        self.whole, self.stays = True, self.parser.should_keep_alive()


def read(head: bytes) -> Request:
    """A request from its head, up to and with the empty line."""
    told = _Head()
    try:
        with suppress(HttpParserUpgrade):  # nothing else is spoken here: it is answered as if it had not been asked
            told.parser.feed_data(head)
        path = parse_url(told.url).path if told.whole else b""
    except HttpParserError:
        return Request("", "", False, 400)
    version, method = told.parser.get_http_version(), told.parser.get_method().decode("ascii")
    if not told.whole or version not in ("1.0", "1.1") or (version == "1.1" and b"host" not in told.names):
        return Request(method, "", False, 400)
    bodiless = told.names.isdisjoint((b"content-length", b"transfer-encoding"))
    return Request(method, (path or b"/").decode("latin-1"), told.stays and version == "1.1" and bodiless)


def written(answer: Answer, method: str, stays: bool, now: float) -> bytes:
    """The answer's bytes; to HEAD without the body, whose length is told. `now`: seconds since the epoch."""
    lines = [
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}",
        f"Date: {formatdate(now, usegmt=True)}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
    ]
    if answer.status == 405:
        lines.append(f"Allow: {', '.join(METHODS)}")
    if not stays:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("ascii") + END
    return head if method == "HEAD" else head + answer.body


def refusal(status: int) -> Answer:
    """An answer that says its status only."""
    return Answer(status, f"{status}: {_PHRASES[status]}\n".encode())
