"""The messages of a run: synthetic, about one invented patient, each with a control id of its own. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who the messages say they are from and for. `now`: MSH-7; `prefix`: how every control id begins.

    largest: bytes of the largest message and of the longest run of junk.
    """

    now: str
    prefix: str
    application: str = "TORTURE"
    facility: str = "HL7BRIDGE"
    to_application: str = ""
    to_facility: str = ""
    type: str = "ADT^A01^ADT_A01"
    version: str = "2.5.1"
    processing_id: str = "T"
    largest: int = 1024 * 1024


class Maker:
    """Makes messages for a speaker. Control ids count up."""

    MARKER: Final = b"ZQXMARKERQZ"  # a family name that stands nowhere else, to see whether an answer repeats it

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self._count = 0

    def id(self) -> bytes:
        """A control id that no other message of this run has."""
        self._count += 1
        return f"{self.speaker.prefix}{self._count:04}".encode()

    def ids(self, count: int) -> tuple[bytes, ...]:
        return tuple(self.id() for _ in range(count))

    def header(
        self,
        control_id: bytes,
        *,
        type: str | None = None,
        version: str | None = None,
        processing_id: str | None = None,
        asks: tuple[str, str] = ("", ""),
        charset: str = "",
    ) -> bytes:
        """MSH. `asks`: MSH-15 and MSH-16; None is what the speaker says."""
        who = self.speaker
        before = f"MSH|^~\\&|{who.application}|{who.facility}|{who.to_application}|{who.to_facility}|{who.now}||"
        before += f"{who.type if type is None else type}|"
        after = f"|{who.processing_id if processing_id is None else processing_id}|"
        after += who.version if version is None else version
        if any(asks) or charset:
            after += f"|||{asks[0]}|{asks[1]}||{charset}"
        return before.encode() + control_id + after.encode() + b"\r"

    def body(self, name: bytes = b"TORTURE^TEST", more: bytes = b"") -> bytes:
        """EVN, PID, PV1 of the one invented patient."""
        return (
            f"EVN||{self.speaker.now}\rPID|1||TORTURE-1^^^TORTURE^MR||".encode()
            + name
            + b"||19700101|U\rPV1|1|O|||||||||||||||||TORTURE-V1^^^TORTURE^VN\r"
            + more
        )

    def message(
        self,
        control_id: bytes,
        *,
        type: str | None = None,
        version: str | None = None,
        processing_id: str | None = None,
        asks: tuple[str, str] = ("", ""),
        charset: str = "",
        name: bytes = b"TORTURE^TEST",
        more: bytes = b"",
    ) -> bytes:
        """A whole message, segments ended by CR. The keys are those of `header` and `body`."""
        head = self.header(
            control_id, type=type, version=version, processing_id=processing_id, asks=asks, charset=charset
        )
        return head + self.body(name, more)
