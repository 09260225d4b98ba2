"""`hl7bridge mappings activate|rollback|versions`: which version of the tables serves, and since when."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.main import Shell
from hl7bridge.cli.messages import operator_name
from hl7bridge.cli.terminal import moment, table
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_CONFIG, EXIT_USAGE, Hl7BridgeError, JournalError

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
LISTED = 20


@click.command()
@click.argument("what", nargs=-1, metavar="[FOLDER...|VERSION]")
@JSON
@click.pass_obj
def activate(shell: Shell, what: tuple[str, ...], as_json: bool) -> None:
    """Bring other tables into service: all of them and at once, or not at all.

    Without an argument the folders of the configuration as they are now; FOLDERs in place of `mappings.overlays`; or a
    stored VERSION. They are read and checked, their examples run, and copied; then a running daemon takes them over
    between two messages, and every later start serves them. What is not fit is refused with every mistake, and the
    tables in service serve on. Without a running daemon they are what its next start serves.

    Once a version is active it decides, not the configuration: its `mappings.path`, overlays and options are what the
    next `activate` takes.

    \b
    Examples:
      hl7bridge diff --old active --new sites/north feed.hl7.xz
      hl7bridge mappings activate
      hl7bridge mappings activate 754ecd2b083c

    Exit codes: 0 active, 2 there is no such version or folder, 3 refused.
    """
    config = shell.config
    request: dict[str, Any] = {"do": "activate", "by": operator_name()}
    if what and all(Path(word).is_dir() for word in what):
        request["folders"] = [str(Path(word).absolute()) for word in what]
    elif len(what) == 1:
        request["version"] = what[0]
    elif what:
        missing = next(word for word in what if not Path(word).is_dir())
        raise click.UsageError(f"there is no folder {missing!r}")
    _tell(_done(config, request), as_json)


@click.command()
@JSON
@click.pass_obj
def rollback(shell: Shell, as_json: bool) -> None:
    """Go back to the tables that were in service before; a second time, one version further.

    The older version is checked as any other: it is refused when this hl7bridge cannot use it.

    \b
    Examples:
      hl7bridge mappings rollback

    Exit codes: 0 done, 2 there is nothing to go back to, 3 refused.
    """
    _tell(_done(shell.config, {"do": "rollback", "by": operator_name()}), as_json)


@click.command()
@click.option("--limit", type=click.IntRange(1), default=LISTED, show_default=True, help="The newest so many.")
@JSON
@click.pass_obj
def versions(shell: Shell, limit: int, as_json: bool) -> None:
    """List what was in service: when, which version, by whom, and how much changed.

    `start` is a start from the configuration's folders, `refuse` an attempt that failed. The newest stands first, the
    version in service has a star. A listener or sender with overlays of its own gives its messages a version of its
    own; --json lists them all.

    \b
    Examples:
      hl7bridge mappings versions
      hl7bridge mappings versions --json | jq -r '.[0].version'
    """
    from hl7bridge.service.versions import Versions

    store = Versions(shell.config.journal.path)
    active, now = store.active(), store.in_service()
    found = store.history()[::-1]
    if as_json:
        lines = [
            {
                "at": moment(one.at),
                "action": one.action,
                "version": one.version,
                "by": one.by,
                "previous": one.previous,
                "changes": one.changes,
                "mistakes": one.mistakes,
                "mapping_versions": list(one.versions),
                "active": bool(one.version) and one.version == now,
            }
            for one in found[:limit]
        ]
        click.echo(json.dumps(lines, indent=1))
    elif found:
        rows = [("", "WHEN", "ACTION", "VERSION", "BY", "CHANGED")]
        for one in found[:limit]:
            changed = f"{one.mistakes} mistakes" if one.action == "refuse" else one.changes
            star = "*" if one.version and one.version == now else ""
            rows.append((star, moment(one.at), one.action, one.version or "-", one.by or "-", changed))
        click.echo(table(rows))
        if active is None:
            click.echo("Nothing was activated: each start serves the configuration's folders.", err=True)
    else:
        click.echo("No tables were in service yet.", err=True)


def _done(config: Config, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The running daemon's answer; without one, what is done in its place."""
    from hl7bridge.control import ask

    answer = ask(Path(config.journal.path), request)
    return {"running": True, **answer} if answer is not None else asyncio.run(_alone(config, request))


async def _alone(config: Config, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from hl7bridge.service import activation
    from hl7bridge.service.versions import Event, Versions

    store, by = Versions(config.journal.path), str(request["by"])
    active = store.active()
    previous = active.version if active else ""
    folders = request.get("folders")
    back = request["do"] == "rollback"
    what = activation.Wanted(str(request.get("version", "")), tuple(folders) if folders else None, back)
    try:
        before = activation.general(store.get(previous)) if previous else None
        ready = activation.ready(config, store, what)
    except Hl7BridgeError as error:
        mistakes = list(getattr(error, "mistakes", ())) or [str(error)]
        store.note(Event(time.time(), "refuse", "", by, previous, "", len(mistakes)))
        await _audit(config, by, "refuse mappings", previous, f"{len(mistakes)} mistakes, by {request['do']}")
        told = [str(mistake) for mistake in mistakes]
        return {"ok": False, "mistakes": told, "version": previous, "exit_code": error.exit_code}
    event = activation.event("rollback" if back else "activate", ready, previous, before, by)
    store.activate(event)
    await _audit(
        config, by, f"{event.action} mappings", event.version, f"before: {previous or 'none'}; {event.changes}"
    )
    return activation.answer_of(event)


async def _audit(config: Config, by: str, action: str, subject: str, detail: str) -> None:
    """Beside nobody: the journal is opened as its owner, so that there is one even before the first start."""
    from hl7bridge.journal.sqlite import SqliteJournal
    from hl7bridge.sealing import open_keyring

    try:
        journal = await SqliteJournal.open(
            config.journal.path, mode="owner", min_free_bytes=0, keyring=open_keyring(config.encryption)
        )
        try:
            await journal.audit(by, action, subject, detail)
        finally:
            await journal.close()
    except JournalError as error:
        click.echo(f"an entry of the audit is missing: {error}", err=True)


def _tell(answer: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(dict(answer), indent=1))
    elif answer["ok"]:
        served = "in service" if answer.get("running") else "what the next start serves"
        before = f", before: {answer['previous']}" if answer["previous"] else ""
        click.echo(f"ok: version {answer['version']} is {served}{before}")
        if answer["previous"]:
            click.echo(f"changed: {answer['changes'] or 'nothing'}")
    else:
        for mistake in answer["mistakes"]:
            click.echo(mistake, err=True)
        serves = answer.get("version") or "the version in service"
        count = len(answer["mistakes"])
        click.echo(f"refused ({count} mistake{'s' * (count != 1)}): {serves} serves on", err=True)
    if not answer["ok"]:
        code = int(answer.get("exit_code", EXIT_CONFIG))
        sys.exit(code if code in (EXIT_USAGE, EXIT_CONFIG) or code > EXIT_CONFIG else EXIT_CONFIG)
