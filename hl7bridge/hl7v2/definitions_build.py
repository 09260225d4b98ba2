"""Makes definitions.json: the fields of every segment and the components of every data type, HL7 v2.1 to 2.9.

    python -m hl7bridge.hl7v2.definitions_build        writes the file beside this one

Each field or component is as the highest version has it that still has it: a withdrawn one (type WD, or zero
occurrences) keeps the form of the last version that used it. hl7apy, which ends at 2.8.2, gives all but SUPPLEMENT.
A test compares the file with a fresh one. Nothing at run time imports this module.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

VERSIONS = ("2_1", "2_2", "2_3", "2_3_1", "2_4", "2_5", "2_5_1", "2_6", "2_7", "2_8", "2_8_1", "2_8_2")
TARGET = Path(__file__).with_name("definitions.json")

# What v2.9 added: segment, number, name, data type, repeats, required
SUPPLEMENT = """
MSH 26 security classification tag|CWE
MSH 27 security handling instructions|CWE*
MSH 28 special access restriction instructions|ST*
NTE 9 coded comment|CWE*
OBR 55 action code|ID
OBX 31 action code|ID
OBX 32 observation value absent reason|CWE*
OBX 33 observation related specimen identifier|EIP*
ORC 35 action code|ID
ORC 36 order status date range|DR
ORC 37 order creation date time|DTM
ORC 38 filler order group number|EI
PD1 23 retirement date|DT
PRT 23 preferred method of contact|CWE
PRT 24 contact identifiers|PLN*
SPM 33 culture start date time|DTM
SPM 34 culture final date time|DTM
SPM 35 action code|ID
TXA 24 folder assignment|CWE*
TXA 25 document title|ST*
TXA 26 agreed due date time|DTM
TXA 27 creating facility|HD
TXA 28 creating specialty|CWE
DEV 1 action code|ID!
DEV 2 unique device identifier|EI
DEV 3 device type|CNE*
DEV 4 device status|CNE*
DEV 5 manufacturer distributor|XON
DEV 6 brand name|ST
DEV 7 model identifier|ST
DEV 8 catalogue identifier|ST
DEV 9 udi device identifier|EI
DEV 10 device lot number|ST
DEV 11 device serial number|ST
DEV 12 device manufacture date|DTM
DEV 13 device expiry date|DTM
DEV 14 safety characteristics|CWE*
DEV 15 device donation identification|EI
DEV 16 software version number|ST
DEV 17 implantation status|CNE
OH1 1 set id|SI!
OH1 2 action code|ID
OH1 3 employment status|CWE!
OH1 4 employment status start date|DT
OH1 5 employment status end date|DT
OH1 6 entered date|DT!
OH1 7 employment status unique identifier|EI
OH2 1 set id|SI!
OH2 2 action code|ID
OH2 3 entered date|DT
OH2 4 occupation|CWE!
OH2 5 industry|CWE!
OH2 6 work classification|CWE
OH2 7 job start date|DT
OH2 8 job end date|DT
OH2 9 work schedule|CWE
OH2 10 average hours worked per day|NM
OH2 11 average days worked per week|NM
OH2 12 employer organization|XON
OH2 13 employer address|XAD*
OH2 14 supervisory level|CWE
OH2 15 job duties|ST*
OH2 16 occupational hazards|FT*
OH2 17 job unique identifier|EI
OH2 18 current job indicator|CWE
OH3 1 set id|SI!
OH3 2 action code|ID
OH3 3 occupation|CWE!
OH3 4 industry|CWE!
OH3 5 usual occupation duration years|NM
OH3 6 start year|DT
OH3 7 entered date|DT
OH3 8 work unique identifier|EI
OH4 1 set id|SI!
OH4 2 action code|ID
OH4 3 combat zone start date|DT!
OH4 4 combat zone end date|DT
OH4 5 entered date|DT
OH4 6 combat zone unique identifier|EI
"""

# number -> its row: [number, name, type, max repetitions (null: unlimited), required], or [number, name, type]
Rows = dict[int, list[Any]]


def generate() -> dict[str, dict[str, list[list[Any]]]]:
    """{"segments": {id: rows}, "datatypes": {name: rows}}, ordered; a primitive type has no rows."""
    segments: dict[str, Rows] = {}
    datatypes: dict[str, Rows] = {}
    for version in VERSIONS:
        library = importlib.import_module(f"hl7apy.v{version}")
        _take_segments(library, segments)
        _take_datatypes(library, datatypes)
    for line in SUPPLEMENT.strip().splitlines():
        _supplement(line, segments)
    for row in [row for rows in (*segments.values(), *datatypes.values()) for row in rows.values()]:
        datatypes.setdefault(row[2], {})
    return {"segments": _ordered(segments), "datatypes": _ordered(datatypes)}


def render() -> str:
    """The file's text: one line a segment or data type, so that a change is read in a diff."""
    blocks = []
    for kind, rows in generate().items():
        lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(row, separators=(',', ':'))}" for name, row in rows.items())
        blocks.append(f'"{kind}":{{\n{lines}\n}}')
    return "{" + ",\n".join(blocks) + "}\n"


def _take_segments(library: Any, segments: dict[str, Rows]) -> None:
    for segment_id, definition in library.SEGMENTS.items():
        if len(segment_id) != 3:
            continue  # the wildcard segment
        rows = segments.setdefault(segment_id, {})
        # ("sequence", fields); a withdrawn segment has no fields, and v2.1's ORO nothing but them
        fields = definition if definition[0] != "sequence" else definition[1] if len(definition) > 1 else ()
        for key, _, (least, most), *_ in fields:
            number = int(key.rpartition("_")[2])
            datatype, name = library.FIELDS[key][2:4]
            if number not in rows or (most and datatype != "WD"):
                rows[number] = [number, _name(name), datatype, None if most < 0 else most, least > 0]


def _take_datatypes(library: Any, datatypes: dict[str, Rows]) -> None:
    for name, children in library.DATATYPES_STRUCTS.items():
        rows = datatypes.setdefault(name, {})
        for key, reference, (_, most), *_ in children:
            number = int(key.rpartition("_")[2])
            if number not in rows or (most and reference[2] != "WD"):
                rows[number] = [number, _name(reference[3]), reference[2]]


def _supplement(line: str, segments: dict[str, Rows]) -> None:
    place, datatype = line.split("|")
    segment_id, number, name = place.split(" ", 2)
    bare = datatype.rstrip("*!")
    rows = segments.setdefault(segment_id, {})
    rows.setdefault(int(number), [int(number), name, bare, None if "*" in datatype else 1, "!" in datatype])


def _name(name: str) -> str:
    return name.replace("_", " ").lower()


def _ordered(tables: dict[str, Rows]) -> dict[str, list[list[Any]]]:
    return {name: [rows[number] for number in sorted(rows)] for name, rows in sorted(tables.items())}


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
