"""The judgements that cases share, as tables of what came and which verdict it earns. Sans-IO.

Answers are matched by MSA-2 alone, byte for byte. An answer to an ordinary message must be positive only where the
receiver answers an ordinary message positively at all (`Came.takes`): which messages it wants is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence

from hl7bridge.torture.case import NEGATIVE, POSITIVE, Ack, Came, Judge, Judgement, Verdict

PASS, FAIL, DIFFERS = Verdict.PASS, Verdict.FAIL, Verdict.DIFFERS
_SEVERITY = (PASS, DIFFERS, FAIL)


def said(came: Came) -> str:
    """What came, in words and counts."""
    codes = [code.decode() if (code := ack.code) in POSITIVE + NEGATIVE else "an unknown MSA-1" for ack in came.acks]
    words = [f"{codes.count(code)} {code}" for code in dict.fromkeys(codes)]
    if came.unreadable:
        words.append(f"{came.unreadable} that is no acknowledgement")
    if came.ended:
        words.append("the connection was ended" if len(came.ended) == 1 else f"{len(came.ended)} connections ended")
    if came.refused:
        words.append(f"{len(came.refused)} not taken")
    return ", ".join(words) if words else "nothing"


def _no_answers(came: Came, acks: Sequence[Ack], known: Sequence[bytes]) -> str:
    """Why these cannot be answers to the messages of `known` at all; "" when they can."""
    if came.unreadable:
        return "an answer without MSH and MSA"
    if any(ack.code not in POSITIVE + NEGATIVE for ack in acks):
        return "an MSA-1 that is none of AA AE AR CA CE CR"
    got = [ack.control_id for ack in acks]
    if any(control_id not in known for control_id in got):
        return "MSA-2 is not the MSH-10 of any message sent"
    if any(got.count(control_id) > 1 for control_id in known):
        return "more than one answer to one message"
    return ""


def taken(
    *control_ids: bytes, negative: Verdict = FAIL, missing: Verdict = FAIL, connection: int | None = None
) -> Judge:
    """Every message is answered once, in order. `negative`, `missing`: what such an answer, or none, earns."""

    def judge(came: Came) -> Judgement:
        acks = [ack for ack in came.acks if connection is None or ack.connection == connection]
        wrong = _no_answers(came, acks, control_ids)
        if wrong:
            return Judgement(FAIL, wrong)
        got = [ack.control_id for ack in acks]
        if got != [control_id for control_id in control_ids if control_id in got]:
            return Judgement(FAIL, "the answers are not in the order of the messages")
        if len(got) < len(control_ids):
            return Judgement(missing, f"{len(control_ids) - len(got)} of {len(control_ids)} messages not answered")
        refused = sum(ack.code in NEGATIVE for ack in acks)
        if refused and came.takes:
            return Judgement(negative, f"{refused} of {len(control_ids)} refused")
        return Judgement(PASS, "each answered once, in order" if len(got) > 1 else "answered once, with its MSH-10")

    return judge


def block(
    then: bytes,
    names: bytes = b"",
    *,
    positive: Verdict = FAIL,
    negative: Verdict = PASS,
    silent: Verdict = FAIL,
    ended: Verdict = DIFFERS,
    invented: Verdict = DIFFERS,
) -> Judge:
    """A block that is no good message, and behind it the ordinary message `then`, which is answered in any case.

    names: MSH-10 of the block as far as it has one. The keys say what an answer of that kind to the block earns;
    `invented`: an MSA-2 where the block named none. `ended`: the connection ended without an answer, `silent`: neither.
    """

    def judge(came: Came) -> Judgement:
        first = [ack for ack in came.acks if ack.control_id != then]
        last = [ack for ack in came.acks if ack.control_id == then]
        wrong = _no_answers(came, [ack for ack in came.acks if ack.control_id], (names, then))
        if wrong and not (names == b"" and wrong.startswith("MSA-2")):
            return Judgement(FAIL, wrong)
        if len(first) > 1 or len(last) > 1:
            return Judgement(FAIL, "more than one answer to one block")
        if not came.acks and came.ended:
            return Judgement(ended, "the connection was ended without an answer")
        verdict, text = of_the_block(first)
        if verdict is FAIL:
            return Judgement(FAIL, text)
        if not last and not came.ended:
            return Judgement(FAIL, f"{text}; the good message behind it got no answer")
        if last and came.takes and last[0].code in NEGATIVE:
            return Judgement(FAIL, f"{text}; the good message behind it was refused")
        return Judgement(verdict, text)

    def of_the_block(first: Sequence[Ack]) -> tuple[Verdict, str]:
        if not first:
            return silent, "no answer to the block"
        if first[0].code in POSITIVE:
            return positive, "the block was answered positively"
        if not names and first[0].control_id:
            return max(negative, invented, key=_SEVERITY.index), "refused, with an MSA-2 that nobody sent"
        return negative, "the block was refused"

    return judge


def one_for_all(*control_ids: bytes, each: Verdict, negative: Verdict) -> Judge:
    """Several messages in one block: one positive answer must not stand for them all.

    each: every message has its MSA; negative: one negative answer for the whole block.
    """

    def judge(came: Came) -> Judgement:
        if came.unreadable:
            return Judgement(FAIL, "an answer without MSH and MSA")
        got = [ack.control_id for ack in came.acks]
        if got == list(control_ids):
            return Judgement(each, "an answer for each message")
        if any(ack.code in POSITIVE for ack in came.acks):
            return Judgement(FAIL, "a positive answer, and not one for each message")
        if came.acks:
            return Judgement(negative, "the block was refused as a whole")
        return Judgement(DIFFERS if came.ended else FAIL, "no answer" + (", connection ended" if came.ended else ""))

    return judge


def code_of(control_id: bytes, **verdicts: Verdict) -> Judge:
    """One answer; its MSA-1 earns what `verdicts` says for it (`AA=…`, `none=…`); a code not named fails."""

    def judge(came: Came) -> Judgement:
        wrong = _no_answers(came, came.acks, (control_id,))
        if wrong:
            return Judgement(FAIL, wrong)
        code = came.acks[0].code.decode() if came.acks else "none"
        text = f"answered {code}" if came.acks else "no answer"
        return Judgement(verdicts.get(code, FAIL), text)

    return judge


def unanswered(*control_ids: bytes, positive: Verdict = FAIL, negative: Verdict = FAIL) -> Judge:
    """Silence is right, and so is the connection's end."""

    def judge(came: Came) -> Judgement:
        wrong = _no_answers(came, [ack for ack in came.acks if ack.control_id], control_ids)
        if wrong:
            return Judgement(FAIL, wrong)
        if any(ack.code in POSITIVE for ack in came.acks):
            return Judgement(positive, "answered positively")
        if came.acks:
            return Judgement(negative, "refused")
        return Judgement(PASS, "no answer" + (", connection ended" if came.ended else ""))

    return judge


