"""What a message must stand before the journal: header, sender, policy, form; then what the journal is to hold.

What holds here:
  - A message that is refused is refused before anything of it is stored.
  - Most messages need nothing but their own bytes: these are prepared at once, without a pause (`at_once`). What has to
    wait (`validate`, `ack: translated`, a link that starts) is done by `judge`, by the same steps.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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
from hl7bridge.errors import JournalError, MessageError, PeerError
from hl7bridge.hl7v2 import ack
from hl7bridge.hl7v2.continuation import Part, part_of
from hl7bridge.hl7v2.header import Header, read_header
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.intake.observer import IntakeObserver, Telling
from hl7bridge.journal.protocol import Received, State
from hl7bridge.mllp.peer import Peer
from hl7bridge.reasons import Reason

if TYPE_CHECKING:
    from hl7bridge.hl7v2.conformance import Finding

# `ack: translated`, given a message and its peer's name: None, or why the tables cannot translate it
Translated = Callable[[bytes, str], Awaitable[MessageError | None]]
# a sender starts or resynchronises its link (0, -1): the number it is told to send next, when that is durable
Start = Callable[[str, int], Awaitable[int]]
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


@dataclass(slots=True)
class Verdict:
    """What became of one message before the journal: to be stored, or answered negatively, or neither (an ACK)."""

    started: float
    profile: Profile
    header: Header | None = None
    received: Received | None = None
    expected: int | None = None  # MSA-4: the sequence number the sender is told
    starts_link: bool = False  # nothing but that: it is answered, and no message
    error: MessageError | None = None
    answer: bytes | None = field(default=None, repr=False)


class Preparing:
    """One listener's. `stamp` gives the time and id of an answer; the rest as in Intake."""

    def __init__(
        self,
        listener: Listener,
        events: Events,
        tell: Telling,
        stamp: Callable[[], ack.Stamp],
        clock: Callable[[], float],
        *,
        translated: Translated | None = None,
        check: Check | None = None,
        start: Start | None = None,
    ) -> None:
        self.profiles = Profiles(listener)
        self.profile = profile_of(listener, None)
        self._listener, self._events, self._tell, self._stamp, self._clock = listener, events, tell, stamp, clock
        self._parks = listener.unknown_events == "park"
        self._translated = translated if listener.ack == "translated" else None
        self._start = start
        self._check = (check or _conformance()) if listener.validate_ != "off" else None
        numbered = any(profile.sequence_numbers for profile in self.profiles.all)
        self.needs_time = self._check is not None or self._translated is not None or numbered

    def at_once(self, raw: bytes, peer: Peer) -> Verdict:
        """Everything before the journal, where `needs_time` is False. Never raises."""
        verdict = Verdict(time.perf_counter(), self.profile)
        try:
            header = self._known(raw, peer, verdict)
            if header is not None:
                message, part, parked = self._admitted(raw, header, verdict.profile)
                self._to_be_stored(raw, header, peer, verdict, message, part, parked, None)
        except Exception as error:
            verdict.error = self._why(error)
        return verdict

    async def judge(self, raw: bytes, peer: Peer) -> Verdict:
        """Everything before the journal. Never raises."""
        verdict = Verdict(time.perf_counter(), self.profile)
        try:
            header = self._known(raw, peer, verdict)
            if header is None:
                return verdict
            number = agreements.sequence_number(header, verdict.profile)
            if number in agreements.START and await self._started(raw, header, number or 0, verdict):
                return verdict
            message, part, parked = self._admitted(raw, header, verdict.profile)
            if part is None:
                await self._looked_into(raw, header, verdict.profile, peer, parked)
            self._to_be_stored(raw, header, peer, verdict, message, part, parked, number)
        except Exception as error:
            verdict.error = self._why(error)
        return verdict

    def _why(self, error: Exception) -> MessageError:
        if isinstance(error, MessageError):
            return error
        self._tell(IntakeObserver.failed, error)
        return PeerError(reasons.INTERNAL_ERROR)

    def requires_cr(self, head: bytes, peer: Peer) -> bool:
        """Must a CR follow the FS of the block that begins with these bytes?"""
        try:
            return self.profiles(read_header(head), peer.name).require_cr
        except PeerError:
            return self.profile.require_cr

    # -- the steps. Each raises MessageError for what is refused

    def _known(self, raw: bytes, peer: Peer, verdict: Verdict) -> Header | None:
        """Header and profile; None: the message is an acknowledgement, with which nothing is done."""
        try:
            header = verdict.header = read_header(raw)
        finally:
            self._tell(IntakeObserver.received, type_of(verdict.header))
        if not speaks_for(header, peer.clients, self._listener):
            self._tell(IntakeObserver.impostor, peer, address_of(header))
            if not ack.is_acknowledgement(header):  # which is never answered
                raise PeerError(reasons.SENDER_NOT_ALLOWED, location="MSH^1^3")
        if ack.is_acknowledgement(header):
            self._tell(IntakeObserver.acknowledgement)
            return None
        verdict.profile = self.profiles(header, peer.name)
        return header

    async def _started(self, raw: bytes, header: Header, number: int, verdict: Verdict) -> bool:
        """The link starts anew. True: the message says nothing else, and is answered."""
        assert self._start is not None
        if not control_id_of(header).strip():
            raise PeerError(reasons.NO_CONTROL_ID, location="MSH^1^10")
        try:
            verdict.expected = await self._start(agreements.link_of(self._listener.name, header), number)
        except JournalError as error:
            self._tell(IntakeObserver.failed, error)
            raise PeerError(reasons.STORAGE_FAILED) from None
        if not agreements.is_bare(raw, header):
            return False
        verdict.answer = ack.accept(header, self._stamp(), verdict.profile.ne_al, verdict.expected)
        verdict.starts_link = True
        return True

    def _admitted(self, raw: bytes, header: Header, profile: Profile) -> tuple[Message, Part | None, Reason | None]:
        """The message, the part of a larger one that it is, and why it is parked."""
        parked = admit(header, profile, self._events, park=self._parks)
        message = parse(raw, charset_fallback=profile.charset_fallback, header=header)
        part = part_of(raw, header) if profile.fragments == "join" and parked is None else None
        return message, part, parked

    async def _looked_into(
        self, raw: bytes, header: Header, profile: Profile, peer: Peer, parked: Reason | None
    ) -> None:
        """What a whole message must stand before it is stored."""
        if self._check is not None:
            await self._validate(raw, header, profile.charset_fallback)
        if self._translated is not None and parked is None:
            error = await self._translated(raw, peer.name)
            if error is not None:
                raise error

    async def _validate(self, raw: bytes, header: Header, fallback: str | None) -> None:
        assert self._check is not None
        findings = await asyncio.to_thread(self._check, raw, fallback)
        errors = [finding for finding in findings if finding.severity == "E"]
        if errors:
            self._tell(IntakeObserver.findings, type_of(header), len(errors))
        if errors and self._listener.validate_ == "reject":
            first = errors[0]
            reason = BY_CONDITION.get(first.condition, reasons.SEGMENT_SEQUENCE)
            raise PeerError(reason, first.text, first.location)

    def _to_be_stored(
        self,
        raw: bytes,
        header: Header,
        peer: Peer,
        verdict: Verdict,
        message: Message,
        part: Part | None,
        parked: Reason | None,
        number: int | None,
    ) -> None:
        """Fills the verdict with what the journal is to hold, and the answer."""
        profile, now, name = verdict.profile, self._clock(), self._listener.name
        terms = agreements.terms(header, profile, listener=name, number=number, part=part, now=now)
        if terms is None and profile.application_acks is None and ack.later(header, profile.ne_al):
            self._tell(IntakeObserver.without_channel)
        expected = number if verdict.expected is None else verdict.expected
        verdict.answer = ack.accept(header, self._stamp(), profile.ne_al, expected)
        verdict.received = Received(
            raw=raw,
            sha256=hashlib.sha256(raw).digest(),
            received_at=now,
            listener=name,
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


def _conformance() -> Check:
    from hl7bridge.hl7v2 import conformance  # loads hl7apy: only where it is wanted

    return conformance.check
