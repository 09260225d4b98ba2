"""When an append is answered, what happens when the store fails, and what a killed process leaves behind."""

# ruff: noqa: ASYNC220 (nothing else runs on a test's event loop)

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from journal_support import NOW, Clock, ill, parked, received

from hl7bridge.errors import JournalError, JournalFull
from hl7bridge.journal.files import DATABASE
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal

Open = Callable[..., Awaitable[SqliteJournal]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    journals: list[SqliteJournal] = []

    async def opened(**settings: Any) -> SqliteJournal:
        defaults: dict[str, Any] = {"min_free_bytes": 0, "clock": Clock()}
        journals.append(await SqliteJournal.open(tmp_path / "journal", **(defaults | settings)))
        return journals[-1]

    yield opened
    for journal in journals:
        await journal.close()


async def ids_in(journal: SqliteJournal) -> list[str]:
    return [entry.id async for entry in journal.find(Filter())]


async def test_no_append_is_answered_before_its_commit_has_returned(opened: Open) -> None:
    connection = ill()
    journal = await opened(factory=connection)
    events = connection.trace
    loop = asyncio.get_running_loop()
    hand_over = loop.call_soon_threadsafe

    def noted(*call: Any, **more: Any) -> Any:
        events.append("answer")
        return hand_over(*call, **more)

    loop.call_soon_threadsafe = noted  # type: ignore[method-assign, assignment]
    events.clear()
    for n in range(5):
        await asyncio.gather(*(journal.append(received(n * 100 + m)) for m in range(20)))
    told = [event for event in events if event in ("BEGIN", "COMMIT", "answer")]
    assert told == ["BEGIN", "COMMIT", "answer"] * (len(told) // 3)
    assert len(told) // 3 < 100, "appends that come together share a commit"


async def test_the_writing_connection_syncs_every_commit(opened: Open) -> None:
    connection = ill()
    settings: dict[str, Any] = {}

    class Asked(connection):  # type: ignore[misc, valid-type]
        def close(self) -> None:
            for name in ("journal_mode", "synchronous"):
                settings[name] = sqlite3.Connection.execute(self, f"PRAGMA {name}").fetchone()[0]
            super().close()

    journal = await opened(factory=Asked)
    await journal.append(received(1))
    await journal.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2}


@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT", "UPDATE", "SELECT"])
@pytest.mark.parametrize(
    "failure",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("database is locked"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        sqlite3.DatabaseError("database disk image is malformed"),
        MemoryError(),
    ],
    ids=str,
)
async def test_a_failing_store_fails_the_whole_group_and_nothing_of_it_stays(
    opened: Open, statement: str, failure: Exception
) -> None:
    connection = ill()
    journal = await opened(factory=connection)
    kept = await journal.append(received(0))
    connection.failures[statement] = [failure]  # type: ignore[list-item]
    results = await asyncio.gather(*(journal.append(received(n)) for n in range(1, 30)), return_exceptions=True)
    failed = [n for n, result in enumerate(results, 1) if isinstance(result, Exception)]
    assert failed and all(isinstance(results[n - 1], JournalError) for n in failed)
    assert not any(isinstance(results[n - 1], JournalFull) for n in failed)
    stored = {entry.control_id async for entry in journal.find(Filter())}
    assert stored == {"0", *(str(n) for n in range(1, 30) if n not in failed)}
    again = [await journal.append(received(n)) for n in range(30)]  # the writer has recovered
    assert again[0].id == kept.id and again[0].duplicate
    assert (await journal.figures()).undelivered == 30


async def test_a_connection_that_cannot_roll_back_is_replaced(opened: Open) -> None:
    connection = ill()
    journal = await opened(factory=connection)
    connection.failures["COMMIT"] = [sqlite3.OperationalError("disk I/O error")]
    connection.failures["ROLLBACK"] = [sqlite3.OperationalError("disk I/O error")]
    with pytest.raises(JournalError, match="disk I/O error"):
        await journal.append(received(1))
    assert not (await journal.append(received(1))).duplicate


async def test_a_full_disk_refuses_and_the_journal_goes_on_when_there_is_space(opened: Open) -> None:
    connections: list[sqlite3.Connection] = []

    class Noted(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            connections.append(self)

    journal = await opened(factory=Noted)
    pages = connections[-1].execute("PRAGMA page_count").fetchone()[0]
    connections[-1].execute(f"PRAGMA max_page_count = {pages + 20}")
    results = await asyncio.gather(
        *(journal.append(received(n, raw=b"MSH|%d" % n + bytes(20_000))) for n in range(100)), return_exceptions=True
    )
    taken = [result.id for result in results if not isinstance(result, BaseException)]
    refused = [result for result in results if isinstance(result, JournalError)]
    assert len(taken) + len(refused) == 100 and refused
    assert all("full" in str(error) for error in refused)
    assert sorted(await ids_in(journal)) == sorted(taken)
    connections[-1].execute("PRAGMA max_page_count = 1000000")
    again = await journal.append(received(99, raw=b"MSH|99" + bytes(20_000)))
    assert (await journal.get(again.id)) is not None


async def test_one_bad_item_fails_alone(opened: Open) -> None:
    journal = await opened()
    good = [received(n) for n in range(6)]
    bad = [
        received(18, ack=None),  # fails after its message has been inserted
        received(10, received_at=None),
        received(11, sha256=None),
        received(12, ack_code=None),
        received(13, lanes=("",)),
        received(14, lanes=("a\x1fb",)),
        received(15, reason="\ud800"),
        received(17, control_id=None),
    ]
    good_and_bad = [message for pair in zip(good, bad, strict=False) for message in pair] + bad[len(good) :]
    results = await asyncio.gather(*(journal.append(message) for message in good_and_bad), return_exceptions=True)
    for message, result in zip(good_and_bad, results, strict=True):
        assert isinstance(result, JournalError) == (message in bad), message.received_at
    assert sorted(await ids_in(journal)) == sorted(r.id for r in results if not isinstance(r, BaseException))
    assert (await journal.figures()).undelivered == len(good)
    assert not (await journal.append(received(18))).duplicate, "nothing of the failed one stays"


async def test_a_bad_change_fails_alone(opened: Open) -> None:
    journal = await opened()
    first, second = [(await journal.append(received(n))).id for n in range(2)]
    results = await asyncio.gather(
        journal.apply(Change(first, State.DELIVERED, 2**70)),
        journal.apply(Change(second, State.DELIVERED, 1)),
        return_exceptions=True,
    )
    assert isinstance(results[0], JournalError) and results[1] is None
    assert (await journal.figures()).undelivered == 1


async def test_an_error_does_not_quote_a_value(opened: Open) -> None:
    journal = await opened()
    with pytest.raises(JournalError) as caught:
        await journal.append(received(1, reason="SENTINEL\ud800"))
    assert "SENTINEL" not in str(caught.value) and caught.value.__cause__ is None and caught.value.__context__ is None


async def test_a_message_without_bytes_is_the_callers_mistake(opened: Open) -> None:
    journal = await opened()
    with pytest.raises(TypeError):
        await journal.append(received(1, raw=None, sha256=b""))
    await journal.append(received(1))


async def test_no_message_arrives_delivered(opened: Open) -> None:
    journal = await opened()
    with pytest.raises(ValueError, match="arrives"):
        await journal.append(received(1, state=State.DELIVERED))


async def test_too_little_free_space_refuses_new_messages_but_lets_states_change(opened: Open, tmp_path: Path) -> None:
    journal = await opened()
    first = await journal.append(received(1))
    await journal.close()
    journal = await opened(min_free_bytes=2**62)
    with pytest.raises(JournalFull, match="min_free_bytes"):
        await journal.append(received(2))
    with pytest.raises(JournalFull):
        await journal.append(parked(3))
    assert (await journal.append(received(1))).id == first.id
    await journal.apply(Change(first.id, State.DELIVERED, 1))
    await journal.audit("eva", "look", "x")
    assert (await journal.figures()).undelivered == 0


async def test_a_database_that_is_taken_away_is_an_error_and_not_a_write_into_nothing(
    opened: Open, tmp_path: Path
) -> None:
    journal = await opened()
    await journal.append(received(1))
    file = tmp_path / "journal" / DATABASE
    file.rename(tmp_path / "elsewhere")
    with pytest.raises(JournalError):
        await journal.append(received(2))
    file.write_bytes(b"")
    with pytest.raises(JournalError, match="replaced"):
        await journal.append(received(2))
    file.unlink()
    (tmp_path / "elsewhere").rename(file)
    await journal.append(received(2))


async def test_a_cancelled_caller_does_not_hurt_the_others(opened: Open) -> None:
    journal = await opened()
    tasks = [asyncio.ensure_future(journal.append(received(n))) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 9


async def test_a_failing_metric_costs_nothing(opened: Open) -> None:
    def broken(seconds: float, works: int) -> None:
        raise RuntimeError("metric")

    journal = await opened(on_commit=broken)
    assert not (await journal.append(received(1))).duplicate


async def test_the_commit_metric_counts_every_work(opened: Open) -> None:
    counted: list[int] = []
    journal = await opened(on_commit=lambda seconds, works: counted.append(works))
    await asyncio.gather(*(journal.append(received(n)) for n in range(40)))
    assert sum(counted) == 40


async def test_a_closed_journal_says_so(opened: Open) -> None:
    journal = await opened()
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.append(received(1))
    with pytest.raises(JournalError, match="closed"):
        await journal.figures()


_APPENDER = """
import asyncio, itertools, sys
sys.path[:0] = sys.argv[2:]
from journal_support import received
from hl7bridge.journal.sqlite import SqliteJournal

async def main():
    journal = await SqliteJournal.open(sys.argv[1], min_free_bytes=0)
    numbers = itertools.count()
    async def sender():
        for number in numbers:
            raw = b"MSH|%d|" % number + str(id(journal)).encode() + bytes(3000)
            appended = await journal.append(received(number, raw=raw, sender=str(sys.argv)))
            sys.stdout.write(appended.id + "\\n")
            sys.stdout.flush()
    await asyncio.gather(*(sender() for _ in range(20)))

asyncio.run(main())
"""


async def test_whatever_was_acknowledged_before_a_kill_is_there_afterwards(opened: Open, tmp_path: Path) -> None:
    """25 kills with SIGKILL, each at another moment while twenty senders append."""
    here = Path(__file__).parent
    moments = random.Random(3)
    acknowledged: set[str] = set()
    for _ in range(25):
        process = subprocess.Popen(
            [sys.executable, "-c", _APPENDER, str(tmp_path / "journal"), str(here), str(here.parent.parent)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        wanted = moments.randrange(1, 300)
        lines = [process.stdout.readline() for _ in range(wanted)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        # the last line may be cut by the kill; an id is 36 characters
        told = {line.decode().strip() for line in lines if len(line) == 37}
        assert len(told) >= wanted
        acknowledged |= told
        journal = await opened()
        stored = set(await ids_in(journal))
        assert acknowledged <= stored
        assert (await journal.figures()).undelivered == len(stored)
        await journal.close()


async def test_a_reader_sees_what_was_just_appended(opened: Open) -> None:
    journal = await opened()
    for n in range(20):
        appended = await journal.append(received(n))
        assert await journal.get(appended.id) is not None
        assert [entry.id for entry in await journal.claimable(NOW, n, 5)] == [appended.id]
