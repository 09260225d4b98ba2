"""The later application ACK as an exchange of its own (fault catalogue 32, 33 and 68; HL7 v2.9.1 section 2.9.3)."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from replies_stand import channels, commit, fields, message, running, stand

from hl7bridge.journal import files
from hl7bridge.journal.protocol import State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import Keyring


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LOOK", 0.02)
    monkeypatch.setattr(running, "LOOK", 0.02)


async def test_a_delivered_message_is_acknowledged_by_a_message_of_its_own(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        accept = await s.give(message())
        assert accept is not None and fields(accept, b"MSA")[1:] == [b"CA", b"C1"]
        assert s.receiver.came == []  # nothing is said of its fate before it is known
        id = await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA", "answered CA")
        (ack,) = s.receiver.came
        msh = fields(ack, b"MSH")
        assert fields(ack, b"MSA")[1:] == [b"AA", b"C1"]
        assert msh[3:7] == [b"EHR", b"SOUTH", b"LAB", b"NORTH"]
        assert msh[9] == b"ACK^A01^ACK" and msh[15:17] == [b"AL", b"NE"]
        assert msh[10] != fields(accept, b"MSH")[10]  # its own MSH-10
        row = await s.of(id)
        assert (row.state, row.code, row.attempts, row.control_id.encode()) == ("sent", "AA", 1, msh[10])


@pytest.mark.parametrize(
    ("reason", "code", "condition"),
    [("not-translatable", b"AE", b"207"), ("endpoint-rejected", b"AE", b"207"), ("internal-error", b"AR", b"207")],
)
async def test_a_dead_letter_is_an_error_that_says_why(
    tmp_path: Path, reason: str, code: bytes, condition: bytes
) -> None:
    async with stand(tmp_path) as s, s.replies():
        await s.give(message())
        await s.settle("C1", State.DEAD, reason)
        await s.until_said("sent", code.decode())
        (ack,) = s.receiver.came
        assert fields(ack, b"MSA")[1:] == [code, b"C1"]
        assert fields(ack, b"ERR")[3].startswith(condition)


@pytest.mark.parametrize(
    ("application", "state", "reason", "expected"),
    [
        ("AL", State.DELIVERED, "", "AA"),
        ("AL", State.DEAD, "not-translatable", "AE"),
        ("ER", State.DELIVERED, "", None),
        ("ER", State.DEAD, "not-translatable", "AE"),
        ("SU", State.DELIVERED, "", "AA"),
        ("SU", State.DEAD, "not-translatable", None),
        ("XX", State.DELIVERED, "", "AA"),
    ],
)
async def test_msh_16_decides_which_fate_is_told(
    tmp_path: Path, application: str, state: State, reason: str, expected: str | None
) -> None:
    async with stand(tmp_path) as s, s.replies():
        await s.give(message(application=application))
        await s.settle("C1", state, reason)
        await s.until_said(*(("sent", expected) if expected else ("not-due",)))
        assert len(s.receiver.came) == (1 if expected else 0)


@pytest.mark.parametrize("application", ["NE", ""])
async def test_who_asks_for_none_gets_none(tmp_path: Path, application: str) -> None:
    async with stand(tmp_path) as s, s.replies():
        await s.give(message(application=application))
        id = await s.settle("C1", State.DELIVERED)
        assert await s.rows.of(id) == []


async def test_what_is_owed_outlasts_a_restart_at_every_step(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        await s.give(message("C1"))
        await s.give(message("C2"))
        await s.settle("C1", State.DELIVERED)
        before = s.receiver.port
    # decided while nobody looked; the other one is decided by the next process
    async with stand(tmp_path, {"acks": {"timeout": 5.0}}) as s:
        assert s.receiver.port != before
        await s.settle("C2", State.DEAD, "structure")
        s.receiver.answer = lambda ack, n: None  # it is built and sent, but not answered
        async with s.replies():
            await s.until(lambda: len(s.receiver.came) >= 2)
        first = {fields(ack, b"MSA")[2]: ack for ack in s.receiver.came}
    async with stand(tmp_path) as s, s.replies():
        await s.until(lambda: len({fields(ack, b"MSA")[2] for ack in s.receiver.came}) == 2)
        again = {fields(ack, b"MSA")[2]: ack for ack in s.receiver.came}
        for control_id in first:
            assert again[control_id] == first[control_id]  # the very same message, MSH-10 and all


async def test_one_without_answer_is_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        s.receiver.answer = lambda ack, n: commit(ack) if n == 3 else None
        await s.give(message())
        await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA")
        assert len(s.receiver.came) == 3 and len(set(s.receiver.came)) == 1
        assert ("put-off", "AA", "no answer") in s.notes.said


async def test_one_that_is_answered_with_an_error_lets_the_next_go_first(tmp_path: Path) -> None:
    async with stand(tmp_path, first=0.2, cap=0.2) as s, s.replies():
        s.receiver.answer = lambda ack, n: commit(ack, b"CE" if n == 1 else b"CA")
        await s.give(message("C1"))
        await s.give(message("C2"))
        await s.settle("C1", State.DELIVERED)
        await s.until_said("put-off", "AA", "answered CE")
        await s.settle("C2", State.DELIVERED)
        await s.until(lambda: len(s.receiver.came) == 3)
        assert sorted(fields(ack, b"MSA")[2] for ack in s.receiver.came) == [b"C1", b"C1", b"C2"]
        await s.until(lambda: sum(said[0] == "sent" for said in s.notes.said) == 2)


async def test_one_that_is_refused_for_good_is_given_up_at_once_and_told(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        s.receiver.answer = lambda ack, _: commit(ack, b"CR")
        await s.give(message())
        id = await s.settle("C1", State.DELIVERED)
        await s.until_said("given-up", "AA", "refused with CR")
        assert (await s.of(id)).state == "given-up" and len(s.receiver.came) == 1


async def test_one_that_nobody_takes_is_given_up_after_its_time_and_told(tmp_path: Path) -> None:
    async with stand(tmp_path, {"acks": {"give_up_after": 0.2}}) as s, s.replies():
        s.receiver.answer = lambda ack, _: commit(ack, b"CE")
        await s.give(message())
        id = await s.settle("C1", State.DELIVERED)
        await s.until_said("given-up", "AA")
        row = await s.of(id)
        assert row.state == "given-up" and "the last: answered CE" in row.detail and row.attempts > 1


async def test_an_answer_to_another_control_id_settles_nothing(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        own = [b"MSH|^~\\&|A|B|C|D|1||ACK|R|P|2.5\rMSA|CA|OWN\r"]  # a part of ours is not ours
        s.receiver.answer = lambda ack, _: own.pop() if own else commit(ack)
        await s.give(message())
        await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA")
        assert len(s.receiver.came) == 2


async def test_a_receiver_that_is_away_opens_its_own_circuit_and_gets_all_when_it_is_back(tmp_path: Path) -> None:
    async with stand(tmp_path, circuit_after=2) as s:
        port = s.receiver.port
        await s.receiver.close()
        async with s.replies():
            for number in range(4):
                await s.give(message(f"C{number}"))
                await s.settle(f"C{number}", State.DELIVERED)
            await s.until_said("circuit", "open")
            await s.receiver.listen(port)
            await s.until(lambda: sum(said[0] == "sent" for said in s.notes.said) == 4)
            assert s.receiver.connections == 1
            assert ("circuit", "closed") in s.notes.said


async def test_a_resend_owes_nothing_a_second_time(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        first, second = await s.give(message()), await s.give(message())
        assert first == second
        id = await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA")
        assert len(await s.rows.of(id)) == 1


async def test_from_2_9_a_refusal_goes_over_the_channel_where_silence_is_asked_here(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        assert await s.give(message(accept="NE", version="2.9", type="ADT^Z99")) is None
        await s.until_said("sent", "AR")
        (ack,) = s.receiver.came
        assert fields(ack, b"MSA")[1:] == [b"AR", b"C1"] and fields(ack, b"ERR")[3].startswith(b"201")
        assert await s.give(message("C2", accept="NE", version="2.9")) is None
        await s.settle("C2", State.DELIVERED)
        await s.until_said("sent", "AA")


async def test_a_refusal_that_was_told_here_is_not_told_again(tmp_path: Path) -> None:
    async with stand(tmp_path) as s, s.replies():
        answer = await s.give(message(type="ADT^Z99"))
        assert answer is not None and fields(answer, b"MSA")[1] == b"CR"
        await s.give(message("C2"))
        await s.settle("C2", State.DELIVERED)
        await s.until_said("sent", "AA")
        assert len(s.receiver.came) == 1


@pytest.mark.parametrize(
    ("ne_al", "version", "here"),
    [
        ("by-version", "2.5", b"AA"),
        ("by-version", "2.9", None),
        ("separate", "2.5", None),
        ("same-connection", "2.9", b"AA"),
    ],
)
async def test_a_sender_may_be_bound_to_one_side_of_the_version_rule(
    tmp_path: Path, ne_al: str, version: str, here: bytes | None
) -> None:
    async with stand(tmp_path, {"ne_al": ne_al}) as s, s.replies():
        answer = await s.give(message(accept="NE", version=version))
        assert (fields(answer, b"MSA")[1] if answer else None) == here
        id = await s.settle("C1", State.DELIVERED)
        if here:
            assert await s.rows.of(id) == []
        else:
            await s.until_said("sent", "AA")


async def test_the_tables_alone_may_decide_whatever_the_endpoint_does(tmp_path: Path) -> None:
    async with stand(tmp_path, {"acks": {"after": "translated"}}) as s, s.replies():
        await s.give(message())
        await s.until_said("sent", "AA")
        s.untranslatable = True
        await s.give(message("C2"))
        await s.until_said("sent", "AE")


async def test_a_channel_that_wants_no_accept_ack_gets_each_once(tmp_path: Path) -> None:
    async with stand(tmp_path, {"acks": {"accept_ack": "NE"}}) as s, s.replies():
        await s.give(message())
        await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA", "not answered by agreement (MSH-15 NE)")
        await s.until(lambda: len(s.receiver.came) == 1)
        assert fields(s.receiver.came[0], b"MSH")[15:17] == [b"NE", b"NE"]


async def test_an_application_ack_is_never_acknowledged_here(tmp_path: Path) -> None:
    """Two bridges that answer each other would never end."""
    async with stand(tmp_path) as s, s.replies():
        await s.give(message())
        await s.settle("C1", State.DELIVERED)
        await s.until_said("sent", "AA")
        assert await s.give(s.receiver.came[0]) is None


async def test_what_is_owed_on_a_channel_that_is_gone_is_told_and_kept(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        await s.give(message())
        id = await s.settle("C1", State.DELIVERED)
    async with stand(tmp_path, {"name": "other"}) as s, s.replies():
        await s.until_said("without-channel", "lab")
        assert (await s.of(id)).state == "decided"


async def test_a_sender_may_have_a_channel_of_its_own(tmp_path: Path) -> None:
    async with stand(tmp_path / "a") as other:
        own = {"host": "127.0.0.1", "port": other.receiver.port}
        async with (
            stand(tmp_path / "b", {"senders": [{"application": "LAB", "application_acks": own}]}) as s,
            s.replies(),
        ):
            await s.give(message())
            id = await s.settle("C1", State.DELIVERED)
            await s.until_said("sent", "AA")
            assert len(other.receiver.came) == 1 and s.receiver.came == []
            assert (await s.of(id)).channel == "lab/LAB"


async def test_a_parked_message_is_an_error(tmp_path: Path) -> None:
    async with stand(tmp_path, {"unknown_events": "park"}) as s, s.replies():
        answer = await s.give(message(type="ADT^Z99"))
        assert answer is not None and fields(answer, b"MSA")[1] == b"CA"
        await s.until_said("sent", "AR")


async def test_what_was_settled_long_ago_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    async with stand(tmp_path) as s:
        await s.give(message("C1"))
        await s.give(message("C2"))
        ids = [await s.settle(f"C{n}", State.DELIVERED) for n in (1, 2)]
        rows = [await s.of(id) for id in ids]
        await s.rows.settle(rows[0].number, "sent", "", 1000.0)
        await s.rows.forget(1000.0 + 31 * 86_400)
        assert [len(await s.rows.of(id)) for id in ids] == [0, 1]


async def test_a_journal_that_fails_meanwhile_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hl7bridge.errors import JournalError

    async with stand(tmp_path) as s:
        real, failing = SqliteJournal.read, [True] * 3

        async def read(self: SqliteJournal, work: object) -> object:
            if failing:
                failing.pop()
                raise JournalError("disk")
            return await real(self, work)  # type: ignore[arg-type]

        monkeypatch.setattr(SqliteJournal, "read", read)
        async with s.replies():
            await s.give(message())
            await s.settle("C1", State.DELIVERED)
            await s.until_said("sent", "AA")


@pytest.mark.parametrize(("state", "column"), [("decided", "header"), ("due", "raw")])
async def test_one_that_is_damaged_in_the_journal_is_never_sent_and_is_given_up_aloud(
    tmp_path: Path, state: str, column: str
) -> None:
    async with stand(tmp_path) as s:
        await s.give(message())
        id = await s.settle("C1", State.DELIVERED)
        if state == "due":
            s.receiver.answer = lambda ack, n: None
            async with s.replies():
                await s.until(lambda: len(s.receiver.came) >= 1)
        came = len(s.receiver.came)
        with contextlib.closing(sqlite3.connect(tmp_path / files.DATABASE, isolation_level=None)) as connection:
            sealed_elsewhere = Keyring({"k": bytes(32)}, "k").seal(b"MSH|", b"elsewhere")
            connection.execute(f"UPDATE acknowledgements SET {column} = ?", (sealed_elsewhere,))
        s.journal.guard.keyring._ciphers["k"] = AESGCM(bytes(32))
        s.receiver.answer = lambda ack, _: commit(ack)
        async with s.replies():
            await s.until_said("given-up")
        assert (await s.of(id)).state == "given-up" and (await s.of(id)).detail == "damaged in the journal"
        assert len(s.receiver.came) == came
