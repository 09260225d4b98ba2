"""The one exception tree: whose fault it is is the type; what happened is a reason from the catalogue.

What holds here: no exception text carries a value from a message. Texts name positions ("PID-7"), tables,
files and keys; whoever may see patient data reads it from the journal or the dead letter, which are guarded.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from hl7bridge.reasons import Reason

EXIT_OK = 0
EXIT_FAILED = 1  # some of what was asked could not be done; each failure was named
EXIT_USAGE = 2  # click's own code for a wrong command line
EXIT_CONFIG = 3  # the configuration or the tables do not load
EXIT_UNAVAILABLE = 4  # a port, a disk or a peer is not there


class Hl7BridgeError(Exception):
    """Root of the tree. `exit_code` is what a command ends with when nothing handles the error."""

    exit_code = EXIT_FAILED


class MessageError(Hl7BridgeError):
    """A message cannot be taken or translated. Carries its reason and where in the message, never what stood there.

    `location` is an ERL (HL7 v2 chapter 2): segment^occurrence^field^repetition^component, or None. Where a translation
    ended: `mapping_version` of the tables it had, and its `lineage_document` where that is to be stored.
    """

    mapping_version: str = ""
    lineage_document: bytes = b""

    def __init__(self, reason: Reason, detail: str = "", location: str | None = None) -> None:
        super().__init__(f"{reason.code}: {detail or reason.sentence}")
        self.reason = reason
        self.detail = detail or reason.sentence
        self.location = location


class PeerError(MessageError):
    """The sender's message is at fault."""


class TranslationError(MessageError):
    """The tables do not lead from this message to a valid bundle."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file a person edits: `file:line:column: what is wrong, what was meant`."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class TablesError(Hl7BridgeError):
    """The mapping tables do not load: every mistake found, at once, in file and line order."""

    exit_code = EXIT_CONFIG

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class ConfigError(Hl7BridgeError):
    """The configuration is at fault: every mistake found, at once."""

    exit_code = EXIT_CONFIG

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class UnavailableError(Hl7BridgeError):
    """A port, disk, or peer the operator has to see to is not there."""

    exit_code = EXIT_UNAVAILABLE


class JournalError(UnavailableError):
    """The journal cannot make a message durable: nothing may be acknowledged positively."""


class JournalFull(JournalError):
    """The journal is well but takes no more: its backlog or its disk is at the high-water mark (BACKLOG_FULL)."""


class JournalRefusal(Hl7BridgeError):
    """The journal is well, but what was asked does not fit the message: it is not there or not in such a state."""


class EndpointError(Hl7BridgeError):
    """The FHIR endpoint did not take a bundle; delivery.outcome decides what follows."""


def where(error: BaseException) -> str:
    """An exception's class and place, `KeyError at uses.py:12`. Never its text: it may quote the message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
