"""Which application acknowledgement a message's fate is, and what its receiver's answer means. Sans-IO."""

from __future__ import annotations

from enum import StrEnum

from hl7bridge import reasons
from hl7bridge.errors import PeerError
from hl7bridge.hl7v2 import ack
from hl7bridge.hl7v2.header import read_header
from hl7bridge.journal.acknowledgements import Acknowledgement, Built
from hl7bridge.reasons import Reason

# a dead letter for one of these was translated: with `after: translated` that was promised, and is true
_AFTER_TRANSLATION = (
    reasons.ENDPOINT_REJECTED,
    reasons.ENDPOINT_NOT_FOUND,
    reasons.ENDPOINT_TOO_LARGE,
    reasons.ENDPOINT_ENTRY_REJECTED,
    reasons.RETRIES_EXHAUSTED,
)


class Verdict(StrEnum):
    """What an answer to an application acknowledgement means for it."""

    TAKEN = "taken"
    REFUSED = "refused"  # it will never be taken: CR, AR
    AGAIN = "again"  # an error (CE, AE) that may pass, or a word nobody knows


def judged(ack_code: bytes) -> Verdict:
    """By MSA-1 of the answer."""
    if ack_code in (b"CA", b"AA"):
        return Verdict.TAKEN
    return Verdict.REFUSED if ack_code in (b"CR", b"AR") else Verdict.AGAIN


def built(row: Acknowledgement, after: str, accept_ack: str, stamp: ack.Stamp) -> Built | None:
    """The bytes for a row that is decided; None: the sender wants none of this outcome (MSH-16 ER or SU)."""
    reason = _reason(row.reason, after)
    if not ack.wanted(row.condition, reason is None):
        return None
    try:
        header = read_header(row.header)
    except PeerError:  # it was read when the message came
        return None
    code = "AA" if reason is None else reason.original
    return Built(code, stamp.control_id, ack.application(header, reason, stamp, accept_ack))


def _reason(code: str, after: str) -> Reason | None:
    """Why the answer is negative; None: it is positive."""
    if not code:
        return None
    reason = reasons.CATALOGUE.get(code, reasons.INTERNAL_ERROR)
    return None if after == "translated" and reason in _AFTER_TRANSLATION else reason
