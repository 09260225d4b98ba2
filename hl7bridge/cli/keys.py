"""`hl7bridge keys`: make, list, change and verify the keys of what is at rest (encryption.keys).

A key is never printed but by `keys new` into the file it is asked for. Order of a change: `keys new`, enter it and make
it active, restart the daemon, `keys rotate`, then take the old one out of the configuration.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from hl7bridge.cli.messages import operator_name, run_with_journal
from hl7bridge.cli.prove import reading
from hl7bridge.cli.terminal import moment, table
from hl7bridge.config import Config
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.errors import EXIT_FAILED, Hl7BridgeError
from hl7bridge.journal import owed, rotation
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import KEY_ID, Damaged, KeyMissing, new_key, open_keyring


@click.group()
def keys() -> None:
    """Make, list, change and verify the keys of what is at rest."""


@keys.command()
@click.argument("id")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def new(id: str, path: Path) -> None:
    """Make a key and write it to PATH, which must not exist; readable by this user only.

    \b
    Examples:
      hl7bridge keys new 2026-11 /etc/hl7bridge/keys/2026-11

    Keep a copy elsewhere, apart from copies of the journal: without its key nothing can be read again.
    """
    if not KEY_ID.fullmatch(id):
        raise click.UsageError("an id is 1 to 32 letters, digits, '.', '_' or '-'")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Hl7BridgeError(f"{path} exists: a key is never overwritten") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(new_key() + "\n")
        file.flush()
        os.fsync(file.fileno())
    click.echo(f"encryption:\n  keys:\n    {id}: file:{path.absolute()}\n  active: {id}")
    click.echo("Enter this beside the keys there are, restart the daemon, then `hl7bridge keys rotate`.", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_(config: Config, as_json: bool) -> None:
    """List the keys: which one encrypts, and which ones the journal is encrypted with.

    \b
    Examples:
      hl7bridge keys list
    """
    with reading(config, None) as (connection, _):
        since = dict(connection.execute("SELECT id, since FROM keys"))
    told = []
    for id, reference in config.encryption.keys.items():
        use = "encrypts" if id == config.encryption.active else "decrypts" if id in since else "not in use: may go"
        told.append((id, reference, use, moment(since[id]) if id in since else ""))
    if as_json:
        for id, reference, use, at in told:
            click.echo(json.dumps({"id": id, "reference": reference, "use": use, "since": at}))
    elif told:
        click.echo(table([("ID", "REFERENCE", "USE", "SINCE"), *told]))
    else:
        click.echo("No keys: messages are stored in clear.", err=True)


@keys.command()
@click.pass_obj
def rotate(config: Config) -> None:
    """Encrypt everything with the active key: what older keys encrypted, and what is in clear.

    The journal and the dead letters, in small steps beside the running daemon or without it. It may be ended at any
    time and begun again. At the end it says which keys may be taken out of the configuration.

    \b
    Examples:
      hl7bridge keys rotate
    """
    if not config.encryption.active:
        raise Hl7BridgeError("encryption.active names no key: make one with `hl7bridge keys new`")
    unopened: int = run_with_journal(config, lambda journal: _rotate(config, journal))
    if unopened:
        click.echo(
            f"{unopened} could not be decrypted and stay as they are: `hl7bridge journal verify` names them.", err=True
        )
        raise click.exceptions.Exit(EXIT_FAILED)


async def _rotate(config: Config, journal: SqliteJournal) -> int:
    active = config.encryption.active
    await journal.audit(operator_name(), "rotate keys", active)
    total = await journal.count()
    after, changed, unopened = 0, 0, 0
    label = "Encrypting" if sys.stderr.isatty() else None
    with click.progressbar(length=max(total, 1), label=label, file=sys.stderr) as bar:
        while (batch := await journal.rotate(after)).last is not None:
            after, changed, unopened = batch.last, changed + batch.changed, unopened + batch.unopened
            bar.update(batch.messages)
    after = 0
    while (batch := await journal.rotate_owed(after)).last is not None:
        after, changed, unopened = batch.last, changed + batch.changed, unopened + batch.unopened
    done, failed = _letters(config)
    gone = [] if failed else await journal.retire()
    click.echo(f"{changed} texts and {done} dead letters are encrypted with '{active}' now.")
    for id in gone:
        click.echo(
            f"Nothing is encrypted with '{id}' any more: take it out of encryption.keys, keep it for old backups."
        )
    return unopened + failed


def _letters(config: Config) -> tuple[int, int]:
    """Dead letters sealed anew, and those that could not be."""
    letters = DeadLetters(Path(config.dead_letters.path), open_keyring(config.encryption))
    done = failed = 0
    for found in letters.scan():
        try:
            done += letters.reseal(found)
        except (Damaged, KeyMissing, OSError):
            failed += 1
    return done, failed


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def verify(config: Config, as_json: bool) -> None:
    """Decrypt everything that is at rest and count by key; nothing is shown.

    \b
    Examples:
      hl7bridge keys verify
    """
    count = rotation.Count({})
    with reading(config, None) as (connection, guard):
        statement = "SELECT p.seq, m.id, p.raw, p.ack FROM payloads p JOIN messages m ON m.seq = p.seq"
        for seq, id, raw, ack in connection.execute(statement):
            count.add(guard, "raw", seq, id, raw)
            count.add(guard, "ack", seq, id, ack)
        for table_, number, column in (("edits", "number", "raw"), ("history", "step", "proof")):
            kind = "edit" if table_ == "edits" else "proof"
            statement = f"SELECT t.seq, m.id, t.{number}, t.{column} FROM {table_} t JOIN messages m ON m.seq = t.seq"
            for seq, id, which, stored in connection.execute(statement):
                count.add(guard, f"{kind} {which}", seq, id, stored)
        for row, kind, _, stored in owed.everything(connection):
            count.add(guard, kind, row, b"", stored)
    letters = DeadLetters(Path(config.dead_letters.path), open_keyring(config.encryption))
    bad = 0
    for found in letters.scan():
        try:
            for name in ("message.hl7", "bundle.json", "answer.json"):
                letters.opened(found, name)
        except (Damaged, KeyMissing, OSError):
            bad += 1
    if as_json:
        document = {"by_key": count.by_key, "unopened": count.unopened, "unopened_dead_letters": bad}
        click.echo(json.dumps(document))
    else:
        rows = [(id or "(in clear)", str(number)) for id, number in sorted(count.by_key.items())]
        click.echo(table([("KEY", "TEXTS"), *rows]))
        click.echo(f"{count.unopened} texts and {bad} dead letters cannot be decrypted.")
    if count.unopened or bad:
        raise click.exceptions.Exit(EXIT_FAILED)
