"""`hl7bridge mappings show`: which rows touch a field, an element, or a table."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hl7bridge.cli.terminal import table
from hl7bridge.errors import EXIT_FAILED

WIDEST = 70  # characters of a cell on a terminal; --json has them whole


@click.command()
@click.argument("what", metavar="FIELD|ELEMENT|TABLE")
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--alone", is_flag=True, help="Without the shipped tables: the first FOLDER is all there is.")
@click.option("--wide", is_flag=True, help="Whole cells, however long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def show(what: str, folders: tuple[Path, ...], alone: bool, wide: bool, as_json: bool) -> None:
    """Show the rows that touch a field, an element, or a table, as they are in force.

    FIELD is a segment, field or component (PID, PID-5, XPN.1), ELEMENT a path (Patient.name, Encounter.location),
    TABLE a table's name (AdministrativeSex, PID-Patient, ADT_A01). FOLDERs are laid over the shipped tables: a row's
    place tells which file won. Rows of the data type table that a row names are shown below it, further in.

    \b
    Examples:
      hl7bridge mappings show PID-5
      hl7bridge mappings show Patient.name sites/north
      hl7bridge mappings show AdministrativeSex --json

    Exit codes: 0 found, 1 no row touches it, 2 wrong usage, 3 the tables do not load.
    """
    from hl7bridge.mapping.absent import there_is_none
    from hl7bridge.mapping.load import load_tables
    from hl7bridge.mapping.show import Unknown
    from hl7bridge.mapping.show import show as find

    tables = load_tables(*folders, shipped=not alone)
    try:
        found = list(dict.fromkeys(find(tables, what)))
    except Unknown as error:
        raise click.BadParameter(str(error), param_hint="FIELD|ELEMENT|TABLE") from None
    if as_json:
        document = [
            {
                "role": one.role,
                "table": one.table,
                "source": one.source,
                "target": one.target,
                "how": one.how,
                "file": one.place.file,
                "line": one.place.line,
                "depth": one.depth,
            }
            for one in found
        ]
        click.echo(json.dumps({"asked": what, "rows": document}, indent=1, ensure_ascii=False))
    elif found:
        rows = [
            (
                "  " * one.depth + one.source,
                one.target if wide else _cut(one.target),
                one.how if wide else _cut(one.how),
                one.role,
                str(one.place),
            )
            for one in found
        ]
        click.echo(table([("SOURCE", "TARGET", "HOW", "", "PLACE"), *rows]))
    if not found:
        why = there_is_none(what)
        click.echo(f"No row touches {what}{': ' if why else ''}{why}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 2] + " …"
