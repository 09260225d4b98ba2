"""`hl7bridge mappings schema`: JSON Schema of the table files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hl7bridge.mapping.json_schema import KINDS


@click.command()
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--alone", is_flag=True, help="Without the shipped tables: the first FOLDER is all there is.")
@click.option("--kind", type=click.Choice(KINDS), help="The schema of one kind of file; without it, of all, by kind.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write DIR/<kind>.schema.json instead, and say what an editor needs to find them.",
)
def schema(folders: tuple[Path, ...], alone: bool, kind: str | None, output: Path | None) -> None:
    """Print the JSON Schema of the table files, so that an editor completes words and underlines mistakes.

    Made from what reads the tables: words, and the names of data type tables, code tables, segment tables, options and
    functions that there are, those of FOLDERs too. Make it anew after adding a table. Paths and conditions are judged
    by `mappings check` only. docs/workbench.md has the recipe for VS Code.

    \b
    Examples:
      hl7bridge mappings schema --kind segments > segments.schema.json
      hl7bridge mappings schema sites/north -o .vscode/hl7bridge

    Exit codes: 0 done, 2 wrong usage, 3 the tables do not load.
    """
    from hl7bridge.fhir.model import model
    from hl7bridge.mapping.json_schema import schemas
    from hl7bridge.mapping.load import load_tables

    made = schemas(load_tables(*folders, shipped=not alone), model())
    chosen = {kind: made[kind]} if kind else made
    if output is None:
        click.echo(json.dumps(made[kind] if kind else made, indent=1))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, document in chosen.items():
        (output / f"{name}.schema.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    patterns = {f"{output.as_posix()}/{name}.schema.json": _pattern(name) for name in chosen}
    click.echo(json.dumps({"yaml.schemas": patterns}, indent=1))


def _pattern(kind: str) -> str:
    """The files of a kind, in any folder of tables."""
    return f"**/{kind}.yaml" if kind in ("options", "identity") else f"**/{kind}/*.yaml"
