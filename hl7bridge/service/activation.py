"""Other tables come into service: read, checked, their examples run, kept; all of it, or a refusal with every mistake.

What holds and why:
- Who decides: the active version, if one was ever activated; else the folders of the configuration, read at the start.
  `mappings.path`, the overlays and `mappings.options` are what the next `activate` takes; they change nothing before.
- Tables are judged as the copy that will serve, not as folders somebody may be editing. At a start they are read once,
  from the folders, and kept when the ports answer: a copy of hundreds of files takes as long as reading them.
- What is refused leaves no trace but a line in history and audit: the version in service serves on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hl7bridge import __version__
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_CONFIG, EXIT_USAGE, Hl7BridgeError, TablesError
from hl7bridge.mapping.load import SHIPPED_NAME, load_tables, shipped_tables
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.schema import TableSet
from hl7bridge.mapping.source import digest_of, version_of
from hl7bridge.service.tablesets import Folders, TableSets, wanted
from hl7bridge.service.versions import Active, Draft, Event, Version, Versions

_Sets = dict[Folders, list[str]]  # by what is laid over the general overlays: keys of the draft
BASE = "base"  # the draft's key of the shipped tables, or of mappings.path


class Refused(Hl7BridgeError):
    """The tables are not fit to serve: every mistake, each beginning with its file and line."""

    exit_code = EXIT_CONFIG

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, slots=True)
class Ready:
    """Tables that may serve: loaded, checked, examples hold, kept as `version`."""

    version: Version
    tables: TableSets


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `version`: a stored one; `folders`: in place of mappings.overlays; neither: the configuration.

    `back`: the version before, whatever it is.
    """

    version: str = ""
    folders: Folders | None = None
    back: bool = False


class Nothing(Hl7BridgeError):
    """What is asked for is not there."""

    exit_code = EXIT_USAGE


def ready(config: Config, store: Versions, what: Wanted) -> Ready:
    """The tables that are asked for, fit to serve. Raises Refused, Nothing, UnavailableError. Takes seconds."""
    if what.back:
        before = store.before()
        if before is None:
            raise Nothing("there is no version before this one to go back to; see `hl7bridge mappings versions`")
        return _vetted(config, store.get(before))
    if what.version:
        version = store.find(what.version)
        if version is None:
            raise Nothing(f"no stored version, or more than one, is called {what.version!r}")
        return _vetted(config, version)
    with _draft(config, store, what.folders) as (draft, sets):
        paths = {extra: tuple(draft.folders[name] for name in names) for extra, names in sets.items()}
        tables = _tables(config, paths, config.mappings.options)
        _examples(tables)
        versions = _versions(config, tables)
        version = store.keep(draft, _id(versions), sets, versions, config.mappings.options, __version__)
    return Ready(version, tables)


@contextmanager
def _draft(config: Config, store: Versions, folders: Folders | None = None) -> Iterator[tuple[Draft, _Sets]]:
    """A copy of the configuration's folders (`folders` in place of mappings.overlays) as they are now."""
    general = config.mappings.overlays if folders is None else folders
    lists = {extra: (*general, *extra) for extra in _extras(config)}
    base = Path(config.mappings.path) if config.mappings.path else shipped_tables()
    copied = [(BASE, base, base.resolve().name if config.mappings.path else SHIPPED_NAME)]
    copied += [(name, Path(name), Path(name).resolve().name) for name in dict.fromkeys(sum(lists.values(), ()))]
    missing = [name for name, folder, _ in copied if not folder.is_dir()]
    if missing:
        raise Refused([f"{name}:1: there is no such folder of mapping tables" for name in missing])
    with store.draft(copied) as draft:
        yield draft, {extra: [BASE, *names] for extra, names in lists.items()}


def from_folders(config: Config) -> tuple[TableSets, str]:
    """The configuration's folders as they are now, for the start, and the name of this version. Raises TablesError."""
    tables = TableSets(config)
    return tables, _id(_versions(config, tables))


