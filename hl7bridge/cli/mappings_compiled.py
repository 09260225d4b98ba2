"""`hl7bridge mappings compiled`: the code that the rows of one table become."""

from __future__ import annotations

from pathlib import Path

import click

_FORMS = ("any", "plain", "single")


@click.command()
@click.argument("name", metavar="TABLE")
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--form",
    type=click.Choice(_FORMS),
    default=_FORMS[0],
    show_default=True,
    help="Of the segment. plain: without escapes, subcomponents, deletions and stray blanks; single: nor does a field "
    "repeat, or begin with an empty component.",
)
@click.option("--alone", is_flag=True, help="Without the shipped tables: the first FOLDER is all there is.")
def compiled(name: str, folders: tuple[Path, ...], alone: bool, form: str) -> None:
    """Print the Python code that a segment or data type table is compiled to.

    This is what runs: each row's lines stand below a comment with its place and its words, rows of one field together.
    A segment of plain texts runs the same rows in shorter code, see --form.
    FOLDERs are laid over the shipped tables. A data type table is shown as it reads a whole repetition.

    \b
    Examples:
      hl7bridge mappings compiled PID-Patient
      hl7bridge mappings compiled XPN-HumanName sites/north

    Exit codes: 0 printed, 2 wrong usage, 3 the tables do not load.
    """
    from hl7bridge.fhir.model import closest
    from hl7bridge.mapping.mappings import load_mappings

    mappings = load_mappings(*folders, shipped=not alone)
    names = (*mappings.tables.segments, *mappings.tables.datatypes)
    if name not in names:
        meant = closest(name, names)
        hint = f"; did you mean {meant!r}?" if meant else ""
        raise click.BadParameter(f"there is no segment or data type table {name!r}{hint}", param_hint="TABLE")
    click.echo(mappings.compiler.forms[_FORMS.index(form)].code(name), nl=False)
