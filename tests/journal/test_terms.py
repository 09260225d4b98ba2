"""Messages that are stored on terms: what is refused leaves nothing behind (fault catalogue 58)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from journal_support import received

from hl7bridge.journal.protocol import ControlIdReused, Received, Terms
from hl7bridge.journal.sqlite import SqliteJournal

STRICT = Terms(refuse_reuse=True)


def strict(control_id: str, raw: bytes) -> Received:
    return received(control_id=control_id, raw=raw, terms=STRICT)


async def test_a_control_id_that_may_not_come_again_with_other_bytes_is_refused(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    try:
        first = await journal.append(strict("C1", b"one"))
        with pytest.raises(ControlIdReused):
            await journal.append(strict("C1", b"two"))
        again = await journal.append(strict("C1", b"one"))
        assert (again.id, again.duplicate) == (first.id, True)
        assert not (await journal.append(strict("C2", b"two"))).duplicate
        assert (await journal.figures()).undelivered == 2
    finally:
        await journal.close()


async def test_messages_of_one_commit_see_each_other(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path)
    try:
        works = [strict("C1", b"one"), strict("C1", b"two"), strict("C1", b"one"), strict("C2", b"one")]
        outcomes = await asyncio.gather(*map(journal.append, works), return_exceptions=True)
        assert isinstance(outcomes[1], ControlIdReused)
        kinds = [getattr(outcome, "duplicate", None) for outcome in outcomes]
        assert kinds == [False, None, True, False]
        assert (await journal.figures()).undelivered == 2
    finally:
        await journal.close()
