"""A receiver with one defect fails the cases about that defect, and no other."""

from __future__ import annotations

import asyncio
import re

import pytest
from toy_receiver import Toy, toy

from hl7bridge.mllp.framing import Broken, Event, Frame, frame
from hl7bridge.torture.battery import chosen
from hl7bridge.torture.case import Verdict
from hl7bridge.torture.maker import Maker, Speaker
from hl7bridge.torture.runner import Outcome, Target, Torture


async def run(kind: type[Toy], *only: str) -> dict[str, Outcome]:
    outcomes: list[Outcome] = []
    async with toy(kind) as port:
        target = Target("127.0.0.1", port, timeout=0.8, quiet=0.15, pause=0.004, settle=0.01)
        speaker = Speaker("20260101120000", "TT", largest=100_000)
        await Torture(target, Maker(speaker)).run(chosen(only), outcomes.append)
    return {outcome.case.name: outcome for outcome in outcomes}


def named(outcomes: dict[str, Outcome], verdict: Verdict) -> set[str]:
    return {name for name, outcome in outcomes.items() if outcome.judgement.verdict is verdict}


class SwallowsPipelined(Toy):
    def events(self, data: bytes) -> list[Event]:
        return super().events(data)[:1]


class OneAnswerForAWrite(Toy):
    def arrange(self, answers: list[bytes]) -> list[bytes]:
        return answers[:1]


class OutOfOrder(Toy):
    def arrange(self, answers: list[bytes]) -> list[bytes]:
        return answers[::-1]


class OneReadOneMessage(Toy):
    def events(self, data: bytes) -> list[Event]:
        return [Frame(data.strip(b"\x0b\x1c\r"))] if data.startswith(b"\x0bMSH") else []


class ShortensControlIds(Toy):
    def reply(self, code: bytes, control_id: bytes) -> bytes:
        return super().reply(code, control_id[:20])


class AnswersInAscii(Toy):
    def reply(self, code: bytes, control_id: bytes) -> bytes:
        return super().reply(code, re.sub(rb"[^ -~]", b"?", control_id))


class UnescapesControlIds(Toy):
    def reply(self, code: bytes, control_id: bytes) -> bytes:
        return super().reply(code, control_id.replace(rb"\T\ ".strip(), b"&"))


class AcknowledgesAcknowledgements(Toy):
    def acknowledgement(self, fields: list[bytes]) -> bytes | None:
        return self.reply(b"AA", fields[9])


class SilentOnGarbage(Toy):
    def garbage(self) -> bytes | None:
        return None


class EndsTheConnectionOnLf(Toy):
    def message(self, payload: bytes) -> bytes | None:
        if b"\n" in payload:
            self.transport.close()
            return None
        return super().message(payload)


class TakesBrokenBlocks(Toy):
    def broken(self, head: bytes) -> bytes | None:
        return self.reply(b"AA", self.fields(head)[9])


class TakesCutOffBlocks(Toy):
    def event(self, event: Event) -> bytes | None:
        return self.broken_off(event) if isinstance(event, Broken) else super().event(event)

    def broken_off(self, event: Broken) -> bytes | None:
        control_id = self.fields(event.head)[9]
        return self.reply(b"AA", control_id) if event.head.startswith(b"MSH") else None


class DiesOfAnEmptyBlock(Toy):
    def message(self, payload: bytes) -> bytes | None:
        if not payload:
            self.server[0].close()
            self.transport.abort()
            return None
        return super().message(payload)


class OneAnswerForABlock(Toy):
    def message(self, payload: bytes) -> bytes | None:
        if payload.count(b"MSH|") > 1:
            return self.reply(b"AA", self.fields(payload[payload.index(b"MSH|") :])[9])
        return super().message(payload)


class AnswersJunk(Toy):
    def junk(self) -> None:
        self.transport.write(frame(self.reply(b"AA", b"")))


class DiesOfAnUndecodableName(Toy):
    def judged(self, payload: bytes, fields: list[bytes]) -> bytes | None:
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError:
            return None
        return super().judged(payload, fields)


class AnswersTwice(Toy):
    def arrange(self, answers: list[bytes]) -> list[bytes]:
        return [answers[0], *answers] if len(answers) == 1 and b"|CA|" in answers[0] else answers


MANY_IN_A_WRITE = {"two-in-one-write", "ten-pipelined", "crlf-behind-fs", "slow-reader"}


async def test_a_good_receiver_passes_every_case() -> None:
    outcomes = await run(Toy)
    assert {name: one.judgement.text for name, one in outcomes.items() if one.judgement.verdict != "pass"} == {}


