"""The answer to a message, as bytes: whether one is due, which code it carries, where the error stands. Sans-IO.

Source: HL7 v2.9.1 chapter 2, sections 2.8 to 2.9 (v2.5: 2.9) and the segments MSH, MSA, ERR. What holds: MSA-2 is
MSH-10 byte for byte and never invented; an acknowledgement is never acknowledged; nothing of the message but its
header's addresses, event, processing id, version and control id goes into an answer, so ERR and MSA-3 cannot hold
patient data.

When an answer is due (MSH-15 x MSH-16; an unknown word counts as AL, because it is better to answer than to leave a
sender waiting):

    MSH-15     MSH-16     version   answer                                       sent
    empty      empty      any       original mode: AA AE AR                      always
    AL ER SU   any        any       accept acknowledgement: CA CE CR             as MSH-15 says
    NE, empty  AL ER SU   to 2.8    as original mode, on the same connection     as MSH-16 says
    NE         AL ER SU   2.9       none here: `application`, an exchange of its never
                                    own, is the answer from 2.9 on
    empty      AL ER SU   2.9       accept acknowledgement: CA CE CR             always: only NE asks for silence
    empty      NE         any       accept acknowledgement: CA CE CR             always: only NE asks for silence
    NE         NE, empty  any       none                                         never

A sender may be bound to one side of the version rule (NeAl). `later` says which messages are owed an application
acknowledgement as an exchange of its own: those that ask in MSH-16 and get accept acknowledgements, or none, here.

An acknowledgement (ACK, MCF) gets no answer, whatever it asks for. A response that carries data (ORR, RSP: it holds an
MSA too) gets none in original mode, where it ends the exchange, and the accept acknowledgement it asks for in MSH-15.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from hl7bridge.hl7v2.escape import DEFAULT, Separators, escape
from hl7bridge.hl7v2.header import Header, Kind
from hl7bridge.reasons import Reason

Condition = Literal["AL", "NE", "ER", "SU"]
NeAl = Literal["by-version", "same-connection", "separate"]  # where MSH-15 NE or empty leads a MSH-16 that asks

ASKED: Final = ("AL", "ER", "SU")
ACKNOWLEDGEMENTS: Final = ("ACK", "MCF")  # the types that are nothing but an answer
SEPARATE_CHANNEL: Final = (2, 9)  # from here an application acknowledgement travels on a connection of its own
ERL_AND_CODES: Final = (2, 5)  # from here ERR-2 to ERR-8; before, ERR-1 and MSA-3
STRUCTURE_IN_MSH9: Final = (2, 3, 1)
EVENT_IN_MSH9: Final = (2, 2)
MSA3_LENGTH: Final = 80
ERR8_LENGTH: Final = 250
DEFAULT_VERSION: Final = b"2.5.1"  # of an answer to something that names no version

CONDITIONS: Final = {  # table 0357
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "104": "Value too long",
    "198": "Non-Conformant Cardinality",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "205": "Duplicate key identifier",
    "207": "Application internal error",
}


class Mode(NamedTuple):
    """enhanced: CA CE CR rather than AA AE AR; condition: AL always, ER when negative, SU when positive, NE never."""

    enhanced: bool
    condition: Condition


class Stamp(NamedTuple):
    """What an answer has of its own: MSH-7 and its unique MSH-10 (ASCII, no separators, at most 20 characters)."""

    now: datetime
    control_id: str

    def __repr__(self) -> str:
        return "<Stamp>"


def mode(header: Header, ne_al: NeAl = "by-version") -> Mode:
    """See the table in the module's text."""
    return header.kind.of(_mode, ne_al)


def _mode(kind: Kind, ne_al: NeAl) -> Mode:
    accept, application = _word(kind.accept_ack), _word(kind.application_ack)
    if not accept and not application:
        return Mode(False, "AL")
    if accept in ASKED:
        return Mode(True, accept)
    on_this_connection = ne_al == "same-connection" or (
        ne_al == "by-version" and version_of(kind.version) < SEPARATE_CHANNEL
    )
    if application in ASKED and on_this_connection:
        return Mode(False, application)
    return Mode(True, "NE" if accept == "NE" else "AL")


def later(header: Header, ne_al: NeAl = "by-version") -> Condition | Literal[""]:
    """On which condition an application acknowledgement is owed as an exchange of its own; "": none is."""
    asked = header.application_ack and _word(header.application_ack)
    if asked not in ASKED or is_acknowledgement(header) or not mode(header, ne_al).enhanced:
        return ""
    return asked


def wanted(condition: str, positive: bool) -> bool:
    """Is an answer on this condition (AL, ER, SU, NE) sent?"""
    return condition == "AL" or condition == ("SU" if positive else "ER")


