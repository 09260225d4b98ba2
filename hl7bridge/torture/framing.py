"""Framing: how blocks lie in the stream. Sans-IO.

MLLP Release 1: a block is VT (0x0B), the message, FS (0x1C), CR (0x0D); TCP keeps no borders between writes.
"""

from __future__ import annotations

from hl7bridge.mllp.framing import FS, frame
from hl7bridge.torture.case import Await, Case, Close, Finish, Listen, Pause, Plan, Send, Step, case
from hl7bridge.torture.judge import DIFFERS, PASS, block, code_of, cut_off, not_before, or_ended, taken, unanswered
from hl7bridge.torture.maker import Maker

_FS = bytes([FS])
R1 = "MLLP R1, block format"
TCP = "MLLP R1 over TCP, a stream without borders"


def _in_pieces(pieces: list[bytes], control_id: bytes, pause: float = 1.0) -> Plan:
    """One message in several writes, with a pause behind each; no answer is due before the last."""
    steps: list[Step] = []
    for piece in pieces:
        steps += [Send(piece), Pause(pause)]
    return Plan((*steps[:-1], Await()), not_before(len(steps) - 1, taken(control_id)))


@case(
    "framing",
    "One ordinary message",
    sent="one message in one block, in one write",
    expects="one positive answer whose MSA-2 is its MSH-10",
    why="everything else rests on it",
    source="MLLP R1; HL7 v2.9.1 ch. 2, MSA-2",
    alternative="a negative answer: this receiver does not want this kind of message; --type, --version, "
    "--processing-id, --to-application and --to-facility change it",
)
def plain(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(frame(make.message(one))), Await()), code_of(one, AA=PASS, AE=DIFFERS, AR=DIFFERS))


@case(
    "framing",
    "Twenty messages on one connection",
    sent="20 messages, each after the answer to the one before",
    expects="20 answers, in order",
    why="senders keep one connection open for days",
    source=R1,
)
def twenty(make: Maker) -> Plan:
    ids = make.ids(20)
    steps: list[Step] = []
    for count, control_id in enumerate(ids, 1):
        steps += [Send(frame(make.message(control_id))), Await(count)]
    return Plan(tuple(steps), taken(*ids))


@case(
    "framing",
    "One byte in each packet",
    sent="one message byte by byte",
    expects="one answer",
    why="a receiver that takes one read for one message works until the network is slow",
    source=TCP,
)
def byte_by_byte(make: Maker) -> Plan:
    one = make.id()
    return _in_pieces([bytes([byte]) for byte in frame(make.message(one))], one, 0.0)


@case(
    "framing",
    "One segment in each packet",
    sent="one message, a pause behind each segment's CR",
    expects="one answer, after the last segment",
    why="some senders flush at each segment; a CR at the end of a packet is no end of a block",
    source=TCP,
)
def segment_by_segment(make: Maker) -> Plan:
    one = make.id()
    return _in_pieces([piece + b"\r" for piece in frame(make.message(one)).split(b"\r")[:-1]], one)


@case(
    "framing",
    "A packet's border between FS and CR",
    sent="one message up to FS, a pause, then CR, then another message",
    expects="one answer to each",
    why="the two end bytes come apart sooner or later",
    source=TCP,
)
def split_at_the_end(make: Maker) -> Plan:
    one, two = make.ids(2)
    first = frame(make.message(one))
    steps = (Send(first[:-1]), Pause(), Send(first[-1:]), Await(), Send(frame(make.message(two))), Await(2))
    return Plan(steps, taken(one, two))


@case(
    "framing",
    "Packets' borders inside VT and MSH",
    sent="VT, a pause, `MS`, a pause, the rest",
    expects="one answer",
    why="a receiver that looks for VT MSH in one read misses it",
    source=TCP,
)
def split_at_the_start(make: Maker) -> Plan:
    one = make.id()
    whole = frame(make.message(one))
    return _in_pieces([whole[:1], whole[1:3], whole[3:]], one)


@case(
    "framing",
    "Two messages in one write",
    sent="two blocks in one write",
    expects="two answers, in order",
    why="a receiver that throws the rest of its read away loses the second message without a trace",
    source=TCP,
)
def two_in_one_write(make: Maker) -> Plan:
    ids = make.ids(2)
    return Plan((Send(b"".join(frame(make.message(i)) for i in ids)), Await(2)), taken(*ids))


@case(
    "framing",
    "Ten messages pipelined behind an answered one",
    sent="a message, its answer awaited, then ten blocks in one write",
    expects="eleven answers, in order",
    why="as before, on a connection that has already worked",
    source=TCP,
)
def ten_pipelined(make: Maker) -> Plan:
    ids = make.ids(11)
    rest = b"".join(frame(make.message(i)) for i in ids[1:])
    return Plan((Send(frame(make.message(ids[0]))), Await(), Send(rest), Await(11)), taken(*ids))


