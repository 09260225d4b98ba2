"""Values to columns and back: texts, lanes, ids, entries. Sans-IO.

A text of a message may hold bytes that were no text (surrogates); SQLite takes only valid Unicode. Such a text is
stored as a BLOB of its UTF-8 with surrogates passed through, and comes back exactly as it was.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import orjson

from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Entry, State, Step
from hl7bridge.sealing import Damaged

LANE_SEPARATOR = "\x1f"  # never part of a lane key, which is a hash in hexadecimal

ENTRY_COLUMNS = (
    "m.seq, m.id, coalesce(e.raw, p.raw), m.sha256, m.received_at, m.listener, m.peer, m.sender, m.control_id, m.type,"
    " m.lanes, m.state, m.attempts, m.next_attempt, m.reason, m.detail, m.ack_code, m.mapping_version,"
    " m.delivered_at, m.replays"
)
ENTRY_TABLES = "LEFT JOIN payloads p ON p.seq = m.seq LEFT JOIN edits e ON e.number = m.edit"
SUMMARY_COLUMNS = ENTRY_COLUMNS.replace("coalesce(e.raw, p.raw)", "x''")  # an Entry without its message
ENTRY_COLUMNS += ", m.edit, e.sha256"


def bindable(text: str) -> str | bytes:
    """What SQLite can store and compare for this text."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def readable(column: str | bytes) -> str:
    """The inverse of `bindable`."""
    return column if isinstance(column, str) else column.decode("utf-8", "surrogatepass")


def join_lanes(lanes: tuple[str, ...]) -> str:
    """One column for the lanes. ValueError for a key that is empty or holds the separator: it is no hash."""
    if not lanes:
        return ""
    joined = LANE_SEPARATOR.join(lanes)
    if joined.count(LANE_SEPARATOR) != len(lanes) - 1 or "" in lanes:
        raise ValueError("a lane key must be a hash: not empty, without control characters")
    return joined


def split_lanes(column: str) -> tuple[str, ...]:
    return tuple(column.split(LANE_SEPARATOR)) if column else ()


def id_text(column: bytes) -> str:
    """The id as everybody but the file knows it: 8-4-4-4-12 hexadecimal digits."""
    digits = column.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def id_bytes(id: str) -> bytes | None:
    """The id as stored; None for a text that is no id."""
    digits = id.replace("-", "")
    if len(digits) != 32:
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None


def whole(row: tuple[Any, ...], guard: Guard) -> Entry:
    """An Entry from a row of ENTRY_COLUMNS, its message opened and held against its hash.

    What does not fit is told as `damaged`, with the bytes as they were found where these are clear. KeyMissing: nothing
    is damaged, a key is not at hand.
    """
    seq, id, stored, number = row[0], row[1], row[2], row[20]
    damaged = "" if stored is not None else "the stored message is gone"
    raw = stored or b""
    if stored is not None:
        try:
            raw = guard.open("raw" if number is None else f"edit {number}", seq, id, stored)
        except Damaged as error:
            raw, damaged = b"", str(error)
        else:
            if hashlib.sha256(raw).digest() != (row[3] if number is None else row[21]):
                damaged = "the stored message is not the one that was received: its SHA-256 differs"
    return entry((*row[:2], raw, *row[3:]), damaged)


def entry(row: tuple[Any, ...], damaged: str = "") -> Entry:
    """An Entry from a row whose third column is the message in clear."""
    return Entry(
        seq=row[0],
        id=id_text(row[1]),
        raw=row[2],
        sha256=row[3],
        received_at=row[4],
        listener=readable(row[5]),
        peer=readable(row[6]),
        sender=readable(row[7]),
        control_id=readable(row[8]),
        type=readable(row[9]),
        lanes=split_lanes(row[10]),
        state=State(row[11]),
        attempts=row[12],
        next_attempt=row[13],
        reason=row[14],
        detail=readable(row[15]),
        ack_code=row[16],
        mapping_version=row[17],
        delivered_at=row[18],
        replays=row[19],
        damaged=damaged,
    )


def step(row: tuple[Any, ...], proof: bytes = b"") -> Step:
    """A Step from a row (at, state, attempts, reason, detail, actor). `proof`: JSON in clear."""
    try:
        proved = orjson.loads(proof) if proof else {}
    except orjson.JSONDecodeError:
        proved = {}
    return Step(row[0], State(row[1]), row[2], row[3], readable(row[4]), readable(row[5]), proved)


class Mint:
    """Makes ids in the layout of UUID version 7 (RFC 9562 section 5.7), each greater than the one before.

    48 bits of milliseconds, then 74 random bits. Within a millisecond, and when the clock steps back, the random part
    of the last id is counted up instead (section 6.2, method 2), so that ids made by one process are in order of
    arrival.
    """

    def __init__(self, randbits: Callable[[int], int] | None = None) -> None:
        self._randbits = randbits or random.Random().getrandbits
        self._last = 0  # milliseconds and the 74 bits as one number

    def new(self, now: float) -> bytes:
        """16 bytes for a message that arrived at `now`, seconds since the epoch."""
        fresh = (int(now * 1000) << 74) | self._randbits(73)  # the 74th bit is room to count into
        if fresh <= self._last:
            fresh = self._last + 1 + self._randbits(32)
        self._last = fresh
        upper = ((fresh >> 74) << 16) | 0x7000 | ((fresh >> 62) & 0xFFF)
        lower = (0b10 << 62) | (fresh & 0x3FFF_FFFF_FFFF_FFFF)
        return ((upper << 64) | lower).to_bytes(16, "big")
