"""Loads mapping tables: folders of YAML in, one checked TableSet out, or a TablesError with every mistake.

shipped folder -> overlays laid over it in their order (overlay.py) -> meaning (read*.py) -> check (check.py).
Nothing half-loaded ever leaves here: a running daemon keeps its old tables when the new ones do not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import hl7bridge
from hl7bridge.collecting import held
from hl7bridge.errors import Mistake, TablesError
from hl7bridge.fhir.model import closest
from hl7bridge.mapping.check import check_tables
from hl7bridge.mapping.overlay import overlay_file
from hl7bridge.mapping.read import TableReader
from hl7bridge.mapping.read_message import MessageReader
from hl7bridge.mapping.read_r5 import R5Reader
from hl7bridge.mapping.read_site import SiteReader
from hl7bridge.mapping.schema import Option, Place, TableSet
from hl7bridge.mapping.source import Mistakes, SourceFile, SourceFolder, read_folder, version_of

SHIPPED_NAME = "mappings"
_PACKAGE = Path(hl7bridge.__file__).parent


def shipped_tables() -> Path:
    """The folder of the shipped tables: inside the installed package, or beside it in a source tree."""
    installed = _PACKAGE / "tables"
    return installed if installed.is_dir() else _PACKAGE.parent / "mappings"


def load_tables(*folders: Path, shipped: bool = True, settings: Mapping[str, str] | None = None) -> TableSet:
    """The tables of `folders` laid over the shipped ones (or, with shipped=False, over the first of them).

    `settings`: values of options that override what the folders set. Raises TablesError with all mistakes at once,
    files named from their folder's own name on: `mappings/segments/PID-Patient.yaml:14: …`.
    """
    with held():
        tables, mistakes = read_tables(*folders, shipped=shipped, settings=settings)
        mistakes += check_tables(tables, {mistake.file for mistake in mistakes})
    if mistakes:
        raise TablesError(mistakes)
    return tables


def read_tables(
    *folders: Path, shipped: bool = True, settings: Mapping[str, str] | None = None
) -> tuple[TableSet, list[Mistake]]:
    """The tables as far as they can be read, unchecked, and the mistakes of form."""
    mistakes = Mistakes()
    named = [(shipped_tables(), SHIPPED_NAME)] if shipped else []
    named += [(folder, folder.resolve().name) for folder in folders]
    read = [read_folder(path, name, mistakes) for path, name in named]
    files = _overlaid(read)
    own = dict(settings or {})
    tables, message, site = TableReader(mistakes), MessageReader(mistakes), SiteReader(mistakes)
    segments = [tables.table(f) for f in _of(files, "segments")]
    datatypes = [tables.table(f) for f in _of(files, "datatypes")]
    shared = {t.name: t for t in map(message.shared, _of(files, "shared"))}
    messages = [message.message(f, shared) for f in _of(files, "messages")]
    codes = [site.codes(f) for f in _of(files, "codes")]
    r5 = [R5Reader(mistakes).table(f) for f in _of(files, "r5")]
    options_file, identity_file = files.get(("", "options")), files.get(("", "identity"))
    options, said = site.options(options_file) if options_file else ({}, {})
    return TableSet(
        version=version_of((folder.digest for folder in read), own),
        messages={t.name: t for t in messages if t},
        segments={t.name: t for t in segments if t},
        datatypes={t.name: t for t in datatypes if t},
        codes={t.name: t for t in codes if t},
        options=options,
        settings=_settings(options, said, own, mistakes),
        identities=site.identities(identity_file) if identity_file else {},
        shared=shared,
        r5={t.type: t for t in r5 if t},
    ), mistakes.found


def _overlaid(folders: list[SourceFolder]) -> dict[tuple[str, str], SourceFile]:
    files: dict[tuple[str, str], SourceFile] = {}
    for folder in folders:
        for key, file in folder.files.items():
            files[key] = overlay_file(files.get(key), file)
    return files


def _of(files: Mapping[tuple[str, str], SourceFile], folder: str) -> list[SourceFile]:
    return [file for (where, _), file in sorted(files.items()) if where == folder]


def _settings(
    options: Mapping[str, Option], said: Mapping[str, tuple[Place, str]], own: Mapping[str, str], mistakes: Mistakes
) -> dict[str, str]:
    """The value in force of every option; a value that is set must be one of those there are."""
    found = {name: option.default for name, option in options.items()}
    given = {**said, **{name: (Place("settings", 1, 1), value) for name, value in own.items()}}
    for name, (place, value) in given.items():
        option = options.get(name)
        if option is None:
            meant = closest(name, options)
            mistakes.add(place, f"there is no option {name!r}" + (f"; did you mean {meant!r}?" if meant else ""))
        elif option.values and value not in option.values:
            mistakes.add(place, f"the option {name!r} is one of {', '.join(option.values)}, not {value!r}")
        else:
            found[name] = value
    return found
