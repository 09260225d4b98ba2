"""HTTP/1.1 (RFC 9112) as a client that sends bundles needs it: a request's bytes, an answer read as it comes. Sans-IO.

What holds and why:

- Where lines, headers, chunks and bodies end is httptools' to say (llhttp, strict): two lengths, a length with chunks
  or a folded line are no answer. What is ours is what to make of it.
- One request, then its answer: bytes that were not asked for, an unclear end or a wish to close end the connection, so
  that no answer can ever be taken for another message's.
- What begins like no HTTP answer is `NotHttp`. Once the status is there it stands, whatever happens to the body: a body
  that breaks off, passes the bound or cannot be unpacked is `truncated`, and outcome decides.
- Nothing of the other side's is taken on trust: heads, trailers, bodies and what they unpack to are bounded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from hl7bridge.delivery.answer import Response

HEAD_MAX = 64 * 1024  # bytes of a status line with its headers, of trailers
INFORMED_MAX = 16  # informational answers (1xx) before the answer itself
ENCODINGS = "gzip, deflate"  # RFC 9110 8.4.1; what else comes stays as it is, and is then no JSON

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
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True
        )  # RFC 9112 2.2: LF alone may end a line
        self._body = bytearray()
        self._status, self._headers = 0, dict[str, str]()
        self._head_size = 0  # bytes of names and values; of trailers, once the answer has begun
        self._informed = 0
        self._until_end = False  # the body ends with the connection
        self._broken = False
        self.begun = False
        self.whole = False
        self.reusable = False

    def feed(self, data: bytes) -> bool:
        """Takes bytes. Raises NotHttp."""
        if self.whole:
            self.reusable = False
            return True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.begun:
                raise NotHttp from None
            self._stop()
        if not self.begun:
            self._grow(len(data))
        return self.whole

    def ended(self) -> bool:
        """The connection ended: was that the end of the answer?"""
        self.whole = self.whole or self._until_end
        return self.whole

    def response(self) -> Response:
        """The answer; where it is not whole, or its body is not to be had, as truncated."""
        body = None if self._broken or not self.whole else self._unpacked()
        return Response(self._status, self._headers, body or b"", body is None)

    # --- what the parser tells: what these raise ends the parsing -----------------------------------------------------

    def on_message_begin(self) -> None:
        self.reusable = False  # nothing more was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        """Names in lower case; of two of a name the last counts. Trailers are dropped."""
        self._grow(len(name) + len(value))
        if not self.begun:
            self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape").rstrip(" \t")

    def on_headers_complete(self) -> None:
        if self.whole:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._informed += 1
            self._headers.clear()
            if (
                self._status <= 101 and self._status != 100
            ) or self._informed > INFORMED_MAX:  # nothing else was asked for
                raise NotHttp
            return
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if coding is not None and coding.lower() != "chunked":
            raise NotHttp
        self._until_end = coding is None and length is None and self._status not in (204, 304)
        self._head_size = 0
        self.begun = True
        if length is not None and int(length) > self._most:
            self._break()

    def on_body(self, data: bytes) -> None:
        if not self.whole:
            self._body += data
            if len(self._body) > self._most:
                self._break()

    def on_message_complete(self) -> None:
        if self.begun and not self.whole:
            self.whole, self.reusable = True, self._parser.should_keep_alive()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_MAX and not self.whole:
            raise NotHttp

    def _stop(self) -> None:
        """What came cannot be read: the body is broken, or it is what came behind it."""
        self.reusable = False
        if not self.whole:
            self._break()

    def _break(self) -> None:
        """What comes is of no use, and no more of it is wanted."""
        self.whole = self._broken = True
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
