"""`hl7bridge journal`: verify the whole journal; save what can be read of a damaged one into a new one.

Nothing of a message is shown: findings name messages by id and say what does not fit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from hl7bridge.cli.prove import COPY, anchored, reading
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED
from hl7bridge.journal import verify

SHOWN = 20


@click.group()
def journal() -> None:
    """Verify the journal, save what a damaged one holds."""


@journal.command("verify")
@COPY
@click.option("--anchor", metavar="NUMBER:HASH", help="A seal as the daemon's log has it: the chain must hold it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def verify_(config: Config, folder: Path | None, anchor: str | None, as_json: bool) -> None:
    """Hold every message against its receipts, and the receipts against each other.

    Finds what was changed, removed, put in or reordered, and payloads that are damaged. Reads the whole journal:
    about 20,000 messages a second of CPU; the daemon may run beside it. An anchor shows that nobody made the chain
    anew: the daemon logs one every ten minutes (`receipts sealed`).

    \b
    Examples:
      hl7bridge journal verify
      hl7bridge journal verify --journal /backup/journal --anchor 18211:9f2c…

    Exit codes: 0 verified, 1 not verified, 4 the journal cannot be read.
    """
    wanted = anchored(anchor, "the log has it")
    with (
        reading(config, folder) as (connection, guard),
        click.progressbar(length=1, label="Verifying" if sys.stderr.isatty() else None, file=sys.stderr) as bar,
    ):

        def progress(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        verdict = verify.Whole(connection, guard, progress).run(wanted)
    number, hash = verdict.head
    if as_json:
        findings = [{"message": f.id, "seal": f.seal, "text": f.text} for f in verdict.findings]
        click.echo(json.dumps({
            "verified": not findings, "seals": verdict.seals, "messages": verdict.messages,
            "removed": verdict.removed, "head": f"{number}:{hash}", "findings": findings,
        }))  # fmt: skip
    else:
        click.echo(
            f"{verdict.messages} messages, {verdict.removed} removed, {verdict.seals} seals, newest {number}:{hash}"
        )
        for finding in verdict.findings[:SHOWN]:
            click.echo(f"  {finding}")
        if len(verdict.findings) > SHOWN:
            click.echo(f"  and {len(verdict.findings) - SHOWN} more (--json tells all)")
        click.echo("NOT VERIFIED" if verdict.findings else "verified")
    if verdict.findings:
        raise click.exceptions.Exit(EXIT_FAILED)


@journal.command()
@click.argument("target", metavar="NEW-FOLDER", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def salvage(config: Config, target: Path) -> None:
    """Save what can be read of a damaged journal into a new folder. The damaged one is not touched.

    Stop the daemon first. Messages that are whole keep their ids, states and receipts; one whose payload is lost
    becomes a dead letter (damaged). Then set journal.path to the new folder, start, and let `hl7bridge journal verify`
    say what is missing.

    \b
    Examples:
      hl7bridge journal salvage /var/lib/hl7bridge/journal-saved
    """
    from hl7bridge.journal.salvage import salvage as save

    saved = save(Path(config.journal.path), target)
    if saved.repaired:
        click.echo("The first page of the file was lost and made anew.", err=True)
    click.echo(f"{saved.rows['messages']} messages, {saved.rows['payloads']} payloads saved to {target}.")
    lost = {table: count for table, count in saved.lost.items() if count}
    for table, count in lost.items():
        click.echo(f"{table}: {count} could not be read")
    if lost:
        raise click.exceptions.Exit(EXIT_FAILED)