@case(
    "framing",
    "A block and a half",
    sent="one block and the half of the next in one write, a pause, the other half",
    expects="two answers, in order",
    why="the half must be kept until its rest comes",
    source=TCP,
)
def block_and_a_half(make: Maker) -> Plan:
    one, two = make.ids(2)
    second = frame(make.message(two))
    steps = (Send(frame(make.message(one)) + second[:60]), Pause(), Send(second[60:]), Await(2))
    return Plan(steps, taken(one, two))


@case(
    "framing",
    "CR LF behind FS",
    sent="a block that ends in FS CR LF, then an ordinary one, in one write",
    expects="two answers",
    why="many senders write lines; the LF stands between blocks, where nothing means anything",
    source="MLLP R1: bytes between blocks carry nothing",
)
def crlf_behind_fs(make: Maker) -> Plan:
    one, two = make.ids(2)
    return Plan((Send(frame(make.message(one)) + b"\n" + frame(make.message(two))), Await(2)), taken(one, two))


@case(
    "framing",
    "LF in place of CR behind FS",
    sent="a block that ends in FS LF, then an ordinary one",
    expects="two answers",
    why="real senders do it, and wait for their answer",
    source="robustness",
    alternative="the first is refused or not answered: MLLP R1 wants FS CR",
)
def lf_for_cr(make: Maker) -> Plan:
    one, two = make.ids(2)
    first = frame(make.message(one))[:-1] + b"\n"
    judge = block(two, one, positive=PASS, negative=DIFFERS, silent=DIFFERS)
    return Plan((Send(first), Listen(), Send(frame(make.message(two))), Await(2)), judge)


@case(
    "framing",
    "FS without CR, then silence",
    sent="a block that ends in FS, nothing behind it",
    expects="one answer: the message is whole and its sender waits",
    why="real senders leave the CR out",
    source="robustness",
    alternative="no answer, or the connection ended after a while: MLLP R1 wants FS CR",
)
def fs_alone(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(frame(make.message(one))[:-1]), Listen()), taken(one, negative=DIFFERS, missing=DIFFERS))


@case(
    "framing",
    "FS without CR, and the next block at once",
    sent="a block that ends in FS, directly behind it the VT of the next",
    expects="two answers",
    why="as before, from a sender that does not wait",
    source="robustness",
    alternative="the first is refused or not answered: MLLP R1 wants FS CR",
)
def fs_then_vt(make: Maker) -> Plan:
    one, two = make.ids(2)
    data = frame(make.message(one))[:-1] + frame(make.message(two))
    return Plan((Send(data), Await(2)), block(two, one, positive=PASS, negative=DIFFERS, silent=DIFFERS))


@case(
    "framing",
    "A block that never ends",
    sent="a whole message behind VT, no FS, then silence, then the end of the connection",
    expects="no answer: nobody knows whether the message is whole",
    why="a positive answer here is given to cut-off messages too",
    source=R1,
    alternative="a negative answer",
)
def never_ends(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(frame(make.message(one))[:-2]), Listen(), Finish(), Listen()), unanswered(one, negative=DIFFERS))


@case(
    "framing",
    "The connection ends inside a block",
    sent="two blocks and the half of a third in one write, then FIN",
    expects="two answers, none to the half",
    why="the half never became a message; the two before it did",
    source=R1,
    alternative="fewer answers: FIN is taken for the end of both directions",
)
def end_inside_a_block(make: Maker) -> Plan:
    one, two, three = make.ids(3)
    data = frame(make.message(one)) + frame(make.message(two)) + frame(make.message(three))[:90]
    steps = (Send(data), Finish(), Await(2), Listen())
    return Plan(steps, taken(one, two, missing=DIFFERS), clear_only=True)


@case(
    "framing",
    "A reset inside a block",
    sent="the half of a block, then RST; ten times, each on a connection of its own",
    expects="the receiver goes on",
    why="a cable is pulled",
    source="robustness",
)
def reset_inside_a_block(make: Maker) -> Plan:
    half = frame(make.message(make.id()))[:70]
    steps: list[Step] = []
    for connection in range(10):
        steps += [Send(half, connection), Close(connection, reset=True)]
    return Plan(tuple(steps), taken())


@case(
    "framing",
    "No VT before the message",
    sent="a message with FS CR behind it and no VT before it, then an ordinary block",
    expects="no positive answer to the first, an answer to the second",
    why="what stands before a VT may be the tail of anything",
    source=R1,
    alternative="the first is taken: its end was seen, its beginning guessed",
)
def no_vt(make: Maker) -> Plan:
    one, two = make.ids(2)
    judge = block(two, one, positive=DIFFERS, silent=PASS)
    return Plan((Send(frame(make.message(one))[1:]), Listen(), Send(frame(make.message(two))), Await(1)), judge)


