"""The guide's rows as they are delivered: `ig_rows.csv` and `code_rows.csv` become GuideRows.

The only module of this room that reads files. Columns: the README beside the CSV files. A row that is asked for is
one that ADT or ORU reaches (`reachable` = yes); `asked` says how: `yes` it can be tested as it stands, `config` a site
has to decide first, `no` it is wrong in R4. Rows that map nothing have another `row_class` than `target`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hl7bridge.errors import UnavailableError

ROWS, CODES = "ig_rows.csv", "code_rows.csv"
NEEDED = (
    "map_kind",
    "map_name",
    "reachable",
    "row_id",
    "v2_path",
    "v2_type",
    "v2_min",
    "condition",
    "condition_norm",
    "narrative",
    "fhir_path",
    "resolved_type",
    "datatype_map",
    "vocab_map",
    "segment_map",
    "assignment",
    "row_class",
    "testable",
    "reason",
)


@dataclass(frozen=True, slots=True)
class GuideRow:
    """One row of the guide; every text as the sheet has it, `""` where it is silent."""

    kind: str  # message | message-ref | segment | datatype | codesystem
    map: str  # PID[Patient], ADT_A01, AdministrativeSex
    id: str  # PID[Patient]#4
    source: str  # PID-5, XPN.1, ADT_A01.PID, HL70001#F
    source_type: str
    required: bool  # the segment cannot be missing in its group
    condition: str  # in the grammar of `when`, where it could be brought into it
    spoken: bool  # there is a condition and it stands in no grammar
    narrative: str
    path: str
    type: str  # the FHIR type at the end of the path
    datatype_map: str
    vocab_map: str
    segment_map: str
    assignment: str
    row_class: str
    asked: str  # yes | config | no
    reason: str
    display: str = ""


def read_guide(folder: Path) -> tuple[GuideRow, ...]:
    """The rows that ADT and ORU reach, in the sheet's order. Raises UnavailableError when they cannot be read."""
    displays = dict(_displays(folder / CODES))
    rows = []
    for row in _read(folder / ROWS, NEEDED):
        if row["reachable"] != "yes":
            continue
        rows.append(_row(row, displays))
    return tuple(rows)


def _row(row: dict[str, str], displays: dict[str, str]) -> GuideRow:
    return GuideRow(
        kind=row["map_kind"],
        map=row["map_name"],
        id=row["row_id"],
        source=row["v2_path"],
        source_type=row["v2_type"],
        required=row["v2_min"] not in ("", "0"),
        condition=row["condition_norm"],
        spoken=bool(row["condition"]) and not row["condition_norm"],
        narrative=row["narrative"],
        path=row["fhir_path"],
        type=row["resolved_type"],
        datatype_map=row["datatype_map"],
        vocab_map=row["vocab_map"],
        segment_map=row["segment_map"],
        assignment=row["assignment"],
        row_class=row["row_class"],
        asked=row["testable"],
        reason=row["reason"],
        display=displays.get(row["row_id"], ""),
    )


def _displays(path: Path) -> Iterator[tuple[str, str]]:
    """Row id -> display: the code sheet numbers its rows by line."""
    for row in _read(path, ("map_name", "line", "display")):
        yield f"{row['map_name']}#{row['line']}", row["display"]


def _read(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise UnavailableError(f"{path.name} is not the guide's: it has no column {', '.join(missing)}")
            yield from reader
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}; --ig names the folder with {ROWS} and {CODES}") from None