DEFECTS: list[tuple[type[Toy], set[str]]] = [
    (
        SwallowsPipelined,
        MANY_IN_A_WRITE | {"fs-then-vt", "junk-between", "behind-a-broken-block", "vt-inside"},
    ),
    (OneAnswerForAWrite, MANY_IN_A_WRITE | {"fs-then-vt", "junk-between"}),
    (OutOfOrder, MANY_IN_A_WRITE | {"junk-between", "end-inside-a-block"}),
    (ShortensControlIds, {"long-control-id"}),
    (AnswersInAscii, {"control-id-beyond-ascii"}),
    (UnescapesControlIds, {"control-id-with-escapes"}),
    (AcknowledgesAcknowledgements, {"ack-of-an-ack"}),
    (SilentOnGarbage, {"garbage", "no-msh"}),
    (EndsTheConnectionOnLf, {"lf-segments", "crlf-segments"}),
    (TakesBrokenBlocks, {"fs-inside"}),
    (DiesOfAnEmptyBlock, {"empty-block"}),
    (OneAnswerForABlock, {"two-in-one-block", "batch-in-one-block"}),
    (DiesOfAnUndecodableName, {"bytes-against-charset"}),
    (AnswersTwice, {"accept-always", "accept-on-success"}),
]


@pytest.fixture(scope="module")
def failed() -> dict[str, set[str]]:
    """Which cases each defect fails: all batteries side by side, because most of each is waiting."""

    async def every() -> list[dict[str, Outcome]]:
        return await asyncio.gather(*(run(kind) for kind, _ in DEFECTS))

    results = asyncio.run(every())
    return {kind.__name__: named(outcomes, Verdict.FAIL) for (kind, _), outcomes in zip(DEFECTS, results, strict=True)}


@pytest.mark.parametrize(("kind", "fails"), DEFECTS)
def test_a_defect_fails_the_cases_about_it(kind: type[Toy], fails: set[str], failed: dict[str, set[str]]) -> None:
    assert failed[kind.__name__] == fails


async def test_a_receiver_that_takes_one_read_for_one_message_fails_when_packets_are_small() -> None:
    expected = {"byte-by-byte", "segment-by-segment", "split-at-the-start", "block-and-a-half", "two-in-one-write"}
    assert named(await run(OneReadOneMessage, "plain", "twenty", *expected), Verdict.FAIL) == expected


async def test_a_receiver_that_takes_cut_off_blocks_fails_where_one_was_cut_off() -> None:
    failed = named(await run(TakesCutOffBlocks, "framing", "garbage"), Verdict.FAIL)
    assert {"vt-inside", "never-ends", "fs-inside"} <= failed
    assert not failed & {"plain", "two-in-one-write", "garbage"}


async def test_a_receiver_that_answers_what_is_no_block_fails() -> None:
    failed = named(await run(AnswersJunk, "framing", "http-request"), Verdict.FAIL)
    assert {"flood-of-junk", "http-request", "junk-between"} <= failed


async def test_after_a_receiver_died_no_case_is_held_against_it() -> None:
    outcomes = await run(DiesOfAnEmptyBlock)
    assert "no answer afterwards" in outcomes["empty-block"].judgement.text
    assert outcomes["plain"].judgement.verdict is Verdict.PASS
    assert outcomes["garbage"].judgement.verdict is Verdict.NOT_APPLICABLE
    assert "since empty-block" in outcomes["garbage"].judgement.text


class Refuses(Toy):
    def reply(self, code: bytes, control_id: bytes) -> bytes:
        return super().reply(code[:1] + b"R", control_id)


async def test_a_receiver_that_wants_other_messages_differs_and_is_judged_for_the_rest() -> None:
    outcomes = await run(Refuses)
    assert named(outcomes, Verdict.FAIL) == set()
    assert {"plain", "unknown-type"} & named(outcomes, Verdict.DIFFERS) == {"plain"}


class OnlyOriginalMode(Toy):
    def judged(self, payload: bytes, fields: list[bytes]) -> bytes | None:
        fields[14] = b""
        return super().judged(payload, fields)


async def test_a_receiver_of_the_original_mode_only_differs() -> None:
    outcomes = await run(OnlyOriginalMode)
    modes = {"accept-always", "accept-on-success", "accept-on-error", "never-answer"}
    assert named(outcomes, Verdict.FAIL) == set()
    assert named(outcomes, Verdict.DIFFERS) == modes
    assert all(outcomes[name].case.alternative for name in modes)
