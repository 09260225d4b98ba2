"""From a frame to its answer: header, policy, journal, ACK bytes.

What holds here:
  - A positive answer is only ever given by `_stored`, which the journal calls after the commit.
  - Whatever goes wrong has an answer: a refusal by the message's own mode, AR/CE 207 when the fault is ours.
  - Messages of one connection are stored in the order they came, even where one of them has to wait (validation,
    `ack: translated`): what waits holds the peer's turn until the journal has it, and what came behind waits for it.
    The journal's order is the order in which `store` is called.
  - No message has a task of its own unless it has to wait: it is prepared and handed to the journal in the call that
    brought it, and answered in the call that tells of the commit.
  - A refused message is not stored: its sender was told, and keeps it. A parked one is stored and answered positively.
  - A batch in one frame (it begins with FHS or BHS) is stored message by message and answered by a batch with an answer
    for each. Two messages in one frame without an envelope are refused together: one answer cannot speak for two.
  - Nothing of a message leaves but its answer; observers get listener names, types, codes and seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import tzinfo
from functools import partial
from typing import Any, Protocol

from hl7bridge import agreements, reasons
from hl7bridge.admission import Events, type_of
from hl7bridge.config import Listener
from hl7bridge.errors import JournalError, JournalFull, MessageError, PeerError
from hl7bridge.hl7v2 import ack, batch
from hl7bridge.intake.answers import OURS, REFUSALS, Answers, Stamps, header_of_head, is_batch, kept
from hl7bridge.intake.observer import IntakeObserver, Telling
from hl7bridge.intake.preparing import NO_ANSWER, Check, Preparing, Start, Translated, Verdict
from hl7bridge.journal.protocol import Appended, ControlIdReused, OutOfSequence, Owed, Received, State, Then
from hl7bridge.mllp.gate import HangUp, Pending, Refusal, Reply
from hl7bridge.mllp.peer import Peer, Turn
from hl7bridge.reasons import Reason

# `ack: delivered`: returns None when the message of this id is delivered, its reason when it is dead
Delivered = Callable[[str], Awaitable[Reason | None]]
# an application acknowledgement of a message that was refused: durable when it returns
Owe = Callable[[Owed, ack.Stamp, bytes, str], Awaitable[None]]


class Store(Protocol):
    """What intake needs of the journal: see journal.protocol.Journal."""

    def store(self, message: Received, then: Then) -> None: ...
    def answered(self, seq: int, written: bool, resend: bool = False) -> None: ...


class Intake:
    """`handle` and `refuse` are what an MllpServer needs.

    events: which tables there are. clock: seconds since the epoch. zone: of MSH-7 in answers, None is the machine's.
    new_id: MSH-10 of answers. check: `validate`'s findings, blocking (default: conformance.check).
    """

    def __init__(
        self,
        listener: Listener,
        journal: Store,
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
        self._journal = journal
        self._tell = Telling(observer or IntakeObserver(), listener.name)
        self._stamp = Stamps(clock, zone, new_id)
        self._answers = Answers(listener, self._stamp, self._tell)
        self._preparing = Preparing(
            listener, events, self._tell, self._stamp, clock, translated=translated, check=check, start=start
        )
        self._delivered = delivered if listener.ack == "delivered" else None
        self._owe = owe
        owes = any(profile.application_acks is not None for profile in self._preparing.profiles.all)
        # nothing before the journal or behind it waits: what is owed on a channel, what is told when it is delivered
        self._at_once = not (self._preparing.needs_time or self._delivered is not None or owes)

    @property
    def observer_failures(self) -> int:
        return self._tell.failures

    def handle(self, payload: bytes, peer: Peer) -> Pending | Coroutine[Any, Any, bytes | None]:
        """The answer to one frame, or None when none is due. HangUp: for this sender the end of the connection is.

        To be called in the order of the frames, each as soon as it came.
        """
        if is_batch(payload):
            return self._batch(payload, peer, peer.turn.ask())
        if not self._at_once or not peer.turn.free:
            return self._in_turn(payload, peer, peer.turn.ask())
        verdict, pending = self._preparing.at_once(payload, peer), Pending()
        if verdict.received is None:
            try:
                pending.settle(self._unstored(verdict))
            except Exception as error:  # as in `_settle`
                pending.settle(error)
            return pending
        try:
            self._journal.store(verdict.received, partial(self._settle, pending, verdict))
        except Exception as error:
            self._settle(pending, verdict, error)
        return pending

    def refuse(self, head: bytes, refusal: Refusal, peer: Peer) -> bytes | None:
        """The negative answer to a block whose first bytes are `head`."""
        reason, detail = REFUSALS[refusal]
        header = header_of_head(head)
        profile = self._preparing.profiles(header, peer.name) if header else self._preparing.profile
        verdict = Verdict(time.perf_counter(), profile, header)
        if refusal is not Refusal.FAILED:  # which `handle` has counted
            self._tell(IntakeObserver.received, type_of(header))
        return self._answers.negative(verdict, PeerError(reason, detail), hang_up=False)

    @property
    def requires_cr(self) -> Callable[[bytes, Peer], bool] | None:
        """Whether a CR must follow the FS of the block that begins with these bytes; None: as the listener says."""
        if all(sender.require_cr in (None, self.listener.require_cr) for sender in self.listener.senders):
            return None
        return self._preparing.requires_cr

    # -- at once: behind the commit, in the call that tells of it

    def _settle(self, pending: Pending, verdict: Verdict, outcome: Appended | Exception) -> None:
        try:
            answer = self._stored(verdict, outcome)
        except Exception as error:  # HangUp, or a defect, to which the connection has an answer
            pending.settle(error)
        else:
            pending.settle(answer)

    def _stored(self, verdict: Verdict, outcome: Appended | Exception) -> bytes | None:
        """The answer to what the journal has taken, or has not."""
        if isinstance(outcome, Exception):
            return self._answers.negative(verdict, self._why_not(verdict, outcome))
        received = verdict.received
        assert received is not None
        self._tell_about(outcome, received)
        return self._positive(verdict, received, outcome)

    def _positive(self, verdict: Verdict, received: Received, appended: Appended) -> bytes | None:
        self._answers.acknowledged(received.ack_code, "", verdict)
        if not appended.ack:
            return None
        return Reply(appended.ack, partial(self._journal.answered, appended.seq, resend=appended.duplicate))

    def _unstored(self, verdict: Verdict) -> bytes | None:
        """The answer to what is not stored: refused, an acknowledgement, or no more than the start of a link."""
        if verdict.error is not None:
            return self._answers.negative(verdict, verdict.error)
        if verdict.starts_link and verdict.header is not None:
            code = ack.ack_code(verdict.header, None, ne_al=verdict.profile.ne_al)
            self._answers.acknowledged(code if verdict.answer else NO_ANSWER, "", verdict)
        return verdict.answer

    def _why_not(self, verdict: Verdict, outcome: Exception) -> MessageError:
        """The journal's word as an answer says it."""
        match outcome:
            case ControlIdReused():
                return PeerError(reasons.REUSED_CONTROL_ID, location="MSH^1^10")
            case OutOfSequence():
                verdict.expected = outcome.expected
                return PeerError(reasons.SEQUENCE_NUMBER, location="MSH^1^13")
            case JournalFull():
                return PeerError(reasons.BACKLOG_FULL)
        self._tell(IntakeObserver.failed, outcome)
        return PeerError(reasons.STORAGE_FAILED if isinstance(outcome, JournalError) else reasons.INTERNAL_ERROR)

    # -- with time: where something before the journal or behind it has to be waited for

    async def _in_turn(self, payload: bytes, peer: Peer, turn: Turn) -> bytes | None:
        async with turn:
            verdict = await self._preparing.judge(payload, peer)
        # nothing may suspend between the turn's end and the journal's `store`: see the module's text
        return await self._answered(verdict)

    async def _batch(self, payload: bytes, peer: Peer, turn: Turn) -> bytes | None:
        problems: list[str] = []
        storing: list[asyncio.Task[bytes | None]] = []
        async with turn:
            for piece in batch.split(payload):
                problems += piece.problems
                verdict = await self._preparing.judge(piece.raw, peer)
                storing.append(asyncio.ensure_future(self._answered(verdict)))
                # the task must have called `store` before the turn ends
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*storing, return_exceptions=True)
        if any(isinstance(outcome, BaseException) for outcome in outcomes):  # HangUp: `_answered` raises nothing else
            raise HangUp
        return self._answers.of_batch(payload, outcomes, problems)

    async def _answered(self, verdict: Verdict) -> bytes | None:
        """Makes the message durable, then answers it. Raises nothing but HangUp."""
        received = verdict.received
        if received is None:
            if verdict.error is not None:
                return await self._refused(verdict, verdict.error)
            return self._unstored(verdict)
        outcome = await self._durable(received)
        if isinstance(outcome, Exception):
            return await self._refused(verdict, self._why_not(verdict, outcome))
        self._tell_about(outcome, received)
        reason = await self._undelivered(outcome, received)
        if reason is not None:
            return kept(self._answers.negative(verdict, PeerError(reason)))
        return self._positive(verdict, received, outcome)

    async def _durable(self, received: Received) -> Appended | Exception:
        future: asyncio.Future[Appended | Exception] = asyncio.get_running_loop().create_future()
        try:
            self._journal.store(received, lambda outcome: None if future.done() else future.set_result(outcome))
        except Exception as error:
            return error
        return await future

    async def _undelivered(self, appended: Appended, received: Received) -> Reason | None:
        """With `ack: delivered`, why the message cannot be called delivered."""
        is_part = received.terms is not None and received.terms.fragment is not None
        if self._delivered is None or received.state is State.DEAD or is_part:
            return None
        try:
            async with asyncio.timeout(self.listener.ack_timeout):
                return await self._delivered(appended.id)
        except TimeoutError:
            return reasons.DELIVERY_PENDING
        except Exception as error:
            self._tell(IntakeObserver.failed, error)
            return reasons.INTERNAL_ERROR

    async def _refused(self, verdict: Verdict, error: MessageError) -> bytes | None:
        """The negative answer here or, where the sender asks for silence here, on its channel for application ACKs."""
        answer = self._answers.negative(verdict, error)
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

    def _tell_about(self, appended: Appended, received: Received) -> None:
        if appended.duplicate:
            self._tell(IntakeObserver.duplicate)
        elif received.state is State.DEAD:
            self._tell(IntakeObserver.parked, received.type, received.reason)
        if appended.reused_control_id:
            self._tell(IntakeObserver.reused_control_id)
