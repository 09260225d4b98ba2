"""`hl7bridge messages`: what is in the journal, and the story of one message.

The patient is hidden: listings show no patient identifier and no message. Whoever asks for one (`show --raw`, `show
--patient`) is written into the journal's audit before anything is printed, and is told so.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import click

from hl7bridge.cli.durations import Duration
from hl7bridge.cli.terminal import moment, plain, table
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED, Hl7BridgeError
from hl7bridge.hl7v2.header import read_header
from hl7bridge.journal.acknowledgements import Acknowledgement, Acknowledgements
from hl7bridge.journal.protocol import Entry, Filter, State, Step
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import open_keyring

LISTED = 50  # messages shown unless --limit says otherwise
_COLUMNS = ("ID", "RECEIVED", "LISTENER", "TYPE", "CONTROL ID", "STATE", "ATTEMPTS", "REASON")


def ended_by(error: Hl7BridgeError) -> click.exceptions.Exit:
    """Say the error in one line on standard error; raising what is returned ends the command with its exit code."""
    click.echo(f"Error: {error}", err=True)
    return click.exceptions.Exit(error.exit_code)


def run_with_journal(config: Config, work: Callable[[SqliteJournal], Coroutine[Any, Any, Any]]) -> Any:
    """The result of `work` on the configured journal, opened as a guest beside a running daemon or alone."""

    async def run() -> Any:
        keyring = open_keyring(config.encryption)
        journal = await SqliteJournal.open(config.journal.path, mode="guest", min_free_bytes=0, keyring=keyring)
        try:
            return await work(journal)
        finally:
            await journal.close()

    try:
        return asyncio.run(run())
    except Hl7BridgeError as error:
        raise ended_by(error) from None


def operator_name() -> str:
    """Who runs this command, as the operating system knows them (not as the environment says)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@click.group()
def messages() -> None:
    """See what is in the journal: which messages came, what became of them, and why."""


