"""`hl7bridge audit`: who looked at, replayed, edited, purged or changed what; whether the record of it is whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.durations import Duration
from hl7bridge.cli.messages import run_with_journal
from hl7bridge.cli.terminal import moment, table
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED
from hl7bridge.journal.audit import AuditEntry, Verdict
from hl7bridge.journal.sqlite import SqliteJournal

PAGE = 1000
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
_JOURNAL = click.option(
    "--journal",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A copy of the journal's folder, in place of the configured one.",
)
_SINCE = click.option("--since", type=Duration(), metavar="SPAN", help="Only the entries of the last 7d, 12h …")


@click.group()
def audit() -> None:
    """Who saw, replayed, edited, purged or changed what.

    \b
    Examples:
      hl7bridge audit list --since 7d
      hl7bridge audit verify
      hl7bridge audit export --since 1d > audit.ndjson
    """


@audit.command("list")
@_SINCE
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_JOURNAL
@click.pass_obj
def list_(config: Config, since: float | None, as_json: bool, folder: Path | None) -> None:
    """List the entries, oldest first.

    \b
    Examples:
      hl7bridge audit list --since 7d
      hl7bridge audit list --json | jq -r .action | sort | uniq -c
    """
    found = _entries(config, folder, since)
    if as_json:
        for entry in found:
            click.echo(json.dumps(_as_json(entry)))
        return
    if not found:
        click.echo("No entry.")
        return
    rows = [(str(one.number), moment(one.at), one.actor, one.action, one.subject, one.detail) for one in found]
    click.echo(table([("NUMBER", "AT", "WHO", "DID", "TO", "DETAIL"), *rows]))


@audit.command()
@click.option("--anchor", metavar="NUMBER:HASH", help="An entry as you kept it elsewhere: the chain must hold it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@_JOURNAL
@click.pass_obj
def verify(config: Config, anchor: str | None, as_json: bool, folder: Path | None) -> None:
    """Hold the entries against each other and against the receipts: finds what was changed, taken out or cut off.

    Each entry holds the hash of the one before, and the receipts of the journal hold the hash of each entry, so that
    the newest cannot be taken off unseen either. Keep the NUMBER:HASH this prints elsewhere: nobody can forge that too.

    \b
    Examples:
      hl7bridge audit verify
      hl7bridge audit verify --anchor 41:9f2c…

    Exit codes: 0 whole, 1 not whole, 4 the journal cannot be read.
    """
    wanted = None
    if anchor is not None:
        match = _ANCHOR.fullmatch(anchor)
        if match is None:
            raise click.UsageError("--anchor is NUMBER:HASH, as `audit verify` prints it")
        wanted = int(match[1]), bytes.fromhex(match[2])

    async def work(journal: SqliteJournal) -> Verdict:
        return await journal.verify_audit(wanted)

    verdict: Verdict = run_with_journal(_at(config, folder), work)
    end = f"{verdict.last[0]}:{verdict.last[1].hex()}" if verdict.entries else ""
    if as_json:
        told = {"whole": verdict.whole, "entries": verdict.entries, "anchor": end, "findings": list(verdict.findings)}
        click.echo(json.dumps(told))
    else:
        for finding in verdict.findings:
            click.echo(finding)
        state = "whole" if verdict.whole else "NOT WHOLE"
        click.echo(f"The audit of {verdict.entries} entries is {state}." + (f" Its end is {end}" if end else ""))
    raise click.exceptions.Exit(0 if verdict.whole else EXIT_FAILED)


@audit.command()
@_SINCE
@_JOURNAL
@click.pass_obj
def export(config: Config, since: float | None, folder: Path | None) -> None:
    """Print the entries as FHIR AuditEvent resources, one a line (NDJSON), for an audit repository.

    Each has the hash of its entry as id: PUT to AuditEvent/ID, and what is sent twice is there once.

    \b
    Examples:
      hl7bridge audit export --since 1d > audit.ndjson
    """
    from hl7bridge.fhir.audit_event import audit_event

    for one in _entries(config, folder, since):
        event = audit_event(one.number, one.at, one.actor, one.action, one.subject, one.detail, one.hash)
        click.echo(json.dumps(event))


def _at(config: Config, folder: Path | None) -> Config:
    if folder is None:
        return config
    return config.model_copy(update={"journal": config.journal.model_copy(update={"path": str(folder)})})


def _entries(config: Config, folder: Path | None, since: float | None) -> list[AuditEntry]:
    after = time.time() - since if since is not None else 0.0

    async def work(journal: SqliteJournal) -> list[AuditEntry]:
        async with aclosing(_all(journal)) as entries:
            return [entry async for entry in entries if entry.at >= after]

    found: list[AuditEntry] = run_with_journal(_at(config, folder), work)
    return found


async def _all(journal: SqliteJournal) -> AsyncGenerator[AuditEntry, None]:
    last = 0
    while page := await journal.audited(last, PAGE):
        for entry in page:
            yield entry
        last = page[-1].number


def _as_json(entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": moment(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "hash": entry.hash.hex(),
    }
