"""Files, directories and standard input to messages, for the commands that read HL7."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hl7bridge.hl7v2.batch import split

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """One message of a file: `name` of the file as it was asked for, `number` from 1, what its envelopes lack."""

    name: str
    number: int
    raw: bytes = field(repr=False)
    problems: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """`adt.hl7: message 3`."""
        return f"{self.name}: message {self.number}"


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file that gave no message, and why."""

    name: str
    why: str


def messages(paths: Sequence[str]) -> Iterator[Input | Unusable]:
    """Every message of every path in order. A directory stands for its files (not hidden ones, not deeper), by name."""
    for path in paths:
        for name in _files(path):
            yield from _file(name)


def _files(path: str) -> Iterator[str]:
    if path != STDIN and Path(path).is_dir():
        yield from (str(entry) for entry in sorted(Path(path).iterdir()) if _is_shown(entry))
    else:
        yield path


def _is_shown(entry: Path) -> bool:
    return entry.is_file() and not entry.name.startswith(".")


def _file(name: str) -> Iterator[Input | Unusable]:
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        yield Unusable(name, f"cannot be read: {error.strerror}")
        return
    empty = True
    for piece in split(data):
        empty = False
        yield Input(name, piece.number, piece.raw, tuple(piece.problems))
    if empty:
        yield Unusable(name, "holds no HL7 v2 message")
