"""How dead letters are shown: by reason, one a line, one in full, and as JSON.

What holds: nothing printed can steer a terminal, and a reason.json that somebody edited or damaged is never trusted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import click

from hl7bridge.cli.terminal import moment, plain, table
from hl7bridge.delivery.deadletter import DeadLetters, Found
from hl7bridge.journal.protocol import Entry
from hl7bridge.worker.letterbox import reason_of


def print_reasons(entries: Iterable[Entry]) -> None:
    """How many of each reason, and what to do about it: the most frequent first."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(entry.received_at)
    rows = [("REASON", "COUNT", "OLDEST", "NEWEST", "TURN OF", "WHAT TO DO")]
    for code, times in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        reason = reason_of(code)
        rows.append((code, str(len(times)), moment(min(times)), moment(max(times)), reason.whose, reason.remedy))
    click.echo(table(rows))


def print_plan(entries: Sequence[Entry]) -> None:
    """What a dry run would touch, one line a message."""
    for entry in entries:
        click.echo(f"{entry.id}  {moment(entry.received_at)}  {plain(entry.type)}  {entry.reason}")


def print_letter(entry: Entry, found: Found | None) -> None:
    """One dead letter for a person to read: the journal's facts, then the files, then the server's answer."""
    reason = reason_of(entry.reason) if entry.reason else None
    lines = {
        "id": entry.id,
        "what": reason.sentence if reason else "",
        "detail": entry.detail,
        "reason": entry.reason,
        "turn of": reason.whose if reason else "",
        "what to do": reason.remedy if reason else "",
        "received": f"{moment(entry.received_at)} by {entry.listener}",
        "type": entry.type,
        "control id": entry.control_id,
        "attempts": str(entry.attempts),
        "replays": str(entry.replays),
        "tables": entry.mapping_version,
        "state": entry.state.value,
    }
    for name, value in lines.items():
        if value:
            click.echo(f"{name + ':':<12} {plain(value)}")
    if found is None:
        click.echo("files:       none; a running daemon writes them")
        return
    if found.damaged:
        click.echo(f"files:       damaged: {found.damaged}; the journal has the message")
    for path in found.files:
        click.echo(f"file:        {path}")
    _print_answer(found.content or {})


def _print_answer(content: dict[str, Any]) -> None:
    """The server's answer out of reason.json, which anybody may have edited: nothing is taken for granted."""
    if content.get("endpoint_status"):
        click.echo(f"answer:      HTTP {plain(str(content['endpoint_status']))}")
    issues = content.get("operation_outcome")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict):
            words = [str(issue[key]) for key in ("severity", "code", "details", "diagnostics") if issue.get(key)]
            click.echo(f"issue:       {plain(': '.join(words))}")


def print_newest(entries: Sequence[Entry]) -> None:
    """One line a message, in the order given."""
    rows = [(e.id, moment(e.received_at), e.listener, e.type, e.reason, e.detail) for e in entries]
    click.echo("\n" + table([("ID", "RECEIVED", "LISTENER", "TYPE", "REASON", "DETAIL"), *rows]))


def summary(entry: Entry, letters: DeadLetters) -> dict[str, Any]:
    """One dead letter for a program to read."""
    found = letters.find(entry.id, entry.received_at)
    reason = reason_of(entry.reason) if entry.reason else None
    return {
        "id": entry.id,
        "received": moment(entry.received_at),
        "listener": entry.listener,
        "type": entry.type,
        "control_id": entry.control_id,
        "state": entry.state.value,
        "attempts": entry.attempts,
        "replays": entry.replays,
        "reason": entry.reason,
        "detail": entry.detail,
        "whose_turn": reason.whose if reason else "",
        "remedy": reason.remedy if reason else "",
        "path": None if found is None else str(found.path),
        "damaged": "the directory is missing" if found is None else found.damaged,
    }
