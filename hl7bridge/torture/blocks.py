"""Blocks: what a receiver answers to one that arrived whole and holds no message, an odd one, or several. Sans-IO.

HL7 v2.9.1 chapter 2: a message that arrived is answered, and MSA-2 is MSH-10 of the message. What the standard leaves
open (other line ends, no header to answer to) is judged for what it does to the sender: silence makes it wait and send
again for ever.
"""

from __future__ import annotations

from hl7bridge.mllp.framing import frame
from hl7bridge.torture.case import CH2, Await, Case, Listen, Plan, Send, case
from hl7bridge.torture.judge import DIFFERS, PASS, block, one_for_all, or_ended, taken
from hl7bridge.torture.maker import Maker

MSA2 = f"{CH2}, MSA-2"


def _bad(make: Maker, payload: bytes, names: bytes = b"") -> Plan:
    """A block that is no good message: refused; then an ordinary one."""
    then = make.id()
    steps = (Send(frame(payload)), Await(), Send(frame(make.message(then))), Await(2))
    return Plan(steps, block(then, names))


def _odd(payload: bytes, control_id: bytes) -> Plan:
    """A message that is unusual: taken, or refused with its control id."""
    return Plan((Send(frame(payload)), Await()), or_ended(taken(control_id, negative=DIFFERS)))


def _verbatim(make: Maker, control_id: bytes) -> Plan:
    """MSH-10 comes back byte for byte, whatever the answer says."""
    return Plan((Send(frame(make.message(control_id))), Await()), taken(control_id, negative=PASS))


@case(
    "answers",
    "A block that is no HL7",
    sent="a line of plain text in a block, then an ordinary message",
    expects="a negative answer, then the other's",
    why="silence leaves a sender waiting and sending again for ever",
    source=f"{CH2}, AE and AR",
    alternative="the connection is ended; an MSA-2 of the receiver's own",
)
def garbage(make: Maker) -> Plan:
    return _bad(make, b"this is not an HL7 message\r")


@case(
    "answers",
    "A block of three bytes",
    sent="MSH alone in a block, then an ordinary message",
    expects="a negative answer, then the other's",
    why="short input is where parsers fall over",
    source="robustness",
    alternative="the connection is ended; an MSA-2 of the receiver's own",
)
def three_bytes(make: Maker) -> Plan:
    return _bad(make, b"MSH")


@case(
    "answers",
    "A message that does not begin with MSH",
    sent="EVN, PID and PV1 without MSH, then an ordinary message",
    expects="a negative answer, then the other's",
    why="its type and its control id are unknown: it cannot be taken",
    source=f"{CH2}, MSH is the first segment",
    alternative="the connection is ended; an MSA-2 of the receiver's own",
)
def no_msh(make: Maker) -> Plan:
    return _bad(make, make.body())


@case(
    "answers",
    "MSH ends before MSH-10",
    sent="MSH up to MSH-8 and the other segments, then an ordinary message",
    expects="a negative answer, then the other's",
    why="it cannot be acknowledged: nothing says what MSA-2 would be",
    source=f"{CH2}, MSH-9 and MSH-10 are required",
    alternative="the connection is ended; an MSA-2 of the receiver's own",
)
def cut_msh(make: Maker) -> Plan:
    return _bad(make, make.header(b"").split(b"||", 1)[0] + b"||\r" + make.body())


@case(
    "answers",
    "MSH-10 is empty",
    sent="a message with an empty MSH-10, then an ordinary one",
    expects="a negative answer with an empty MSA-2, then the other's",
    why="a sender cannot tell for which of its messages the answer is",
    source=f"{CH2}, MSH-10 is required",
    alternative="it is taken, or the connection ended",
)
def no_control_id(make: Maker) -> Plan:
    then = make.id()
    steps = (Send(frame(make.message(b""))), Await(), Send(frame(make.message(then))), Await(2))
    return Plan(steps, block(then, positive=DIFFERS))


@case(
    "answers",
    "MSH-10 of 60 characters",
    sent="a message whose MSH-10 is longer than the 20 characters of version 2.5",
    expects="MSA-2 has all of them",
    why="a shortened MSA-2 belongs to no message, or to another one",
    source=f"{MSA2}; MSH-10 has up to 199 characters from 2.7",
)
def long_control_id(make: Maker) -> Plan:
    return _verbatim(make, make.id() + b"-" + b"0123456789" * 5)


@case(
    "answers",
    "Bytes beyond ASCII in MSH-10",
    sent="a message whose MSH-10 holds UTF-8",
    expects="MSA-2 has the same bytes",
    why="an answer that went through another character set does not match any more",
    source=MSA2,
)
def control_id_beyond_ascii(make: Maker) -> Plan:
    return _verbatim(make, make.id() + "µö".encode())


