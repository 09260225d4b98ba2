"""Answers: which answer a well-formed message gets, if any, for what its header says and asks. Sans-IO.

HL7 v2.9.1 chapter 2: a message that arrived is answered, unless MSH-15 and MSH-16 say otherwise; an acknowledgement is
never acknowledged. What the standard leaves open (unknown types, unknown character sets) is judged for what it does to
the sender: silence makes it wait and send again for ever.
"""

from __future__ import annotations

from hl7bridge.mllp.framing import frame
from hl7bridge.torture.case import CH2, Await, Case, Listen, Plan, Send, case
from hl7bridge.torture.judge import (
    DIFFERS,
    FAIL,
    PASS,
    block,
    code_of,
    or_ended,
    quiet_about_patients,
    repeated,
    taken,
)
from hl7bridge.torture.maker import Maker

MODES = f"{CH2}, acknowledgement modes, MSH-15 and MSH-16"


@case(
    "answers",
    "The message is itself an acknowledgement",
    sent="an ACK with MSA, then an ordinary message",
    expects="no answer to the ACK",
    why="two receivers that acknowledge acknowledgements never stop",
    source=f"{CH2}, an acknowledgement is not acknowledged",
)
def ack_of_an_ack(make: Maker) -> Plan:
    one, two = make.ids(2)
    ack = make.header(one, type="ACK^A01^ACK") + b"MSA|AA|NOBODY\r"
    judge = block(two, one, positive=FAIL, negative=FAIL, silent=PASS)
    return Plan((Send(frame(ack)), Listen(), Send(frame(make.message(two))), Await(), Listen()), judge)


@case(
    "answers",
    "A message type that nobody knows",
    sent="a message ZZZ^Z99",
    expects="AR",
    why="what nobody reads should not be said to be taken",
    source=f"{CH2}, AR for MSH-9; table 0357, 200",
    alternative="AE; or AA, where everything is passed on",
)
def unknown_type(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, type="ZZZ^Z99")
    return Plan((Send(frame(message)), Await()), code_of(one, AR=PASS, AE=DIFFERS, AA=DIFFERS))


@case(
    "answers",
    "A version that nobody knows",
    sent="a message with MSH-12 `9.9`",
    expects="AR",
    why="its fields may mean something else",
    source=f"{CH2}, AR for MSH-12; table 0357, 203",
    alternative="AE; or AA, where MSH-12 is not looked at",
)
def unknown_version(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, version="9.9")
    return Plan((Send(frame(message)), Await()), code_of(one, AR=PASS, AE=DIFFERS, AA=DIFFERS))


@case(
    "answers",
    "A processing id that nobody knows",
    sent="a message with MSH-11 `X`",
    expects="AR",
    why="MSH-11 keeps test messages out of production",
    source=f"{CH2}, AR for MSH-11; table 0357, 202",
    alternative="AE; or AA, where MSH-11 is not looked at",
)
def unknown_processing_id(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, processing_id="X")
    return Plan((Send(frame(message)), Await()), code_of(one, AR=PASS, AE=DIFFERS, AA=DIFFERS))


@case(
    "answers",
    "Enhanced mode: an accept acknowledgement is asked for",
    sent="a message with MSH-15 AL, MSH-16 NE",
    expects="one CA",
    why="this is how most engines are told to send",
    source=MODES,
    alternative="AA, where only the original mode is known; a refusal",
)
def accept_always(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, asks=("AL", "NE"))
    judge = code_of(one, CA=PASS, CE=DIFFERS, CR=DIFFERS, AA=DIFFERS, AE=DIFFERS, AR=DIFFERS)
    return Plan((Send(frame(message)), Await()), judge)


@case(
    "answers",
    "Enhanced mode: an answer is asked for only on success",
    sent="a message with MSH-15 SU, MSH-16 NE",
    expects="one CA, or none where such messages are refused",
    why="as before",
    source=MODES,
    alternative="AA, where only the original mode is known; a refusal",
)
def accept_on_success(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, asks=("SU", "NE"))
    codes = {"CA": PASS, "CE": DIFFERS, "CR": DIFFERS, "AA": DIFFERS, "AE": DIFFERS, "AR": DIFFERS}
    judge = code_of(one, **codes)
    silent = code_of(one, **codes, none=DIFFERS)
    return Plan((Send(frame(message)), Await()), lambda came: judge(came) if came.takes else silent(came))