def is_acknowledgement(header: Header) -> bool:
    """Must this message stay without an answer, because it is one and asks for none?"""
    if header.message_code in ACKNOWLEDGEMENTS:
        return True
    return header.is_ack and header.accept_ack not in ASKED


def ack_code(
    header: Header | None, reason: Reason | None, instead: str | None = None, ne_al: NeAl = "by-version"
) -> str:
    """MSA-1 for this message: `reason` None is acceptance. `instead`: AE, AR, CE or CR, said in the message's mode."""
    enhanced = header is not None and mode(header, ne_al).enhanced
    if reason is None:
        return "CA" if enhanced else "AA"
    if instead is not None:
        return ("C" if enhanced else "A") + instead[1]
    return reason.enhanced if enhanced else reason.original


def due(header: Header | None, positive: bool, ne_al: NeAl = "by-version") -> bool:
    """Is an answer sent? What cannot be read asks for none, and gets one."""
    if header is None:
        return True
    if is_acknowledgement(header):
        return False
    return wanted(mode(header, ne_al).condition, positive)


def accept(header: Header, stamp: Stamp, ne_al: NeAl = "by-version", expected: int | None = None) -> bytes | None:
    """The positive answer, or None when the sender asked for none. expected: MSA-4, a sequence number."""
    if not due(header, positive=True, ne_al=ne_al):
        return None
    return _positive(header, ack_code(header, None, ne_al=ne_al), _msh(header, stamp), expected)


def application(
    header: Header, reason: Reason | None, stamp: Stamp, accept_ack: str, location: str | None = None, detail: str = ""
) -> bytes:
    """The application acknowledgement as an exchange of its own (v2.9.1 section 2.9.3.3): a new message.

    It has its own MSH-10, asks for its own accept acknowledgement in MSH-15 and for none of itself in MSH-16.
    reason None: AA; else AE or AR. location, detail: as in `reject`.
    """
    msh = _msh(header, stamp, (accept_ack.encode("ascii"), b"NE"))
    if reason is None:
        return _positive(header, "AA", msh)
    return _negative(header, reason.original, reason, msh, location, detail)


def commit(header: Header, stamp: Stamp) -> bytes:
    """The accept acknowledgement of an application acknowledgement that asks for one: for its receiver, a sender."""
    return _positive(header, "CA", _msh(header, stamp))


def _positive(header: Header, code: str, msh: bytes, expected: int | None = None) -> bytes:
    sign = header.field(1)
    told = b"" if expected is None else b"%b%b%d" % (sign, sign, expected)
    return b"%b\rMSA%b%b%b%b%b\r" % (msh, sign, code.encode(), sign, header.control_id, told)


def reject(
    header: Header | None,
    reason: Reason,
    stamp: Stamp,
    location: str | None = None,
    detail: str = "",
    instead: str | None = None,
    ne_al: NeAl = "by-version",
    expected: int | None = None,
) -> bytes | None:
    """The negative answer, or None when the sender asked for none. `header` None: the block could not be read.

    location: ERL, `PID^1^3`; detail: what is wrong, without a value of the message (default: the reason's sentence);
    instead: another code than the reason's, as `ack_code` has it; expected: MSA-4, a sequence number.
    """
    if not due(header, positive=False, ne_al=ne_al):
        return None
    code = ack_code(header, reason, instead, ne_al)
    if header is not None and header.holds_block_marks:
        header = None  # repeated, they would end the answer in its middle
    return _negative(header, code, reason, _msh(header, stamp), location, detail, expected)


def _negative(
    header: Header | None,
    code: str,
    reason: Reason,
    msh: bytes,
    location: str | None,
    detail: str,
    expected: int | None = None,
) -> bytes:
    separators = header.separators if header else DEFAULT
    sign = separators.field
    text = detail or reason.sentence
    where = (location or "").replace("^", separators.component or " ")
    named = (reason.condition, _fit(CONDITIONS[reason.condition], separators, MSA3_LENGTH), "HL70357")
    if version_of(header.version if header else "") >= ERL_AND_CODES:
        condition = separators.component.join(named) if separators.component else reason.condition
        msa = ["MSA", code]
        err = ["ERR", "", where, condition, "E", "", "", "", _fit(text, separators, ERR8_LENGTH)]
    else:
        msa = ["MSA", code, _fit(text, separators, MSA3_LENGTH)]
        err = ["ERR", _old_location(location, named, separators)]
    if expected is not None:
        msa += [""] * (3 - len(msa)) + [str(expected)]
    # MSA-2 goes in as bytes: it may be in any character set
    parts = [part.encode("latin-1") for part in msa]
    parts.insert(2, header.control_id if header else b"")
    return _message(msh, sign.encode("latin-1").join(parts), sign.join(err).encode("latin-1"))


