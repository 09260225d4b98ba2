"""`hl7bridge dlq`: the dead letters: see what happened and whose turn it is, replay, purge.

What holds: the journal says which messages are dead, the directories are looked at for what the journal does not keep
(the server's answer). Every command works beside a running daemon or without one. A replay goes through the journal in
order of arrival, a purge removes for good and wants --yes; both, and every look at a message, are written into the
journal's audit first.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli import dlq_work
from hl7bridge.cli.dlq_view import print_letter, print_newest, print_reasons, summary
from hl7bridge.cli.dlq_work import Selection
from hl7bridge.cli.durations import Duration
from hl7bridge.cli.messages import ended_by, operator_name, run_with_journal
from hl7bridge.config import Config
from hl7bridge.delivery.deadletter import ANSWER, MESSAGE, SEALED, DeadLetters, Found
from hl7bridge.delivery.disk import write_new
from hl7bridge.errors import EXIT_FAILED, EXIT_OK, Hl7BridgeError
from hl7bridge.journal.protocol import Entry, Filter, State
from hl7bridge.reasons import CATALOGUE
from hl7bridge.sealing import Damaged, KeyMissing, open_keyring

LISTED = 50  # messages shown unless --limit says otherwise
EDITED_MAX = 64 * 1024 * 1024


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which dead letters, gathered into a Filter."""

    @click.option("--reason", type=click.Choice(sorted(CATALOGUE)), metavar="REASON", help="Reason, as listed.")
    @click.option("--type", "type_", metavar="TYPE", help="Message type as in MSH-9, e.g. ADT^A01.")
    @click.option("--listener", help="Name of the listener it came in by.")
    @click.option("--older-than", type=Duration(), help="Received longer ago than this: 15m, 2h, 3d.")
    @wraps(command)
    def wrapped(
        *args: Any,
        reason: str | None,
        type_: str | None,
        listener: str | None,
        older_than: float | None,
        **options: Any,
    ) -> Any:
        wanted = Filter(states=(State.DEAD,), reason=reason, type=type_, listener=listener, older_than=older_than)
        return command(*args, wanted=wanted, **options)

    return wrapped


def _selected(ids: tuple[str, ...], wanted: Filter, everything: bool) -> Selection:
    filtered = wanted != Filter(states=(State.DEAD,))
    if ids and (filtered or everything):
        raise click.UsageError("give ids or filters, not both")
    if not (ids or filtered or everything):
        raise click.UsageError("say which: ids, a filter such as --reason, or --all")
    return Selection(ids, wanted)


@click.group()
def dlq() -> None:
    """See, replay and purge dead letters: messages that could not be translated or delivered."""


@dlq.command("list")
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=LISTED, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, every dead letter.")
@click.pass_obj
def list_(config: Config, wanted: Filter, limit: int, as_json: bool) -> None:
    """List dead letters: by reason what to do, then the newest. Patient data is not shown.

    \b
    Examples:
      hl7bridge dlq list
      hl7bridge dlq list --reason not-translatable --json | jq .detail
    """
    found: list[Entry] = run_with_journal(config, lambda journal: dlq_work.find(journal, wanted))
    letters = _letters_of(config)
    if as_json:
        for entry in found:
            click.echo(json.dumps(summary(entry, letters)))
        return
    if not found:
        click.echo("No dead letter matches.", err=True)
        return
    print_reasons(found)
    print_newest(found[-limit:][::-1])
    if len(found) > limit:
        click.echo(f"The newest {limit} of {len(found)}; more with --limit.", err=True)