@case(
    "framing",
    "Junk before and between blocks",
    sent="bytes that are no block, a block, other bytes, another block, in one write",
    expects="two answers, none to the junk",
    why="line noise, keep-alive bytes, a banner",
    source="MLLP R1: bytes between blocks carry nothing",
    alternative="the connection is ended: such a peer is not trusted",
)
def junk_between(make: Maker) -> Plan:
    one, two = make.ids(2)
    data = b"\x00\xffnoise\r\n" + frame(make.message(one)) + b"\r\n\x00 more noise" + frame(make.message(two))
    return Plan((Send(data), Await(2)), or_ended(taken(one, two)))


@case(
    "framing",
    "A message behind a broken block in one write",
    sent="j VT unk FS x VT, then an ordinary message, FS CR: one write",
    expects="no positive answer to the broken one; the message is answered",
    why="after an error the receiver must find the next VT, not throw its read away",
    source=R1,
    alternative="a negative answer to the broken one as well, or the connection ended",
)
def behind_a_broken_block(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(b"j\x0bunk\x1cx" + frame(make.message(one))), Await()), block(one, silent=PASS))


@case(
    "framing",
    "Much junk and no VT",
    sent="as many bytes without any VT as --largest says, then a pause",
    expects="no answer; the connection ended, or the junk thrown away",
    why="whoever keeps it all runs out of memory",
    source="robustness",
    alternative="a negative answer",
)
def flood_of_junk(make: Maker) -> Plan:
    return Plan((Send(b"junk " * (make.speaker.largest // 5)), Listen(), Close()), unanswered(negative=DIFFERS))


@case(
    "framing",
    "A VT inside a message",
    sent="the first half of a message, then VT and a whole other message, FS CR",
    expects="no positive answer to the cut-off one; the other is answered",
    why="a sender that broke off begins anew; taking both for one mixes two patients",
    source="MLLP R1: VT does not occur inside a block",
    alternative="the whole is refused in one answer, or the connection ended",
)
def vt_inside(make: Maker) -> Plan:
    one, two = make.ids(2)
    data = frame(make.message(one))[:120] + frame(make.message(two))
    return Plan((Send(data), Await()), cut_off(one, two))


@case(
    "framing",
    "An FS inside a message",
    sent="a message with FS in a field of PID, whole to its FS CR, then an ordinary one",
    expects="a negative answer, then the other's",
    why="nobody can know where the message ends: the receiver that guesses stores a part and says AA",
    source="MLLP R1: FS does not occur inside a block",
    alternative="the connection is ended",
)
def fs_inside(make: Maker) -> Plan:
    one, two = make.ids(2)
    broken = frame(make.message(one, name=b"TORT" + _FS + b"URE^TEST"))
    steps = (Send(broken), Await(), Send(frame(make.message(two))), Await(2))
    return Plan(steps, block(two, one))


@case(
    "framing",
    "An empty block",
    sent="VT FS CR, then an ordinary block",
    expects="a negative answer without MSA-2, then the other's",
    why="a crash or a positive answer here shows that blocks are not looked at",
    source="robustness",
    alternative="the empty block is ignored, or the connection ended",
)
def empty_block(make: Maker) -> Plan:
    return _bad_payload(make, b"")


@case(
    "framing",
    "A block of blanks",
    sent="VT, two spaces, CR, FS CR, then an ordinary block",
    expects="a negative answer without MSA-2, then the other's",
    why="as before",
    source="robustness",
    alternative="it is ignored, or the connection ended",
)
def blank_block(make: Maker) -> Plan:
    return _bad_payload(make, b"  \r")


@case(
    "framing",
    "A large message",
    sent="a message as large as --largest says, nearly all of it one OBX-5",
    expects="one answer with its MSH-10",
    why="documents come this way",
    source="HL7 v2.9.1 ch. 2: no limit to a message",
    alternative="it is refused, or the connection ended: a limit of this receiver",
)
def large(make: Maker) -> Plan:
    one = make.id()
    more = b"OBX|1|ED|PDF^Document^L||^application^pdf^Base64^" + b"QUJD" * (make.speaker.largest // 4) + b"||||||F\r"
    judge = taken(one, negative=DIFFERS)
    return Plan((Send(frame(make.message(one, more=more))), Await()), or_ended(judge))


def _bad_payload(make: Maker, payload: bytes) -> Plan:
    then = make.id()
    steps = (Send(frame(payload)), Listen(), Send(frame(make.message(then))), Await(2))
    return Plan(steps, block(then, silent=DIFFERS))


CASES: tuple[Case, ...] = tuple(thing for thing in list(vars().values()) if isinstance(thing, Case))
