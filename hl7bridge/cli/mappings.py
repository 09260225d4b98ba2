"""`hl7bridge mappings check|test`: what an analyst runs after every edit of a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hl7bridge.cli.activation import activate, rollback, versions
from hl7bridge.cli.conformance import conformance
from hl7bridge.cli.mappings_compiled import compiled
from hl7bridge.cli.mappings_schema import schema
from hl7bridge.cli.mappings_show import show
from hl7bridge.cli.terminal import placed, plain
from hl7bridge.cli.watch import watch
from hl7bridge.errors import EXIT_CONFIG, EXIT_FAILED, Mistake, TablesError

if TYPE_CHECKING:
    from hl7bridge.mapping.examples import Difference

SHIPPED_NAME = "mappings"
FOLDERS = click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
ALONE = click.option("--alone", is_flag=True, help="Without the shipped tables: the first FOLDER is all there is.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


@click.group()
def mappings() -> None:
    """Check and test the mapping tables.

    \b
    FOLDERs are laid over the shipped tables, in their order; without any, the shipped tables are taken.
      hl7bridge mappings check sites/north
      hl7bridge mappings test sites/north
    """


for command in (activate, compiled, conformance, rollback, schema, show, versions, watch):
    mappings.add_command(command)


@mappings.command()
@FOLDERS
@ALONE
@JSON
def check(folders: tuple[Path, ...], alone: bool, as_json: bool) -> None:
    """Read the tables and name every mistake, as file:line:column: what is wrong, what was meant.

    Notes name what nothing uses; with FOLDERs those of the shipped tables are left out.

    Exit codes: 0 the tables are fit for use, 3 they are not.

    \b
    Examples:
      hl7bridge mappings check
      hl7bridge mappings check sites/north sites/north-lab
      hl7bridge mappings check sites/north --json | jq -r '.mistakes[].message'
    """
    from hl7bridge.mapping.check import notes
    from hl7bridge.mapping.load import load_tables

    try:
        tables = load_tables(*folders, shipped=not alone)
    except TablesError as error:
        _tell_mistakes(error.mistakes, as_json)
        sys.exit(EXIT_CONFIG)
    counted = count(tables)
    found = notes(tables)
    if as_json:
        _print_json({"ok": True, "mistakes": [], "notes": [_plain(note) for note in found], **counted})
        return
    for note in of_folders(found, folders):
        click.echo(placed(note, "note: "))
    click.echo(
        f"{click.style('ok', fg='green')}: {counted['tables']} tables, {counted['rows']} rows, "
        f"{counted['codes']} codes, {counted['examples']} examples, version {counted['version']}"
    )


@mappings.command()
@FOLDERS
@ALONE
@JSON
def test(folders: tuple[Path, ...], alone: bool, as_json: bool) -> None:
    """Run the examples of the tables and show what differs.

    Exit codes: 0 all examples hold, 1 some do not, 3 the tables do not load.

    \b
    Examples:
      hl7bridge mappings test
      hl7bridge mappings test sites/north
    """
    from hl7bridge.mapping.examples import run
    from hl7bridge.mapping.mappings import load_mappings

    try:
        loaded = load_mappings(*folders, shipped=not alone)
    except TablesError as error:
        _tell_mistakes(error.mistakes, as_json)
        sys.exit(EXIT_CONFIG)
    count, differences = run(loaded)
    if as_json:
        shown = [
            {
                "file": difference.example.place.file,
                "line": difference.example.place.line,
                "table": difference.table,
                "example": difference.example.name,
                "path": place.path,
                "expected": place.expected,
                "found": place.found,
            }
            for difference in differences
            for place in difference.places
        ]
        _print_json({"ok": not differences, "examples": count, "failed": len(differences), "differences": shown})
    else:
        tell_examples(count, differences, loaded.version, laid_over=bool(folders) and not alone)
    if differences:
        sys.exit(EXIT_FAILED)


def of_folders(notes: Sequence[Mistake], folders: Sequence[Path]) -> list[Mistake]:
    """The notes about these folders; all where there are none: of the shipped tables a site need not know."""
    names = {folder.resolve().name for folder in folders}
    return [note for note in notes if not names or note.file.partition("/")[0] in names]


def count(tables: Any) -> dict[str, Any]:
    """How much there is of what, for `check` and the docs."""
    rows = sum(len(table.rows) for kind in (tables.segments, tables.datatypes) for table in kind.values())
    examples = sum(len(table.examples) for kind in (tables.segments, tables.datatypes) for table in kind.values())
    kinds = (tables.messages, tables.shared, tables.segments, tables.datatypes, tables.codes)
    uses = {use.place for kind in (tables.messages, tables.shared) for table in kind.values() for use in table.uses}
    return {
        "tables": sum(map(len, kinds)),
        "rows": rows + len(uses),
        "codes": sum(len(codes.map) for codes in tables.codes.values()),
        "examples": examples,
        "version": tables.version,
    }


_COLOURS = {"-": "red", "+": "green"}


def tell_examples(count: int, differences: Sequence[Difference], version: str, *, laid_over: bool) -> None:
    """Each example that does not hold, and how many do."""
    for difference in differences:
        for sign, text in difference.lines():
            click.echo(click.style(plain(text), fg=_COLOURS.get(sign)))
    if laid_over and any(difference.example.place.file.startswith(f"{SHIPPED_NAME}/") for difference in differences):
        click.echo("note: a shipped example shows what you changed; if you mean it, write it anew under the same name")
        click.echo("      in your folder's table")
    held = count - len(differences)
    verdict = click.style("failed", fg="red") if differences else click.style("ok", fg="green")
    click.echo(f"{verdict}: {held} of {count} examples hold, version {version}")


def _tell_mistakes(mistakes: tuple[Mistake, ...], as_json: bool) -> None:
    if as_json:
        _print_json({"ok": False, "mistakes": [_plain(mistake) for mistake in mistakes]})
        return
    for mistake in mistakes:
        click.echo(placed(mistake), err=True)
    counted = click.style(f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}", fg="red")
    click.echo(f"{counted}: the tables are not used", err=True)


def _plain(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": mistake.file,
        "line": mistake.line,
        "column": mistake.column,
        "message": mistake.message,
    }


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1, ensure_ascii=False))
