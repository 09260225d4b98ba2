"""Receipts: what happened to every message, as a chain of seals in which a change, a gap or another order shows.

Each commit adds one seal. It holds a leaf for each thing that happened in it: the SHA-256 of the facts of an arrival,
of a step of a message's story, of a removal. The facts stand where they are used (messages, history); the leaf proves
them. A seal's hash covers its leaves and the hash of the seal before, so that whoever changes one fact has to make all
later seals anew, and the newest hash, which the daemon writes into its log, tells that as well.

    seal = (number, at, hash, root, leaves, acks)
    leaf = seq, step, SHA-256 of the facts         step 0: arrival; 1, 2 …: history; others: see below
    ack  = seq, flags                              what became of the answer: written to the socket, or not; to a resend
    root = SHA-256(length of the leaves, leaves, acks);  hash = SHA-256(hash before, [number, at, root])

Answers are noted without a transaction of their own: with the next commit, at the latest a second later. What a crash
keeps from being noted is told as `not recorded`. The facts are hashed as they are, not as they are sealed by a key.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

GENESIS = bytes(32)
ARRIVAL = 0
REMOVED = 0xFFFF_FFFF  # the message was removed, by retention or a purge
ORIGIN = 0xFFFF_FFFE  # `seq` is the last message from before receipts were kept
PRUNED = 0xFFFF_FFFD  # `seq` is the number of a seal, the hash its hash: it and those before were of removed messages
AUDITED = 0xFFFF_FFFC  # `seq` is the number of an entry of the audit, the hash that of the entry's hash
NO_STEP = AUDITED  # steps of messages are below
WRITTEN, RESEND = 1, 2  # flags of an ack

LEAF = struct.Struct(">QI32s")
ACK = struct.Struct(">QB")
SEQ = struct.Struct(">Q")  # how both begin
_LENGTH = struct.Struct(">Q")
_INSERT = "INSERT INTO seals (number, at, hash, root, leaves, acks) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Seals:
    """The end of the chain, and what the present transaction adds to it."""

    number: int
    hash: bytes
    leaves: list[bytes] = field(default_factory=list)
    acks: Sequence[tuple[int, int]] = ()

    @property
    def next(self) -> int:
        """The number of the seal that the present transaction writes."""
        return self.number + 1

    def add(self, seq: int, step: int, facts: bytes) -> None:
        self.leaves.append(LEAF.pack(seq, step, hashlib.sha256(facts).digest()))

    def write(self, connection: sqlite3.Connection, at: float) -> None:
        """The seal, if there is anything to seal."""
        if not self.leaves and not self.acks:
            return
        leaves = b"".join(self.leaves)
        acks = b"".join([ACK.pack(seq, flags) for seq, flags in self.acks])
        root = root_of(leaves, acks)
        self.number += 1
        self.hash = hash_of(self.hash, self.number, at, root)
        connection.execute(_INSERT, (self.number, at, self.hash, root, leaves, acks))
        self.leaves, self.acks = [], ()


def root_of(leaves: bytes, acks: bytes) -> bytes:
    return hashlib.sha256(_LENGTH.pack(len(leaves)) + leaves + acks).digest()


def hash_of(before: bytes, number: int, at: float, root: bytes) -> bytes:
    return hashlib.sha256(before + orjson.dumps([number, at, root.hex()])).digest()


def leaves_of(column: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(seq, step, hash) of each leaf. Raises ValueError for a column that was cut."""
    if len(column) % LEAF.size:
        raise ValueError("cut")
    return LEAF.iter_unpack(column)


def acks_of(column: bytes) -> Iterator[tuple[int, int]]:
    if len(column) % ACK.size:
        raise ValueError("cut")
    return ACK.iter_unpack(column)


# ---- facts: the order of the values is part of every receipt that was ever written, and never changes


def arrival(seq: int, id: bytes, known: Sequence[Any], ack_code: str, ack: bytes) -> bytes:
    """The facts of an arrival.

    known: control_id, sender, sha256, received_at, listener, peer and type, as stored; ack: the answer in clear.
    """
    return _facts(["arrival", seq, id, *known, ack_code, "0x" + hashlib.sha256(ack).hexdigest()])


def step(
    seq: int, number: int, at: float, state: str, attempts: int, reason: str, detail: str | bytes, actor: str | bytes,
    proof: bytes,
) -> bytes:  # fmt: skip
    """The facts of a step. `proof`: in clear, see `proof_of`."""
    return _facts(["step", seq, number, at, state, attempts, reason, detail, actor, proof])


def removal(seq: int) -> bytes:
    return _facts(["removed", seq])


def _facts(values: list[Any]) -> bytes:
    return orjson.dumps(values, default=_hexadecimal)


def _hexadecimal(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    raise TypeError