@dlq.command()
@click.argument("id")
@click.option("--raw", is_flag=True, help="Print the message itself and nothing else. Audited.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(config: Config, id: str, raw: bool, as_json: bool) -> None:
    """Tell what happened to a dead letter, whose turn it is, what to do, and where its files are.

    The server's own words (OperationOutcome) may quote the patient. --raw prints the message: who asked is recorded in
    the journal's audit under the name of the operating system's user.

    \b
    Examples:
      hl7bridge dlq show 01a200dd-4831-77df-bfb3-9448f4fddd78
      hl7bridge dlq show 01a200dd-4831-77df-bfb3-9448f4fddd78 --raw > message.hl7
    """
    entry: Entry | None = run_with_journal(
        config, lambda journal: dlq_work.look_up(journal, id, "show message" if raw else "")
    )
    if entry is None:
        raise ended_by(Hl7BridgeError("no message in the journal has this id"))
    if raw:
        click.echo(f"This access to patient data was recorded in the audit for {operator_name()}.", err=True)
        sys.stdout.buffer.write(entry.raw)
        return
    letters = _letters_of(config)
    found = _answered(config, letters, entry)
    if as_json:
        content = found.content if found is not None and found.content is not None else {}
        outcome = {key: content[key] for key in ("endpoint_status", "operation_outcome") if key in content}
        click.echo(json.dumps(summary(entry, letters) | outcome))
    else:
        print_letter(entry, found)
    if entry.state is not State.DEAD:
        click.echo(f"It is no dead letter now: it is {entry.state.value}.", err=True)


@dlq.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--dry-run", is_flag=True, help="Say which, change nothing.")
@click.option(
    "--edited",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay these bytes in place of the message of one ID; the original is kept.",
)
@click.pass_obj
def replay_(
    config: Config, ids: tuple[str, ...], wanted: Filter, everything: bool, dry_run: bool, edited: Path | None
) -> None:
    """Send dead letters on their way again, with the present tables, in order of arrival.

    The daemon translates and delivers them; a directory stays until its message is delivered. Replaying twice is
    harmless: what is on its way or delivered is left alone.

    \b
    Examples:
      hl7bridge dlq replay --reason not-translatable --dry-run
      hl7bridge dlq replay 0190b5a2-7a3c-7cc0-8000-000000000001 --edited mended.hl7
    """
    selection = _selected(ids, wanted, everything)
    payload = _payload(edited, ids)
    done, failed = run_with_journal(config, lambda journal: dlq_work.replay(journal, selection, payload, dry_run))
    verb = "would be replayed" if dry_run else "replayed"
    click.echo(f"{_count(done)} {verb}" + (f", {failed} not" if failed else "") + ".")
    raise click.exceptions.Exit(EXIT_FAILED if failed else EXIT_OK)


@dlq.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--dry-run", is_flag=True, help="Say which, remove nothing.")
@click.option("--yes", is_flag=True, help="Yes, remove them for good.")
@click.pass_obj
def purge(config: Config, ids: tuple[str, ...], wanted: Filter, everything: bool, dry_run: bool, yes: bool) -> None:
    """Remove dead letters for good: from the journal and their directories. There is no way back.

    \b
    Examples:
      hl7bridge dlq purge --reason unsupported-event --older-than 30d --dry-run
      hl7bridge dlq purge 01a200dd-4831-77df-bfb3-9448f4fddd78
    """
    selection = _selected(ids, wanted, everything)
    if not (yes or dry_run):
        raise click.UsageError("this removes messages for good: see which with --dry-run, then add --yes")
    letters = _letters_of(config)
    done, failed = run_with_journal(config, lambda journal: dlq_work.purge(journal, letters, selection, dry_run))
    verb = "would be purged" if dry_run else "purged"
    click.echo(f"{_count(done)} {verb}" + (f", {failed} not" if failed else "") + ".")
    raise click.exceptions.Exit(EXIT_FAILED if failed else EXIT_OK)


def _letters_of(config: Config) -> DeadLetters:
    return DeadLetters(Path(config.dead_letters.path), open_keyring(config.encryption))


def _answered(config: Config, letters: DeadLetters, entry: Entry) -> Found | None:
    """The directory; where the server's answer is encrypted, decrypted after it was audited."""
    found = letters.find(entry.id, entry.received_at)
    if found is None or not (found.path / (ANSWER + SEALED)).is_file():
        return found
    run_with_journal(config, lambda journal: journal.audit(operator_name(), "show server's answer", entry.id))
    click.echo(f"Decrypting the server's answer was recorded in the audit for {operator_name()}.", err=True)
    try:
        return letters.with_answer(found)
    except (Damaged, KeyMissing, ValueError) as error:
        click.echo(f"The server's answer cannot be read: {error}", err=True)
        return found


@dlq.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--to", "target", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make.")
@click.pass_obj
def export(config: Config, ids: tuple[str, ...], wanted: Filter, everything: bool, target: Path) -> None:
    """Copy dead letters in clear, a folder each, for whoever has to look into them. Audited.

    \b
    Examples:
      hl7bridge dlq export 01a200dd-4831-77df-bfb3-9448f4fddd78 --to /tmp/letters
      hl7bridge dlq export --reason structure --to /tmp/letters

    The copies are patient data, readable by this user only: remove them when the work is done.
    """
    selection = _selected(ids, wanted, everything)
    letters = _letters_of(config)

    done, failed = run_with_journal(config, lambda journal: dlq_work.export(journal, letters, selection, target))
    click.echo(f"{_count(done)} exported to {target}" + (f", {failed} not" if failed else "") + ".")
    raise click.exceptions.Exit(EXIT_FAILED if failed else EXIT_OK)


@dlq.command()
@click.argument("id")
@click.pass_obj
def edit(config: Config, id: str) -> None:
    """Open a dead letter's message in $EDITOR and replay what is saved; the original is kept. Audited.

    Segments stand one a line. Nothing is replayed when nothing was changed. The file is readable by this user only
    and removed afterwards; an editor may leave copies of its own beside it, so use one that does not.

    \b
    Examples:
      hl7bridge dlq edit 01a200dd-4831-77df-bfb3-9448f4fddd78
    """
    entry: Entry | None = run_with_journal(config, lambda journal: dlq_work.look_up(journal, id, "edit message"))
    if entry is None:
        raise ended_by(Hl7BridgeError("no message in the journal has this id"))
    if entry.state is not State.DEAD:
        raise ended_by(Hl7BridgeError(f"it is no dead letter: it is {entry.state.value}"))
    edited = _edited(entry.raw)
    if edited is None:
        click.echo("Nothing was changed: nothing is replayed.", err=True)
        return
    run_with_journal(config, lambda journal: journal.replay(entry.id, edited, by=operator_name()))
    click.echo("1 dead letter replayed with the edited message.")


def _edited(raw: bytes) -> bytes | None:
    """What was saved, None when it is the same. Line ends are the segments' own again."""
    lines = b"\r" in raw and b"\n" not in raw
    shown = raw.replace(b"\r", b"\n") if lines else raw
    with tempfile.TemporaryDirectory(prefix="hl7bridge-") as folder:
        file = Path(folder) / MESSAGE
        write_new(file, shown)
        click.edit(filename=str(file))
        saved = file.read_bytes()
    if saved == shown or not saved.strip():
        return None
    return saved.replace(b"\r\n", b"\n").replace(b"\n", b"\r") if lines else saved


def _payload(edited: Path | None, ids: Sequence[str]) -> bytes | None:
    if edited is None:
        return None
    if len(ids) != 1:
        raise click.UsageError("--edited replaces one message: give exactly one ID")
    if edited.stat().st_size > EDITED_MAX:
        raise click.UsageError(f"{edited}: larger than {EDITED_MAX} bytes")
    payload = edited.read_bytes()
    if not payload.strip():
        raise click.UsageError(f"{edited}: is empty")
    return payload


def _count(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number} dead letters"