@case(
    "answers",
    "Escapes in MSH-10",
    sent=r"a message whose MSH-10 holds \T\ and \F\ ",
    expects="MSA-2 has them as they came",
    why="an answer that was unescaped is for another message, and may hold a separator",
    source=MSA2,
)
def control_id_with_escapes(make: Maker) -> Plan:
    return _verbatim(make, make.id() + rb"\T\1\F\2")


@case(
    "answers",
    "Separators of its own",
    sent="a message with # * ! and so on in place of | ^ ~",
    expects="one answer with its MSH-10",
    why="MSH-1 and MSH-2 are there to be read",
    source=f"{CH2}, MSH-1 and MSH-2",
    alternative="it is refused with its MSH-10, or the connection ended",
)
def other_separators(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one).replace(b"|", b"#").replace(b"^", b"*").replace(b"~", b"!")
    return _odd(message, one)


@case(
    "answers",
    "LF ends the segments",
    sent="a message with LF in place of each CR, then an ordinary one",
    expects="two answers",
    why="files and scripts come this way",
    source="robustness",
    alternative="it is refused: HL7 wants CR",
)
def lf_segments(make: Maker) -> Plan:
    return _line_ends(make, b"\n")


@case(
    "answers",
    "CR LF ends the segments",
    sent="a message with CR LF in place of each CR, then an ordinary one",
    expects="two answers",
    why="as before",
    source="robustness",
    alternative="it is refused: HL7 wants CR",
)
def crlf_segments(make: Maker) -> Plan:
    return _line_ends(make, b"\r\n")


@case(
    "answers",
    "Blank lines between segments",
    sent="a message with two CR behind each segment, then an ordinary one",
    expects="two answers",
    why="templates leave them behind",
    source="robustness",
    alternative="it is refused: HL7 has no empty segments",
)
def blank_lines(make: Maker) -> Plan:
    return _line_ends(make, b"\r\r")


def _line_ends(make: Maker, end: bytes) -> Plan:
    one, two = make.ids(2)
    steps = (
        Send(frame(make.message(one).replace(b"\r", end))),
        Await(),
        Send(frame(make.message(two))),
        Await(2),
    )
    return Plan(steps, taken(one, two, negative=DIFFERS))


@case(
    "answers",
    "No CR behind the last segment",
    sent="a message whose last segment ends with the block",
    expects="one answer",
    why="very many senders leave it out",
    source="robustness",
    alternative="it is refused: HL7 ends each segment with CR",
)
def no_last_cr(make: Maker) -> Plan:
    one = make.id()
    return _odd(make.message(one)[:-1], one)


@case(
    "answers",
    "A byte order mark before MSH",
    sent="a message with EF BB BF before MSH",
    expects="one answer with its MSH-10",
    why="editors put it there",
    source="robustness",
    alternative="it is refused, or the connection ended",
)
def byte_order_mark(make: Maker) -> Plan:
    one = make.id()
    then = make.id()
    steps = (Send(frame(b"\xef\xbb\xbf" + make.message(one))), Await(), Send(frame(make.message(then))), Await(2))
    return Plan(steps, block(then, one, positive=PASS, negative=DIFFERS))


@case(
    "answers",
    "Two messages in one block",
    sent="two messages one behind the other in one block, without an envelope",
    expects="a negative answer",
    why="one AA for both hides whether the second was seen",
    source="MLLP R1: one message in one block",
    alternative="an answer for each",
)
def two_in_one_block(make: Maker) -> Plan:
    ids = make.ids(2)
    steps = (Send(frame(b"".join(make.message(i) for i in ids))), Await(), Listen())
    return Plan(steps, one_for_all(*ids, each=DIFFERS, negative=PASS))


@case(
    "answers",
    "A batch in one block",
    sent="BHS, two messages, BTS in one block",
    expects="an answer for each, in a batch or one by one",
    why="as before",
    source=f"{CH2}, batch protocol",
    alternative="it is refused: this receiver takes no batches",
)
def batch_in_one_block(make: Maker) -> Plan:
    ids = make.ids(2)
    batch = b"BHS|^~\\&|TORTURE\r" + b"".join(make.message(i) for i in ids) + b"BTS|2\r"
    return Plan((Send(frame(batch)), Await(), Listen()), one_for_all(*ids, each=PASS, negative=DIFFERS))


CASES: tuple[Case, ...] = tuple(thing for thing in list(vars().values()) if isinstance(thing, Case))
