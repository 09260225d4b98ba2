"""The SQLite journal keeps the promise of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from journal_conformance import JournalConformance, Reopen
from journal_support import Clock

from hl7bridge.journal.protocol import Journal
from hl7bridge.journal.sqlite import SqliteJournal


class TestSqliteJournal(JournalConformance):
    @pytest.fixture
    async def reopen(self, tmp_path: Path, clock: Clock) -> AsyncIterator[Reopen]:
        opened: list[SqliteJournal] = []

        async def reopen(**limits: Any) -> Journal:
            while opened:
                await opened.pop().close()
            opened.append(await SqliteJournal.open(tmp_path / "journal", clock=clock, min_free_bytes=0, **limits))
            return opened[0]

        yield reopen
        while opened:
            await opened.pop().close()
