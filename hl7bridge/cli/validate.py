"""`hl7bridge validate`: the lint of HL7 itself, for files."""

from __future__ import annotations

import json
from collections import Counter

import click

from hl7bridge.cli.inputs import Input, Unusable, messages
from hl7bridge.errors import EXIT_FAILED

SEVERITIES = {"E": "error", "W": "warning", "I": "info"}


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--charset", metavar="CODEC", help="For bytes that do not fit what MSH-18 declares, e.g. cp1252.")
@click.option("--errors-only", is_flag=True, help="Leave out warnings and notes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding, one a line.")
@click.pass_context
def validate(ctx: click.Context, paths: tuple[str, ...], charset: str | None, errors_only: bool, as_json: bool) -> None:
    """Check HL7 v2 files against HL7 itself, before any table is involved.

    Looks for malformed separators, character sets that the bytes contradict, missing segments and fields by the profile
    of the message's own version, unknown escape sequences, values that are not of their data type. PATH is a file, a
    directory (every file in it) or - for standard input; a file may hold many messages: bare, in MLLP frames, in
    batches. Values of a message are never printed.

    \b
    Examples:
      hl7bridge validate samples/adt_a01_admit.hl7
      hl7bridge validate --errors-only feed/

    \b
    Each line says where, how grave, which condition of HL7 table 0357, and what:
      adt.hl7: message 1: PID^1^3: error 101: PID-3 (patient identifier list) is required in version 2.5

    Exit codes: 0 no errors (warnings do not count), 1 errors found, 2 wrong usage.
    """
    from hl7bridge.hl7v2.conformance import Finding, check  # loads hl7apy: not for --help

    counts: Counter[str] = Counter()
    number = 0
    for item in messages(paths):
        if isinstance(item, Unusable):
            counts["E"] += 1
            _show(item, Finding("", 0, "", "100", "E", item.why), as_json)
            continue
        number += 1
        envelope = [Finding("", 0, "", "100", "W", problem) for problem in item.problems]
        for finding in [*envelope, *check(item.raw, charset)]:
            counts[finding.severity] += 1
            if finding.severity == "E" or not errors_only:
                _show(item, finding, as_json)
    click.echo(f"{number} messages: {counts['E']} errors, {counts['W']} warnings, {counts['I']} notes", err=True)
    if counts["E"]:
        ctx.exit(EXIT_FAILED)


def _show(item: Input | Unusable, finding: object, as_json: bool) -> None:
    from hl7bridge.hl7v2.conformance import Finding

    assert isinstance(finding, Finding)
    number = item.number if isinstance(item, Input) else 0
    if as_json:
        facts = {
            "file": item.name,
            "message": number,
            "segment": finding.segment,
            "field": finding.field,
            "location": finding.location,
            "severity": SEVERITIES[finding.severity],
            "condition": finding.condition,
            "text": finding.text,
        }
        click.echo(json.dumps(facts))
        return
    where = item.where if isinstance(item, Input) else item.name
    place = f"{finding.location}: " if finding.location else ""
    click.echo(f"{where}: {place}{SEVERITIES[finding.severity]} {finding.condition}: {finding.text}")
