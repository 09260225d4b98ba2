"""`hl7bridge mappings watch`: check and test again whenever a table is saved, one report on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from hl7bridge.cli.terminal import placed
from hl7bridge.errors import TablesError

LOOK_EVERY = 0.3  # seconds
SETTLE = 0.05  # seconds between two looks that must agree: an editor writes a file in steps

Seen = Mapping[Path, tuple[int, int]]  # file -> modified (ns), bytes


def seen(folders: Sequence[Path]) -> Seen:
    """The tables as they stand on disk."""
    found: dict[Path, tuple[int, int]] = {}
    for folder in folders:
        for file in folder.rglob("*.y*ml"):
            try:
                status = file.stat()
            except OSError:  # saved by renaming: it is there again at the next look
                continue
            found[file] = (status.st_mtime_ns, status.st_size)
    return found


def changes(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Waits for the next change of a table and gives the files, without end; the first time at once, with none."""
    known = seen(folders)
    yield []
    while True:
        time.sleep(LOOK_EVERY)
        now = seen(folders)
        while now != known:
            time.sleep(SETTLE)
            again = seen(folders)
            if again == now:
                changed = [file for file in {**known, **now} if known.get(file) != now.get(file)]
                known = now
                yield sorted(changed)
                break
            now = again


@click.command()
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--alone", is_flag=True, help="Without the shipped tables: the first FOLDER is all there is.")
def watch(folders: tuple[Path, ...], alone: bool) -> None:
    """Check and test the tables now and after every save, until Ctrl-C.

    The screen shows one report: every mistake with its file and line, or the examples that do not hold, or that all is
    well. Nothing of it changes what a daemon serves.

    \b
    Examples:
      hl7bridge mappings watch sites/north

    Exit code: 0 when ended by Ctrl-C.
    """
    from hl7bridge.mapping.load import shipped_tables

    try:
        for changed in changes(folders or (shipped_tables(),)):
            if sys.stdout.isatty():
                click.clear()
            when = time.strftime("%H:%M:%S")
            click.echo(f"{when}  {', '.join(file.name for file in changed[:5]) or 'watching'}")
            _report(folders, alone)
            click.echo("Ctrl-C ends.")
            sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo("")


def _report(folders: Sequence[Path], alone: bool) -> None:
    from hl7bridge.cli.mappings import of_folders, tell_examples
    from hl7bridge.fhir.model import model
    from hl7bridge.mapping.check import notes
    from hl7bridge.mapping.examples import run
    from hl7bridge.mapping.load import load_tables
    from hl7bridge.mapping.mappings import Mappings

    began = time.monotonic()
    try:
        tables = load_tables(*folders, shipped=not alone)
    except TablesError as error:
        for mistake in error.mistakes:
            click.echo(placed(mistake))
        click.echo(f"{len(error.mistakes)} mistake{'s' * (len(error.mistakes) != 1)}: the tables are not used")
        return
    for note in of_folders(notes(tables), folders):
        click.echo(placed(note, "note: "))
    count, differences = run(Mappings(tables, model()))
    tell_examples(count, differences, tables.version, laid_over=bool(folders) and not alone)
    click.echo(f"in {time.monotonic() - began:.1f} s")
