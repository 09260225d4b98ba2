"""`hl7bridge doctor`: tries what `serve` will need, one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hl7bridge.cli.main import Shell
from hl7bridge.errors import EXIT_UNAVAILABLE

if TYPE_CHECKING:
    from hl7bridge.examine.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


def tell(findings: Sequence[Finding], quiet: bool = False) -> int:
    """Prints findings; how many failed."""
    for finding in findings:
        if finding.grade == "ok" and quiet:
            continue
        grade = click.style(f"{finding.grade:4}", fg=_COLOURS[finding.grade])
        click.echo(f"{grade}  {finding.subject}: {finding.text}")
        if finding.remedy:
            click.echo(f"      -> {finding.remedy}")
    return sum(finding.grade == "FAIL" for finding in findings)


@click.command()
@click.option("--quiet", "-q", is_flag=True, help="Only what is not ok.")
@click.pass_obj
def doctor(shell: Shell, quiet: bool) -> None:
    """Try what the daemon will need, and say what to do about the rest.

    Binds each port, writes and syncs in each folder, loads the tables, asks the endpoint for /metadata, looks at zones,
    clock and TLS files. Nothing is left behind. Each line is ok, warn or FAIL; exit code 4 with any FAIL, 3 when the
    configuration itself is wrong.

    \b
    Examples:
      hl7bridge doctor
      hl7bridge --config site.yaml doctor --quiet
    """
    from hl7bridge.examine.everything import examine

    findings = asyncio.run(examine(shell.config))
    failed = tell(findings, quiet)
    if failed:
        click.echo(f"{failed} of {len(findings)} failed", err=True)
        raise click.exceptions.Exit(EXIT_UNAVAILABLE)
