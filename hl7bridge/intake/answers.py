"""What is answered: stamps, negative answers, the envelope of a batch's answer.

What holds: an answer is made by the message's own mode (hl7v2.ack) and counted once; where the sender's profile wants
the connection's end in place of an answer to a failure of ours, HangUp is raised instead.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Final

from hl7bridge import reasons
from hl7bridge.config import Listener
from hl7bridge.errors import MessageError, PeerError
from hl7bridge.hl7v2 import ack
from hl7bridge.hl7v2.escape import DEFAULT, Separators
from hl7bridge.hl7v2.header import Header, read_header, read_separators
from hl7bridge.intake.observer import IntakeObserver, Telling
from hl7bridge.intake.preparing import NO_ANSWER, Verdict
from hl7bridge.mllp.framing import HEAD_BYTES
from hl7bridge.mllp.gate import HangUp, Refusal, Reply, Unkept

REFUSALS: Final = {
    Refusal.TOO_LARGE: (reasons.TOO_LARGE, ""),
    Refusal.BROKEN: (reasons.UNPARSABLE, "a byte of the MLLP framing stands inside the message"),
    Refusal.FAILED: (reasons.INTERNAL_ERROR, ""),
}
OURS: Final = (reasons.STORAGE_FAILED, reasons.BACKLOG_FULL, reasons.INTERNAL_ERROR)  # see on_storage_failure
CLOSE: Final = "close"
ENVELOPES: Final = (b"FHS", b"BHS")
_BEFORE_ENVELOPE: Final = b" \t\r\n\xef\xbb\xbf"  # blanks, and the bytes of a byte order mark


class Stamps:
    """The time and id that answers bear. `zone`: of MSH-7, None is the machine's; `new_id`: MSH-10."""

    def __init__(self, clock: Callable[[], float], zone: tzinfo | None, new_id: Callable[[], str] | None) -> None:
        self._clock, self._zone, self._new_id = clock, zone, new_id or control_ids()
        self._second, self._now = -1, datetime.fromtimestamp(0, UTC)

    def __call__(self) -> ack.Stamp:
        """MSH-7 to the second, which a thousand answers may share, and a MSH-10 of its own."""
        second = int(self._clock())
        if second != self._second:
            now = datetime.fromtimestamp(second, self._zone or UTC)
            self._second, self._now = second, now if self._zone else now.astimezone()
        return ack.Stamp(self._now, self._new_id())


class Answers:
    """One listener's."""

    def __init__(self, listener: Listener, stamp: Stamps, tell: Telling) -> None:
        self.stamp = stamp
        self._listener, self._tell = listener, tell

    def negative(self, verdict: Verdict, error: MessageError, *, hang_up: bool = True) -> bytes | None:
        """Raises HangUp where the profile wants that in place of the answer."""
        instead = verdict.profile.on_storage_failure if error.reason in OURS else None
        closes = instead == CLOSE
        if closes and hang_up:
            self.acknowledged(NO_ANSWER, error.reason.code, verdict)
            raise HangUp
        instead = None if closes else instead
        ne_al = verdict.profile.ne_al
        answer = ack.reject(
            verdict.header, error.reason, self.stamp(), error.location, error.detail, instead, ne_al, verdict.expected
        )
        code = ack.ack_code(verdict.header, error.reason, instead, ne_al) if answer else NO_ANSWER
        self.acknowledged(code, error.reason.code, verdict)
        return Unkept(answer or b"") if self._listener.commit_bytes else answer

    def acknowledged(self, code: str, reason: str, verdict: Verdict) -> None:
        self._tell(IntakeObserver.acknowledged, code, reason, time.perf_counter() - verdict.started)

    def of_batch(self, payload: bytes, outcomes: Sequence[object], problems: Sequence[str]) -> bytes | None:
        """The answer to a batch: an envelope around the answers to its messages; None where none of them has one."""
        unkept = any(isinstance(outcome, Unkept) for outcome in outcomes)
        answers = [answer for answer in outcomes if isinstance(answer, bytes) and answer]
        if outcomes and not answers:
            return Unkept() if unkept else None
        envelope, separators = _envelope(payload)
        answer = ack.batch(answers, envelope, separators, self.stamp(), "; ".join(dict.fromkeys(problems)))
        stored = [reply for reply in answers if isinstance(reply, Reply)]
        return Unkept(answer) if unkept else Reply(answer, partial(_tell_all, stored))


def kept(answer: bytes | None) -> bytes | None:
    """A negative answer to a message that is durable all the same."""
    return bytes(answer) if answer else None


def is_batch(payload: bytes) -> bool:
    """Does the frame hold a batch: does it begin with FHS or BHS?"""
    return payload[:3] != b"MSH" and payload.lstrip(_BEFORE_ENVELOPE)[:3].upper() in ENVELOPES


def control_ids() -> Callable[[], str]:
    """Ids of 20 characters, which MSH-10 holds in every version: a random beginning for this start, and a count."""
    start, count = secrets.token_hex(5), itertools.count(1)
    return lambda: f"{start}{next(count):010x}"


def header_of_head(head: bytes) -> Header | None:
    """The header when `head` holds it up to MSH-10 at least: half a control id must not be answered."""
    try:
        header = read_header(head)
    except PeerError:
        return None
    start = head.upper().find(b"MSH")
    ended = re.search(rb"[\r\n]", head[start:]) is not None
    return header if ended or header.field(11) else None


def _envelope(payload: bytes) -> tuple[bytes, Separators]:
    """The line that opens a batch (BHS, or FHS where that comes alone) and its separators."""
    lines = re.split(rb"[\r\n]+", payload.lstrip(_BEFORE_ENVELOPE)[:HEAD_BYTES], maxsplit=2)
    line = lines[1] if len(lines) > 1 and lines[1][:3].upper() == b"BHS" else lines[0]
    sign = line[3:4]
    try:
        return line, read_separators(sign, line[4:].split(sign, 1)[0] if sign else b"")
    except PeerError:
        return b"BHS|^~\\&", DEFAULT


def _tell_all(replies: Sequence[Reply], written: bool) -> None:
    """The end of a batch's answer is that of each answer in it."""
    for reply in replies:
        reply.sent(written)
