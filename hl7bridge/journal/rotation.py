"""Change of keys: what is sealed by an older key, or not at all, is sealed by the active one, batch by batch.

What holds: a batch is one short transaction beside the daemon's; every text says by which key it is sealed, so a
rotation that was killed begins again and finds what is left; a key is forgotten only when nothing is sealed with it,
and never while the daemon still seals with it. A text that does not open stays as it is, and is counted. Receipts are
of clear facts, so they hold before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

from hl7bridge.errors import JournalRefusal
from hl7bridge.journal import owed
from hl7bridge.journal.guard import ACTIVE, Guard, key_lanes, reseal_secret
from hl7bridge.journal.transaction import Round
from hl7bridge.sealing import Damaged, is_sealed, key_id, prefix_of

SEALED = (  # every column that holds sealed texts of messages
    ("payloads", "raw"),
    ("payloads", "ack"),
    ("edits", "raw"),
    ("history", "proof"),
    *(("acknowledgements", column) for _, column in owed.COLUMNS),
)
AT_ONCE = 100  # messages of one transaction: senders wait no longer than that takes


@dataclass(frozen=True, slots=True)
class Batch:
    """`last`: seq of its last message (number of its last row), None at the end; `messages`: how many of them;
    `changed`: texts sealed anew; `unopened`: that do not open."""

    last: int | None
    messages: int
    changed: int
    unopened: int


def reseal(round_: Round, after: int) -> Batch:
    """The messages behind the seq `after`. JournalRefusal: the daemon does not seal with the active key yet."""
    _agreed(round_)
    connection, guard = round_.connection, round_.guard
    found = connection.execute(
        "SELECT seq, id FROM messages WHERE seq > ? ORDER BY seq LIMIT ?", (after, AT_ONCE)
    ).fetchall()
    changed = unopened = 0
    for seq, id in found:
        for statement, update, terms in _texts(seq):
            for number, kind, stored in connection.execute(statement, terms).fetchall():
                if not stored or guard.keyring.is_current(stored):
                    continue
                try:
                    text = guard.open(kind, seq, id, stored)
                except Damaged:
                    unopened += 1
                    continue
                connection.execute(update, (guard.seal(kind, seq, id, text), seq, number))
                changed += 1
    if found and guard.lane_key is not None:
        chosen = "SELECT seq, lanes FROM messages WHERE seq BETWEEN ? AND ?"
        key_lanes(connection, guard.lane_key, chosen, (found[0][0], found[-1][0]))
    return Batch(found[-1][0] if found else None, len(found), changed, unopened)


def reseal_owed(round_: Round, after: int) -> Batch:
    """Application acknowledgements behind the row `after`, whether their messages are still there or not."""
    _agreed(round_)
    connection, guard = round_.connection, round_.guard
    last, rows, changed, unopened = None, 0, 0, 0
    for number, kind, column, stored in owed.texts(connection, after, AT_ONCE):
        rows, last = rows + (number != last), number
        if not stored or guard.keyring.is_current(stored):
            continue
        text = owed.opened(guard, kind, number, stored)
        if text is None:
            unopened += 1
            continue
        statement = f"UPDATE acknowledgements SET {column} = ? WHERE number = ?"
        connection.execute(statement, (owed.seal(guard, kind, number, text), number))
        changed += 1
    return Batch(last, rows, changed, unopened)


def _agreed(round_: Round) -> None:
    """Raises JournalRefusal while the daemon seals with another key, or with none."""
    active = round_.guard.keyring.active
    row = round_.connection.execute("SELECT value FROM secrets WHERE name = ?", (ACTIVE,)).fetchone()
    if not active or row is None or row[0].decode("ascii") != active:
        raise JournalRefusal(f"the daemon does not encrypt with '{active}' yet: (re)start `hl7bridge serve` first")


def _texts(seq: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """For each sealed column: a SELECT of (number, kind, stored), the UPDATE (stored, seq, number), its terms."""
    return (
        (
            "SELECT 0, 'raw', raw FROM payloads WHERE seq = ?",
            "UPDATE payloads SET raw = ? WHERE seq = ? AND 0 = ?",
            (seq,),
        ),
        (
            "SELECT 0, 'ack', ack FROM payloads WHERE seq = ?",
            "UPDATE payloads SET ack = ? WHERE seq = ? AND 0 = ?",
            (seq,),
        ),
        (
            "SELECT number, 'edit ' || number, raw FROM edits WHERE seq = ?",
            "UPDATE edits SET raw = ? WHERE seq = ? AND number = ?",
            (seq,),
        ),
        (
            "SELECT step, 'proof ' || step, proof FROM history WHERE seq = ?",
            "UPDATE history SET proof = ? WHERE seq = ? AND step = ?",
            (seq,),
        ),
    )


def retire(round_: Round) -> list[str]:
    """Reseals the journal's own secret, forgets the keys nothing is sealed with; gives their ids."""
    connection, active = round_.connection, round_.guard.keyring.active
    reseal_secret(connection, round_.guard.keyring)
    gone = []
    for (id,) in connection.execute("SELECT id FROM keys WHERE id <> ?", (active,)).fetchall():
        begin = prefix_of(id)
        length = len(begin)
        used = any(
            connection.execute(
                f"SELECT 1 FROM {table} WHERE substr({column}, 1, ?) = ? LIMIT 1", (length, begin)
            ).fetchone()
            for table, column in SEALED
        )
        if not used:
            connection.execute("DELETE FROM keys WHERE id = ?", (id,))
            gone.append(id)
    return gone


@dataclass(slots=True)
class Count:
    """How many texts each key seals ("": clear), and how many do not open."""

    by_key: dict[str, int]
    unopened: int = 0

    def add(self, guard: Guard, kind: str, seq: int, id: bytes, stored: bytes) -> None:
        if not stored:
            return
        try:
            name = key_id(stored) if is_sealed(stored) else ""
            guard.open(kind, seq, id, stored)
        except Damaged:
            self.unopened += 1
        else:
            self.by_key[name] = self.by_key.get(name, 0) + 1
