"""Removes messages by the batch, from a file that may be damaged: what a torn page holds stays, the rest goes.

What holds and why:
- Removal writes over a connection of its own. SQLite gives up the whole transaction that meets a torn page, and nobody
  else's work may be in it: no sender's answer waits for retention, or fails with it.
- A batch that meets damage is halved until the one message is found that cannot go; it is stepped over from then on.
  Its neighbours may be stuck with it: SQLite cannot rearrange pages around a torn one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from hl7bridge.journal import transaction
from hl7bridge.journal.protocol import DamagedPage, State
from hl7bridge.journal.writer import Settings, Writer

AT_ONCE = 200  # messages removed in one transaction: senders wait no longer than that takes
MOST_TRANSACTIONS = 200  # of one call, damage or not
MOST_STUCK = 10_000  # messages on damaged pages; with more, removal waits for `journal salvage`

Choose = Callable[[sqlite3.Connection, int], list[int]]  # the seqs of the next so many that may be removed


class Removal:
    """`stuck`: the seqs of messages that damage does not let go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stuck: set[int] = set()

    async def run(self, state: State, choose: Choose, most: int) -> int:
        """Removes up to `most` messages of one state; how many went. Also receipts that are of removed messages only.

        Raises JournalError; DamagedPage: the page that says which messages there are is damaged itself.
        """
        writer = await asyncio.to_thread(Writer, self._settings)
        try:
            removed = await self._batches(writer, state, choose, most)
            if state is State.DELIVERED:
                await writer.submit(transaction.prune)
        finally:
            await asyncio.to_thread(writer.close)
        return removed

    async def _batches(self, writer: Writer, state: State, choose: Choose, most: int) -> int:
        total, size = 0, AT_ONCE
        for _ in range(MOST_TRANSACTIONS):
            size = min(size, most - total)
            if size <= 0 or len(self.stuck) >= MOST_STUCK:
                break
            batch = _Batch(state, choose, size, self.stuck)
            try:
                removed: int = await writer.submit(batch)
            except DamagedPage:
                if not batch.seqs:
                    raise
                if len(batch.seqs) == 1:
                    self.stuck.update(batch.seqs)
                size = max(1, len(batch.seqs) // 2)
                continue
            total += removed
            if removed < size:
                break
            size = min(2 * size, AT_ONCE)
        return total


class _Batch:
    """A task of the writer; `seqs` are those it chose."""

    def __init__(self, state: State, choose: Choose, size: int, stuck: set[int]) -> None:
        self._state, self._choose, self._size, self._stuck = state, choose, size, stuck
        self.seqs: list[int] = []

    def __call__(self, round_: transaction.Round) -> int:
        found = self._choose(round_.connection, self._size + len(self._stuck))
        self.seqs = [seq for seq in found if seq not in self._stuck][: self._size]
        return transaction.remove(round_, self._state, self.seqs)
