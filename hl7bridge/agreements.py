"""What a header and its sender's profile ask of the commit: a place in a sequence, an answer later, the other parts.

Sans-IO: header and profile in, the journal's Terms out. Sources: HL7 v2.9.1 chapter 2, sections 2.9.3 (application
acknowledgements), 2.10.1 (sequence numbers), 2.10.2 (continuation).
"""

from __future__ import annotations

import re
from typing import Final

from hl7bridge import reasons
from hl7bridge.admission import Profile, address_of, text_of
from hl7bridge.errors import PeerError
from hl7bridge.hl7v2 import ack
from hl7bridge.hl7v2.continuation import Part
from hl7bridge.hl7v2.header import Header
from hl7bridge.journal.protocol import Fragment, Owed, Terms

START: Final = (0, -1)  # numbers that start a link, or resynchronise it
_NUMBER: Final = re.compile(r"-1|[0-9]{1,15}")


def sequence_number(header: Header, profile: Profile) -> int | None:
    """MSH-13 where this sender numbers its messages; None where it does not. PeerError: it is missing, or no number."""
    if not profile.sequence_numbers:
        return None
    text = text_of(header.sequence_number).strip()
    if not text:
        raise PeerError(reasons.SEQUENCE_NUMBER, "MSH-13 (sequence number) is empty", "MSH^1^13")
    if _NUMBER.fullmatch(text) is None:
        raise PeerError(reasons.DATA_TYPE_ERROR, "MSH-13 (sequence number) is no number", "MSH^1^13")
    return int(text)


def is_bare(raw: bytes, header: Header) -> bool:
    """Has the message nothing behind MSH? Such a one only starts a link (section 2.10.1 f)."""
    _, _, rest = raw.lstrip().replace(b"\n", b"\r").partition(b"\r")
    return not any(line[3:].strip(header.raw_separators + b" \t") for line in rest.split(b"\r"))


def link_of(listener: str, header: Header) -> str:
    """Whose numbers are counted together: one sender at one listener."""
    return f"{listener}|{address_of(header)}"


def owed(header: Header, profile: Profile) -> Owed | None:
    """The application acknowledgement that is to follow, where there is a channel for it."""
    if profile.application_acks is None:
        return None
    condition = ack.later(header, profile.ne_al)
    if not condition:
        return None
    return Owed(profile.channel, condition, profile.application_acks.after, header.segment)


def terms(
    header: Header, profile: Profile, *, listener: str, number: int | None, part: Part | None, now: float
) -> Terms | None:
    """None where nothing is asked, as of most messages. `number`: of the sequence, `part`: of a message."""
    refuse_reuse = profile.control_id_reuse == "refuse"
    numbered = number is not None and number not in START
    fragment = None
    if part is not None:
        fragment = Fragment(text_of(part.pointer), text_of(part.continues), now + profile.fragment_timeout)
    answer = owed(header, profile) if part is None else None  # the whole message is answered, not its parts
    if not (refuse_reuse or numbered or fragment or answer):
        return None
    link = link_of(listener, header) if numbered else ""
    return Terms(refuse_reuse, link, number or 0 if numbered else 0, answer, fragment)


def terms_of_whole(header: Header, profile: Profile) -> Terms | None:
    """Of a message joined from its parts: the answer that its first part's header asks for."""
    answer = owed(header, profile)
    return Terms(owed=answer) if answer is not None else None