@case(
    "answers",
    "Enhanced mode: an answer is asked for only on error",
    sent="a good message with MSH-15 ER, MSH-16 NE, then an ordinary one",
    expects="no answer to the first",
    why="a sender that expects none takes it for the answer to its next message",
    source=MODES,
    alternative="it is answered, where only the original mode is known",
)
def accept_on_error(make: Maker) -> Plan:
    return _unasked(make, ("ER", "NE"))


@case(
    "answers",
    "Enhanced mode: no answer is asked for",
    sent="a message with MSH-15 NE, MSH-16 NE, then an ordinary one",
    expects="no answer to the first",
    why="as before",
    source=MODES,
    alternative="it is answered, where only the original mode is known",
)
def never_answer(make: Maker) -> Plan:
    return _unasked(make, ("NE", "NE"))


def _unasked(make: Maker, asks: tuple[str, str]) -> Plan:
    one, two = make.ids(2)
    steps = (Send(frame(make.message(one, asks=asks))), Listen(), Send(frame(make.message(two))), Await())
    return Plan(steps, block(two, one, positive=DIFFERS, negative=DIFFERS, silent=PASS))


@case(
    "answers",
    "UTF-8, declared",
    sent="a message with MSH-18 `UNICODE UTF-8` and a name beyond ASCII",
    expects="one answer",
    why="names",
    source=f"{CH2}, MSH-18; table 0211",
    alternative="it is refused with its MSH-10",
)
def utf8_declared(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, charset="UNICODE UTF-8", name="ÄÖÜ^µß".encode())
    return Plan((Send(frame(message)), Await()), or_ended(taken(one, negative=DIFFERS)))


@case(
    "answers",
    "Bytes that contradict MSH-18",
    sent="a message with MSH-18 `UNICODE UTF-8` and a name in Latin-1",
    expects="one answer with its MSH-10, negative or positive",
    why="decoders raise here, and then nobody answers",
    source="robustness",
    alternative="the connection is ended",
)
def bytes_against_charset(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, charset="UNICODE UTF-8", name="ÄÖÜ^TEST".encode("latin-1"))
    return Plan((Send(frame(message)), Await()), or_ended(taken(one, negative=PASS)))


@case(
    "answers",
    "A character set that nobody knows",
    sent="a message with MSH-18 `KLINGON`",
    expects="one answer with its MSH-10, negative or positive",
    why="as before",
    source="robustness",
    alternative="the connection is ended",
)
def unknown_charset(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(frame(make.message(one, charset="KLINGON"))), Await()), or_ended(taken(one, negative=PASS)))


@case(
    "answers",
    "A refusal does not repeat the patient",
    sent="a message ZZZ^Z99 about a patient with a name that stands nowhere else",
    expects="an answer in which that name does not stand",
    why="answers are logged by engines that promise nothing about patient data",
    source="robustness",
    alternative="HL7 does not forbid it",
)
def patient_in_the_answer(make: Maker) -> Plan:
    one = make.id()
    message = make.message(one, type="ZZZ^Z99", name=Maker.MARKER + b"^TEST")
    return Plan((Send(frame(message)), Await()), quiet_about_patients(one))


@case(
    "answers",
    "The same message again",
    sent="a message, its answer awaited, the same bytes again",
    expects="two answers with its MSH-10",
    why="after a lost answer a sender repeats itself; whoever stays silent then is asked for ever",
    source=f"{CH2}, MSH-10 and resending",
    alternative="the second is refused as a duplicate",
)
def same_again(make: Maker) -> Plan:
    one = make.id()
    block_bytes = frame(make.message(one))
    return Plan((Send(block_bytes), Await(), Send(block_bytes), Await(2)), repeated(one))


CASES: tuple[Case, ...] = tuple(thing for thing in list(vars().values()) if isinstance(thing, Case))
