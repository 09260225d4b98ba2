"""MLLP blocks out of a byte stream: bytes in, events out. No sockets, no clock.

A block is VT payload FS CR (MLLP Release 1). What holds here: the events depend on the bytes only, never on how they
were cut into pieces; a byte is looked at a fixed number of times, so a 16 MiB block costs what 16 MiB cost; nothing
outside a block is kept, and inside one never more than the limit.

What real senders do, and what becomes of it (`require_cr` switches the three tolerances off, for every block or for
those whose first bytes say so, because a sender names itself in the block only):
  FS LF, FS CR LF, FS VT   end the block; CR and LF right behind a block are not junk
  FS and then silence      ends the block when `pause` or `eof` says that nothing followed
  VT inside a block        the block before it was cut off: Broken, and a new block starts
  FS and any other byte    an FS inside the payload: nobody can know where the message ends, so the block is Broken
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, NamedTuple

VT: Final = 0x0B
FS: Final = 0x1C
CR: Final = 0x0D
LF: Final = 0x0A
START: Final = b"\x0b"
END: Final = b"\x1c\x0d"
COMMITTED: Final = b"\x06"  # MLLP Release 2: the block was committed to safe storage
NOT_COMMITTED: Final = b"\x15"  # and this one was not: send it again
HEAD_BYTES: Final = (
    4096  # of a block that is not kept whole: enough for any MSH, so that its NAK can name the control id
)


class Cause(StrEnum):
    """Why a block gave no frame."""

    CUT = "cut"  # a VT began the next block before this one ended
    EMBEDDED_FS = "embedded-fs"  # an FS inside the payload; the block then ended
    EOF = "eof"  # the stream ended inside the block


class Frame(NamedTuple):
    """A whole block; `payload` is what stood between VT and FS."""

    payload: bytes

    def __repr__(self) -> str:
        return "<Frame>"


@dataclass(frozen=True, slots=True)
class Junk:
    """`count` bytes outside of any block. They were dropped."""

    count: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A block of `count` payload bytes that is no message. `head`: its first bytes, at most HEAD_BYTES."""

    count: int
    head: bytes = field(repr=False)
    cause: Cause


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A block went past the limit. What follows of it is dropped; `Discarded` says when it has ended."""

    head: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Discarded:
    """The block that was too large has ended, after `count` payload bytes."""

    count: int


Event = Frame | Junk | Broken | TooLarge | Discarded


class _State(Enum):
    OUTSIDE = 0  # between blocks
    BEHIND = 1  # right behind a block's end, where CR and LF belong to it
    INSIDE = 2
    DISCARDING = 3  # inside a block that is too large


def frame(payload: bytes) -> bytes:
    """The block that carries `payload`."""
    return b"".join((START, payload, END))


class Framer:
    """Cuts one stream into blocks. Feed bytes in the order they came; `max_message_bytes` limits a payload.

    `require_cr`: for all blocks, or asked with the first bytes of a block (at most HEAD_BYTES) whose FS no CR follows;
    it must always say the same of the same block. After `eof` the framer is as new.
    """

    def __init__(self, max_message_bytes: int, require_cr: bool | Callable[[bytes], bool] = False) -> None:
        self._limit = max_message_bytes
        self._strict = require_cr
        self._strict_head = False  # DISCARDING: what was said of the block that is dropped
        self._state = _State.OUTSIDE
        self._buffer = bytearray()  # INSIDE: the payload from its first byte; DISCARDING: at most one FS
        self._scanned = 0  # payload bytes known to hold no undecided FS or VT
        self._embedded = False  # an FS stood in this payload
        self._discarded = 0

    @property
    def in_frame(self) -> bool:
        """A block has begun and not ended."""
        return self._state in (_State.INSIDE, _State.DISCARDING)

    @property
    def buffered(self) -> int:
        """Bytes kept at this moment."""
        return len(self._buffer)

    @property
    def end_pending(self) -> bool:
        """An FS is the last byte so far, and it would end the block if nothing followed: see `pause`."""
        if not self._buffer or self._buffer[-1] != FS:
            return False
        last = self._state is _State.DISCARDING or self._scanned == len(self._buffer) - 1
        return last and not self._needs_cr(0, len(self._buffer) - 1)

    def feed(self, data: bytes) -> list[Event]:
        """The events these bytes complete, in order."""
        self._buffer += data
        events: list[Event] = []
        start, decided = 0, True  # buffer[:start] is dealt with
        while decided and start < len(self._buffer):
            if self._state is _State.INSIDE:
                start, decided = self._inside(start, events)
            elif self._state is _State.DISCARDING:
                start, decided = self._discarding(start, events)
            else:
                start = self._outside(start, events)
        del self._buffer[:start]
        return events

    def pause(self) -> list[Event]:
        """Nothing came for a moment: an FS that closes the last segment (CR or LF stands before it) ends the block.

        Without that segment end the FS may as well be a stray byte of a payload that stalled: it waits for `eof`.
        """
        if not self.end_pending:
            return []
        closes = self._state is _State.DISCARDING or (len(self._buffer) > 1 and self._buffer[-2] in (CR, LF))
        return self._finish() if closes else []

    def eof(self) -> list[Event]:
        """Nothing will come any more: what a last FS completed, or that a block was left unfinished."""
        events: list[Event] = []
        if self.end_pending:
            events = self._finish()
        elif self._state is _State.INSIDE:
            events = [Broken(len(self._buffer), bytes(self._buffer[:HEAD_BYTES]), Cause.EOF)]
        elif self._state is _State.DISCARDING:
            events = [Discarded(self._discarded)]
        self._buffer.clear()
        self._begin(_State.OUTSIDE)
        return events

    def _begin(self, state: _State) -> None:
        self._state = state
        self._scanned = 0
        self._embedded = False
        self._discarded = 0

    def _finish(self) -> list[Event]:
        """Ends the block at the FS that is the buffer's last byte."""
        end = len(self._buffer) - 1
        event = self._complete(0, end) if self._state is _State.INSIDE else Discarded(self._discarded)
        self._buffer.clear()
        self._begin(_State.BEHIND)
        return [event]

    def _complete(self, start: int, end: int) -> Event:
        if self._embedded:
            return Broken(end - start, self._head(start, end), Cause.EMBEDDED_FS)
        return Frame(bytes(self._buffer[start:end]))

    def _head(self, start: int, end: int) -> bytes:
        return bytes(self._buffer[start : min(start + HEAD_BYTES, end)])

    def _outside(self, start: int, events: list[Event]) -> int:
        """Drops what stands before the next VT."""
        buffer = self._buffer
        if self._state is _State.BEHIND:
            while start < len(buffer) and buffer[start] in (CR, LF):
                start += 1
            if start == len(buffer):
                return start
        found = buffer.find(VT, start)
        end = len(buffer) if found < 0 else found
        if end > start:
            events.append(Junk(end - start))
        self._begin(_State.OUTSIDE if found < 0 else _State.INSIDE)
        return end if found < 0 else found + 1

    def _next(self, start: int) -> tuple[int, int | None]:
        """Where the first VT or FS stands at or behind `start` (or the end of the bytes), and which it is."""
        end = self._buffer.find(FS, start)
        stop = len(self._buffer) if end < 0 else end
        cut = self._buffer.find(VT, start, stop)
        return (cut, VT) if cut >= 0 else (stop, None if end < 0 else FS)

    def _needs_cr(self, start: int, at: int) -> bool:
        """Of the block whose payload begins at `start`: does its FS at `at` end it with a CR behind only?"""
        if isinstance(self._strict, bool):
            return self._strict
        return self._strict_head if self._state is _State.DISCARDING else self._strict(self._head(start, at))

    def _ends(self, start: int, at: int) -> bool:
        """The FS at `at`, which is not the last byte, ends the block whose payload begins at `start`."""
        follows = self._buffer[at + 1]
        return follows == CR or (follows in (LF, VT) and not self._needs_cr(start, at))

    def _behind(self, at: int) -> int:
        """The first byte behind the block that the FS at `at` ends; a VT stays for the next block."""
        return at + 1 if self._buffer[at + 1] == VT else at + 2

    def _inside(self, start: int, events: list[Event]) -> tuple[int, bool]:
        """Looks for the end of the payload that begins at `start`; False when it takes more bytes to decide."""
        at, mark = self._next(start + self._scanned)
        if at - start > self._limit:
            # as many bytes of the head as there are whatever came in one piece: the limit's first excess byte decides
            head = self._head(start, start + self._limit + 1)
            events.append(TooLarge(head))
            self._strict_head = not isinstance(self._strict, bool) and self._strict(head)
            self._begin(_State.DISCARDING)
            self._discarded = at - start
            return at, True
        if mark == VT:
            events.append(Broken(at - start, self._head(start, at), Cause.CUT))
            self._begin(_State.INSIDE)
            return at + 1, True
        self._scanned = at - start
        if mark is None or at + 1 == len(self._buffer):
            return start, False
        if self._buffer[at + 1] != CR and not self._ends(start, at):
            self._embedded = True
            self._scanned += 1
            return start, True
        events.append(self._complete(start, at))
        self._begin(_State.BEHIND)
        return self._behind(at), True

    def _discarding(self, start: int, events: list[Event]) -> tuple[int, bool]:
        """Drops what belongs to a block that is too large; keeps at most an FS that may be its end."""
        at, mark = self._next(start)
        self._discarded += at - start
        if mark is None:
            return at, True
        if mark == FS and at + 1 == len(self._buffer):
            return at, False
        if mark == FS and not self._ends(start, at):
            self._discarded += 1
            return at + 1, True
        events.append(Discarded(self._discarded))
        if mark == VT:
            self._begin(_State.INSIDE)
            return at + 1, True
        behind = self._behind(at)
        self._begin(_State.BEHIND)
        return behind, True
