"""The journal's tables in SQLite, and how a file of an older version becomes one of this version.

What holds here:
- `messages` is narrow: payloads (raw bytes and ACK) live in a table of their own, so that a change of state rewrites
  a few hundred bytes and not the message.
- Each state the worker or an operator asks for has a partial index; a million delivered messages cost a claim nothing.
- `tally` is one row that every transaction keeps, so that the figures never count rows.
- `waiting_lanes` has a row for each lane of each message that waits, so that to ask whether some lanes are blocked
  costs those lanes only.
- `history` holds every change of state after the arrival; the arrival itself is in `messages`.
- `seals` is the chain of receipts: see receipts.py. `payloads`, `edits`, the proofs of `history`, header and bytes
  of `acknowledgements` may be sealed by a key: see guard.py.
- Texts that are no valid Unicode (bytes of a wrong charset, carried as surrogates) are stored as BLOB: see rows.py.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable

from hl7bridge.errors import JournalError
from hl7bridge.journal import receipts

Statement = str | Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x484C3742  # "HL7B": tells our file from any other SQLite file

_VERSION_1 = (
    """CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        control_id NOT NULL,
        sender NOT NULL,
        sha256 BLOB NOT NULL,
        received_at REAL NOT NULL,
        listener NOT NULL,
        peer NOT NULL,
        type NOT NULL,
        lanes TEXT NOT NULL,
        ack_code TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('received', 'waiting', 'delivered', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        next_attempt REAL NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        detail NOT NULL DEFAULT '',
        mapping_version TEXT NOT NULL DEFAULT '',
        delivered_at REAL,
        replays INTEGER NOT NULL DEFAULT 0,
        steps INTEGER NOT NULL DEFAULT 0,
        edit INTEGER
    )""",
    "CREATE UNIQUE INDEX messages_id ON messages (id)",
    "CREATE UNIQUE INDEX messages_identity ON messages (control_id, sender, sha256)",
    "CREATE INDEX messages_received ON messages (seq) WHERE state = 'received'",
    "CREATE INDEX messages_due ON messages (next_attempt, seq, lanes) WHERE state = 'waiting'",
    "CREATE INDEX messages_waiting ON messages (seq, next_attempt) WHERE state = 'waiting'",
    "CREATE INDEX messages_dead ON messages (seq) WHERE state = 'dead'",
    "CREATE INDEX messages_delivered ON messages (delivered_at) WHERE state = 'delivered'",
    "CREATE TABLE payloads (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL, ack BLOB NOT NULL)",
    "CREATE TABLE edits (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL, raw BLOB NOT NULL)",
    "CREATE INDEX edits_seq ON edits (seq)",
    """CREATE TABLE history (
        seq INTEGER NOT NULL,
        step INTEGER NOT NULL,
        at REAL NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        reason TEXT NOT NULL,
        detail NOT NULL,
        PRIMARY KEY (seq, step)
    ) WITHOUT ROWID""",
    """CREATE TABLE tally (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        last_seq INTEGER NOT NULL,
        received INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        dead INTEGER NOT NULL
    )""",
    "INSERT INTO tally VALUES (1, 0, 0, 0, 0, 0)",
    """CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        actor NOT NULL,
        action NOT NULL,
        subject NOT NULL,
        detail NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL
    )""",
)

_VERSION_2 = (
    """CREATE TABLE waiting_lanes (
        lane TEXT NOT NULL,
        next_attempt REAL NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (lane, next_attempt, seq)
    ) WITHOUT ROWID""",
    # messages that wait already: one row for each of the lanes, which stand joined by unit separators
    """INSERT INTO waiting_lanes WITH RECURSIVE part (lane, next_attempt, seq, rest) AS (
        SELECT '', next_attempt, seq, lanes || char(31) FROM messages WHERE state = 'waiting' AND lanes <> ''
        UNION ALL
        SELECT substr(rest, 1, instr(rest, char(31)) - 1), next_attempt, seq, substr(rest, instr(rest, char(31)) + 1)
        FROM part WHERE rest <> ''
    ) SELECT lane, next_attempt, seq FROM part WHERE lane <> ''""",
    "ALTER TABLE history ADD COLUMN actor NOT NULL DEFAULT ''",  # who replayed
    "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
    "CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
)


def _first_seal(connection: sqlite3.Connection) -> None:
    """The chain of receipts begins by saying which messages are older than it."""
    (last,) = connection.execute("SELECT last_seq FROM tally").fetchone()
    seals = receipts.Seals(0, receipts.GENESIS, [receipts.LEAF.pack(last, receipts.ORIGIN, receipts.GENESIS)])
    seals.write(connection, time.time())
    connection.execute("UPDATE tally SET seals = ?, seal_hash = ?", (seals.number, seals.hash))


_VERSION_3 = (
    # `seal`: the seal that holds the receipt of a row; 0 for what is older than receipts
    "ALTER TABLE messages ADD COLUMN seal INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE history ADD COLUMN seal INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE history ADD COLUMN proof BLOB NOT NULL DEFAULT x''",  # of a delivery: hashes, the server's answer
    "ALTER TABLE edits ADD COLUMN sha256 BLOB NOT NULL DEFAULT x''",
    "UPDATE edits SET sha256 = sha256(raw)",
    """CREATE TABLE seals (
        number INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        hash BLOB NOT NULL,
        root BLOB NOT NULL,
        acks BLOB NOT NULL,
        leaves BLOB NOT NULL
    )""",
    "ALTER TABLE tally ADD COLUMN seals INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE tally ADD COLUMN seal_hash BLOB NOT NULL DEFAULT x''",
    _first_seal,
    # keys that something here is sealed with, and secrets of the journal's own, sealed
    "CREATE TABLE keys (id TEXT PRIMARY KEY, proof BLOB NOT NULL, since REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE lineages (seq INTEGER PRIMARY KEY, mapping_version TEXT NOT NULL, document BLOB NOT NULL)",
)

_VERSION_4 = (  # what a sender is owed or bound to beyond its message: see terms.py
    """CREATE TABLE acknowledgements (
        number INTEGER PRIMARY KEY,
        seq INTEGER,
        channel NOT NULL,
        condition TEXT NOT NULL,
        after TEXT NOT NULL,
        header BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('awaited', 'decided', 'due', 'sent', 'not-due', 'given-up')),
        reason TEXT NOT NULL DEFAULT '',
        code TEXT NOT NULL DEFAULT '',
        control_id TEXT NOT NULL DEFAULT '',
        raw BLOB NOT NULL DEFAULT x'',
        attempts INTEGER NOT NULL DEFAULT 0,
        next_attempt REAL NOT NULL DEFAULT 0,
        detail TEXT NOT NULL DEFAULT '',
        at REAL NOT NULL,
        due_at REAL NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX acknowledgements_seq ON acknowledgements (seq)",
    "CREATE INDEX acknowledgements_awaited ON acknowledgements (number)"
    " WHERE state = 'awaited' AND after = 'translated'",
    "CREATE INDEX acknowledgements_decided ON acknowledgements (number) WHERE state = 'decided'",
    "CREATE INDEX acknowledgements_due ON acknowledgements (channel, next_attempt) WHERE state = 'due'",
    "CREATE INDEX acknowledgements_settled ON acknowledgements (at) WHERE state IN ('sent', 'not-due', 'given-up')",
    # the fate of a message and what follows from it for its sender are one transaction, whoever changes the state
    """CREATE TRIGGER acknowledgement_is_decided AFTER UPDATE OF state ON messages
        WHEN new.state IN ('delivered', 'dead')
        BEGIN
            UPDATE acknowledgements SET state = 'decided', reason = new.reason
            WHERE seq = new.seq AND state = 'awaited';
        END""",
    "CREATE TABLE sequences (link NOT NULL PRIMARY KEY, expected INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE fragments (
        seq INTEGER PRIMARY KEY,
        pointer NOT NULL,
        continues NOT NULL
    )""",
)

# in order; step n leads from version n to n + 1
MIGRATIONS: tuple[tuple[Statement, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
CURRENT = len(MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """The schema version the file says it has; 0 for a file without tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, name: str) -> int:
    """The file's version, once it is clear that the file is a journal this program can read."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise JournalError(f"{name} is an SQLite file but not a journal of hl7bridge; check journal.path")
    found = version(connection)
    if found > CURRENT:
        raise JournalError(
            f"{name} has journal version {found}, this program knows up to {CURRENT}:"
            " start the newer hl7bridge that wrote it"
        )
    return found


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to CURRENT. A step and its version are one transaction: a crash leaves a whole version."""
    connection.create_function("sha256", 1, lambda raw: hashlib.sha256(raw).digest(), deterministic=True)
    for number in range(version(connection), CURRENT):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                if isinstance(statement, str):
                    connection.execute(statement)
                else:
                    statement(connection)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