def or_ended(judge: Judge) -> Judge:
    """The same, but that to end the connection without any answer is legitimate."""

    def other(came: Came) -> Judgement:
        if came.ended and not came.acks and not came.unreadable:
            return Judgement(DIFFERS, "the connection was ended without an answer")
        return judge(came)

    return other


def cut_off(one: bytes, two: bytes) -> Judge:
    """A VT inside a block: `one` was cut off by `two`, which is whole. `one` must not be answered positively."""
    only_two = block(two, one, silent=PASS, negative=DIFFERS)

    def judge(came: Came) -> Judgement:
        refusals = [ack for ack in came.acks if ack.code in NEGATIVE]
        if refusals and len(came.acks) == len(refusals) == 1 and refusals[0].control_id in (one, b""):
            return Judgement(DIFFERS, "both were refused in one answer")
        return only_two(came)

    return judge


def quiet_about_patients(control_id: bytes) -> Judge:
    """One answer, in which the marker of the message's patient does not stand."""
    answered = taken(control_id, negative=PASS)

    def judge(came: Came) -> Judgement:
        if came.markers:
            return Judgement(DIFFERS, "the answer repeats the patient's name")
        return answered(came)

    return judge


def each_connection(*control_ids: bytes) -> Judge:
    """Message n on connection n: each is answered there, once. A connection that was not taken is a limit."""

    def judge(came: Came) -> Judgement:
        limited = 0
        for connection, control_id in enumerate(control_ids):
            here = [ack for ack in came.acks if ack.connection == connection]
            if not here and connection in came.refused | came.ended:
                limited += 1
                continue
            if any(ack.control_id in control_ids and ack.control_id != control_id for ack in here):
                return Judgement(FAIL, "an answer went to another connection")
            judgement = taken(control_id, connection=connection)(came)
            if judgement.verdict is not PASS:
                return judgement
        if limited == len(control_ids):
            return Judgement(FAIL, "no connection was served")
        if limited:
            return Judgement(DIFFERS, f"{limited} of {len(control_ids)} connections were not served")
        return Judgement(PASS, "each answered on its own connection")

    return judge


def repeated(control_id: bytes) -> Judge:
    """One message sent twice: an answer each time. A negative one to the second is legitimate."""

    def judge(came: Came) -> Judgement:
        if came.unreadable or any(ack.control_id != control_id for ack in came.acks):
            return Judgement(FAIL, "an answer whose MSA-2 is not the message's MSH-10")
        if len(came.acks) != 2:
            return Judgement(FAIL, f"{len(came.acks)} answers to a message sent twice")
        if came.acks[1].code in NEGATIVE and came.acks[0].code in POSITIVE:
            return Judgement(DIFFERS, "the second was refused")
        return Judgement(PASS, "answered both times")

    return judge


def not_before(step: int, judge: Judge) -> Judge:
    """The same, but an answer that came before the plan's step of that number (from 1) came too early."""

    def other(came: Came) -> Judgement:
        if any(ack.step < step for ack in came.acks):
            return Judgement(FAIL, "answered before the message was whole")
        return judge(came)

    return other
