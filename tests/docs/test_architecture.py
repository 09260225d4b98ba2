"""docs/architecture.md says which room may import what; the code is held against it."""

from __future__ import annotations

import ast
import configparser
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "hl7bridge"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ANYTHING = {"bridge", "cli"}  # their rows speak of "all but"
FORBIDDEN = {"bridge": {"cli", "examine"}, "cli": {"intake", "joints"}}
IO = {"asyncio", "socket", "pathlib", "time", "aiohttp", "sqlite3", "threading"}
LOCK = "threading.RLock"  # starts nothing and waits for nothing outside
SANS_IO = [
    "admission",
    "agreements",
    "replies/judgement",
    "workbench/difference",
    "reasons",
    "errors",
    "workbench/coverage",
    "lineage",
    "translation",
    "mllp/framing",
    "delivery/answer",
    "delivery/assertion",
    "delivery/token",
    "delivery/lanes",
    "delivery/outcome",
    "delivery/retry",
    "fhir/bundle",
    "fhir/check",
    "fhir/form",
    "fhir/formats",
    "fhir/invariants",
    "fhir/plan",
    "fhir/identity",
    "fhir/kinds",
    "fhir/resource",
    "fhir/unroll",
    "journal/protocol",
    "observe/probes",
    *(f"guide/{p.stem}" for p in sorted((CODE / "guide").glob("*.py")) if p.stem != "sheet"),
    *(f"torture/{p.stem}" for p in sorted((CODE / "torture").glob("*.py")) if p.stem not in ("report", "runner")),
    *(f"hl7v2/{p.stem}" for p in sorted((CODE / "hl7v2").glob("*.py")) if not p.stem.startswith("definitions")),
    *(
        f"mapping/{p.stem}"
        for p in sorted((CODE / "mapping").glob("*.py"))
        if p.stem not in ("load", "mappings", "source")
    ),
]
ONLY_IN = {
    "fhir": {"fhir/model_build", "fhir/strict"},
    "hl7apy": {"hl7v2/conformance", "hl7v2/definitions_build"},
    "hl7": set[str](),
}


@cache
def modules() -> dict[str, set[str]]:
    """What each module imports, by full names."""
    return {path.relative_to(CODE).with_suffix("").as_posix(): imported(path) for path in sorted(CODE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Full names; `from hl7bridge import reasons` is hl7bridge.reasons."""
    tree = ast.parse(path.read_text("utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms() -> dict[str, set[str]]:
    """What each room imports of the others."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, names in modules().items():
        room = name.split("/")[0]
        ours = {full.split(".")[1] for full in names if full.startswith("hl7bridge.")}
        found[room] |= ours - {room}
    return found


def documented() -> dict[str, str]:
    rows = re.findall(r"^\| `(\w+)/?` \| .* \| (.*) \|$", DOCUMENT, re.MULTILINE)
    return dict(rows)


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    assert set(documented()) == set(rooms()) - {"__init__", "__main__"}


@pytest.mark.parametrize("room", sorted(set(documented()) - ANYTHING))
def test_a_room_imports_what_its_row_says(room: str) -> None:
    said = documented()[room].replace("`", "")
    allowed = set() if said == "nothing" else set(said.split(", "))
    assert rooms()[room] == allowed


@pytest.mark.parametrize("room", sorted(ANYTHING))
def test_a_room_that_may_import_all_leaves_out_what_its_row_excepts(room: str) -> None:
    assert not rooms()[room] & FORBIDDEN[room]


@pytest.mark.parametrize("room", ["hl7v2", "mllp", "journal", "delivery"])
def test_the_four_rooms_import_none_of_each_other(room: str) -> None:
    assert not rooms()[room] & ({"hl7v2", "mllp", "journal", "delivery"} - {room})


@pytest.mark.parametrize("name", SANS_IO)
def test_a_sans_io_module_imports_no_io(name: str) -> None:
    assert not {full.split(".")[0] for full in modules()[name] - {LOCK}} & IO


def test_the_sans_io_modules_are_named_in_the_document() -> None:
    for name in SANS_IO:
        if not name.startswith(("guide/", "hl7v2/", "mapping/", "torture/")):
            assert f"`{name}`" in DOCUMENT, name


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_second_opinion_is_imported_only_where_it_is_allowed(package: str) -> None:
    users = {name for name, names in modules().items() if any(full.split(".")[0] == package for full in names)}
    assert users <= ONLY_IN[package]


def test_every_room_and_every_folder_of_tables_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = set(setup["options"]["packages"].split())
    rooms = {"hl7bridge", *(f"hl7bridge.{file.parent.name}" for file in CODE.glob("*/__init__.py"))}
    tables = {"hl7bridge.tables", *(f"hl7bridge.tables.{d.name}" for d in (ROOT / "mappings").iterdir() if d.is_dir())}
    assert named == rooms | tables
