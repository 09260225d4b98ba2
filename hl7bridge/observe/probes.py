"""What a probe or a scrape asks in HTTP, and an answer's bytes: GET and HEAD, nothing more. Sans-IO; RFC 9110, 9112.

What holds: a request is its head alone. One that announces a body is answered, and its connection ends, so that no
byte of a body is ever taken for a request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate

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
    505: "HTTP Version Not Supported",
}
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(\d)\.(\d)")
_ORIGIN = re.compile(r"^https?://[^/?]*", re.IGNORECASE)  # what a proxy puts before the path


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


def read(head: bytes) -> Request:
    """A request from its head, up to and with the empty line."""
    first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    found = _REQUEST.fullmatch(first)
    if found is None:
        return Request("", "", False, 400)
    method, target, major, minor = found.groups()
    if major != "1":
        return Request(method, "", False, 505)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():  # a space before the colon hides a name from others
            return Request(method, "", False, 400)
        headers[name.lower()] = value.strip().lower()
    if minor == "0":
        stays = False  # may be asked for, need not be given
    elif "host" not in headers:
        return Request(method, "", False, 400)
    else:
        stays = "close" not in headers.get("connection", "")
    bodiless = "transfer-encoding" not in headers and "content-length" not in headers
    path = _ORIGIN.sub("", target, count=1).partition("?")[0] or "/"
    return Request(method, path, stays and bodiless)


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
