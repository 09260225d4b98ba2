"""What the daemon and its translating processes say to each other: pickled tuples, each behind its length.

Sans-IO. Both ends are the same program of the same version on the same machine, over pipes nobody else holds.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from hl7bridge.service.tablesets import TableSets

LENGTH = struct.Struct(">Q")


class Load(NamedTuple):
    """Use these tables from now on. Answered with Loaded."""

    number: int
    tables: TableSets


class Work(NamedTuple):
    """Translate a message as it came in by a listener. Answered with Done, Refused or Failed."""

    raw: bytes
    listener: str
    peer: str = ""


class Loaded(NamedTuple):
    number: int


class Done(NamedTuple):
    """`issues`: how often, by (kind, table, source)."""

    bundle: bytes
    entries: int
    mapping_version: str
    issues: dict[tuple[str, str, str], int]
    lineage_document: bytes = b""


class Refused(NamedTuple):
    """A MessageError: `peer` a PeerError, else a TranslationError; `reason` is the reason's code."""

    peer: bool
    reason: str
    detail: str
    location: str | None
    mapping_version: str
    lineage_document: bytes = b""


class Failed(NamedTuple):
    """Any other exception: its class and place, never its text."""

    where: str
    mapping_version: str


def framed(said: Any) -> bytes:
    body = pickle.dumps(said, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


class Answers:
    """What came out of a process so far, taken apart into what it said."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Everything that is whole now, in order."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= LENGTH.size:
            begin = at + LENGTH.size
            end = begin + LENGTH.unpack_from(buffer, at)[0]
            if len(buffer) < end:
                break
            with memoryview(buffer)[begin:end] as body:
                said = pickle.loads(body)  # by our own process, over a pipe of its own
            at = end
            yield said
        del buffer[:at]