@messages.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in State]), help="May be repeated.")
@click.option("--type", "type_", metavar="TYPE", help="Message type as in MSH-9, e.g. ADT^A01.")
@click.option("--listener", help="Name of the listener it came in by.")
@click.option("--control-id", help="Message control id, MSH-10.")
@click.option("--older-than", type=Duration(), help="Received longer ago than this: 15m, 2h, 3d.")
@click.option("--newer-than", type=Duration(), help="Received within this time.")
@click.option("--limit", type=click.IntRange(min=1), default=LISTED, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_(
    config: Config,
    states: tuple[str, ...],
    type_: str | None,
    listener: str | None,
    control_id: str | None,
    older_than: float | None,
    newer_than: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """List messages, newest first. Patient data is not shown.

    \b
    Examples:
      hl7bridge messages list --state waiting --older-than 15m
      hl7bridge messages list --state dead --type ORU^R01 --json
    """
    wanted = Filter(
        states=tuple(State(state) for state in states),
        type=type_,
        listener=listener,
        control_id=control_id,
        older_than=older_than,
        newer_than=newer_than,
        limit=limit,
        newest_first=True,
    )
    found = run_with_journal(config, lambda journal: _found(journal, wanted))
    if as_json:
        for entry in found:
            click.echo(json.dumps(_summary(entry) | {"mapping_version": entry.mapping_version}))
    elif found:
        click.echo(table([_COLUMNS, *(_row(entry) for entry in found)]))
        if len(found) == limit:
            click.echo(f"The newest {limit}; more with --limit.", err=True)
    else:
        click.echo("No message matches.", err=True)


@messages.command()
@click.argument("message", metavar="ID|CONTROL-ID")
@click.option("--raw", is_flag=True, help="Print the message itself and nothing else. Audited.")
@click.option("--patient", is_flag=True, help="Print the patient identifiers (PID-3) as well. Audited.")
@click.option("--lineage", is_flag=True, help="Where each element came from and each field went: paths, no values.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(config: Config, message: str, raw: bool, patient: bool, lineage: bool, as_json: bool) -> None:
    """Tell the story of one message: when it came, every change of its state, and why.

    Found by its id or, where that is unique, by its control id (MSH-10). --raw and --patient show patient data: who
    asked is recorded in the journal's audit under the name of the operating system's user.

    \b
    Examples:
      hl7bridge messages show NL240305-000101
      hl7bridge messages show 01a200dd-4831-77df-bfb3-9448f4fddd78 --raw > message.hl7
      hl7bridge messages show NL240305-000101 --lineage

    --lineage shows what was stored when the message was translated (translate.lineage: stored). Where nothing was, it
    is worked out anew from the message and the tables its sender has now; a line on standard error says which it is,
    and when these are not the version that made the bundle.
    """
    found, story, identifiers, owed = run_with_journal(
        config, lambda journal: _looked_up(journal, message, raw, patient)
    )
    if not found:
        raise ended_by(Hl7BridgeError("no message in the journal has this id or control id"))
    if len(found) > 1:
        click.echo(table([_COLUMNS, *(_row(entry) for entry in found)]))
        click.echo("Several messages have this control id: show one by its id.", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    (entry,) = found
    if raw or patient:
        click.echo(f"This access to patient data was recorded in the audit for {operator_name()}.", err=True)
    if raw:
        _print_raw(entry.raw)
    elif lineage:
        kept = run_with_journal(config, lambda journal: journal.lineage(entry.id))
        if kept is not None:
            _print_kept(entry, kept, as_json)
        else:
            _print_lineage(config, entry, as_json)
    elif as_json:
        details: dict[str, Any] = _details(entry) | {"history": [_step(step) for step in story]}
        details |= {"application_acks": [_owed(row) for row in owed]} if owed else {}
        click.echo(json.dumps(details | ({"patient_identifiers": identifiers} if patient else {})))
    else:
        _print_story(entry, story, identifiers if patient else None)
        _print_owed(owed)


async def _found(journal: SqliteJournal, wanted: Filter) -> list[Entry]:
    async with aclosing(journal.find(wanted, with_raw=False)) as entries:
        return [entry async for entry in entries]


async def _looked_up(
    journal: SqliteJournal, key: str, raw: bool, patient: bool
) -> tuple[list[Entry], Sequence[Step], list[str], Sequence[Acknowledgement]]:
    """The messages under this key; of a single one also its history, its identifiers, if asked for and audited, and the
    application ACKs owed for it."""
    entry = await journal.get(key)
    if entry is None:
        found = await _found(journal, Filter(control_id=key, newest_first=True, limit=LISTED))
        if len(found) != 1:
            return found, (), [], ()
        entry = await journal.get(found[0].id)
    if entry is None:  # removed by retention between the two looks
        return [], (), [], ()
    for asked, action in ((raw, "show message"), (patient, "show patient identifiers")):
        if asked:
            await journal.audit(operator_name(), action, entry.id)
    identifiers = patient_identifiers(entry.raw) if patient else []
    owed = await Acknowledgements(journal).of(entry.id)
    return [entry], await journal.history(entry.id), identifiers, owed


def patient_identifiers(raw: bytes) -> list[str]:
    """PID-3 of every PID segment, each repetition as sent. Bytes that are no UTF-8 are read as Latin-1."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    segments = text.replace("\n", "\r").split("\r")
    field, repetition = "|", "~"
    found: list[str] = []
    for segment in segments:
        if segment.startswith("MSH") and len(segment) > 5:
            field, repetition = segment[3], segment[5]
        elif segment.startswith("PID" + field):
            found += [part for part in ([*segment.split(field), "", "", ""][3]).split(repetition) if part]
    return found


def _print_kept(entry: Entry, kept: tuple[str, bytes], as_json: bool) -> None:
    """The lineage that was stored with the message: by the tables of that time."""
    version, text = kept
    document = json.loads(text)
    click.echo(f"Stored when the tables of version {version or 'unknown'} translated this message.", err=True)
    if as_json:
        click.echo(json.dumps({"id": entry.id, "mapping_version": version, "lineage": "stored", **document}))
        return
    rows = [(line["path"], line["field"] or line["kind"], line["row"]) for line in document["elements"]]
    click.echo(table([("ELEMENT", "FROM", "ROW"), *rows]))
    lost = [fate for fate in document["fields"] if not fate["to"]]
    told = [(fate["field"], fate["why"][0]["text"] if fate["why"] else "") for fate in lost]
    if told:
        click.echo("\n" + table([("FIELD THAT WENT NOWHERE", "WHY"), *told]))
    if document["error"]:
        click.echo(f"\nNot translated: {document['error']}")


def _print_lineage(config: Config, entry: Entry, as_json: bool) -> None:
    """Paths and places only, worked out anew."""
    from hl7bridge.cli.explain import View
    from hl7bridge.hl7v2.message import parse
    from hl7bridge.service.tablesets import TableSets
    from hl7bridge.translation import explain

    try:
        header = read_header(entry.raw)
        setting = TableSets(config).setting(entry.listener, header, entry.peer)
        message = parse(entry.raw, charset_fallback=setting.charset_fallback)
        story = explain(message, setting.mappings, setting.zone)
    except Hl7BridgeError as error:
        raise ended_by(error) from None
    version = setting.mappings.version
    click.echo("No lineage was stored with this message: it is worked out anew.", err=True)
    if entry.mapping_version and entry.mapping_version != version:
        click.echo(f"The tables are version {version} now; {entry.mapping_version} translated this message.", err=True)
    view = View(story, message, values=False)
    if as_json:
        document = {
            "id": entry.id,
            "mapping_version": version,
            "lineage": "recomputed",
            **view.document(story.elements, story.fields),
        }
        click.echo(json.dumps(document))
    else:
        view.show(story.elements, story.fields)
    if story.error is not None:
        raise ended_by(story.error)


def _print_raw(raw: bytes) -> None:
    """The exact bytes; on a terminal with line ends it can show, and without bytes that would steer it."""
    if sys.stdout.isatty():
        click.echo(plain(raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"), keep="\n"))
    else:
        sys.stdout.buffer.write(raw)


def _print_story(entry: Entry, story: Sequence[Step], identifiers: list[str] | None) -> None:
    for name, value in _details(entry).items():
        click.echo(f"{name.replace('_', ' ') + ':':<17} {'-' if value in (None, '') else plain(str(value))}")
    if identifiers is not None:
        click.echo(f"{'patient:':<17} {plain(', '.join(identifiers)) or '-'}")
    click.echo("\nhistory:")
    rows = []
    for step in story:
        words = [step.reason, step.detail, f"replayed by {step.actor}" if step.actor else ""]
        rows.append(
            (f"  {moment(step.at)}", step.state.value, f"attempt {step.attempts}", "; ".join(filter(None, words)))
        )
    click.echo(table(rows))


def _print_owed(owed: Sequence[Acknowledgement]) -> None:
    """Application ACKs as exchanges of their own: to whom, which, and whether it was taken."""
    if not owed:
        return
    click.echo("\napplication ACK:")
    rows = []
    for row in owed:
        facts = _owed(row)
        attempts = f"attempt {row.attempts}"
        rows.append((f"  {facts['at']}", row.state, row.code or "-", plain(row.channel), attempts, plain(row.detail)))
    click.echo(table(rows))


def _owed(row: Acknowledgement) -> dict[str, Any]:
    return {
        "at": moment(row.at),
        "state": row.state,
        "code": row.code,
        "control_id": row.control_id,
        "channel": row.channel,
        "attempts": row.attempts,
        "next_attempt": moment(row.next_attempt) if row.state == "due" else None,
        "detail": row.detail,
    }


def _summary(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "received": moment(entry.received_at),
        "listener": entry.listener,
        "type": entry.type,
        "control_id": entry.control_id,
        "state": entry.state.value,
        "attempts": entry.attempts,
        "reason": entry.reason,
    }


def _details(entry: Entry) -> dict[str, Any]:
    return _summary(entry) | {
        "detail": entry.detail,
        "peer": entry.peer,
        "sender": entry.sender,
        "ack_code": entry.ack_code,
        "bytes": len(entry.raw),
        "sha256": entry.sha256.hex(),
        "mapping_version": entry.mapping_version,
        "next_attempt": moment(entry.next_attempt) if entry.state is State.WAITING else None,
        "delivered": None if entry.delivered_at is None else moment(entry.delivered_at),
        "replays": entry.replays,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "at": moment(step.at),
        "state": step.state.value,
        "attempts": step.attempts,
        "reason": step.reason,
        "detail": step.detail,
        "actor": step.actor,
    }


def _row(entry: Entry) -> tuple[str, ...]:
    return tuple(str(value) for value in _summary(entry).values())
