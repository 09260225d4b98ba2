"""One connection of a listener: blocks in, answers out in the order of the blocks, within every limit.

What holds here:
  - Frames are handled side by side, so that pipelined ones share a commit; their answers leave strictly in order, those
    to blocks that are no frames in their place among them.
  - A peer that sends faster than it is answered is not read; one that does not read its answers is not read either,
    and is cut off after frame_timeout. So what a connection can hold in memory is bounded.
  - The peer's FIN does not keep answers from it. When the listener ends a connection it first writes what it owes,
    then says FIN and swallows what still comes: closing a socket with unread bytes would reset it and take the last
    answer down with it. (Over TLS there is no half-close: the peer's close_notify ends both directions.)
  - Where MLLP Release 2 is spoken a commit byte stands before each answer: ACK exactly when what came is durable.
  - Nothing of a payload is ever shown; the observer gets counts.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import cast

from hl7bridge.mllp.framing import (
    COMMITTED,
    END,
    HEAD_BYTES,
    NOT_COMMITTED,
    START,
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
from hl7bridge.mllp.gate import Gate, HangUp, Pending, Refusal, Reply, Unkept
from hl7bridge.mllp.observer import Observer, Why
from hl7bridge.mllp.peer import keep_alive, peer_of


class _Answer:
    """A place in the row of answers."""

    __slots__ = ("block", "commit", "hangs_up", "settled", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.settled = False
        self.block: bytes | None = None
        self.commit = b""  # with MLLP Release 2: the byte that stands before the answer
        self.hangs_up = False


class _Refused:
    """A block that the listener itself answers negatively, in its place among the frames."""

    __slots__ = ("head", "refusal")

    def __init__(self, head: bytes, refusal: Refusal) -> None:
        self.head = head
        self.refusal = refusal


class Connection(asyncio.Protocol):
    """See the module's text. `gate` is the server's side: who may come in, and where leaving is noted."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._listener = gate.listener
        self._limits = gate.limits
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(gate.listener.max_message_bytes, gate.listener.require_cr)
        if gate.requires_cr is not None:
            self._framer = Framer(gate.listener.max_message_bytes, self._requires_cr)
        self._answers: deque[_Answer] = deque()
        # what has no place in the row yet: whole frames that came in one read beyond the limit in flight
        self._waiting: deque[bytes | _Refused] = deque()
        self._bytes = 0  # payload bytes of both
        self._admitted = False
        self._lost = False
        self._closing = False  # nothing more is taken from the peer
        self._finished_at = math.inf  # when the last answer was handed over and FIN said
        self._reading = True
        self._writable = True
        self._flush_due = False
        self._heard_at = self._frame_at = self._unread_at = self._loop.time()
        self._junk_run = 0  # bytes without a block
        self._met = False  # a block has come: this is an MLLP sender
        self._eof = False  # the peer has said FIN
        self._timer: asyncio.TimerHandle | None = None
        self._pause_timer: asyncio.TimerHandle | None = None

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer, denial = peer_of(transport, self._listener.tls)
        self._admitted = self._gate.admit(self, denial)
        if not self._admitted:
            self._closing = True
            self._transport.close()
            return
        limits = self._limits
        keep_alive(transport, self._listener.keepalive, limits.keepalive_interval, limits.keepalive_probes)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        now = self._loop.time()
        was_inside = self._framer.in_frame
        events = self._framer.feed(data)
        self._heard_at = now
        # a block that began in these bytes counts from now; one that was open before keeps its beginning
        if not was_inside or events:
            self._frame_at = now
        self._take(events)
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        if self._framer.end_pending:
            self._pause_timer = self._loop.call_later(self._limits.end_pause, self._pause)
        if self._framer.in_frame or self._junk_run:
            self._arm()

    def eof_received(self) -> bool:
        """Keeps the connection open for the answers that are still owed."""
        self._eof = True
        if not self._closing:
            self._take(self._framer.eof())
            self._closing = True
        if self._finished_at < math.inf or not self._owes():
            return False
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._writable = False
        self._unread_at = self._loop.time()
        self._regulate()
        self._arm()

    def resume_writing(self) -> None:
        self._writable = True
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._closing = True
        for timer in (self._timer, self._pause_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._pause_timer = None
        if not self._admitted:
            return
        # EOF was not said: a block was cut off by a reset
        if self._framer.in_frame:
            self._gate.tell(Observer.broken, self.peer, self._framer.buffered, Cause.EOF)
        if self._owes():
            self._gate.tell(Observer.unanswered, self.peer, len(self._answers) + len(self._waiting))
        self._waiting.clear()
        for answer in self._answers:
            _unsent(answer)
        self._gate.tell(Observer.closed, self.peer)
        self._gate.left(self)

    # -- what the server calls

    def drain(self, why: Why = Why.DRAIN) -> None:
        """Takes nothing more, writes what is owed, closes."""
        if self._closing:
            return
        self._gate.tell(Observer.dropped, self.peer, why)
        if self._owes() or self._framer.in_frame:
            self._close()
        else:
            self._closing = True
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # -- from bytes to answers

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if self._closing:
                break
            if isinstance(event, Frame):
                self._junk_run = 0
                self._met = True
                if self._listener.commit_bytes and event.payload in (COMMITTED, NOT_COMMITTED):
                    continue  # the peer's word on an answer of ours; on NAK it asks for the answer by sending again
                self._gate.tell(Observer.frame, self.peer, len(event.payload))
                self._waiting.append(event.payload)
                self._bytes += len(event.payload)
            elif isinstance(event, Junk):
                self._junk(event.count)
            else:
                self._begin_waiting()
                self._mishap(event)
        self._begin_waiting()
        self._regulate()

    def _begin_waiting(self) -> None:
        while self._waiting and len(self._answers) < self._limits.in_flight:
            payload = self._waiting.popleft()
            if isinstance(payload, _Refused):
                answer = _Answer(0)
                self._answers.append(answer)
                self._settle(answer, Unkept(self._refusal(payload.head, payload.refusal) or b""))
                continue
            answer = _Answer(len(payload))
            self._answers.append(answer)
            try:
                handled = self._gate.handle(payload, self.peer)
            except Exception as error:
                self._settle(answer, self._instead(payload, answer, error))
                continue
            if isinstance(handled, Pending):
                self._gate.began()
                handled.tell(partial(self._came, payload, answer))
            else:
                self._gate.spawn(self._serve(handled, payload, answer))

    def _came(self, payload: bytes, answer: _Answer, outcome: bytes | Exception | None) -> None:
        """A pending answer is there."""
        self._gate.ended()
        if isinstance(outcome, Exception):
            outcome = self._instead(payload, answer, outcome)
        alone = len(self._answers) == 1 and not self._flush_due
        self._settle(answer, outcome, now=alone and not self._lost)

    async def _serve(self, handled: Awaitable[bytes | None], payload: bytes, answer: _Answer) -> None:
        try:
            block = await handled
        except Exception as error:
            block = self._instead(payload, answer, error)
        self._settle(answer, block)

    def _instead(self, payload: bytes, answer: _Answer, error: Exception) -> bytes | None:
        """The answer where the handler has none: it hangs up, or it failed."""
        if isinstance(error, HangUp):
            answer.hangs_up = True
            return None
        self._gate.tell(Observer.failed, self.peer, error)
        return Unkept(self._refusal(payload[:HEAD_BYTES], Refusal.FAILED) or b"")

    def _refusal(self, head: bytes, refusal: Refusal) -> bytes | None:
        """The negative answer. When not even that can be made the connection ends: silence would be worse."""
        try:
            return self._gate.refuse(head, refusal, self.peer)
        except Exception as error:
            self._gate.tell(Observer.failed, self.peer, error)
            self._drop(Why.FAILED)
            return None

    def _settle(self, answer: _Answer, block: bytes | None, now: bool = False) -> None:
        """`now`: nothing that could leave in the same write is owed."""
        if self._listener.commit_bytes:
            answer.commit = NOT_COMMITTED if isinstance(block, Unkept) else COMMITTED
        answer.block = block or None
        answer.settled = True
        if self._lost:
            _unsent(answer)
        if now:
            self._flush()
        elif self._answers and self._answers[0] is answer and not self._flush_due:
            self._flush_due = True
            # soon, not now: answers that one commit released leave in one write
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes the settled answers at the front of the row, and takes up what that makes room for."""
        self._flush_due = False
        if self._lost or not self._writable:
            return
        blocks: list[bytes] = []
        replies: list[Reply] = []
        while self._answers and self._answers[0].settled:
            answer = self._answers.popleft()
            self._bytes -= answer.size
            if answer.hangs_up:
                self._hang_up()
            elif answer.commit:
                blocks.append(frame(answer.commit))
            if answer.block is not None:
                blocks += (START, answer.block, END)
                if isinstance(answer.block, Reply):
                    replies.append(answer.block)
        if blocks:
            self._heard_at = max(self._heard_at, self._loop.time())
            self._transport.write(b"".join(blocks))
            for reply in replies:
                reply.sent(True)
        self._begin_waiting()
        self._regulate()
        if self._closing and not self._owes():
            self._finish()

    def _hang_up(self) -> None:
        """Nothing behind this block is answered: its sender would take the next answer for the one it did not get."""
        self._gate.tell(Observer.dropped, self.peer, Why.HUNG_UP)
        self._gate.tell(Observer.unanswered, self.peer, 1 + len(self._answers) + len(self._waiting))
        for answer in self._answers:
            _unsent(answer)
        self._answers.clear()
        self._waiting.clear()
        self._bytes = 0
        self._closing = True

    def _requires_cr(self, head: bytes) -> bool:
        assert self._gate.requires_cr is not None
        try:
            return self._gate.requires_cr(head, self.peer)
        except Exception as error:
            self._gate.tell(Observer.failed, self.peer, error)
            return self._listener.require_cr

    def _mishap(self, event: Broken | TooLarge | Discarded) -> None:
        if isinstance(event, TooLarge):
            self._gate.tell(Observer.too_large, self.peer)
            self._waiting.append(_Refused(event.head, Refusal.TOO_LARGE))
        elif isinstance(event, Discarded):
            self._drop(Why.TOO_LARGE)
        else:
            self._gate.tell(Observer.broken, self.peer, event.count, event.cause)
            # a block that ended is answered; one that was cut off is not: its sender is no longer waiting for it,
            # and would take the answer for that of the next
            if event.cause is Cause.EMBEDDED_FS:
                self._waiting.append(_Refused(event.head, Refusal.BROKEN))

    def _junk(self, count: int) -> None:
        self._gate.tell(Observer.junk, self.peer, count)
        self._junk_run += count
        if self._junk_run > self._limits.junk_bytes:
            self._drop(Why.JUNK)

    # -- limits

    def _owes(self) -> bool:
        return bool(self._answers or self._waiting)

    def _regulate(self) -> None:
        """Reads from the peer exactly while there is room and it reads from us."""
        if self._lost or self._transport.is_closing():
            return
        held = len(self._answers) + len(self._waiting)
        full = held >= self._limits.in_flight or (held > 0 and self._bytes >= self._limits.in_flight_bytes)
        reading = self._closing or (self._writable and not full)
        if reading and not self._reading:
            # the time nobody listened does not count against the peer
            now = self._loop.time()
            self._frame_at += now - self._heard_at
            self._heard_at = now
            self._transport.resume_reading()
        elif self._reading and not reading:
            self._transport.pause_reading()
        self._reading = reading

    def _pause(self) -> None:
        self._pause_timer = None
        self._take(self._framer.pause())

    def _deadline(self) -> tuple[float, Why]:
        """When the peer has had its time, as things stand."""
        listener = self._listener
        if not self._writable:
            return self._unread_at + listener.frame_timeout, Why.UNREAD
        if self._finished_at < math.inf:
            unsent = self._transport.get_write_buffer_size()
            return self._finished_at + (listener.frame_timeout if unsent else self._limits.linger), Why.UNREAD
        if self._closing or not self._reading:
            return math.inf, Why.IDLE
        if self._framer.in_frame:
            silence = self._heard_at + listener.frame_timeout
            total = self._frame_at + listener.total_frame_timeout
            return (silence, Why.FRAME) if silence < total else (total, Why.TOTAL_FRAME)
        if self._answers:
            return math.inf, Why.IDLE
        if self._junk_run and not self._met:
            return self._heard_at + listener.frame_timeout, Why.JUNK
        return self._heard_at + listener.idle_timeout, Why.IDLE

    def _arm(self) -> None:
        """Sets the one timer, unless it is set early enough. It only ever looks whether the deadline has come."""
        when = min(self._deadline()[0], self._loop.time() + self._listener.idle_timeout)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        when, why = self._deadline()
        now = self._loop.time()
        if now < when:
            # while answers are owed no deadline runs; look again before the shortest that may begin could have passed
            soon = now + min(self._listener.idle_timeout, self._listener.frame_timeout)
            self._timer = self._loop.call_at(soon if when == math.inf else when, self._tick)
        elif self._finished_at < math.inf or why is Why.UNREAD:
            if self._finished_at == math.inf:
                self._gate.tell(Observer.dropped, self.peer, why)
            self._transport.abort()
        else:
            self._take(self._framer.eof())
            self._drop(why)
            self._arm()

    # -- the end

    def _drop(self, why: Why) -> None:
        if not self._closing:
            self._gate.tell(Observer.dropped, self.peer, why)
            self._close()

    def _close(self) -> None:
        self._closing = True
        self._regulate()
        if not self._owes():
            self._finish()

    def _finish(self) -> None:
        """Everything owed is handed over: say FIN, and give the peer its time to read."""
        if self._lost or self._finished_at < math.inf:
            return
        self._finished_at = self._loop.time()
        if self._eof or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
        self._arm()


def _unsent(answer: _Answer) -> None:
    """The connection was gone before this answer could be written."""
    if isinstance(answer.block, Reply):
        answer.block.sent(False)