def keep(config: Config, store: Versions, tables: TableSets, id: str) -> Ready:
    """Keeps what `from_folders` gave, unless it is kept already.

    What is kept is what serves: a folder that was changed in between is Refused. Raises UnavailableError.
    """
    if not store.has(id):
        with _draft(config, store) as (draft, sets):
            digests = {name: digest_of(folder) for name, folder in draft.folders.items()}
            options = config.mappings.options
            versions = {extra: version_of(map(digests.__getitem__, names), options) for extra, names in sets.items()}
            if _id(versions) != id:
                raise Refused(["the folders of the tables were changed while they were read"])
            store.keep(draft, id, sets, versions, options, __version__)
    return Ready(store.get(id), tables)


def served(config: Config, store: Versions, active: Active) -> Ready:
    """The active version, for the start: it was fit when it was activated, so its examples are not run again."""
    return _vetted(config, store.get(active.version), examples=False)


def _vetted(config: Config, version: Version, *, examples: bool = True) -> Ready:
    tables = _tables(config, version.sets, version.options)
    if examples:
        _examples(tables)
    return Ready(version, tables)


def _tables(config: Config, sets: Mapping[Folders, Sequence[Path]], options: Mapping[str, str]) -> TableSets:
    mistakes: list[str] = []
    loaded: dict[Folders, Mappings] = {}
    for extra, folders in sets.items():
        try:
            loaded[extra] = load_mappings(*folders, shipped=False, settings=options)
        except TablesError as error:
            mistakes += map(str, error.mistakes)
    general = len(config.mappings.overlays)
    for overlays in wanted(config):
        if overlays[general:] not in sets:
            folder = ", ".join(overlays[general:])
            mistakes.append(
                f"configuration: a listener or sender has the overlays {folder}, which this version does not hold;"
                " `hl7bridge mappings activate` takes the configuration's folders"
            )
    if mistakes:
        raise Refused(mistakes)
    return TableSets(config, lambda overlays: loaded[overlays[general:]])


def _examples(tables: TableSets) -> None:
    from hl7bridge.mapping.examples import run  # nobody needs it at a start

    mistakes = [str(difference) for mappings in tables.sets.values() for difference in run(mappings)[1]]
    if mistakes:
        raise Refused(mistakes)


def _extras(config: Config) -> list[Folders]:
    """What listeners and senders lay over the general overlays; nothing first."""
    return [overlays[len(config.mappings.overlays) :] for overlays in wanted(config)]


def _versions(config: Config, tables: TableSets) -> dict[Folders, str]:
    return {extra: tables.sets[(*config.mappings.overlays, *extra)].version for extra in _extras(config)}


def _id(versions: Mapping[Folders, str]) -> str:
    """A site with one set has one name for it; with several, the name of all follows from theirs."""
    if len(versions) == 1:
        return next(iter(versions.values()))
    told = "\n".join(f"{'|'.join(extra)}\0{version}" for extra, version in sorted(versions.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def general(version: Version) -> TableSet:
    """The tables of a stored version as every listener without overlays of its own gets them. Raises TablesError."""
    return load_tables(*version.sets[()], shipped=False, settings=version.options)


def event(action: str, ready_: Ready, previous: str, before: TableSet | None, by: str) -> Event:
    """The line for history and audit."""
    changes = ""
    if before is not None:
        from hl7bridge.mapping.reach import counts

        changes = counts(before, ready_.tables.general.mappings.tables)
    versions = tuple(dict.fromkeys(mappings.version for mappings in ready_.tables.sets.values()))
    return Event(time.time(), action, ready_.version.id, by, previous, changes, 0, versions)


def told(version: str, active: Active | None) -> str:
    """Which tables serve and why these, in one line for health, log and `doctor`."""
    if active is None:
        return f"version {version}, from the configuration's folders; none was activated"
    since = datetime.fromtimestamp(active.at).astimezone().isoformat(timespec="seconds")
    return f"version {version}, activated {since} by {active.by}"


def answer_of(event_: Event) -> dict[str, Any]:
    """What a command is told when it is done."""
    return {"ok": True, "version": event_.version, "previous": event_.previous, "changes": event_.changes}
