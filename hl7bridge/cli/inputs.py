"""Files, directories, standard input and the journal to messages, for the commands that read HL7.

A file may be compressed (.gz, .bz2, .xz): kept traffic usually is.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hl7bridge.config import Config
from hl7bridge.hl7v2.batch import split

STDIN = "-"
JOURNAL = "journal"
_OPENERS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


@dataclass(frozen=True, slots=True)
class Input:
    """One message of a file: `name` of the file as it was asked for, `number` from 1, what its envelopes lack.

    `listener`: the one it came in by; "" for a message from a file.
    """

    name: str
    number: int
    raw: bytes = field(repr=False)
    problems: tuple[str, ...] = ()
    listener: str = ""

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
        data = sys.stdin.buffer.read() if name == STDIN else _read(Path(name))
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile):
        yield Unusable(name, "cannot be read: it is not compressed as its name says, or cut off")
        return
    except OSError as error:
        yield Unusable(name, f"cannot be read: {error.strerror or type(error).__name__}")
        return
    empty = True
    for piece in split(data):
        empty = False
        yield Input(name, piece.number, piece.raw, tuple(piece.problems))
    if empty:
        yield Unusable(name, "holds no HL7 v2 message")


def _read(file: Path) -> bytes:
    data = file.read_bytes()
    opener = _OPENERS.get(file.suffix)
    return opener(data) if opener else data


def journaled(config: Config, newer_than: float | None = None) -> Iterator[Input | Unusable]:
    """The messages of the configured journal in order of arrival, beside a running daemon; `newer_than` in seconds.

    Raises JournalError when there is none.
    """
    from hl7bridge.errors import JournalError
    from hl7bridge.journal import files, reader
    from hl7bridge.journal.guard import open_guard
    from hl7bridge.journal.protocol import Filter
    from hl7bridge.sealing import KeyMissing, open_keyring

    folder = Path(config.journal.path)
    files.open_guest(folder)
    now, beyond = time.time(), None
    with contextlib.closing(files.connect_reader(folder / files.DATABASE)) as connection:
        try:
            guard = open_guard(connection, open_keyring(config.encryption), now, owner=False)
            while True:
                wanted = Filter(newer_than=newer_than)
                entries = reader.page(connection, guard, wanted, now, beyond, reader.PAGE, with_raw=True)
                if not entries:
                    return
                for entry in entries:
                    if entry.damaged:
                        yield Unusable(JOURNAL, f"message {entry.seq} of the journal is damaged")
                        continue
                    yield Input(JOURNAL, entry.seq, entry.raw, (), entry.listener)
                beyond = entries[-1].seq
        except connection.Error as error:
            raise JournalError(f"the journal could not be read: {error}") from None
        except KeyMissing as error:
            raise JournalError(str(error)) from None
