"""Every mistake an analyst can make is named: each folder in bad/, laid over good/, gives exactly its expected.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from hl7bridge.errors import TablesError
from hl7bridge.mapping.load import load_tables

HERE = Path(__file__).parent
CASES = sorted(path for path in (HERE / "bad").iterdir() if path.is_dir())


def mistakes(case: Path) -> str:
    with pytest.raises(TablesError) as caught:
        load_tables(HERE / "good", case, shipped=False)
    return "".join(f"{mistake}\n" for mistake in caught.value.mistakes)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_mistake_is_named_with_file_and_line_and_what_was_meant(case: Path) -> None:
    assert mistakes(case) == (case / "expected.txt").read_text(encoding="utf-8")