def batch(answers: Sequence[bytes], envelope: bytes, separators: Separators, stamp: Stamp, comment: str = "") -> bytes:
    """The answer to a batch: BHS, the answers, BTS with their number. `envelope`: the BHS (or FHS) line that came.

    BHS-12 repeats its control id (BHS-11 or FHS-11), 3 and 4 change places with 5 and 6. comment: BTS-2, no values.
    """
    sign = separators.field.encode("latin-1")
    came = envelope.split(sign)
    came.insert(1, sign)
    came += [b""] * (13 - len(came))
    own = stamp.control_id.encode("ascii")
    bhs = sign.join(
        (b"BHS", came[2], came[5], came[6], came[3], came[4], _when(stamp), b"", b"", b"", own, came[11].strip())
    )
    bts = sign.join((b"BTS", str(len(answers)).encode()))
    if comment:
        bts += sign + _fit(comment, separators, MSA3_LENGTH).encode("latin-1")
    return b"".join((bhs, b"\r", *answers, bts, b"\r"))


@lru_cache(maxsize=256)
def version_of(version: str) -> tuple[int, ...]:
    """MSH-12.1 as numbers to compare; what is no version of HL7 v2 counts as 2.5.1, the most common."""
    if re.fullmatch(r"2(\.[0-9]{1,2}){1,3}", version):
        return tuple(map(int, version.split(".")))
    return (2, 5, 1)


def _word(value: str) -> Condition | Literal[""]:
    """A code of table 0155; `""` (delete) is empty, an unknown word AL."""
    if value in ("", '""'):
        return ""
    if value == "NE":
        return "NE"
    if value == "ER":
        return "ER"
    return "SU" if value == "SU" else "AL"


def _msh(header: Header | None, stamp: Stamp, asks: tuple[bytes, bytes] | None = None) -> bytes:
    """asks: MSH-15 and MSH-16, which an accept acknowledgement does not value."""
    own = stamp.control_id.encode("ascii")
    if header is None:
        return b"|".join((b"MSH", b"^~\\&", b"", b"", b"", b"", _when(stamp), b"", b"ACK", own, b"P", DEFAULT_VERSION))
    before, between, behind, plain = header.kind.of(_around)
    msh = b"".join((before, _when(stamp), between, own, behind))
    charset = b"" if plain and header.control_id.isascii() else header.kind.field(18)
    if asks or charset:
        more = [b"", b"", b"", *(asks or (b"", b""))]
        if charset:
            more += [b"", charset]
        msh += header.field(1).join(more)
    return msh


def _around(kind: Kind) -> tuple[bytes, bytes, bytes, bool]:
    """An answer's MSH around MSH-7 and MSH-10, and whether all of it is ASCII."""
    separator = kind.field(1)
    application, facility, to_application, to_facility = (kind.field(number) for number in (3, 4, 5, 6))
    before = separator.join((b"MSH", kind.field(2), to_application, to_facility, application, facility, b""))
    answer = _message_type(kind.version, kind.trigger_event, kind.separators.component)
    between = separator.join((b"", b"", answer, b""))
    behind = separator.join((b"", kind.field(11) or b"P", kind.field(12) or DEFAULT_VERSION))
    return before, between, behind, before.isascii() and between.isascii() and behind.isascii()


def _message_type(named: str, event: str, sign: str) -> bytes:
    """ACK, from 2.2 with the event that is answered, from 2.3.1 with the structure."""
    version = version_of(named)
    if not sign or version < EVENT_IN_MSH9 or not re.fullmatch(r"[A-Z0-9]{1,5}", event):
        return b"ACK"
    parts = ("ACK", event, "ACK") if version >= STRUCTURE_IN_MSH9 else ("ACK", event)
    return sign.join(parts).encode("latin-1")


def _when(stamp: Stamp) -> bytes:
    return _written(stamp.now)


@lru_cache(maxsize=16)  # the answers of one second share their time
def _written(now: datetime) -> bytes:
    return now.strftime("%Y%m%d%H%M%S%z").encode("ascii")


def _old_location(location: str | None, named: tuple[str, ...], separators: Separators) -> str:
    """ERR-1 before 2.5: segment^sequence^field^code&text&table."""
    if not separators.component:
        return ""
    place = (*(location or "").split("^"), "", "", "")[:3]
    error = separators.subcomponent.join(named) if separators.subcomponent else named[0]
    return separators.component.join((*place, error))


def _fit(text: str, separators: Separators, length: int) -> str:
    """Our own words between these separators: ASCII, escaped, cut to the field's length."""
    plain = "".join(c if " " <= c <= "~" else " " for c in text[:length])
    if not separators.escape:
        return "".join(" " if c in separators else c for c in plain)
    return escape(plain, separators)


def _message(*segments: bytes) -> bytes:
    return b"\r".join((*segments, b""))
