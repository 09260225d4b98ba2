"""docs/behaviour.md tells of every event that has a table, of each once, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from hl7bridge import load_mappings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "behaviour.md"


def test_the_page_says_what_the_server_holds_after_every_event() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What the server holds after an event")[2]
    told = [event for row in re.findall(r"^\| ((?:[AR]\d\d ?)+)\|", section, re.MULTILINE) for event in row.split()]
    assert sorted(told) == sorted(event for _, event in load_mappings().events)
