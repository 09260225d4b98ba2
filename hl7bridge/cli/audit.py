"""`hl7bridge audit`: who looked at, replayed, edited, purged or changed what; whether the record of it is whole."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.durations import Duration
from hl7bridge.cli.prove import COPY, anchored, reading
from hl7bridge.cli.terminal import moment, table
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED
from hl7bridge.journal import audit as auditing
from hl7bridge.journal.audit import AuditEntry

PAGE = 1000
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
@COPY
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
@COPY
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
    wanted = anchored(anchor, "`audit verify` prints it")
    with reading(config, folder) as (connection, _):
        verdict = auditing.verify(connection, (wanted[0], bytes.fromhex(wanted[1])) if wanted else None)
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
@COPY
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


def _entries(config: Config, folder: Path | None, since: float | None) -> list[AuditEntry]:
    after = time.time() - since if since is not None else 0.0
    found: list[AuditEntry] = []
    last = 0
    with reading(config, folder) as (connection, _):
        while page := auditing.read(connection, last, PAGE):
            found += [entry for entry in page if entry.at >= after]
            last = page[-1].number
    return found


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
