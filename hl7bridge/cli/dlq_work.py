"""The work of `hl7bridge dlq`: dead letters found, replayed, purged and copied.

What holds: the journal says which messages are dead; what is on its way or delivered is left alone, and that is said;
what cannot be done to one message is told by its id, and the others go on. What changes or discloses is audited first.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.dlq_view import print_plan
from hl7bridge.cli.messages import operator_name
from hl7bridge.cli.terminal import plain
from hl7bridge.delivery.deadletter import ANSWER, BUNDLE, MESSAGE, REASON, DeadLetters
from hl7bridge.delivery.disk import write_folder
from hl7bridge.errors import JournalRefusal
from hl7bridge.journal.protocol import Entry, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import Damaged, KeyMissing

AT_ONCE = 50  # replays handed to the journal together: it keeps their order and makes them durable together

_ON_ITS_WAY = (State.RECEIVED, State.WAITING)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: ids, or a filter. Nothing said never means everything: the commands refuse that."""

    ids: tuple[str, ...]
    filter: Filter

    def __str__(self) -> str:
        wanted = {
            "reason": self.filter.reason,
            "type": self.filter.type,
            "listener": self.filter.listener,
            "older than": None if self.filter.older_than is None else f"{self.filter.older_than:.0f}s",
        }
        named = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None)
        return named or ("by id" if self.ids else "all")


async def find(journal: SqliteJournal, wanted: Filter) -> list[Entry]:
    """In order of arrival, without the messages themselves."""
    async with aclosing(journal.find(wanted, with_raw=False)) as entries:
        return [entry async for entry in entries]


async def look_up(journal: SqliteJournal, id: str, what_for: str = "") -> Entry | None:
    """The message of this id. `what_for`: written into the audit, wherever somebody is to see its bytes."""
    entry = await journal.get(id)
    if entry is not None and what_for:
        await journal.audit(operator_name(), what_for, entry.id)
    return entry


async def replay(journal: SqliteJournal, selection: Selection, payload: bytes | None, dry_run: bool) -> tuple[int, int]:
    """How many were replayed (`payload`: with these bytes), and how many were not."""
    entries, failed = await _chosen(journal, selection)
    if dry_run:
        print_plan(entries)
        return len(entries), failed
    if not entries:
        return 0, failed
    detail = f"{selection}, edited" if payload is not None else str(selection)
    await _audit(journal, "replay dead letters", entries, detail)
    done, by = 0, operator_name()
    with _progress(len(entries), "Replaying") as bar:
        for start in range(0, len(entries), AT_ONCE):
            batch = entries[start : start + AT_ONCE]
            works = (journal.replay(entry.id, payload, by=by) for entry in batch)
            results = await asyncio.gather(*works, return_exceptions=True)
            for entry, result in zip(batch, results, strict=True):
                if isinstance(result, JournalRefusal):
                    click.echo(f"{entry.id}: {result}", err=True)
                    failed += 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    done += 1
            bar.update(len(batch))
    return done, failed


async def purge(journal: SqliteJournal, letters: DeadLetters, selection: Selection, dry_run: bool) -> tuple[int, int]:
    """How many were purged, and how many were not.

    Directory, journal, and the directory again: a running daemon may have missed it and written it once more.
    """
    entries, failed = await _chosen(journal, selection)
    if dry_run:
        print_plan(entries)
        return len(entries), failed
    if not entries:
        return 0, failed
    await _audit(journal, "purge dead letters", entries, str(selection))
    done = 0
    with _progress(len(entries), "Purging") as bar:
        for entry in entries:
            try:
                letters.remove(entry.id, entry.received_at)
                removed = await journal.purge(Filter(states=(State.DEAD,), id=entry.id))
                letters.remove(entry.id, entry.received_at)
            except OSError as error:
                click.echo(f"{entry.id}: its directory cannot be removed ({error.strerror})", err=True)
                failed += 1
                continue
            if removed:
                done += 1
            else:  # replayed by somebody else just now: the daemon writes its directory again if it dies again
                click.echo(f"{entry.id}: is no dead letter any more, left alone", err=True)
            bar.update(1)
    return done, failed


async def export(journal: SqliteJournal, letters: DeadLetters, selection: Selection, target: Path) -> tuple[int, int]:
    """Copies in clear, a folder each in `target`: how many, and how many ids could not be taken."""
    entries, failed = await _chosen(journal, selection)
    if entries:
        await _audit(journal, "export dead letters", entries, str(selection))
    for entry in entries:
        whole = await journal.get(entry.id)
        if whole is not None:
            _copy(letters, whole, target)
    return len(entries), failed


async def _chosen(journal: SqliteJournal, selection: Selection) -> tuple[list[Entry], int]:
    """The dead letters of a selection in order of arrival, and how many ids could not be taken."""
    if not selection.ids:
        return await find(journal, selection.filter), 0
    found: dict[str, Entry] = {}
    failed = 0
    for id in selection.ids:
        entry = await journal.get(id)
        if entry is None:
            click.echo(f"{plain(id)}: no message in the journal has this id", err=True)
            failed += 1
        elif entry.state is not State.DEAD:
            words = "on its way" if entry.state in _ON_ITS_WAY else "delivered"
            click.echo(f"{entry.id}: is {words} already, left alone", err=True)
        else:
            found[entry.id] = entry._replace(raw=b"")
    return sorted(found.values(), key=lambda entry: entry.seq), failed


async def _audit(journal: SqliteJournal, action: str, entries: Sequence[Entry], detail: str) -> None:
    """One line for a message, one with the count for many; what became of each is in its own history."""
    subject = entries[0].id if len(entries) == 1 else f"{len(entries)} messages"
    await journal.audit(operator_name(), action, subject, detail)


def _copy(letters: DeadLetters, entry: Entry, target: Path) -> None:
    files = {MESSAGE: entry.raw}
    found = letters.find(entry.id, entry.received_at)
    if found is not None:
        for name in (BUNDLE, ANSWER, REASON):
            try:
                text = letters.opened(found, name)
            except (Damaged, KeyMissing) as error:
                click.echo(f"{entry.id}: {name}: {error}", err=True)
                continue
            if text is not None:
                files[name] = text
    write_folder(target, target / entry.id, files)


def _progress(length: int, label: str) -> Any:
    """A bar on standard error; nothing where that is no terminal."""
    shown = label if sys.stderr.isatty() else None
    return click.progressbar(length=length, label=shown, file=sys.stderr)
