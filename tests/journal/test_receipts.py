"""Receipts: what happened is provable, and every change, gap and other order of the record shows."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_support import NOW, Clock, parked, received

from hl7bridge.journal import files, receipts, verify
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.proof import Proof, prove
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal

PROOF = {"bundle_sha256": "ab" * 32, "status": 200}


async def opened(folder: Path, clock: Clock | None = None) -> SqliteJournal:
    return await SqliteJournal.open(folder, min_free_bytes=0, clock=clock or Clock(), retention_days=1)


async def lived(folder: Path) -> list[str]:
    """A journal in which something of every kind happened, closed; the ids of its messages."""
    journal = await opened(folder)
    appended = await asyncio.gather(*(journal.append(received(n)) for n in range(8)))
    ids = [found.id for found in appended]
    ids.append((await journal.append(parked(8))).id)
    for found in appended[:7]:
        journal.answered(found.seq, True)
    journal.answered(appended[7].seq, False)
    again = await journal.append(received(0))
    journal.answered(again.seq, True, resend=True)
    await asyncio.gather(
        journal.apply(Change(ids[0], State.WAITING, 1, NOW + 5, detail="HTTP 503")),
        journal.apply(Change(ids[1], State.DELIVERED, 1, mapping_version="v1", proof=PROOF)),
        journal.apply(Change(ids[2], State.DEAD, 1, 0.0, "not-translatable", "PID-5 leads nowhere")),
    )
    await journal.apply(Change(ids[0], State.DELIVERED, 2, mapping_version="v1", proof=PROOF))
    await journal.replay(ids[2], b"MSH|mended", by="eva")
    await journal.purge(Filter(id=ids[8]))
    await journal.close()
    return ids


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(files.connect_reader(folder / files.DATABASE)) as connection:
        yield connection


def whole(folder: Path, anchor: tuple[int, str] | None = None) -> verify.Verdict:
    with reading(folder) as connection:
        return verify.Whole(connection, Guard()).run(anchor)


def forged(folder: Path, *statements: str) -> None:
    """What somebody with the file and an SQLite shell could do."""
    with contextlib.closing(sqlite3.connect(folder / files.DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def proof(folder: Path, seq: int) -> Proof:
    with reading(folder) as connection:
        found = prove(connection, Guard(), seq)
    assert found is not None
    return found


async def test_a_journal_nobody_touched_is_verified_whole(tmp_path: Path) -> None:
    await lived(tmp_path)
    verdict = whole(tmp_path)
    assert verdict.findings == ()
    assert (verdict.messages, verdict.removed) == (8, 1)


async def test_a_message_s_proof_tells_everything_that_happened_to_it_in_order(tmp_path: Path) -> None:
    ids = await lived(tmp_path)
    told = proof(tmp_path, 1)
    assert (told.id, told.bytes, told.answered, told.findings) == (ids[0], "whole", True, ())
    assert [event.what for event in told.events] == ["received", "answered", "answered-again", "waiting", "delivered"]
    assert all(event.proven for event in told.events)
    assert told.events[-1].facts["bundle_sha256"] == PROOF["bundle_sha256"]
    assert told.events[0].facts["sha256"] == received(0).sha256.hex()
    assert proof(tmp_path, 8).answered is False
    edited = proof(tmp_path, 3)
    assert [event.what for event in edited.events] == ["received", "answered", "dead", "received"]
    assert (edited.events[-1].facts["actor"], edited.bytes, edited.findings) == ("eva", "edited", ())


async def test_an_answer_is_noted_without_a_transaction_of_its_own_and_at_the_latest_soon(tmp_path: Path) -> None:
    commits: list[int] = []
    journal = await SqliteJournal.open(tmp_path, min_free_bytes=0, on_commit=lambda _, works: commits.append(works))
    first = await journal.append(received(1))
    journal.answered(first.seq, True)
    await journal.append(received(2))
    assert commits == [1, 1]
    assert proof(tmp_path, 1).answered is True
    journal.answered(2, True)
    async with asyncio.timeout(10):
        while proof(tmp_path, 2).answered is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert commits == [1, 1, 0]
    await journal.close()


async def test_what_was_not_noted_is_told_as_not_recorded(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append(received(1))
    await journal.close()
    assert proof(tmp_path, 1).answered is None


FORGERIES = {
    "the bytes of a message": "UPDATE payloads SET raw = x'4d5348' WHERE seq = 2",
    "an answer": "UPDATE payloads SET ack = x'4d5348' WHERE seq = 2",
    "a control id": "UPDATE messages SET control_id = 'other' WHERE seq = 2",
    "a time of arrival": "UPDATE messages SET received_at = received_at - 60 WHERE seq = 2",
    "a state": "UPDATE messages SET state = 'dead' WHERE seq = 2",
    "a step": "UPDATE history SET at = at + 1 WHERE seq = 2",
    "the proof of a delivery": "UPDATE history SET proof = x'7b7d' WHERE seq = 2",
    "a step that is left out": "DELETE FROM history WHERE seq = 2",
    "a step that never was": "INSERT INTO history (seq, step, at, state, attempts, reason, detail, seal)"
    " SELECT 2, 2, at, state, attempts, reason, detail, seal FROM history WHERE seq = 2",
    "a receipt": "UPDATE seals SET leaves = substr(leaves, 45) WHERE number = 2",
    "what became of an answer": "UPDATE seals SET acks = x'' WHERE acks <> x''",
    "a seal that is left out": "DELETE FROM seals WHERE number = 3",
    "the newest seals": "DELETE FROM seals WHERE number > 4",
    "the time of a seal": "UPDATE seals SET at = at - 1 WHERE number = 3",
    "an edit": "UPDATE edits SET raw = x'4d53487c'",
}
IN_THE_MESSAGE = [name for name in FORGERIES if name != "an edit"]


@pytest.mark.parametrize("name", FORGERIES)
async def test_every_forgery_is_found_in_the_whole_journal(tmp_path: Path, name: str) -> None:
    await lived(tmp_path)
    forged(tmp_path, FORGERIES[name])
    assert whole(tmp_path).findings


@pytest.mark.parametrize("name", IN_THE_MESSAGE)
async def test_every_forgery_of_a_message_is_found_by_its_proof(tmp_path: Path, name: str) -> None:
    await lived(tmp_path)
    forged(tmp_path, FORGERIES[name])
    assert not proof(tmp_path, 2).verified


async def test_a_message_removed_behind_the_journal_s_back_is_found(tmp_path: Path) -> None:
    await lived(tmp_path)
    forged(tmp_path, *(f"DELETE FROM {table} WHERE seq = 4" for table in ("messages", "payloads", "history")))
    assert [str(finding) for finding in whole(tmp_path).findings] == [
        "message number 4 is gone without a receipt of its removal"
    ]


async def test_a_message_put_in_behind_the_journal_s_back_is_found(tmp_path: Path) -> None:
    await lived(tmp_path)
    columns = "control_id, sender, received_at, listener, peer, type, lanes, ack_code, state, seal"
    forged(
        tmp_path,
        f"INSERT INTO messages (seq, id, sha256, {columns}) SELECT 99, randomblob(16), x'00', {columns}"
        " FROM messages WHERE seq = 4",
        "INSERT INTO payloads SELECT 99, raw, ack FROM payloads WHERE seq = 4",
    )
    assert any("no receipt" in str(finding) for finding in whole(tmp_path).findings)


async def test_two_messages_whose_payloads_changed_places_are_found(tmp_path: Path) -> None:
    await lived(tmp_path)
    forged(
        tmp_path,
        "UPDATE payloads SET seq = 900 WHERE seq = 4",
        "UPDATE payloads SET seq = 4 WHERE seq = 5",
        "UPDATE payloads SET seq = 5 WHERE seq = 900",
    )
    assert {finding.id for finding in whole(tmp_path).findings} == {proof(tmp_path, 4).id, proof(tmp_path, 5).id}


async def test_a_chain_that_was_made_anew_is_found_by_an_anchor_kept_elsewhere(tmp_path: Path) -> None:
    await lived(tmp_path)
    anchor = whole(tmp_path).head
    assert whole(tmp_path, anchor).findings == ()
    other = tmp_path / "other"
    journal = await opened(other)
    for n in range(20):
        await journal.append(received(n))
    await journal.close()
    assert any("another hash" in str(finding) for finding in whole(other, anchor).findings)


async def test_what_retention_removes_is_receipted_and_its_seals_go_with_it(tmp_path: Path) -> None:
    clock = Clock()
    journal = await opened(tmp_path, clock)
    for n in range(30):
        found = await journal.append(received(n))
        await journal.apply(Change(found.id, State.DELIVERED, 1, at=NOW))
    clock.now += 3 * 86_400
    late = await journal.append(received(99))
    assert await journal.retain(clock.now) == 30
    await journal.retain(clock.now)
    await journal.append(received(100))
    await journal.close()
    verdict = whole(tmp_path)
    assert verdict.findings == () and verdict.messages == 2
    assert verdict.seals < 15, "the seals of removed messages are not kept for ever"
    assert proof(tmp_path, late.seq).verified
    forged(tmp_path, "DELETE FROM seals WHERE number = (SELECT min(number) FROM seals)")
    assert whole(tmp_path).findings, "but nobody else may shorten the chain"


async def test_verifying_beside_a_journal_that_is_in_use_finds_nothing(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for n in range(300):
        await journal.append(received(n))
    ids = [entry.id async for entry in journal.find(Filter())]

    async def use() -> None:
        for n, id in enumerate(ids):
            await journal.apply(Change(id, State.DELIVERED, 1))
            await journal.append(received(1000 + n))

    using = asyncio.create_task(use())
    verdict = await asyncio.to_thread(whole, tmp_path)
    await using
    assert verdict.findings == ()
    await journal.close()


def test_the_facts_of_a_receipt_are_spelled_one_way_for_ever() -> None:
    facts = receipts.arrival(7, b"\x01", ["C1", b"\xed\xa0\x80", b"\x02", 1.5, "default", "p", "ADT^A01"], "AA", b"MSA")
    assert facts == (
        b'["arrival",7,"0x01","C1","0xeda080","0x02",1.5,"default","p","ADT^A01","AA",'
        b'"0x04fef4a7323d2fcbada6391889ce7e6249e0cb110a2f392dfde5d430c348c3e9"]'
    )
