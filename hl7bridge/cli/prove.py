"""`hl7bridge prove`: what happened to a message, in order, held against the chain of receipts.

Read only: beside a running daemon, without one, or on a copy of the journal. No patient data is shown; what the server
calls its resources (`--locations`) may be made from a patient's identifiers, so asking for it is audited.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.messages import operator_name, run_with_journal
from hl7bridge.cli.terminal import moment, plain, table
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED, Hl7BridgeError, JournalError
from hl7bridge.journal import files
from hl7bridge.journal.guard import Guard, open_guard
from hl7bridge.journal.proof import Event, Proof
from hl7bridge.journal.proof import prove as proof_of
from hl7bridge.journal.rows import bindable, id_bytes
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import open_keyring

COPY = click.option("--journal", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
                    help="A copy of the journal's folder, in place of the configured one.")  # fmt: skip
MOST = 50  # messages with the same control id that are told
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
_GUARDED = ("etag", "location", "written")
_ANSWERS = {True: "written to the socket", False: "not written: the sender was gone", None: "not recorded"}


@contextlib.contextmanager
def reading(config: Config, folder: Path | None) -> Iterator[tuple[sqlite3.Connection, Guard]]:
    """A connection that only reads, to the configured journal or a copy in `folder`. Raises JournalError."""
    file = (folder or Path(config.journal.path)) / files.DATABASE
    if not file.exists():
        raise JournalError(f"there is no journal in {file.parent}")
    with contextlib.closing(files.connect_proof(file, copy=folder is not None)) as connection:
        try:
            yield connection, open_guard(connection, open_keyring(config.encryption), 0.0, owner=False)
        except sqlite3.Error as error:
            raise JournalError(f"{file} cannot be read ({error}). {files.ADVICE}") from None


def anchored(text: str | None, where: str) -> tuple[int, str] | None:
    """A NUMBER:HASH that was kept elsewhere. UsageError: it is none; `where` says who prints them."""
    if text is None:
        return None
    match = _ANCHOR.fullmatch(text)
    if match is None:
        raise click.UsageError(f"--anchor is NUMBER:HASH, as {where}")
    return int(match[1]), match[2]


@click.command()
@click.argument("message", metavar="CONTROL-ID|ID")
@COPY
@click.option("--locations", is_flag=True, help="Show what the server named its resources as well. Audited.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
@click.pass_obj
def prove(config: Config, message: str, folder: Path | None, locations: bool, as_json: bool) -> None:
    """Tell what happened to a message, step by step, and whether the record of it is untouched.

    Each step is held against its receipt, the receipts from the first to the newest against each other, and the stored
    bytes against the SHA-256 of what was received. Several messages with one control id are told one after the other.
    What retention has removed cannot be told any more.

    \b
    Examples:
      hl7bridge prove NL240305-000101
      hl7bridge prove 01a200dd-4831-77df-bfb3-9448f4fddd78 --json | jq .verified
      hl7bridge prove NL240305-000101 --journal /backup/journal

    Exit codes: 0 verified, 1 not verified or no such message, 4 the journal cannot be read.
    """
    with reading(config, folder) as (connection, guard):
        connection.execute("BEGIN")  # one moment of the journal
        proofs = [proof for seq in _seqs(connection, message) if (proof := proof_of(connection, guard, seq))]
        connection.execute("ROLLBACK")
    if not proofs:
        raise Hl7BridgeError("no message in the journal has this id or control id")
    if locations and folder is None:
        run_with_journal(config, partial(_audited, ids=[proof.id for proof in proofs]))
        click.echo(f"This access to patient data was recorded in the audit for {operator_name()}.", err=True)
    for number, proof in enumerate(proofs):
        if as_json:
            click.echo(json.dumps(_document(proof, locations)))
        else:
            click.echo("\n" * bool(number), nl=False)
            _show(proof, locations)
    if not all(proof.verified for proof in proofs):
        raise click.exceptions.Exit(EXIT_FAILED)


async def _audited(journal: SqliteJournal, ids: list[str]) -> None:
    for id in ids:
        await journal.audit(operator_name(), "show locations", id)


def _seqs(connection: sqlite3.Connection, message: str) -> list[int]:
    statement = "SELECT seq FROM messages WHERE id = ?"
    found = connection.execute(statement, (id_bytes(message),)).fetchall()
    if not found:
        statement = "SELECT seq FROM messages WHERE control_id = ? ORDER BY seq LIMIT ?"
        found = connection.execute(statement, (bindable(message), MOST)).fetchall()
    return [seq for (seq,) in found]


def _show(proof: Proof, locations: bool) -> None:
    click.echo(f"message:     {proof.id}")
    click.echo(f"control id:  {plain(proof.control_id)}")
    click.echo(f"sender:      {plain(proof.sender)}")
    click.echo(f"type:        {plain(proof.type)}")
    click.echo(f"sha-256:     {proof.sha256}")
    click.echo(f"stored:      {proof.bytes}")
    click.echo(f"answer:      {_ANSWERS[proof.answered]}\n")
    rows = [("  TIME", "WHAT", "SEAL", "FACTS")]
    for event in proof.events:
        mark = str(event.seal) if event.proven else "none" if not event.seal else f"{event.seal} DOES NOT FIT"
        rows.append((f"  {moment(event.at)}", event.what, mark, plain(_facts(event, locations))))
    click.echo(table(rows))
    if proof.verified:
        older = any(not event.seal for event in proof.events)
        words = "; what has no seal is from before receipts were kept" if older else ""
        click.echo(f"\nverified: every step fits its receipt, {proof.seals} seals follow from each other{words}")
    else:
        click.echo("\nNOT VERIFIED:")
        for finding in proof.findings:
            click.echo(f"  {finding}")


def _facts(event: Event, locations: bool) -> str:
    told = []
    for name, value in event.facts.items():
        if name in _GUARDED:
            if locations:
                told.append(f"{name} {json.dumps(value)}")
        elif name.endswith("sha256"):
            told.append(f"{name} {str(value)[:16]}…")
        elif value not in (None, 0, "") and name != "written":
            told.append(f"{name} {value}")
    return ", ".join(told)


def _document(proof: Proof, locations: bool) -> dict[str, Any]:
    return {
        "id": proof.id,
        "control_id": proof.control_id,
        "sender": proof.sender,
        "type": proof.type,
        "sha256": proof.sha256,
        "verified": proof.verified,
        "stored": proof.bytes,
        "answered": proof.answered,
        "seals": proof.seals,
        "events": [
            {
                "at": moment(event.at),
                "what": event.what,
                "seal": event.seal,
                "proven": event.proven,
                "facts": {k: v for k, v in event.facts.items() if locations or k not in _GUARDED},
            }
            for event in proof.events
        ],
        "findings": [str(finding) for finding in proof.findings],
    }
