"""`hl7bridge mappings conformance`: the loaded tables against every row of the HL7 v2-to-FHIR guide."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hl7bridge.errors import EXIT_FAILED

if TYPE_CHECKING:
    from hl7bridge.guide.conformance import Conformance
    from hl7bridge.guide.verdict import Verdict

LISTED = ("implemented", "deviates", "unmapped", "undecided")
ASKED = {"yes": ("as they stand", ("yes",)), "config": ("under an option", ("config",)), "no": ("wrong in R4", ("no",))}


@click.command()
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER...]", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--ig",
    "guide",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the guide's rows: ig_rows.csv and code_rows.csv.",
)
@click.option("--list", "listed", multiple=True, type=click.Choice(LISTED), help="List the rows of this verdict.")
@click.option("--map", "maps", multiple=True, metavar="MAP", help="Only this map of the guide, like PID[Patient].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output, with every row.")
def conformance(
    folders: tuple[Path, ...], guide: Path, listed: tuple[str, ...], maps: tuple[str, ...], as_json: bool
) -> None:
    """Compare the tables with every row of the HL7 v2-to-FHIR guide that ADT and ORU reach.

    A row is implemented: a row of ours has its field, path, constant, maps and condition. It deviates: a note or
    `deviations` names it and says why. It is unmapped: `unmapped` says why. Any other row is undecided, is always
    listed with what is missing, and fails the command. What a site has to decide counts only under an option.

    Exit codes: 0 every row is decided, 1 some are not, 3 the tables do not load, 4 the guide's rows cannot be read.

    \b
    Examples:
      hl7bridge mappings conformance --ig guide
      hl7bridge mappings conformance --ig guide --list deviates --map 'PID[Patient]'
      hl7bridge mappings conformance --ig guide --json | jq '.kinds'
    """
    from hl7bridge.fhir.model import model
    from hl7bridge.guide.conformance import conform
    from hl7bridge.guide.names import table_name
    from hl7bridge.guide.sheet import read_guide
    from hl7bridge.mapping.load import load_tables

    rows = read_guide(guide)
    wanted = {table_name(name) for name in maps}
    unknown = sorted(wanted - {table_name(row.map) for row in rows})
    if unknown:
        raise click.BadParameter(f"the guide has no map {unknown[0]}", param_hint="--map")
    asked = [row for row in rows if not wanted or table_name(row.map) in wanted]
    found = conform(asked, load_tables(*folders), model())
    if as_json:
        click.echo(json.dumps(_document(found), indent=1, ensure_ascii=False))
    else:
        for line in (*_summary(found), "", *_by_map(found), *_listing(found, listed), *_strangers(found)):
            click.echo(line)
        click.echo(_last(found))
    if found.undecided:
        sys.exit(EXIT_FAILED)


def _summary(found: Conformance) -> Iterator[str]:
    """One table for each way the guide's rows are asked for, by kind."""
    from hl7bridge.guide.conformance import KINDS

    for words, asked in ASKED.values():
        if not any(found.count(kind, asked) for kind in KINDS):
            continue
        yield f"{words:<20} {'rows':>7}" + "".join(f" {verdict:>12}" for verdict in LISTED)
        for kind in KINDS:
            yield _line(kind, found.count(kind, asked), [found.count(kind, asked, verdict) for verdict in LISTED])
        total = sum(found.count(kind, asked) for kind in KINDS)
        yield _line("sum", total, [sum(found.count(kind, asked, v) for kind in KINDS) for v in LISTED])
        yield ""
    yield f"{'without a target':<20} {'rows':>7} {'read here':>12} {'said why not':>12} {'not said':>12}"
    for kind in KINDS:
        fates = found.rest_of(kind)
        if fates:
            yield _line(kind, fates.total(), [fates[fate] for fate in ("read", "said", "unsaid")])


def _line(name: str, total: int, counts: Sequence[int]) -> str:
    return f"  {name:<18} {total:>7,}" + "".join(f" {count:>12,}" for count in counts)


def _by_map(found: Conformance) -> Iterator[str]:
    yield f"{'by map':<62} {'rows':>5}" + "".join(f" {verdict:>12}" for verdict in LISTED)
    for kind, name, counts in found.maps():
        numbers = "".join(f" {counts[verdict]:>12}" for verdict in LISTED)
        yield f"  {kind:<12} {name:<47} {counts.total():>5}{numbers}"


def _listing(found: Conformance, listed: tuple[str, ...]) -> Iterator[str]:
    """The rows of the verdicts that were asked for, and always the undecided ones."""
    for verdict in LISTED:
        rows = [v for v in found.verdicts if v.verdict == verdict]
        if not rows or (verdict not in listed and verdict != "undecided"):
            continue
        yield ""
        yield f"{verdict}:"
        for v in rows:
            where = f"  {v.place}" if v.place else ""
            why = f": {v.why}" if v.why else ""
            yield f"  {v.row.id}  {v.row.source or '-'} -> {v.row.path}{where}{why}"


def _strangers(found: Conformance) -> Iterator[str]:
    if found.strangers:
        yield ""
    for row_id, place in found.strangers:
        yield f"{place}: note: the guide has no row {row_id}"


def _last(found: Conformance) -> str:
    total, undecided = len(found.verdicts), len(found.undecided)
    if undecided:
        return f"\nfailed: {undecided:,} of {total:,} rows are undecided"
    return f"\nok: each of {total:,} rows is implemented, deviates with a reason, or is unmapped with one"


def _document(found: Conformance) -> dict[str, Any]:
    from hl7bridge.guide.conformance import KINDS

    return {
        "ok": not found.undecided,
        "kinds": {
            kind: {
                asked: {"rows": found.count(kind, ways), **{v: found.count(kind, ways, v) for v in LISTED}}
                for asked, (_, ways) in ASKED.items()
            }
            | {"without-target": dict(sorted(found.rest_of(kind).items()))}
            for kind in KINDS
        },
        "maps": [{"kind": kind, "map": name, **{v: counts[v] for v in LISTED}} for kind, name, counts in found.maps()],
        "rows": [_row(v) for v in found.verdicts],
        "unknown-rows": [{"row": row_id, "file": at.file, "line": at.line} for row_id, at in found.strangers],
    }


def _row(v: Verdict) -> dict[str, Any]:
    return {
        "row": v.row.id,
        "kind": v.row.kind,
        "map": v.row.map,
        "asked": v.row.asked,
        "field": v.row.source,
        "path": v.row.path,
        "verdict": v.verdict,
        "why": v.why,
        "option": v.option,
        "file": v.place.file if v.place else "",
        "line": v.place.line if v.place else 0,
    }
