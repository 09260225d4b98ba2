"""From a frame to its answer, with a journal that works and one that does not (fault catalogue B and 55 to 58)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_journal import Notes, RecordingJournal

from hl7bridge import reasons
from hl7bridge.admission import events_of, lanes_of
from hl7bridge.config import Listener
from hl7bridge.errors import JournalError, JournalFull, MessageError, TranslationError
from hl7bridge.hl7v2.conformance import Finding
from hl7bridge.hl7v2.message import parse
from hl7bridge.intake import Intake, IntakeObserver
from hl7bridge.journal.protocol import State
from hl7bridge.mllp.gate import Refusal
from hl7bridge.mllp.peer import Peer

EVENTS = events_of([("ADT", "A01"), ("ADT", "A08"), ("ADT", "A40"), ("ORU", "R01")])
SECRET = "SENTINEL"


def message(control_id: str = "C1", **keys: str) -> bytes:
    """An ADT^A01 full of SENTINEL; keys: type, processing, version, accept, charset, pid, sender."""
    get = {
        "type": "ADT^A01",
        "processing": "P",
        "version": "2.5",
        "sender": "LAB",
        "pid": f"PID|1||{SECRET}7^^^MRN",
    } | keys
    msh = ["MSH", "^~\\&", get["sender"], "NORTH", "EHR", "SOUTH", "20240101", "", get["type"], control_id]
    msh += [get["processing"], get["version"], "", "", get.get("accept", ""), "", "", get.get("charset", "")]
    return "\r".join(["|".join(msh), "EVN|A01|2024", get["pid"], f"NK1|1|{SECRET}^{SECRET}", ""]).encode("latin-1")


def listener(**keys: Any) -> Listener:
    return Listener(**{"name": "lab", **keys})


class Desk:
    """An intake with everything around it."""

    def __init__(self, keys: dict[str, Any] | None = None, **more: Any) -> None:
        self.journal = RecordingJournal()
        self.notes = Notes()
        self.peer = Peer("192.0.2.1", 4000, "lab.example.org")
        self.number = 0
        self.intake = Intake(
            listener(**(keys or {})),
            self.journal,  # type: ignore[arg-type]
            EVENTS,
            observer=more.pop("observer", self.notes),
            clock=lambda: 1_709_251_198.0,
            zone=timezone(timedelta(hours=-9, minutes=-30)),
            new_id=self._new_id,
            **more,
        )

    def _new_id(self) -> str:
        self.number += 1
        return f"OWN{self.number}"

    async def give(self, raw: bytes) -> bytes | None:
        return await self.intake.handle(raw, self.peer)

    async def codes(self, raw: bytes) -> tuple[str, str, str] | None:
        """MSA-1, MSA-2 and the code of ERR-3 (or ERR-1), or None."""
        answer = await self.give(raw)
        return read(answer) if answer is not None else None


def read(answer: bytes) -> tuple[str, str, str]:
    lines = answer.decode("latin-1").split("\r")
    msa = next(line for line in lines if line.startswith("MSA|")).split("|")
    err = next((line for line in lines if line.startswith("ERR|")), "")
    fields = err.split("|")
    code = fields[3].split("^")[0] if len(fields) > 3 else err.split("^")[-1].split("&")[0]
    return msa[1], msa[2], code


async def test_a_message_is_stored_then_answered() -> None:
    desk = Desk()
    raw = message()
    answer = await desk.give(raw)
    [stored] = desk.journal.committed
    assert answer == stored.ack
    assert answer == b"MSH|^~\\&|EHR|SOUTH|LAB|NORTH|20240229142958-0930||ACK^A01^ACK|OWN1|P|2.5\rMSA|AA|C1\r"
    assert (stored.raw, stored.listener, stored.peer, stored.sender) == (raw, "lab", "lab.example.org", "LAB|NORTH")
    assert (stored.control_id, stored.type, stored.ack_code, stored.state) == ("C1", "ADT^A01", "AA", State.RECEIVED)
    assert stored.received_at == 1_709_251_198.0
    assert len(stored.sha256) == 32
    assert desk.notes.said == [("received", "ADT^A01"), ("acknowledged", "AA", "")]


async def test_nothing_is_answered_before_the_commit() -> None:
    desk = Desk()
    desk.journal.go.clear()
    giving = asyncio.create_task(desk.give(message()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert desk.journal.came and not giving.done()
    assert ("acknowledged", "AA", "") not in desk.notes.said
    desk.journal.go.set()
    assert (await giving) is not None


@pytest.mark.parametrize(
    ("failure", "original", "enhanced", "reason"),
    [
        (JournalError("disk"), "AR", "CE", "storage-failed"),
        (JournalFull("backlog"), "AR", "CE", "backlog-full"),
        (ValueError("defect"), "AR", "CE", "internal-error"),
        (OSError(28, "no space"), "AR", "CE", "internal-error"),
    ],
)
async def test_a_journal_that_fails_is_never_a_positive_answer(
    failure: Exception, original: str, enhanced: str, reason: str
) -> None:
    desk = Desk()
    desk.journal.failure = failure
    assert await desk.codes(message()) == (original, "C1", "207")
    assert await desk.codes(message(accept="AL")) == (enhanced, "C1", "207")
    assert ("acknowledged", original, reason) in desk.notes.said
    desk.journal.failure = None
    assert await desk.codes(message()) == ("AA", "C1", "")  # and it recovers


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ("AE", "", "100")),
        (b" \r\n ", ("AE", "", "100")),
        (b"\x06", ("AE", "", "100")),
        (b"MSH", ("AE", "", "100")),
        (b"MSH|", ("AE", "", "101")),
        (b"PID|1||x\r", ("AE", "", "100")),
        (b"{not hl7}", ("AE", "", "100")),
        (b"MSH|^~\\&|A", ("AE", "", "101")),
        (b"MSH|^~\\&|A|B|C|D|1||ADT^A01|C1", ("AR", "C1", "202")),
        (message(""), ("AE", "", "101")),
        (message('""'), ("AE", '""', "101")),
        (message(type=""), ("AR", "C1", "200")),
        (message(type="XYZ^A01"), ("AR", "C1", "200")),
        (message(type="ADT^A99"), ("AR", "C1", "201")),
        (message(processing=""), ("AR", "C1", "202")),
        (message(processing="X"), ("AR", "C1", "202")),
        (message(version="1.0"), ("AR", "C1", "203")),
        (message(version="3"), ("AR", "C1", "203")),
        (message(accept="AL", version="2.10"), ("CR", "C1", "203")),
        (message(charset="UNICODE UTF-8") + b"NTE|1||\xff\r", ("AE", "C1", "102")),
        (message() + message("C2"), ("AE", "C1", "100")),
        (b"EVN|A01\r" + message(), ("AE", "C1", "100")),
    ],
)
async def test_what_is_refused_is_answered_and_not_stored(raw: bytes, expected: tuple[str, str, str]) -> None:
    desk = Desk()
    assert await desk.codes(raw) == expected
    assert desk.journal.came == []
    assert desk.notes.said[-1][0] == "acknowledged"


async def test_an_empty_control_id_is_pointed_at() -> None:
    answer = await Desk().give(message(""))
    assert answer is not None
    assert b"ERR||MSH^1^10|101^Required field missing^HL70357|E||||" in answer


async def test_a_listener_may_narrow_processing_ids_and_versions() -> None:
    desk = Desk({"processing_ids": ("T",), "versions": ("2.3",)})
    assert await desk.codes(message()) == ("AR", "C1", "202")
    assert await desk.codes(message(processing="T")) == ("AR", "C1", "203")
    assert await desk.codes(message(processing="T", version="2.3")) == ("AA", "C1", "")


@pytest.mark.parametrize("kind", ["XYZ^A01", "ADT^A99", "ADT"])
async def test_an_event_without_table_may_be_parked(kind: str) -> None:
    desk = Desk({"unknown_events": "park"})
    raw = b"MSH|^~\\&|A|B|C|D|1||%s|C1|P|2.5\rPID|1||7\r" % kind.encode()
    assert await desk.codes(raw) == ("AA", "C1", "")
    [stored] = desk.journal.committed
    assert stored.state is State.DEAD
    assert stored.reason == ("unsupported-type" if kind.startswith("XYZ") else "unsupported-event")
    assert stored.detail and stored.lanes
    assert ("parked", kind, stored.reason) in desk.notes.said


async def test_parking_is_for_events_only() -> None:
    desk = Desk({"unknown_events": "park"})
    assert await desk.codes(message(type="")) == ("AR", "C1", "200")
    assert await desk.codes(message(type="ADT^A99", processing="X")) == ("AR", "C1", "202")
    assert desk.journal.came == []


async def test_an_acknowledgement_is_counted_and_gets_no_answer() -> None:
    desk = Desk()
    assert await desk.give(b"MSH|^~\\&|A|B|C|D|1||ACK^A01|C1|P|2.5\rMSA|AA|X\r") is None
    assert desk.notes.said == [("received", "ACK^A01"), ("acknowledgement",)]
    assert desk.journal.came == []


async def test_a_sender_that_wants_no_answer_gets_none_but_its_message_is_stored() -> None:
    desk = Desk()
    assert await desk.give(message(accept="NE")) is None
    [stored] = desk.journal.committed
    assert (stored.ack, stored.ack_code) == (b"", "none")
    assert await desk.give(message(accept="NE", type="XYZ")) is None
    assert desk.notes.said[1::2] == [("acknowledged", "none", ""), ("acknowledged", "none", "unsupported-type")]


async def test_the_same_bytes_again_get_the_stored_answer() -> None:
    desk = Desk()
    first = await desk.give(message())
    assert await desk.give(message()) == first  # with the first answer's own control id and time
    assert len(desk.journal.committed) == 1
    assert ("duplicate",) in desk.notes.said


async def test_the_same_control_id_with_other_bytes_is_a_new_message() -> None:
    desk = Desk()
    await desk.give(message())
    assert await desk.codes(message(type="ADT^A08")) == ("AA", "C1", "")
    assert len(desk.journal.committed) == 2
    assert ("reused",) in desk.notes.said


async def test_a_character_set_fallback_belongs_to_its_sender() -> None:
    senders = ({"application": "LAB", "facility": "NORTH", "charset_fallback": "cp1252"},)
    desk = Desk({"senders": senders})
    umlaut = f"PID|1||7||{chr(0xE4)}"
    assert await desk.codes(message(pid=umlaut)) == ("AA", "C1", "")
    assert await desk.codes(message(pid=umlaut, sender="OTHER")) == ("AE", "C1", "102")
    everybody = Desk({"charset_fallback": "cp1252"})
    assert await everybody.codes(message(pid=umlaut, sender="OTHER")) == ("AA", "C1", "")


async def test_a_control_id_with_high_bytes_comes_back_verbatim() -> None:
    answer = await Desk({"charset_fallback": "latin-1"}).give(message("µ"))
    assert answer is not None and b"MSA|AA|\xb5\r" in answer


async def test_a_defect_anywhere_is_a_negative_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    for place in ("admit", "Received", "parse", "lanes_of", "address_of"):
        with monkeypatch.context() as patch:
            patch.setattr(f"hl7bridge.intake.preparing.{place}", broken)
            desk = Desk()
            assert await desk.codes(message()) == ("AR", "C1", "207"), place
            assert ("failed", "RuntimeError") in desk.notes.said
            assert desk.journal.came == []
    assert await Desk().codes(message()) == ("AA", "C1", "")


class Raising(IntakeObserver):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


async def test_an_observer_that_raises_changes_nothing() -> None:
    desk = Desk(observer=Raising())
    assert await desk.codes(message()) == ("AA", "C1", "")
    assert await desk.codes(b"junk") == ("AE", "", "100")
    assert desk.intake.observer_failures >= 4


async def test_messages_of_one_connection_are_stored_in_order_though_the_first_is_checked_slowly() -> None:
    slow = threading.Event()

    def check(raw: bytes, fallback: str | None) -> Sequence[Finding]:
        if b"|C1|" in raw:
            slow.wait(5)
        return []

    desk = Desk({"validate": "warn"}, check=check)
    giving = [asyncio.create_task(desk.give(message(f"C{i}"))) for i in range(1, 6)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert desk.journal.came == []
    slow.set()
    answers = await asyncio.gather(*giving)
    assert [stored.control_id for stored in desk.journal.came] == ["C1", "C2", "C3", "C4", "C5"]
    assert [read(answer or b"")[1] for answer in answers] == ["C1", "C2", "C3", "C4", "C5"]


async def test_messages_of_one_connection_share_a_commit() -> None:
    desk = Desk()
    desk.journal.go.clear()
    giving = [asyncio.create_task(desk.give(message(f"C{i}"))) for i in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(desk.journal.came) == 5
    desk.journal.go.set()
    await asyncio.gather(*giving)


FINDINGS = [
    Finding("PV1", 2, "PV1^1^2", "101", "W", "a warning"),
    Finding("PID", 5, "PID^1^5", "101", "E", "PID-5 is required"),
]


async def test_validation_refuses_at_its_first_error_or_only_counts() -> None:
    strict = Desk({"validate": "reject"}, check=lambda raw, fallback: FINDINGS)
    answer = await strict.give(message())
    assert answer is not None
    assert b"ERR||PID^1^5|101^Required field missing^HL70357|E||||PID-5 is required" in answer
    assert strict.journal.came == []
    lenient = Desk({"validate": "warn"}, check=lambda raw, fallback: FINDINGS)
    assert await lenient.codes(message()) == ("AA", "C1", "")
    assert ("findings", "ADT^A01", 1) in lenient.notes.said
    assert await Desk({"validate": "reject"}, check=lambda raw, fallback: FINDINGS[:1]).codes(message()) == (
        "AA",
        "C1",
        "",
    )


async def test_validation_by_the_profiles_refuses_what_lacks_a_required_segment() -> None:
    desk = Desk({"validate": "reject", "senders": ({"application": "OLD", "charset_fallback": "cp1252"},)})
    assert await desk.codes(message()) == ("AE", "C1", "100")  # no PV1
    whole = message(pid="PID|1||7||Name^Given\rPV1|1|I")
    assert await desk.codes(whole) == ("AA", "C1", "")
    assert await desk.codes(message(pid=f"PID|1||7||{chr(0xE4)}\rPV1|1|I", sender="OLD")) == ("AA", "C1", "")


async def test_what_the_tables_cannot_translate_is_refused_where_the_answer_waits_for_that() -> None:
    async def translated(raw: bytes, peer: str) -> MessageError | None:
        return TranslationError(reasons.NOT_TRANSLATABLE, "no row", "PID^1^5") if b"|C2|" in raw else None

    desk = Desk({"ack": "translated"}, translated=translated)
    assert await desk.codes(message("C1")) == ("AA", "C1", "")
    assert await desk.codes(message("C2")) == ("AE", "C2", "207")
    assert len(desk.journal.came) == 1
    assert await Desk(translated=translated).codes(message("C2")) == ("AA", "C2", "")


async def test_the_answer_may_wait_for_delivery() -> None:
    fate: dict[str, Any] = {"id0": None, "id1": reasons.ENDPOINT_REJECTED}

    async def delivered(id: str) -> Any:
        if id not in fate:
            await asyncio.Event().wait()
        return fate[id]

    desk = Desk({"ack": "delivered", "ack_timeout": 0.01}, delivered=delivered)
    assert await desk.codes(message("C1")) == ("AA", "C1", "")
    assert await desk.codes(message("C2")) == ("AE", "C2", "207")
    assert await desk.codes(message("C3")) == ("AE", "C3", "207")
    assert desk.notes.said[-1] == ("acknowledged", "AE", "delivery-pending")
    assert len(desk.journal.committed) == 3
    fate["id2"] = None
    assert await desk.codes(message("C3")) == ("AA", "C3", "")  # the resend finds it delivered


BATCH = b"BHS|^~\\&|LAB|NORTH|EHR|SOUTH|2024||||B7\r%sBTS|%d\r"


async def test_a_batch_is_stored_message_by_message_and_answered_by_a_batch() -> None:
    desk = Desk()
    inside = message("C1") + message("C2", type="ADT^A99") + message("C3")
    answer = await desk.give(b"FHS|^~\\&|X\r" + BATCH % (inside, 3) + b"FTS|1\r")
    assert answer is not None
    lines = answer.split(b"\r")
    assert lines[0].startswith(b"BHS|^~\\&|EHR|SOUTH|LAB|NORTH|") and lines[0].endswith(b"|B7")
    assert [line[:9] for line in lines if line.startswith(b"MSA")] == [b"MSA|AA|C1", b"MSA|AR|C2", b"MSA|AA|C3"]
    assert lines[-2] == b"BTS|3"
    assert [stored.control_id for stored in desk.journal.committed] == ["C1", "C3"]


async def test_a_batch_whose_count_is_wrong_or_that_holds_no_message_is_said() -> None:
    desk = Desk()
    answer = await desk.give(BATCH % (message(), 2))
    assert answer is not None and answer.endswith(b"BTS|1|BTS-1 is not the number of messages in the batch\r")
    empty = await desk.give(b"\xef\xbb\xbfFHS|^~\\&|X\rFTS|0\r")
    assert empty is not None and empty.endswith(b"\rBTS|0\r")
    assert len(desk.journal.committed) == 1


async def test_a_batch_of_messages_that_want_no_answer_gets_none() -> None:
    desk = Desk()
    assert await desk.give(BATCH % (message(accept="NE"), 1)) is None
    assert len(desk.journal.committed) == 1


async def test_an_envelope_with_odd_separators_is_still_answered() -> None:
    desk = Desk()
    for envelope in (b"FHS", b"FHS|", b"BHSx", b"BHS|ABC", b"fhs|^~\\&"):
        answer = await desk.give(envelope + b"\r" + message())
        assert answer is not None and b"|C1" in answer, envelope


async def test_a_batch_keeps_its_place_among_the_messages_of_its_connection() -> None:
    desk = Desk()
    giving = [
        asyncio.create_task(desk.give(raw))
        for raw in (message("C1"), BATCH % (message("C2") + message("C3"), 2), message("C4"))
    ]
    await asyncio.gather(*giving)
    assert [stored.control_id for stored in desk.journal.came] == ["C1", "C2", "C3", "C4"]


@pytest.mark.parametrize(
    ("refusal", "code"), [(Refusal.TOO_LARGE, "104"), (Refusal.BROKEN, "100"), (Refusal.FAILED, "207")]
)
def test_a_refused_block_is_answered_with_its_control_id(refusal: Refusal, code: str) -> None:
    desk = Desk()
    answer = desk.intake.refuse(message(), refusal, desk.peer)
    assert answer is not None
    assert read(answer) == ("AR" if code == "207" else "AE", "C1", code)


def test_half_a_control_id_is_not_answered() -> None:
    desk = Desk()
    for head in (message()[:48], b"MSH|^~\\&|A|B|C|D|1||ADT^A01|C1", b"junk", b""):
        answer = desk.intake.refuse(head, Refusal.TOO_LARGE, desk.peer)
        assert answer is not None
        assert read(answer)[1] == "", head


def test_an_acknowledgement_that_is_too_large_gets_no_answer() -> None:
    desk = Desk()
    ack = b"MSH|^~\\&|A|B|C|D|1||ACK|C1|P|2.5\rMSA|AA|1|" + b"x" * 100
    assert desk.intake.refuse(ack, Refusal.TOO_LARGE, desk.peer) is None


def lanes(*segments: str) -> tuple[str, ...]:
    return lanes_of(parse("\r".join(["MSH|^~\\&|A|B|C|D|1||ADT^A40|1|P|2.5", *segments]).encode()))


def test_every_identifier_of_every_patient_is_a_lane() -> None:
    assert len(lanes("PID|1||7^^^A~8^^^B", "MRG|9^^^A~10^^^A")) == 4
    assert len(lanes("PID|1||7^^^A", "MRG|8^^^A", "PID|2||9^^^A", "MRG|8^^^A")) == 3
    assert lanes("PID|1||7^^^A") == lanes("PID|1||7^^^A^MR~7^^^a", "MRG|7^^^A^PI")
    assert lanes("PID|1||7^^^A") != lanes("PID|1||7^^^B")
    assert lanes("PID|1||7^^^A&1.2&ISO") != lanes("PID|1||7^^^A")


def test_old_fields_count_where_the_new_are_empty() -> None:
    assert lanes("PID|1|7||8") == lanes("PID|1||7~8")
    assert lanes("PID|1|7|9|8") == lanes("PID|1||9")
    assert lanes("PID|1||9", "MRG|||7") == lanes("PID|1||9", "MRG||||") == lanes("PID|1||9")
    assert lanes("PID|1||9", "MRG||||7") == lanes("PID|1||9~7")


def test_without_identifier_there_is_no_lane() -> None:
    assert lanes("PID|1||") == lanes('PID|1||""~^^^A') == lanes("PV1|1") == ()


def test_a_lane_shows_nothing_of_the_identifier() -> None:
    [key] = lanes("PID|1||SENTINEL^^^A")
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")


async def test_no_value_of_a_message_is_in_answers_notes_or_repr() -> None:
    desk = Desk()
    broken = message(charset="UNICODE UTF-8") + f"ZZZ|{SECRET}".encode() + b"\xff\r"
    for raw in (message(), broken, message(type="XX"), b"MSH|^~\\&|" + SECRET.encode(), SECRET.encode()):
        assert SECRET.encode() not in (await desk.give(raw) or b"").replace(b"|||" + SECRET.encode(), b"")
    assert SECRET not in repr(desk.notes.said)
    assert SECRET not in repr(desk.journal.came)


ANY = st.binary(max_size=200)


@given(ANY | ANY.map(lambda b: message() + b) | ANY.map(lambda b: b"MSH|^~\\&|" + b) | ANY.map(lambda b: b"BHS|" + b))
def test_any_bytes_have_an_answer_and_a_positive_one_only_when_stored(raw: bytes) -> None:
    desk = Desk()
    answer = asyncio.run(desk.give(raw))
    if answer is not None and (b"\rMSA|AA|" in answer or b"\rMSA|CA|" in answer):
        assert desk.journal.committed
    if answer is None:
        assert ("acknowledgement",) in desk.notes.said or ("acknowledged", "none") in [s[:2] for s in desk.notes.said]
