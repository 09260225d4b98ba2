"""What a case is: steps to take toward a receiver, and a judgement of what came back. No sockets, no clock.

A case is built anew for each run, because its messages bear control ids of their own. The runner takes the steps in
order and hands the judgement a `Came`; no value of an answer but its MSA-1 and MSA-2 is kept, and neither is printed
unless it is a code of the standard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hl7bridge.torture.maker import Maker

POSITIVE: Final = (b"AA", b"CA")
NEGATIVE: Final = (b"AE", b"AR", b"CE", b"CR")
CH2: Final = "HL7 v2.9.1 ch. 2"  # the chapter most answers are judged by
SECTIONS: Final = ("framing", "answers", "connections")


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    DIFFERS = "differs"  # not what is expected, and legitimate: the case says why
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Open:
    """Connects without saying anything. `Send` connects by itself."""

    connection: int = 0


@dataclass(frozen=True, slots=True)
class Send:
    """One write. Left out when the receiver has ended the connection."""

    data: bytes = field(repr=False)
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """Waits `times` the pause of the run."""

    times: float = 1.0


@dataclass(frozen=True, slots=True)
class Await:
    """Waits until that many answers came on the connection, it ended, or the timeout is over."""

    answers: int = 1
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Listen:
    """Where silence is right: waits for an answer or the end of the connection, for the quiet time of the run."""

    connection: int = 0


@dataclass(frozen=True, slots=True)
class Deaf:
    """Stops reading, or reads on."""

    deaf: bool
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """Says FIN and goes on reading. A run over TLS cannot: the case does not apply then."""

    connection: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """Closes in order (`reset=False`) or with a RST."""

    connection: int = 0
    reset: bool = False


Step = Open | Send | Pause | Await | Listen | Deaf | Finish | Close


@dataclass(frozen=True, slots=True)
class Ack:
    """One MSA that came: its codes as sent, the connection, and how many of the plan's steps had been begun."""

    code: bytes
    control_id: bytes = field(repr=False)
    connection: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class Came:
    """What a run of a case gave. `takes`: an ordinary message is answered positively by this receiver.

    unreadable: blocks without MSH and MSA; ended: connections that the receiver ended; refused: those it did not take;
    markers: answers in which the marker of `Maker.MARKER` stood.
    """

    acks: tuple[Ack, ...] = ()
    unreadable: int = 0
    ended: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    markers: int = 0
    takes: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    text: str  # what it rests on, in words


Judge = Callable[[Came], Judgement]


@dataclass(frozen=True, slots=True)
class Plan:
    """A case ready to run. `clear_only`: it cannot be done over TLS."""

    steps: tuple[Step, ...]
    judge: Judge
    clear_only: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """`sent`, `expects` and `alternative` (what is legitimate too, "" for nothing) are sentences for the report."""

    name: str
    section: str
    title: str
    sent: str
    expects: str
    alternative: str
    why: str
    source: str
    build: Callable[[Maker], Plan]


def case(
    section: str, title: str, *, sent: str, expects: str, why: str, source: str, alternative: str = ""
) -> Callable[[Callable[[Maker], Plan]], Case]:
    """Makes a case of the function that builds its plan; it is called as the function is, with hyphens."""

    def made(build: Callable[[Maker], Plan]) -> Case:
        name = build.__name__.replace("_", "-")
        return Case(name, section, title, sent, expects, alternative, why, source, build)

    return made
