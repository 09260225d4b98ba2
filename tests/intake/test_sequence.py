"""The sequence number protocol against a real journal (fault catalogue 59; HL7 v2.9.1 section 2.10.1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.admission import events_of
from hl7bridge.config import Listener
from hl7bridge.errors import JournalError
from hl7bridge.intake import Intake
from hl7bridge.joints import start_link
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.peer import Peer

EVENTS = events_of([("ADT", "A01")])


def numbered(number: str, control_id: str = "", accept: str = "", sender: str = "LAB", text: str = "7") -> bytes:
    control_id = control_id or f"C{number}"
    msh = f"MSH|^~\\&|{sender}|NORTH|EHR|SOUTH|2024||ADT^A01|{control_id}|P|2.5|{number}||{accept}"
    return f"{msh}\rEVN|A01\rPID|1||{text}^^^MRN\r".encode()


def bare(number: str, control_id: str, sender: str = "LAB") -> bytes:
    return f"MSH|^~\\&|{sender}|NORTH|EHR|SOUTH|2024||^|{control_id}|P|2.5|{number}\r".encode()


class Link:
    """A sender with numbers, and what it is told: MSA-1, MSA-2, MSA-4."""

    def __init__(self, journal: SqliteJournal, **keys: Any) -> None:
        self.journal = journal
        listener = Listener(**{"name": "lab", "sequence_numbers": True, **keys})
        self.intake = Intake(listener, journal, EVENTS, start=partial(start_link, journal))
        self.peer = Peer("192.0.2.1", 1)

    async def raw(self, message: bytes) -> bytes:
        return await self.intake.handle(message, self.peer) or b""

    async def give(self, message: bytes) -> tuple[str, str, str]:
        answer = await self.raw(message)
        msa = next(line.split(b"|") for line in answer.split(b"\r") if line.startswith(b"MSA"))
        return msa[1].decode(), msa[2].decode(), msa[4].decode() if len(msa) > 4 else ""

    async def stored(self) -> int:
        return (await self.journal.figures()).undelivered


@contextlib.asynccontextmanager
async def link(folder: Path, **keys: Any) -> AsyncIterator[Link]:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    try:
        yield Link(journal, **keys)
    finally:
        await journal.close()


async def test_numbers_in_order_are_taken_and_repeated_in_msa_4(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        assert await s.give(numbered("17")) == ("AA", "C17", "17")  # the first number of a link is the sender's choice
        assert await s.give(numbered("18", accept="AL")) == ("CA", "C18", "18")


async def test_a_gap_is_refused_with_the_number_expected_and_not_stored(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("1"))
        assert await s.give(numbered("3")) == ("AE", "C3", "2")
        assert await s.give(numbered("3", accept="AL")) == ("CE", "C3", "2")
        answer = await s.raw(numbered("3"))
        assert b"\rERR||MSH^1^13|207^" in answer
        assert await s.stored() == 1
        assert await s.give(numbered("2")) == ("AA", "C2", "2")
        assert await s.give(numbered("3")) == ("AA", "C3", "3")


async def test_a_repeat_gets_its_first_answer_and_another_message_under_its_number_is_refused(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        first = await s.raw(numbered("1"))
        assert await s.raw(numbered("1")) == first
        assert await s.give(numbered("1", "OTHER", text="8")) == ("AE", "OTHER", "2")
        assert await s.stored() == 1


async def test_zero_tells_the_sender_where_to_go_on_and_stores_no_message(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        assert await s.give(bare("0", "S1")) == ("AA", "S1", "-1")  # nothing was ever taken: any number
        await s.give(numbered("5"))
        assert await s.give(bare("0", "S2")) == ("AA", "S2", "6")
        assert await s.give(numbered("6")) == ("AA", "C6", "6")
        assert await s.stored() == 2


async def test_minus_one_forgets_the_number_so_that_the_next_may_be_any(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("5"))
        assert await s.give(bare("-1", "S1")) == ("AA", "S1", "-1")
        assert await s.give(numbered("900")) == ("AA", "C900", "900")
        assert await s.give(numbered("902")) == ("AE", "C902", "901")


async def test_a_start_that_carries_a_message_loses_nothing(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("5"))
        assert await s.give(numbered("0", "S1")) == ("AA", "S1", "6")
        assert await s.give(numbered("-1", "S2", text="8")) == ("AA", "S2", "-1")
        assert await s.stored() == 3
        assert await s.give(bare("0", "S3")) == ("AA", "S3", "-1")


async def test_what_a_link_expects_outlasts_a_restart(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("1"))
        await s.give(numbered("2"))
    async with link(tmp_path) as s:
        assert await s.give(numbered("4")) == ("AE", "C4", "3")
        assert await s.give(numbered("3")) == ("AA", "C3", "3")


async def test_a_number_counts_only_when_its_message_is_on_disk(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("1"))
        writer = s.journal._writer
        real = writer._settings
        object.__setattr__(real, "min_free_bytes", 1 << 62)
        assert (await s.give(numbered("2")))[0] == "AR"
        object.__setattr__(real, "min_free_bytes", 0)
        assert await s.give(numbered("2")) == ("AA", "C2", "2")


async def test_each_sender_and_each_listener_has_numbers_of_its_own(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        await s.give(numbered("1"))
        assert await s.give(numbered("40", "X", sender="PACS")) == ("AA", "X", "40")
        other = Link(s.journal, name="other")
        assert await other.give(numbered("70", "Y")) == ("AA", "Y", "70")
        assert await s.give(numbered("2")) == ("AA", "C2", "2")


async def test_numbers_sent_without_waiting_are_taken_in_their_order(tmp_path: Path) -> None:
    async with link(tmp_path) as s:
        answers = await asyncio.gather(*(s.give(numbered(str(n))) for n in (1, 2, 4, 3)))
        assert answers == [("AA", "C1", "1"), ("AA", "C2", "2"), ("AE", "C4", "3"), ("AA", "C3", "3")]


@pytest.mark.parametrize(
    ("number", "condition"), [("", b"207"), ("x1", b"102"), ("1.5", b"102"), ("-2", b"102"), ("1" * 20, b"102")]
)
async def test_a_number_that_is_missing_or_none_is_pointed_at(tmp_path: Path, number: str, condition: bytes) -> None:
    async with link(tmp_path) as s:
        answer = await s.raw(numbered(number, "C1"))
        assert b"MSA|AE|C1\rERR||MSH^1^13|" + condition in answer
        assert await s.stored() == 0


async def test_without_the_option_a_number_is_only_a_field(tmp_path: Path) -> None:
    async with link(tmp_path, sequence_numbers=False) as s:
        for number in ("7", "3", "0"):
            assert (await s.give(numbered(number, f"N{number}", text=number)))[0] == "AA"
        assert await s.stored() == 3


async def test_a_start_that_cannot_be_written_down_is_no_start(tmp_path: Path) -> None:
    async with link(tmp_path) as s:

        async def failing(_link: str, _number: int) -> int:
            raise JournalError("disk")

        s.intake._preparing._start = failing
        assert (await s.give(bare("-1", "S1")))[0] == "AR"
        assert b"MSA|AE||" in (await s.raw(bare("0", ""))).replace(b"MSA|AE|\r", b"MSA|AE||")
