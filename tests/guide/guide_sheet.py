"""The guide's sheets as values: rows by map, paths as steps, the order of a message's segments.

What is read: `ig_rows.csv` beside the corpus (its README says what the columns mean). Nothing here knows our tables.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

PRIMITIVE_V2 = frozenset(
    ["ST", "ID", "IS", "NM", "SI", "FT", "TX", "DT", "TM", "DTM", "TS", "varies", "String", "code"]
)
_INSTANCE = re.compile(r"\[[^\]]*\]|:[A-Za-z-]+|\s")
_TOKEN = re.compile(r"[A-Za-z$][A-Za-z0-9|]*|[().]")
_DATATYPE_FIELD = re.compile(r"\b(XAD|XON|XPN|XTN|XCN|PPN|RI|CX|CWE|HD)-(\d)")


@dataclass(frozen=True)
class Step:
    """One step of a path: an element's name, or the type a reference leads to (`Organization|Device`: one of them)."""

    name: str
    behind: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a sheet; `steps` is its path without instance numbers, `parts` the numbers of its v2 path."""

    kind: str
    map: str
    id: str
    v2_path: str
    v2_type: str
    condition: str
    narrative: str
    fhir_path: str
    segment_map: str
    datatype_map: str
    vocab_map: str
    assignment: str
    testable: str
    problems: str
    resolved: str

    @property
    def steps(self) -> tuple[Step, ...]:
        return parse_path(self.fhir_path)

    @property
    def target(self) -> str:
        """The map's FHIR type: `PID[Patient]` -> Patient, `HD[MessageHeader.source-name]` -> MessageHeader.source."""
        inside = self.map.partition("[")[2].rstrip("]")
        return inside.partition("-")[0]

    @property
    def source(self) -> str:
        return self.map.partition("[")[0]

    @property
    def parts(self) -> tuple[int, ...]:
        tail = re.search(r"[-.]([0-9.]+)$", self.v2_path)
        return tuple(int(n) for n in tail[1].split(".")) if tail else ()

    @property
    def rooted_at_parent(self) -> bool:
        return "map-rooted-at-parent" in self.problems


def parse_path(text: str) -> tuple[Step, ...]:
    """`participant[1].individual(Practitioner.name)` -> participant, individual, (Practitioner), name."""
    steps: list[Step] = []
    before = ""
    for token in _TOKEN.findall(_INSTANCE.sub("", text)):
        if token in ("(", ")", "."):
            before = token
            continue
        if token.startswith("$"):
            continue
        steps.append(Step(token, behind=before == "(" or token[0].isupper()))
        before = token
    return tuple(steps)


def canonical_condition(text: str) -> str:
    """The sheet's condition in the tables' grammar: numbers bare, odd values quoted, components with a dot."""
    text = re.sub(r'([<>=]) "(\d+)"', r"\1 \2", text) if re.search(r"count|length", text) else text
    text = _DATATYPE_FIELD.sub(r"\1.\2", text)

    def quoted(match: re.Match[str]) -> str:
        return "[" + ", ".join(f'"{v.strip()}"' for v in match[1].split(",")) + "]"

    return re.sub(r"\[([^\]]*)\]", quoted, text)


@dataclass
class Guide:
    """All rows of the closure, by id, by map, and by the map they apply."""

    rows: dict[str, Row] = field(default_factory=dict)
    maps: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    by_segment_map: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    by_datatype_map: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    by_vocab_map: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def tested(self, *kinds: str, testable: str = "yes") -> list[Row]:
        return [r for r in self.rows.values() if r.kind in kinds and r.testable == testable]

    def codes(self, vocab: str) -> list[tuple[str, str, str]]:
        """(v2 code, FHIR system, FHIR code) of a code table."""
        found = []
        for row in self.maps.get(vocab, ()):
            if row.kind == "codesystem" and row.testable == "yes":
                system, _, code = row.fhir_path.partition("|")
                found.append((row.v2_path.partition("#")[2], system, code))
        return found

    def fhir_codes(self, vocab: str) -> list[tuple[str, str, str]]:
        """The same for a table that lists FHIR's codes with no v2 code (languages): a sender writes FHIR's."""
        listed = [r.fhir_path.partition("|") for r in self.maps.get(vocab, ()) if r.kind == "codesystem"]
        return [(code, system, code) for system, _, code in listed if code]


def read_guide(folder: Path) -> Guide:
    """Reads `ig_rows.csv`; only the closure of the ADT and ORU maps."""
    guide = Guide()
    with (folder / "ig_rows.csv").open(encoding="utf-8", newline="") as file:
        for said in csv.DictReader(file):
            if said["reachable"] != "yes":
                continue
            row = Row(
                said["map_kind"],
                said["map_name"],
                said["row_id"],
                said["v2_path"],
                said["v2_type"],
                said["condition_norm"],
                said["narrative"],
                said["fhir_path"],
                said["segment_map"],
                said["datatype_map"],
                said["vocab_map"],
                said["assignment"],
                said["testable"],
                said["problems"],
                said["resolved_type"],
            )
            if row.kind == "message" and row.v2_type == "segment":
                order = guide.order[row.map]
                if row.v2_path not in order:
                    order.append(row.v2_path)
            guide.rows[row.id] = row
            guide.maps[row.map].append(row)
            for index, name in (
                (guide.by_segment_map, row.segment_map),
                (guide.by_datatype_map, row.datatype_map),
                (guide.by_vocab_map, row.vocab_map),
            ):
                if name and row.kind != "message-ref":
                    index[name].append(row)
    return guide
