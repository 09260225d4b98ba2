"""A file, or the block of one MLLP frame, to single messages: framed, in FHS/BHS envelopes, or just one after another.

What holds: nothing is dropped. Every byte that is not blank belongs to a piece or to an envelope segment; what is no
message comes out as a piece with its problem, and does not stop the messages after it. Envelopes are judged (HL7 v2.9.1
chapter 2, batch protocol: BTS-1 and FTS-1 count what they close) but never needed. Problems are texts without values.
A file in UTF-16 or UTF-32 gives pieces in UTF-8 with a byte order mark, which `parse` trusts more than MSH-18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hl7bridge.hl7v2.charset import UTF8_BOM, narrow, wide_codec

_MARK = rb"[ \t]*+(?:\xef\xbb\xbf[ \t]*+)?"  # possessive: blanks without end must not cost their square
_SIGN = rb"[^\sA-Za-z0-9\x00-\x1c\x7f-\xff]"
_FRAME = re.compile(rb"\x0b(?=[\r\n]*" + _MARK + rb"(?:MSH|FHS|BHS)" + _SIGN + rb")", re.IGNORECASE)
_HEAD = re.compile(
    rb"(?:\A|(?<=[\r\n]))" + _MARK + rb"(?:(MSH|FHS|BHS)" + _SIGN + rb"|(BTS|FTS)(?:" + _SIGN + rb"|(?=[\r\n]|\Z)))",
    re.IGNORECASE,
)
_BLANK = b" \t\r\n"
_NAMES = frozenset((b"MSH", b"FHS", b"BHS", b"BTS", b"FTS"))
_MARK_STARTS = (b" ", b"\t", b"\xef")

OUTSIDE_FRAME = "bytes outside any MLLP frame"
UNENDED_FRAME = "the MLLP frame has no end"
EMPTY_FRAME = "the MLLP frame is empty"
NO_MESSAGE = "no MSH segment"
ENVELOPE_INSIDE = "an envelope segment stands inside the message"
WRONG_BATCH_COUNT = "BTS-1 is not the number of messages in the batch"
WRONG_FILE_COUNT = "FTS-1 is not the number of batches in the file"
NO_BHS = "BTS without BHS"
NO_BTS = "BHS without BTS"
NO_FHS = "FTS without FHS"
NO_FTS = "FHS without FTS"


@dataclass(slots=True)
class Piece:
    """One message of a file: number from 1, its bytes, and what is wrong with it or with the envelope it closed."""

    number: int
    raw: bytes = field(repr=False)
    problems: list[str] = field(default_factory=list)


def split(data: bytes) -> Iterator[Piece]:
    """The messages of a file or block, in order. Never raises; blank input has none."""
    wide = wide_codec(data) is not None
    if wide:
        data = narrow(data).removeprefix(UTF8_BOM)
    for number, (raw, problems) in enumerate(_pieces(data), 1):
        yield Piece(number, UTF8_BOM + raw if wide else raw, problems)


def _pieces(data: bytes) -> Iterator[tuple[bytes, list[str]]]:
    if _is_single(data):
        yield data, []
    elif data.lstrip(_BLANK).startswith(b"\x0b") or _FRAME.search(data):
        yield from _frames(data)
    else:
        yield from _Envelopes(data).pieces()


def _is_single(data: bytes) -> bool:
    """The quick answer for the usual block: one message and nothing else. False only means: look closely."""
    if b"\x0b" in data or data.endswith((b"\r\r", b"\n\n")) or not _HEAD.match(data) or not data.startswith(b"MSH"):
        return False
    if b"\n" not in data:
        lines = data.split(b"\r")
    elif b"\r" not in data:
        lines = data.split(b"\n")
    else:
        return False
    return not any(line[:3].upper() in _NAMES or line[:1] in _MARK_STARTS for line in lines[1:])


def _frames(data: bytes) -> Iterator[tuple[bytes, list[str]]]:
    """The blocks between 0B and 1C. A 0B that starts no message is content; so is a lone 1C before 1C 0D."""
    starts = [found.start() for found in _FRAME.finditer(data)]
    if data.lstrip(_BLANK).startswith(b"\x0b"):
        starts = sorted({data.index(b"\x0b"), *starts})
    yield from _stray(data[: starts[0]])
    for start, following in zip(starts, [*starts[1:], len(data)], strict=True):
        part = data[start + 1 : following]
        end = part.find(b"\x1c\r")
        end = part.find(b"\x1c") if end < 0 else end
        block, rest = (part, b"") if end < 0 else (part[:end], part[end + 1 :])
        pieces = list(_Envelopes(block).pieces())
        if not pieces:
            pieces = [(block, [EMPTY_FRAME])]
        if end < 0:
            pieces[-1][1].append(UNENDED_FRAME)
        yield from pieces
        yield from _stray(rest)


def _stray(data: bytes) -> Iterator[tuple[bytes, list[str]]]:
    if data.strip(_BLANK + b"\x0b\x1c"):
        yield data, [OUTSIDE_FRAME]


class _Envelopes:
    """Walks the lines of one block that open or close something, and keeps the message that is open."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._parts: list[bytes] = []  # of the open message
        self._is_open = False  # a message, which further lines may continue
        self._problems: list[str] = []
        self._held: tuple[bytes, list[str]] | None = (
            None  # the last complete piece: a trailer may have to say something
        )
        self._line = b""  # the last envelope segment
        self._messages = 0  # since the last BHS, or BTS
        self._batches = 0  # since the last FHS
        self._in_batch = self._in_file = False

    def pieces(self) -> Iterator[tuple[bytes, list[str]]]:
        block = self._block
        heads = list(_HEAD.finditer(block))
        yield from self._text(block[: heads[0].start() if heads else len(block)])
        ends = [*(head.start() for head in heads[1:]), len(block)]
        for head, end in zip(heads, ends, strict=False):
            text = block[head.start() : end]
            if (head[1] or head[2]).upper() == b"MSH":
                yield from self._close()
                self._open(text)
            else:
                yield from self._envelope((head[1] or head[2]).upper(), text)
        yield from self._close()
        if self._in_batch:
            self._complain(NO_BTS)
        if self._in_file:
            self._complain(NO_FTS)
        if self._held:
            yield self._held

    def _open(self, text: bytes) -> None:
        self._parts, self._is_open = [text], True
        self._messages += 1

    def _text(self, text: bytes) -> Iterator[tuple[bytes, list[str]]]:
        """Lines that belong to the open message; without one they are a piece of their own."""
        if not text.strip(_BLANK).removeprefix(UTF8_BOM):
            return
        if self._is_open:
            self._parts.append(text)
            self._problems.append(ENVELOPE_INSIDE)
        else:
            yield from self._hold((text, [NO_MESSAGE]))

    def _close(self) -> Iterator[tuple[bytes, list[str]]]:
        if self._is_open:
            piece = (_trimmed(b"".join(self._parts)), self._problems)
            self._parts, self._problems, self._is_open = [], [], False
            yield from self._hold(piece)

    def _hold(self, piece: tuple[bytes, list[str]]) -> Iterator[tuple[bytes, list[str]]]:
        if self._held:
            yield self._held
        self._held = piece

    def _complain(self, problem: str) -> None:
        """About an envelope: at the open or last message; without any the envelope segment is a piece itself."""
        if self._is_open:
            self._problems.append(problem)
        elif self._held:
            self._held[1].append(problem)
        else:
            self._held = (self._line, [problem])

    def _envelope(self, name: bytes, text: bytes) -> Iterator[tuple[bytes, list[str]]]:
        line = self._line = re.split(rb"[\r\n]", text, maxsplit=1)[0]
        rest = text[len(line) :]
        if name in (b"BTS", b"FTS") or not rest.strip(_BLANK):
            yield from self._close()
        if name == b"BHS":
            if self._in_batch:
                self._complain(NO_BTS)
            self._in_batch, self._messages = True, int(self._is_open)
            self._batches += 1
        elif name == b"FHS":
            if self._in_file:
                self._complain(NO_FTS)
            self._in_file, self._batches, self._messages = True, 0, int(self._is_open)
        elif name == b"BTS":
            self._batch_ends(line)
        else:
            self._file_ends(line)
        yield from self._text(rest)

    def _batch_ends(self, line: bytes) -> None:
        if not self._in_batch:
            self._complain(NO_BHS)
        if _count(line) not in (None, self._messages):
            self._complain(WRONG_BATCH_COUNT)
        self._in_batch, self._messages = False, 0

    def _file_ends(self, line: bytes) -> None:
        if self._in_batch:
            self._complain(NO_BTS)
        if not self._in_file:
            self._complain(NO_FHS)
        elif self._batches and _count(line) not in (None, self._batches):
            self._complain(WRONG_FILE_COUNT)
        self._in_batch = self._in_file = False
        self._batches = self._messages = 0


def _count(line: bytes) -> int | None:
    """BTS-1 or FTS-1: None when it is empty, -1 when it is no number. A count may come as a composite: 3^."""
    line = line.strip(_BLANK).removeprefix(UTF8_BOM).strip(_BLANK)
    first = re.split(re.escape(line[3:4]), line)[1] if line[3:4] else b""
    digits = re.match(rb"\s*([0-9]{0,18})", first)
    if not first.strip() or digits is None:
        return None
    return int(digits[1]) if digits[1] else -1


def _trimmed(raw: bytes) -> bytes:
    """Without blank lines at the end: one line end stays, if there was one."""
    bare = raw.rstrip(b"\r\n")
    ending = raw[len(bare) :]
    return bare + (b"\r\n" if ending.startswith(b"\r\n") else ending[:1])
