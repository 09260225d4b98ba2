"""How the journal's columns are sealed: each by its kind and message, so that none opens in another's place; and lanes.

What holds: immutable once open, shared by the writer's thread and the readers'. Without keys everything is stored as it
is, and nothing here costs anything. Lanes are hashes of patient identifiers, which a list of identifiers would reveal:
with keys they are hashed once more with a secret of the journal (keyed BLAKE2b). The secret is stored sealed, so that
a rotation of keys does not change a lane, and with it nobody's order.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from hl7bridge.errors import JournalError
from hl7bridge.sealing import Damaged, KeyMissing, Keyring

KEYED = "k"  # in front of a lane that is keyed; the others are hexadecimal
LANE_BYTES = 8
ACTIVE = "active"  # the id of the key that the last owner sealed with; no secret
_LANES = "lanes"
_PROOF = b"this key opens the journal"


@dataclass(frozen=True, slots=True)
class Guard:
    """`lane_key`: None while nothing is encrypted."""

    keyring: Keyring = field(default_factory=Keyring)
    lane_key: bytes | None = field(default=None, repr=False)

    def seal(self, kind: str, seq: int, id: bytes, text: bytes) -> bytes:
        return self.keyring.seal(text, place(kind, seq, id)) if self.keyring.active else text

    def open(self, kind: str, seq: int, id: bytes, stored: bytes) -> bytes:
        """Raises KeyMissing or Damaged."""
        return self.keyring.open(stored, place(kind, seq, id))

    def lanes(self, lanes: tuple[str, ...]) -> tuple[str, ...]:
        """As they are stored. Keying twice is keying once."""
        key = self.lane_key
        if key is None:
            return lanes
        return tuple(lane if lane.startswith(KEYED) else keyed(lane, key) for lane in lanes)


def place(kind: str, seq: int, id: bytes) -> bytes:
    return b"%b:%d:%b" % (kind.encode("ascii"), seq, id)


def keyed(lane: str, key: bytes) -> str:
    return KEYED + hashlib.blake2b(lane.encode(), digest_size=LANE_BYTES, key=key).hexdigest()


def open_guard(connection: sqlite3.Connection, keyring: Keyring, now: float, owner: bool) -> Guard:
    """The guard of a journal. An owner enters a key that is used for the first time.

    Raises JournalError: a key in use is not there, or is not the one that was used under this id.
    """
    known = dict(connection.execute("SELECT id, proof FROM keys"))
    for id, proof in known.items():
        if id not in keyring.ids:
            raise JournalError(
                f"the journal is encrypted with the key '{id}', which is not in encryption.keys: put it back;"
                " it may go when `hl7bridge keys rotate` has ended. Nothing is lost meanwhile"
            )
        try:
            keyring.open(proof, b"proof:" + id.encode("ascii"))
        except (Damaged, KeyMissing):
            raise JournalError(
                f"encryption.keys.{id} is not the key that this journal was encrypted with under this id:"
                " give the right one. Nothing is lost meanwhile"
            ) from None
    if keyring.active and keyring.active not in known:
        if not owner:
            raise JournalError(
                f"the key '{keyring.active}' (encryption.active) is new to this journal: (re)start `hl7bridge serve`"
                " with it first"
            )
        _enter(connection, keyring, now)
    if owner:
        connection.execute(
            "INSERT OR REPLACE INTO secrets (name, value) VALUES (?, ?)", (ACTIVE, keyring.active.encode("ascii"))
        )
    return Guard(keyring, _lane_key(connection, keyring))


def _enter(connection: sqlite3.Connection, keyring: Keyring, now: float) -> None:
    """The first use of a key: a proof of it, and with the first key of all the lanes' secret."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        proof = keyring.seal(_PROOF, b"proof:" + keyring.active.encode("ascii"))
        connection.execute("INSERT INTO keys (id, proof, since) VALUES (?, ?, ?)", (keyring.active, proof, now))
        if connection.execute("SELECT 1 FROM secrets WHERE name = ?", (_LANES,)).fetchone() is None:
            key = os.urandom(32)
            sealed = keyring.seal(key, place(_LANES, 0, b""))
            connection.execute("INSERT INTO secrets (name, value) VALUES (?, ?)", (_LANES, sealed))
            # what is on its way keeps its order: the old lanes become what the new ones will be
            key_lanes(connection, key, "SELECT seq, lanes FROM messages WHERE state <> 'delivered'")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _lane_key(connection: sqlite3.Connection, keyring: Keyring) -> bytes | None:
    row = connection.execute("SELECT value FROM secrets WHERE name = ?", (_LANES,)).fetchone()
    if row is None:
        return None
    try:
        return keyring.open(row[0], place(_LANES, 0, b""))
    except (Damaged, KeyMissing) as error:
        raise JournalError(f"the journal's own secret cannot be opened: {error}") from None


def key_lanes(connection: sqlite3.Connection, key: bytes, chosen: str, terms: Iterable[object] = ()) -> int:
    """Keys the lanes of the chosen messages (a SELECT of seq and lanes); those that are keyed already stay."""
    guard = Guard(lane_key=key)
    changed = 0
    for seq, column in connection.execute(chosen, tuple(terms)).fetchall():
        lanes = tuple(column.split("\x1f")) if column else ()
        now = guard.lanes(lanes)
        if now == lanes:
            continue
        changed += 1
        connection.execute("UPDATE messages SET lanes = ? WHERE seq = ?", ("\x1f".join(now), seq))
        for old, new in zip(lanes, now, strict=True):
            connection.execute(
                "UPDATE OR REPLACE waiting_lanes SET lane = ? WHERE seq = ? AND lane = ?", (new, seq, old)
            )
    return changed


def reseal_secret(connection: sqlite3.Connection, keyring: Keyring) -> None:
    """The lanes' secret under the active key."""
    row = connection.execute("SELECT value FROM secrets WHERE name = ?", (_LANES,)).fetchone()
    if row is not None and not keyring.is_current(row[0]):
        where = place(_LANES, 0, b"")
        sealed = keyring.seal(keyring.open(row[0], where), where)
        connection.execute("UPDATE secrets SET value = ? WHERE name = ?", (sealed, _LANES))
