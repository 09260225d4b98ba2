"""docs/mapping-reference.md has every word that the reader of the tables knows, and every built-in function, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hl7bridge.mapping.functions import FUNCTIONS
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.read import EXAMPLE_WORDS, REMOVE_WORDS, ROW_WORDS, TABLE_WORDS
from hl7bridge.mapping.read_message import MESSAGE_WORDS, SHARED_WORDS, USE_WORDS, WRITES
from hl7bridge.mapping.read_site import CODE_WORDS, CODES_WORDS, IDENTITY_WORDS, OPTION_WORDS, OTHERWISE

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "mapping-reference.md").read_text("utf-8")
SECTION = {
    part.partition("\n")[0]: part for part in re.split(r"^##+ ", REFERENCE, flags=re.MULTILINE)
}  # title -> text with its title
OF_A_TABLE = "Segment and data type tables"
OF_EVERY_TABLE = ("unmapped", "deviations", "note")


@pytest.mark.parametrize(
    ("words", "section"),
    [
        (ROW_WORDS, OF_A_TABLE),
        (TABLE_WORDS, OF_A_TABLE),
        (REMOVE_WORDS, OF_A_TABLE),
        (EXAMPLE_WORDS, OF_A_TABLE),
        (MESSAGE_WORDS, "Message tables"),
        (USE_WORDS, "Message tables"),
        (SHARED_WORDS, "Shared rows"),
        (tuple(WRITES), "What is written"),
        (CODES_WORDS, "Code tables"),
        (CODE_WORDS, "Code tables"),
        (OTHERWISE, "Code tables"),
        (OPTION_WORDS, "Options"),
        (IDENTITY_WORDS, "Identity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_word_of_the_tables_stands_in_its_section(words: tuple[str, ...], section: str) -> None:
    below = REFERENCE[REFERENCE.index(f"## {section}") :].partition("\n## ")[0]  # with its subsections
    missing = [
        word
        for word in words
        if word not in OF_EVERY_TABLE and not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", below)
    ]
    assert not missing


def test_the_words_of_every_table_are_explained_together() -> None:
    assert all(f"`{word}" in SECTION["Rows of the guide"] for word in OF_EVERY_TABLE)


def test_the_words_of_a_row_are_explained_one_by_one_and_no_others() -> None:
    explained = re.findall(r"^\| `([\w-]+)` \|", SECTION[OF_A_TABLE], re.MULTILINE)
    assert set(explained) == set(ROW_WORDS)


def test_the_functions_explained_are_those_there_are() -> None:
    section = SECTION["Built-in functions (`apply`)"]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"`([^`]+)`", " ".join(cells))) == sorted(FUNCTIONS)


def test_the_options_page_has_every_option() -> None:
    named = re.findall(r"^\| `([\w-]+)` \|", (DOCS / "options.md").read_text("utf-8"), re.MULTILINE)
    assert named == sorted(load_tables().options)
