"""HTTP/1.1 (RFC 9112) as a client that sends bundles needs it: a request's bytes, an answer read as it comes. Sans-IO.

What holds and why:

- One request, then its answer: bytes that were not asked for, an unclear end or a wish to close end the connection, so
  that no answer can ever be taken for another message's.
- What begins like no HTTP answer is `NotHttp`. Once the status is there it stands, whatever happens to the body: a body
  that breaks off, passes the bound or cannot be unpacked is `truncated`, and outcome decides.
- Nothing of the other side's is taken on trust: heads, bodies and what they unpack to are bounded, lengths are digits.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Literal

from hl7bridge.delivery.answer import Response

HEAD_MAX = 64 * 1024  # bytes of a status line with its headers, of one chunk's line, of trailers
INFORMED_MAX = 16  # informational answers (1xx) before the answer itself
ENCODINGS = "gzip, deflate"  # RFC 9110 8.4.1; what else comes stays as it is, and is then no JSON

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: .*)?\r?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)")  # a token (RFC 9110 5.6.2), a value
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?\r?")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_UNSENDABLE = re.compile("[\r\n\0]")


class NotHttp(Exception):
    """What came is no HTTP answer. Carries nothing of it."""


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """The request up to its body. `headers` come before ours; `length`: bytes of the body, None: it has none.

    Raises ValueError for a value that would end its header.
    """
    lines = {"host": f"Host: {host}", "accept-encoding": f"Accept-Encoding: {ENCODINGS}"}
    for name, value in headers.items():
        lines[name.lower()] = f"{name}: {value}"
    lines.pop("transfer-encoding", None)  # where the body ends is said here, and nowhere else
    lines.pop("content-length", None)
    if length is not None:
        lines["content-length"] = f"Content-Length: {length}"
    if _UNSENDABLE.search("".join(lines.values())):
        raise ValueError("a header is one line")
    return "\r\n".join((f"{method} {target} HTTP/1.1", *lines.values(), "", "")).encode()


class AnswerReader:
    """Reads one answer. `most`: bytes its body may have, as sent and unpacked.

    `feed` and `ended` say whether the answer is whole; `response` is it, from `begun` on. `reusable`: another request
    may follow on the connection; known when it is whole.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()
        self._body = bytearray()
        self._status, self._headers = 0, dict[str, str]()
        self._missing: int | None = 0  # of the body or of the chunk; None: it ends with the connection
        self._chunked = False
        self._next: Literal["size", "end", "trailer"] = "size"  # of the lines between chunks
        self._trailing = 0  # bytes of trailers
        self._informed = 0
        self._broken = False
        self.begun = False
        self.whole = False
        self.reusable = False

    def feed(self, data: bytes) -> bool:
        """Takes bytes. Raises NotHttp."""
        self._buffer += data
        if not self.begun and not self._read_head():
            return False
        if not self.whole:
            self._read_chunks() if self._chunked else self._read_body()
        if self._buffer or self._broken:
            self.reusable = self.reusable and not self.whole
        return self.whole

    def ended(self) -> bool:
        """The connection ended: was that the end of the answer?"""
        if self.begun and not self.whole and self._missing is None:
            self._complete()
        return self.whole

    def response(self) -> Response:
        """The answer; where it is not whole, or its body is not to be had, as truncated."""
        body = None if self._broken or not self.whole else self._unpacked()
        return Response(self._status, self._headers, body or b"", body is None)

    def _read_head(self) -> bool:
        """False: more is needed."""
        while True:
            end = _HEAD_END.search(self._buffer)
            if (end.end() if end else len(self._buffer)) > HEAD_MAX:
                raise NotHttp
            if end is None:
                if not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise NotHttp
                return False
            head = self._buffer[: end.start()].decode("utf-8", "surrogateescape")
            del self._buffer[: end.end()]
            first, *lines = head.split("\n")
            said = _STATUS.fullmatch(first)
            if said is None:
                raise NotHttp
            self._status, self._headers = int(said[2]), _headers(lines)
            if self._status >= 200:
                self._begin(said[1] == "0")
                return True
            self._informed += 1
            if self._status == 101 or self._informed > INFORMED_MAX:  # nothing else was asked for
                raise NotHttp

    def _begin(self, old: bool) -> None:
        """How the body ends (RFC 9112 6.3), and whether the connection may go on (9.3)."""
        headers = self._headers
        wishes = {wish.strip() for wish in headers.get("connection", "").lower().split(",")}
        self.reusable = "keep-alive" in wishes if old else "close" not in wishes
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if self._status in (204, 304):
            self._complete()
        elif coding is not None:
            if coding.lower() != "chunked":
                raise NotHttp
            self._chunked = True
            self.reusable = self.reusable and length is None
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise NotHttp
            self._missing = int(length[:20])
        else:
            self._missing, self.reusable = None, False
        self.begun = True

    def _read_body(self) -> None:
        if self._missing is None:
            self._body += self._buffer
            self._buffer.clear()
        elif len(self._buffer) >= self._missing:
            self._body += self._buffer[: self._missing]
            del self._buffer[: self._missing]
            self._complete()
        if max(len(self._body), self._missing or 0) > self._most:
            self._break()

    def _read_chunks(self) -> None:
        """RFC 9112 7.1. `_missing`: of the chunk; 0: a line comes next."""
        buffer, at = self._buffer, 0
        while not self.whole:
            if self._missing:
                end = min(at + self._missing, len(buffer))
                self._body += buffer[at:end]
                self._missing -= end - at
                at = end
            line_end = -1 if self._missing else buffer.find(b"\n", at)
            if len(self._body) > self._most or (line_end if line_end >= 0 else len(buffer)) - at > HEAD_MAX:
                self._break()
            elif line_end < 0:
                break
            else:
                self._read_line(bytes(buffer[at:line_end]).removesuffix(b"\r"))
                at = line_end + 1
        del buffer[:at]

    def _read_line(self, line: bytes) -> None:
        """A line between chunks: `_next` says which."""
        if self._next == "size":
            size = _CHUNK.fullmatch(line)
            self._missing = int(size[1], 16) if size else 0
            self._next = "end" if self._missing else "trailer"
            if size is None:
                self._break()
        elif self._next == "end":
            self._next = "size"
            if line:
                self._break()
        elif not line:
            self._complete()
        else:
            self._trailing += len(line)
            if self._trailing > HEAD_MAX:
                self._break()

    def _complete(self) -> None:
        self.whole = True

    def _break(self) -> None:
        """What comes is of no use, and no more of it is wanted."""
        self.whole = self._broken = True
        self._buffer.clear()
        self._body.clear()

    def _unpacked(self) -> bytes | None:
        """The body without its Content-Encoding (RFC 9110 8.4.1); None: it cannot be unpacked within the bound."""
        packed, coding = bytes(self._body), self._headers.get("content-encoding", "").lower()
        if not packed or coding not in ("gzip", "x-gzip", "deflate"):
            return packed
        form = 31 if coding != "deflate" else 15 if packed[0] & 0x0F == 8 else -15  # of zlib: gzip, zlib, bare
        body = bytearray()
        try:
            while packed:  # gzip may come in several members
                unpacking = zlib.decompressobj(form)
                body += unpacking.decompress(packed, self._most + 1 - len(body))
                if not unpacking.eof or len(body) > self._most:
                    return None
                packed = unpacking.unused_data
        except zlib.error:
            return None
        return bytes(body)


def _headers(lines: list[str]) -> dict[str, str]:
    """Names in lower case; of two of a name the last counts, but not where they would make the end unclear."""
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        line = line.removesuffix("\r")
        if line[:1] in (" ", "\t") and name:  # obs-fold (RFC 9112 5.2)
            headers[name] += f" {line.strip()}"
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise NotHttp
        name, value = found[1].lower(), found[2].rstrip(" \t")
        if name in _FRAMING and headers.get(name, value) != value:
            raise NotHttp
        headers[name] = value
    return headers
