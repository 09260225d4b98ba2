"""Messages in parts: each answered when it is on disk, the whole in their place (HL7 v2.9.1 section 2.10.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.admission import events_of
from hl7bridge.config import Config, Listener
from hl7bridge.errors import JournalRefusal, PeerError
from hl7bridge.hl7v2.continuation import join, part_of
from hl7bridge.hl7v2.header import read_header
from hl7bridge.hl7v2.message import parse
from hl7bridge.intake import Intake
from hl7bridge.joining import Joining
from hl7bridge.journal.fragments import Fragments
from hl7bridge.journal.protocol import Change, Entry, Filter, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.peer import Peer

EVENTS = events_of([("ORU", "R01")])
PATIENCE = 10.0


def part(control_id: str, pointer: str, *segments: str, sender: str = "LAB") -> bytes:
    msh = f"MSH|^~\\&|{sender}|NORTH|EHR|SOUTH|2024||ORU^R01|{control_id}|P|2.5||{pointer}"
    return "\r".join((msh, *segments, "")).encode()


FIRST = part("C1", "", "PID|1||7^^^MRN", "OBR|1", "OBX|1|TX|A||one", "DSC|W4|F")
SECOND = part("C2", "W4", "OBX|2|TX|A||tw", "ADD", "DSC|V2|F")
THIRD = part("C3", "V2", "SFT|soft", "ADD|o^and more", "OBX|3|TX|A||three")
WHOLE = (
    b"MSH|^~\\&|LAB|NORTH|EHR|SOUTH|2024||ORU^R01|C1|P|2.5||\rPID|1||7^^^MRN\rOBR|1\r"
    b"OBX|1|TX|A||one\rOBX|2|TX|A||two^and more\rOBX|3|TX|A||three\r"
)


class Desk:
    def __init__(self, journal: SqliteJournal, **keys: Any) -> None:
        listener = Listener(**{"name": "lab", **keys})
        self.journal = journal
        self.intake = Intake(listener, journal, EVENTS)
        self.joins = 0
        self.troubles: list[str] = []
        self.joining = Joining(journal, Config(listeners=(listener,)), self._joined, self._trouble)

    async def _joined(self, parts: Sequence[Entry]) -> None:
        self.joins += 1
        self.parts = [entry.control_id for entry in parts]

    def _trouble(self, what: str, detail: str) -> None:
        self.troubles.append(detail)

    async def give(self, raw: bytes) -> bytes:
        answer = await self.intake.handle(raw, Peer("192.0.2.1", 1)) or b""
        self.joining.came()
        return answer

    async def all(self, *states: State) -> list[Entry]:
        return [entry async for entry in self.journal.find(Filter(states=states))]

    async def wholes(self) -> list[Entry]:
        return [entry for entry in await self.all() if not self.joining.is_part(entry)]

    async def until_wholes(self, count: int) -> list[Entry]:
        async with asyncio.timeout(PATIENCE):
            while len(found := await self.wholes()) < count:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        return found


@contextlib.asynccontextmanager
async def desk(folder: Path, running: bool = True, **keys: Any) -> AsyncIterator[Desk]:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    made = Desk(journal, **keys)
    task = asyncio.create_task(made.joining.run()) if running else None
    try:
        yield made
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await journal.close()


@pytest.mark.parametrize("order", list(permutations((FIRST, SECOND, THIRD))))
async def test_parts_in_any_order_are_answered_each_and_joined_when_all_are_there(
    tmp_path: Path, order: tuple[bytes, ...]
) -> None:
    async with desk(tmp_path) as d:
        for raw in order:
            answer = await d.give(raw)
            assert b"MSA|AA|" + raw.split(b"|")[9] in answer
        (whole,) = await d.until_wholes(1)
        assert whole.raw == WHOLE
        assert (whole.control_id, whole.type, whole.state, whole.ack_code) == ("C1", "ORU^R01", State.RECEIVED, "none")
        assert len(whole.lanes) == 1
        parts = await d.all(State.DELIVERED)
        assert len(parts) == 3 and all(entry.detail == f"joined into {whole.id}" for entry in parts)
        assert (await d.journal.figures()).undelivered == 1
        assert d.joins == 1 and d.parts == ["C1", "C2", "C3"]


async def test_until_then_a_part_waits_and_is_no_message_of_its_own(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.give(FIRST)
        (waiting,) = await d.all(State.WAITING)
        assert waiting.lanes == () and "parts" in waiting.detail
        now = waiting.received_at
        assert await d.journal.claimable(now + 299, 0, 10) == []
        assert [entry.id for entry in await d.journal.claimable(now + 301, 0, 10)] == [waiting.id]  # to be given up
        assert [step.state for step in await d.journal.history(waiting.id)] == [State.RECEIVED, State.WAITING]


async def test_a_restart_between_the_parts_changes_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.give(FIRST)
        await d.give(SECOND)
    async with desk(tmp_path, running=False) as d:
        await d.give(THIRD)  # committed and answered, and then the process dies
    async with desk(tmp_path) as d:
        (whole,) = await d.until_wholes(1)
        assert whole.raw == WHOLE


async def test_a_part_sent_again_gets_its_answer_and_is_joined_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        first = await d.give(FIRST)
        assert await d.give(FIRST) == first
        await d.give(SECOND)
        await d.give(THIRD)
        await d.until_wholes(1)
        assert await d.give(FIRST) == first
        assert len(await d.wholes()) == 1


async def test_a_late_part_completes_its_message_though_the_others_are_dead_letters(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.give(FIRST)
        await d.give(THIRD)
        for entry in await d.all(State.WAITING):
            await d.journal.apply(Change(entry.id, State.DEAD, 0, reason="incomplete"))
        await d.give(SECOND)
        (whole,) = await d.until_wholes(1)
        assert whole.raw == WHOLE
        assert await d.all(State.DEAD) == []


async def test_senders_that_use_the_same_pointer_are_not_mixed(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.give(FIRST)
        await d.give(SECOND.replace(b"|LAB|", b"|PACS|"))
        await d.give(THIRD)
        await d.give(SECOND)
        (whole,) = await d.until_wholes(1)
        assert whole.raw == WHOLE
        assert len(await d.all(State.WAITING)) == 1


async def test_other_messages_between_the_parts_go_their_way(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.give(FIRST)
        await d.give(part("C9", "", "PID|1||9^^^MRN", "OBR|1"))
        (other,) = await d.wholes()
        assert (other.control_id, other.state) == ("C9", State.RECEIVED)


async def test_a_message_that_must_not_be_cut_there_is_not_joined(tmp_path: Path) -> None:
    """Half a PID is another patient."""
    async with desk(tmp_path) as d:
        await d.give(part("C1", "", "PID|1||7", "ADD", "DSC|X|F"))
        await d.give(part("C2", "X", "ADD|8^^^MRN", "OBR|1"))
        async with asyncio.timeout(PATIENCE):
            while not d.troubles:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        assert await d.wholes() == [] and d.troubles[0] == "PeerError"


async def test_where_parts_are_not_joined_each_is_a_message(tmp_path: Path) -> None:
    async with desk(tmp_path, fragments="off") as d:
        await d.give(FIRST)
        assert [entry.state for entry in await d.wholes()] == [State.RECEIVED]


async def test_the_whole_is_not_stored_when_a_part_was_settled_meanwhile(tmp_path: Path) -> None:
    async with desk(tmp_path, running=False) as d:
        await d.give(FIRST)
        (entry,) = await d.all()
        await d.journal.apply(Change(entry.id, State.DELIVERED, 0))
        whole = d.joining._whole([entry])
        with pytest.raises(JournalRefusal):
            await Fragments(d.journal).joined(whole, [entry.id])
        assert len(await d.all()) == 1


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (FIRST, (b"", b"W4")),
        (SECOND, (b"W4", b"V2")),
        (THIRD, (b"V2", b"")),
        (part("C1", "", "OBR|1"), None),
        (part("C1", '""', "OBR|1"), None),
        (part("C1", "", "OBR|1", "DSC|X|I"), None),  # of a query: the client asks for the rest
        (part("C1", "", "OBR|1", "DSC|X"), (b"", b"X")),
        (part("C1", "", "OBR|1", "DSC|"), None),
        (part("C1", "", "NTE|1||DSC|X"), None),
        (part("C1", "", "DSC|X|F", "OBR|1"), None),  # it is the last segment or none
        (part("C1", "", "OBR|1", "DSC|X|F").replace(b"\r", b"\n"), (b"", b"X")),
        (part("C1", "", "OBR|1", "DSC|X|F").replace(b"|", b"#"), (b"", b"X")),
    ],
)
def test_which_part_a_message_is(raw: bytes, expected: tuple[bytes, bytes] | None) -> None:
    found = part_of(raw, read_header(raw))
    assert (None if found is None else (found.pointer, found.continues)) == expected


def test_parts_are_joined_whatever_ends_their_lines() -> None:
    for end in (b"\n", b"\r\n"):
        assert join([raw.replace(b"\r", end) for raw in (FIRST, SECOND, THIRD)], b"|") == WHOLE
    with pytest.raises(PeerError):
        join([part("C1", "", "PID|1||7"), part("C2", "x", "ADD|8")], b"|")


def test_within_one_message_add_continues_the_segment_before_it() -> None:
    message = parse(part("C1", "", "PID|1||7", "OBX|1|TX|A||first ", "ADD|and second", "ADD| and third^x", "NTE|1"))
    assert message.get("OBX-5") == "first and second and third^x"
    assert [segment.id for segment in message.segments] == ["MSH", "PID", "OBX", "NTE"]


def test_add_behind_a_patient_stays_what_it_is() -> None:
    message = parse(part("C1", "", "PID|1||7", "ADD|8"))
    assert message.get("PID-3") == "7"
    assert [segment.id for segment in message.segments] == ["MSH", "PID", "ADD"]
