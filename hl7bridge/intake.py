"""From a frame to its answer: header, policy, journal, ACK bytes.

What holds here:
  - A positive answer is only ever given by `_stored`, after `journal.append` has returned.
  - Whatever goes wrong has an answer: a refusal by the message's own mode, AR/CE 207 when the fault is ours.
  - Messages of one connection are stored in the order they came, even where one of them has to wait (validation,
    `ack: translated`): the peer's turn is held until append has been called. append must take its place in the order
    before it first suspends, as the journal's writer does.
  - A refused message is not stored: its sender was told, and keeps it. A parked one is stored and answered positively.
  - A batch in one frame (it begins with FHS or BHS) is stored message by message and answered by a batch with an answer
    for each. Two messages in one frame without an envelope are refused together: one answer cannot speak for two.
  - Nothing of a message leaves but its answer; observers get listener names, types, codes and seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hl7bridge import agreements, reasons
from hl7bridge.admission import (
    Events,
    Profile,
    Profiles,
    address_of,
    admit,
    control_id_of,
    lanes_of,
    profile_of,
    speaks_for,
    type_of,
)
from hl7bridge.config import Listener
from hl7bridge.errors import JournalError, JournalFull, MessageError, PeerError
from hl7bridge.hl7v2 import ack, batch
from hl7bridge.hl7v2.continuation import part_of
from hl7bridge.hl7v2.escape import DEFAULT, Separators
from hl7bridge.hl7v2.header import Header, read_header, read_separators
from hl7bridge.hl7v2.message import parse
from hl7bridge.journal.protocol import Appended, ControlIdReused, Journal, OutOfSequence, Owed, Received, State
from hl7bridge.mllp.framing import HEAD_BYTES
from hl7bridge.mllp.gate import HangUp, Refusal, Reply, Unkept
from hl7bridge.mllp.peer import Peer
from hl7bridge.reasons import Reason

if TYPE_CHECKING:
    from hl7bridge.hl7v2.conformance import Finding

# `ack: translated`, given a message and its peer's name: None, or why the tables cannot translate it
Translated = Callable[[bytes, str], Awaitable[MessageError | None]]
# `ack: delivered`: returns None when the message of this id is delivered, its reason when it is dead
Delivered = Callable[[str], Awaitable[Reason | None]]
# a sender starts or resynchronises its link (0, -1): the number it is told to send next, when that is durable
Start = Callable[[str, int], Awaitable[int]]
# an application acknowledgement of a message that was refused: durable when it returns
Owe = Callable[[Owed, ack.Stamp, bytes, str], Awaitable[None]]
# the findings of `validate`, given a message and its sender's charset_fallback; may block
Check = Callable[[bytes, str | None], "Sequence[Finding]"]

NO_ANSWER: Final = "none"  # in place of an ack_code when the sender asked for no answer
BY_CONDITION: Final = {  # table 0357 -> the reason that a finding of `validate: reject` earns
    reason.condition: reason
    for reason in (
        reasons.SEGMENT_SEQUENCE,
        reasons.REQUIRED_FIELD_MISSING,
        reasons.DATA_TYPE_ERROR,
        reasons.TABLE_VALUE_NOT_FOUND,
        reasons.VALUE_TOO_LONG,
        reasons.CARDINALITY,
        reasons.UNSUPPORTED_VERSION,
    )
}
REFUSALS: Final = {
    Refusal.TOO_LARGE: (reasons.TOO_LARGE, ""),
    Refusal.BROKEN: (reasons.UNPARSABLE, "a byte of the MLLP framing stands inside the message"),
    Refusal.FAILED: (reasons.INTERNAL_ERROR, ""),
}
OURS: Final = (reasons.STORAGE_FAILED, reasons.BACKLOG_FULL, reasons.INTERNAL_ERROR)  # see on_storage_failure
CLOSE: Final = "close"
ENVELOPES: Final = (b"FHS", b"BHS")
_BEFORE_ENVELOPE: Final = b" \t\r\n\xef\xbb\xbf"  # blanks, and the bytes of a byte order mark


class IntakeObserver:
    """What intake tells metrics and logs. Every method does nothing by default; one that raises is ignored."""

    def received(self, listener: str, type: str) -> None:
        """A message came whole. `type`: ADT^A01, "" when it has none; a sender can put anything there."""

    def acknowledged(self, listener: str, code: str, reason: str, seconds: float) -> None:
        """It was answered, or `none` was due. `reason`: "" or a code of the catalogue; seconds since its last byte."""

    def duplicate(self, listener: str) -> None:
        """It had come before, and got the stored answer."""

    def reused_control_id(self, listener: str) -> None:
        """Its control id had come before, with other bytes: taken as a new message."""

    def parked(self, listener: str, type: str, reason: str) -> None:
        """It was stored as a dead letter on arrival."""

    def acknowledgement(self, listener: str) -> None:
        """It was itself an acknowledgement: nothing is done with it."""

    def impostor(self, listener: str, peer: Peer, sender: str) -> None:
        """It named a sender that its connection's certificate does not speak for. `sender`: MSH-3|MSH-4 as sent."""

    def without_channel(self, listener: str) -> None:
        """It asks for an application ACK as an exchange of its own, and no channel for those is configured."""

    def findings(self, listener: str, type: str, count: int) -> None:
        """`validate` found that many errors in it."""

    def failed(self, listener: str, error: BaseException) -> None:
        """A defect of the bridge. The error's text may quote the message: log only its type and place."""


