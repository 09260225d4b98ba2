"""What differs for one sender: who it is, and how its messages are taken (fault catalogue 5, 55, 58)."""

from __future__ import annotations

import asyncio

import pytest
from test_intake import Desk, message

from hl7bridge.admission import sender_of
from hl7bridge.config import Listener
from hl7bridge.errors import JournalError
from hl7bridge.hl7v2.header import read_header
from hl7bridge.journal.protocol import ControlIdReused
from hl7bridge.mllp.gate import HangUp

HEADER = read_header(message())


def found(senders: list[dict[str, str]], peer: str = "") -> int | None:
    listener = Listener(senders=senders)
    sender = sender_of(HEADER, listener, peer)
    return None if sender is None else listener.senders.index(sender)


@pytest.mark.parametrize(
    ("keys", "peer", "matches"),
    [
        ({}, "", True),
        ({"application": "LAB"}, "", True),
        ({"application": "LAB", "facility": "SOUTH"}, "", False),
        ({"certificate": "lab.example.org"}, "lab.example.org", True),
        ({"certificate": "lab.example.org"}, "LAB.example.org", False),
        ({"certificate": "lab.example.org"}, "192.0.2.1", False),
        ({"address": "192.0.2.0/24"}, "192.0.2.1", True),
        ({"address": "192.0.2.1"}, "192.0.2.1", True),
        ({"address": "192.0.2.0/24"}, "198.51.100.1", False),
        ({"address": "192.0.2.0/24"}, "lab.example.org", False),  # a certificate says more than an address
        ({"address": "2001:db8::/32"}, "2001:db8::1", True),
        ({"address": "fe80::/10"}, "fe80::1%eth0", True),
        ({"address": "192.0.2.0/24"}, "2001:db8::1", False),
        ({"application": "LAB", "address": "192.0.2.0/24"}, "192.0.2.9", True),
        ({"application": "PACS", "address": "192.0.2.0/24"}, "192.0.2.9", False),
    ],
)
def test_a_sender_is_known_by_msh_3_msh_4_certificate_or_address(
    keys: dict[str, str], peer: str, matches: bool
) -> None:
    assert found([keys], peer) == (0 if matches else None)


def test_the_first_sender_that_matches_counts() -> None:
    assert found([{"application": "PACS"}, {"facility": "NORTH"}, {"application": "LAB"}]) == 1


async def test_processing_ids_and_versions_are_the_senders_where_it_has_its_own() -> None:
    senders = ({"application": "LAB", "processing_ids": ("T",), "versions": ("2.3",)},)
    desk = Desk({"senders": senders, "versions": ("2.5",)})
    assert await desk.codes(message()) == ("AR", "C1", "202")
    assert await desk.codes(message(processing="T")) == ("AR", "C1", "203")
    assert await desk.codes(message(processing="T", version="2.3")) == ("AA", "C1", "207"[:0])
    assert await desk.codes(message("C2", sender="PACS")) == ("AA", "C2", "")


@pytest.mark.parametrize(
    ("choice", "original", "enhanced"),
    [(None, "AR", "CE"), ("AE", "AE", "CE"), ("AR", "AR", "CR"), ("CE", "AE", "CE"), ("CR", "AR", "CR")],
)
async def test_a_storage_failure_is_said_as_the_sender_needs_it_and_in_its_mode(
    choice: str | None, original: str, enhanced: str
) -> None:
    desk = Desk({"senders": ({"application": "LAB", "on_storage_failure": choice},)})
    desk.journal.failure = JournalError("disk")
    assert await desk.codes(message()) == (original, "C1", "207")
    assert await desk.codes(message(accept="AL")) == (enhanced, "C1", "207")
    assert await desk.codes(message(sender="PACS")) == ("AR", "C1", "207")
    # what is wrong with the message itself is said as ever
    assert await desk.codes(message(type="ADT^Z99")) == ("AR", "C1", "201")
    assert await desk.codes(message("")) == ("AE", "", "101")


async def test_a_storage_failure_may_be_silence_and_the_end_of_the_connection() -> None:
    desk = Desk({"on_storage_failure": "close"})
    desk.journal.failure = JournalError("disk")
    with pytest.raises(HangUp):
        await desk.give(message())
    assert ("acknowledged", "none", "storage-failed") in desk.notes.said
    with pytest.raises(HangUp):
        await desk.give(b"BHS|^~\\&|LAB|NORTH\r" + message() + message("C2") + b"BTS|2\r")
    desk.journal.failure = None
    assert await desk.codes(message()) == ("AA", "C1", "")


async def test_silence_for_one_message_ends_nobody_elses_wait() -> None:
    desk = Desk({"senders": ({"application": "LAB", "on_storage_failure": "close"},)})
    desk.journal.failure = JournalError("disk")
    outcomes = await asyncio.gather(
        desk.give(message()), desk.give(message("C2", sender="PACS")), return_exceptions=True
    )
    assert isinstance(outcomes[0], HangUp)
    assert isinstance(outcomes[1], bytes) and b"MSA|AR|C2" in outcomes[1]


def test_a_cr_behind_fs_is_required_of_the_sender_that_is_strict_only() -> None:
    desk = Desk({"senders": ({"application": "LAB", "require_cr": True},)})
    asked = desk.intake.requires_cr
    assert asked is not None
    assert asked(message(), desk.peer)
    assert not asked(message(sender="PACS"), desk.peer)
    assert not asked(b"no header", desk.peer)
    assert Desk({"senders": ({"application": "LAB"},)}).intake.requires_cr is None
    assert Desk().intake.requires_cr is None


async def test_a_control_id_that_came_before_may_be_refused_and_is_pointed_at() -> None:
    desk = Desk({"control_id_reuse": "refuse"})
    assert await desk.codes(message()) == ("AA", "C1", "")
    stored = desk.journal.committed[0]
    assert stored.terms is not None and stored.terms.refuse_reuse
    desk.journal.failure = ControlIdReused("")
    answer = await desk.give(message(pid="PID|2"))
    assert answer is not None and b"MSA|AE|C1\rERR||MSH^1^10|205^" in answer
    assert ("acknowledged", "AE", "reused-control-id") in desk.notes.said