@dataclass(slots=True)
class _Verdict:
    """What became of one message before the journal: to be stored, or answered negatively, or neither (an ACK)."""

    started: float
    profile: Profile
    header: Header | None = None
    received: Received | None = None
    expected: int | None = None  # MSA-4: the sequence number the sender is told
    starts_link: bool = False  # nothing but that: it is answered, and no message
    error: MessageError | None = None
    answer: bytes | None = field(default=None, repr=False)


class Intake:
    """`handle` and `refuse` are what an MllpServer needs.

    events: which tables there are. clock: seconds since the epoch. zone: of MSH-7 in answers, None is the machine's.
    new_id: MSH-10 of answers. check: `validate`'s findings, blocking (default: conformance.check).
    """

    def __init__(
        self,
        listener: Listener,
        journal: Journal,
        events: Events,
        *,
        observer: IntakeObserver | None = None,
        clock: Callable[[], float] = time.time,
        zone: tzinfo | None = None,
        new_id: Callable[[], str] | None = None,
        translated: Translated | None = None,
        delivered: Delivered | None = None,
        check: Check | None = None,
        start: Start | None = None,
        owe: Owe | None = None,
    ) -> None:
        self.listener = listener
        self.observer_failures = 0
        self._journal = journal
        self._events = events
        self._observer = observer or IntakeObserver()
        self._clock = clock
        self._zone = zone
        self._new_id = new_id or control_ids()
        self._second, self._now = -1, datetime.fromtimestamp(0, UTC)  # the time that answers bear
        self._translated = translated
        self._delivered = delivered
        self._start = start
        self._owe = owe
        self._profiles = Profiles(listener)
        self._profile = profile_of(listener, None)
        self._check = (check or _conformance()) if listener.validate_ != "off" else None

    async def handle(self, payload: bytes, peer: Peer) -> bytes | None:
        """The answer to one frame, or None when none is due. HangUp: for this sender the end of the connection is."""
        if payload[:3] != b"MSH" and payload.lstrip(_BEFORE_ENVELOPE)[:3].upper() in ENVELOPES:
            return await self._batch(payload, peer)
        async with peer.turn:
            verdict = await self._judge(payload, peer)
        # nothing may suspend between the turn's end and append: see the module's text
        return await self._stored(verdict)

    def refuse(self, head: bytes, refusal: Refusal, peer: Peer) -> bytes | None:
        """The negative answer to a block whose first bytes are `head`."""
        reason, detail = REFUSALS[refusal]
        header = _header_of_head(head)
        profile = self._profiles(header, peer.name) if header else self._profile
        verdict = _Verdict(time.perf_counter(), profile, header)
        if refusal is not Refusal.FAILED:  # which `handle` has counted
            self._tell(IntakeObserver.received, type_of(header))
        return self._negative(verdict, PeerError(reason, detail), hang_up=False)

    @property
    def requires_cr(self) -> Callable[[bytes, Peer], bool] | None:
        """Whether a CR must follow the FS of the block that begins with these bytes; None: as the listener says."""
        if all(sender.require_cr in (None, self.listener.require_cr) for sender in self.listener.senders):
            return None
        return self._requires_cr

    def _requires_cr(self, head: bytes, peer: Peer) -> bool:
        try:
            return self._profiles(read_header(head), peer.name).require_cr
        except PeerError:
            return self._profile.require_cr

    # -- a batch

    async def _batch(self, payload: bytes, peer: Peer) -> bytes | None:
        problems: list[str] = []
        storing: list[asyncio.Task[bytes | None]] = []
        async with peer.turn:
            for piece in batch.split(payload):
                problems += piece.problems
                storing.append(asyncio.ensure_future(self._stored(await self._judge(piece.raw, peer))))
                # the task must have called append before the turn ends
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*storing, return_exceptions=True)
        if any(isinstance(outcome, BaseException) for outcome in outcomes):  # HangUp: `_stored` raises nothing else
            raise HangUp
        unkept = any(isinstance(outcome, Unkept) for outcome in outcomes)
        answers = [answer for answer in outcomes if isinstance(answer, bytes) and answer]
        if storing and not answers:
            return Unkept() if unkept else None
        envelope, separators = _envelope(payload)
        answer = ack.batch(answers, envelope, separators, self._stamp(), "; ".join(dict.fromkeys(problems)))
        stored = [reply for reply in answers if isinstance(reply, Reply)]
        return Unkept(answer) if unkept else Reply(answer, partial(_tell_all, stored))

    # -- one message

    async def _judge(self, raw: bytes, peer: Peer) -> _Verdict:
        """Everything before the journal. Never raises."""
        verdict = _Verdict(time.perf_counter(), self._profile)
        try:
            await self._examine(raw, peer, verdict)
        except MessageError as error:
            verdict.error = error
        except Exception as error:
            self._tell(IntakeObserver.failed, error)
            verdict.error = PeerError(reasons.INTERNAL_ERROR)
        return verdict

    async def _examine(self, raw: bytes, peer: Peer, verdict: _Verdict) -> None:
        """Fills the verdict. Raises MessageError for what is refused."""
        try:
            header = verdict.header = read_header(raw)
        finally:
            self._tell(IntakeObserver.received, type_of(verdict.header))
        if not speaks_for(header, peer.clients, self.listener):
            self._tell(IntakeObserver.impostor, peer, address_of(header))
            if not ack.is_acknowledgement(header):  # which is never answered
                raise PeerError(reasons.SENDER_NOT_ALLOWED, location="MSH^1^3")
        if ack.is_acknowledgement(header):
            self._tell(IntakeObserver.acknowledgement)
            return
        profile = verdict.profile = self._profiles(header, peer.name)
        number = agreements.sequence_number(header, profile)
        if number in agreements.START and await self._started(raw, header, number or 0, verdict):
            return
        parked = admit(header, profile, self._events, park=self.listener.unknown_events == "park")
        fallback = profile.charset_fallback
        message = parse(raw, charset_fallback=fallback, header=header)
        part = part_of(raw, header) if profile.fragments == "join" and parked is None else None
        if part is None:
            await self._looked_into(raw, header, profile, peer, parked)
        now = self._clock()
        terms = agreements.terms(
            header, profile, listener=self.listener.name, number=number, part=part, now=now
        )  # fmt: skip
        if terms is None and profile.application_acks is None and ack.later(header, profile.ne_al):
            self._tell(IntakeObserver.without_channel)
        expected = number if verdict.expected is None else verdict.expected
        verdict.answer = ack.accept(header, self._stamp(), profile.ne_al, expected)
        verdict.received = Received(
            raw=raw,
            sha256=hashlib.sha256(raw).digest(),
            received_at=now,
            listener=self.listener.name,
            peer=peer.name,
            sender=address_of(header),
            control_id=control_id_of(header),
            type=type_of(header),
            lanes=lanes_of(message) if part is None else (),
            ack=verdict.answer or b"",
            ack_code=ack.ack_code(header, None, ne_al=profile.ne_al) if verdict.answer else NO_ANSWER,
            state=State.DEAD if parked else State.RECEIVED,
            reason=parked.code if parked else "",
            detail=parked.sentence if parked else "",
            terms=terms,
        )

    async def _looked_into(
        self, raw: bytes, header: Header, profile: Profile, peer: Peer, parked: Reason | None
    ) -> None:
        """What a whole message must stand before it is stored. Raises MessageError for what it does not."""
        if self._check is not None:
            await self._validate(raw, header, profile.charset_fallback)
        if self._translated is not None and parked is None and self.listener.ack == "translated":
            error = await self._translated(raw, peer.name)
            if error is not None:
                raise error

    async def _started(self, raw: bytes, header: Header, number: int, verdict: _Verdict) -> bool:
        """The link starts anew. True: the message says nothing else, and is answered."""
        assert self._start is not None
        if not control_id_of(header).strip():
            raise PeerError(reasons.NO_CONTROL_ID, location="MSH^1^10")
        try:
            verdict.expected = await self._start(agreements.link_of(self.listener.name, header), number)
        except JournalError as error:
            self._tell(IntakeObserver.failed, error)
            raise PeerError(reasons.STORAGE_FAILED) from None
        if not agreements.is_bare(raw, header):
            return False
        verdict.answer = ack.accept(header, self._stamp(), verdict.profile.ne_al, verdict.expected)
        verdict.starts_link = True
        return True

    async def _validate(self, raw: bytes, header: Header, fallback: str | None) -> None:
        assert self._check is not None
        findings = await asyncio.to_thread(self._check, raw, fallback)
        errors = [finding for finding in findings if finding.severity == "E"]
        if errors:
            self._tell(IntakeObserver.findings, type_of(header), len(errors))
        if errors and self.listener.validate_ == "reject":
            first = errors[0]
            reason = BY_CONDITION.get(first.condition, reasons.SEGMENT_SEQUENCE)
            raise PeerError(reason, first.text, first.location)

    async def _stored(self, verdict: _Verdict) -> bytes | None:
        """Makes the message durable, then answers it. Raises nothing but HangUp."""
        received = verdict.received
        if received is None:
            if verdict.error is not None:
                return await self._refused(verdict, verdict.error)
            if verdict.starts_link and verdict.header is not None:
                code = ack.ack_code(verdict.header, None, ne_al=verdict.profile.ne_al)
                self._acknowledged(code if verdict.answer else NO_ANSWER, "", verdict)
            return verdict.answer
        try:
            appended = await self._journal.append(received)
            self._tell_about(appended, received)
            reason = await self._undelivered(appended, received)
            if reason is not None:
                return _kept(self._negative(verdict, PeerError(reason)))
        except ControlIdReused:
            return await self._refused(verdict, PeerError(reasons.REUSED_CONTROL_ID, location="MSH^1^10"))
        except OutOfSequence as error:
            verdict.expected = error.expected
            return await self._refused(verdict, PeerError(reasons.SEQUENCE_NUMBER, location="MSH^1^13"))
        except JournalFull:
            return self._negative(verdict, PeerError(reasons.BACKLOG_FULL))
        except JournalError as error:
            self._tell(IntakeObserver.failed, error)
            return self._negative(verdict, PeerError(reasons.STORAGE_FAILED))
        except Exception as error:
            self._tell(IntakeObserver.failed, error)
            return self._negative(verdict, PeerError(reasons.INTERNAL_ERROR))
        self._acknowledged(received.ack_code, "", verdict)
        if not appended.ack:
            return None
        return Reply(appended.ack, partial(self._journal.answered, appended.seq, resend=appended.duplicate))

    async def _undelivered(self, appended: Appended, received: Received) -> Reason | None:
        """With `ack: delivered`, why the message cannot be called delivered."""
        is_part = received.terms is not None and received.terms.fragment is not None
        if self._delivered is None or self.listener.ack != "delivered" or received.state is State.DEAD or is_part:
            return None
        try:
            async with asyncio.timeout(self.listener.ack_timeout):
                return await self._delivered(appended.id)
        except TimeoutError:
            return reasons.DELIVERY_PENDING

    # -- answers

    async def _refused(self, verdict: _Verdict, error: MessageError) -> bytes | None:
        """The negative answer here or, where the sender asks for silence here, on its channel for application ACKs."""
        answer = self._negative(verdict, error)
        header, profile = verdict.header, verdict.profile
        if answer or header is None or self._owe is None or error.reason in OURS:
            return answer
        owed = agreements.owed(header, profile)
        if owed is not None and ack.wanted(owed.condition, positive=False):
            assert profile.application_acks is not None
            stamp = self._stamp()
            made = ack.application(
                header, error.reason, stamp, profile.application_acks.accept_ack, error.location, error.detail
            )
            try:
                await self._owe(owed, stamp, made, error.reason.original)
            except JournalError as failure:
                self._tell(IntakeObserver.failed, failure)
        return answer

    def _negative(self, verdict: _Verdict, error: MessageError, *, hang_up: bool = True) -> bytes | None:
        """Raises HangUp where the profile wants that in place of the answer."""
        instead = verdict.profile.on_storage_failure if error.reason in OURS else None
        closes = instead == CLOSE
        if closes and hang_up:
            self._acknowledged(NO_ANSWER, error.reason.code, verdict)
            raise HangUp
        instead = None if closes else instead
        ne_al = verdict.profile.ne_al
        answer = ack.reject(
            verdict.header, error.reason, self._stamp(), error.location, error.detail, instead, ne_al, verdict.expected
        )
        code = ack.ack_code(verdict.header, error.reason, instead, ne_al) if answer else NO_ANSWER
        self._acknowledged(code, error.reason.code, verdict)
        return Unkept(answer or b"") if self.listener.commit_bytes else answer

    def _stamp(self) -> ack.Stamp:
        """MSH-7 to the second, which a thousand answers may share, and a MSH-10 of its own."""
        second = int(self._clock())
        if second != self._second:
            now = datetime.fromtimestamp(second, self._zone or UTC)
            self._second, self._now = second, now if self._zone else now.astimezone()
        return ack.Stamp(self._now, self._new_id())

    def _acknowledged(self, code: str, reason: str, verdict: _Verdict) -> None:
        self._tell(IntakeObserver.acknowledged, code, reason, time.perf_counter() - verdict.started)

    def _tell_about(self, appended: Appended, received: Received) -> None:
        if appended.duplicate:
            self._tell(IntakeObserver.duplicate)
        elif received.state is State.DEAD:
            self._tell(IntakeObserver.parked, received.type, received.reason)
        if appended.reused_control_id:
            self._tell(IntakeObserver.reused_control_id)

    def _tell(self, method: Callable[..., None], *facts: Any) -> None:
        try:
            getattr(self._observer, method.__name__)(self.listener.name, *facts)
        except Exception:
            self.observer_failures += 1


def _kept(answer: bytes | None) -> bytes | None:
    """A negative answer to a message that is durable all the same."""
    return bytes(answer) if answer else None


def _conformance() -> Check:
    from hl7bridge.hl7v2 import conformance  # loads hl7apy: only where it is wanted

    return conformance.check


def control_ids() -> Callable[[], str]:
    """Ids of 20 characters, which MSH-10 holds in every version: a random beginning for this start, and a count."""
    start, count = secrets.token_hex(5), itertools.count(1)
    return lambda: f"{start}{next(count):010x}"


def _header_of_head(head: bytes) -> Header | None:
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
