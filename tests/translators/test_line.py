"""A line without a process behind it: who is to blame, what takes too long, how answers come in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hl7bridge.errors import TranslationError
from hl7bridge.translators import line
from hl7bridge.translators.line import Job, Line
from hl7bridge.translators.wire import Answers, Done, Loaded, Work, framed

DONE = Done(b"{}", 1, "v1", {})


class Pipe:
    """What asyncio would give: keeps what is written, and whether the process was ended."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.killed = False

    def get_pipe_transport(self, fd: int) -> Pipe:
        assert fd == 0
        return self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None:
        self.killed = True

    def get_pid(self) -> int:
        return 1

    def get_returncode(self) -> int:
        return -11


class Made:
    """A line with tables in it."""

    def __init__(self, limit: float = 60.0) -> None:
        self.passed_on: list[Job] = []
        self.pipe = Pipe()
        self.line = Line(limit, lambda: None, self._take)
        self.line.connection_made(self.pipe)  # type: ignore[arg-type]
        self.line.use(1, b"tables")
        self.say(Loaded(1))

    def _take(self, jobs: Sequence[Job]) -> None:
        self.passed_on += jobs

    def give(self, *raws: bytes) -> list[Job]:
        jobs = [Job(Work(raw, "default")) for raw in raws]
        for job in jobs:
            self.line.give(job)
        self.line.send()
        return jobs

    def say(self, *said: object) -> None:
        self.line.pipe_data_received(1, b"".join(map(framed, said)))

    def ends(self) -> None:
        self.line.connection_lost(None)


async def test_what_is_given_together_is_written_at_once() -> None:
    made = Made()
    made.give(b"a", b"b")
    assert made.pipe.written == [b"tables" + framed(Work(b"a", "default")) + framed(Work(b"b", "default"))]


async def test_the_first_without_an_answer_is_under_way_and_alone_to_blame() -> None:
    made = Made()
    jobs = made.give(b"a", b"b", b"c")
    made.say(DONE)
    made.ends()
    assert jobs[0].answer.result() == DONE
    assert made.line.under_way is jobs[1]
    assert made.line.given == jobs[1:]
    assert made.line.why == "a translating process ended (-11); it is replaced"


async def test_no_message_is_to_blame_for_a_process_that_ends_over_its_tables() -> None:
    made = Made()
    made.line.use(2, b"others")
    jobs = made.give(b"a")
    made.ends()
    assert made.line.under_way is None
    assert made.line.given == jobs


async def test_a_message_over_the_limit_is_given_up_and_the_process_with_it() -> None:
    made = Made(limit=0.01)
    first, second = made.give(b"a", b"b")
    with pytest.raises(TranslationError, match=r"longer than 0\.01 s"):
        await asyncio.wait_for(first.answer, 10)
    assert made.pipe.killed
    assert not second.answer.done()
    assert made.line.why == "a message took longer than 0.01 s; it is replaced"


async def test_the_limit_is_counted_from_a_messages_turn() -> None:
    made = Made(limit=0.2)
    jobs = made.give(b"a", b"b", b"c", b"d")
    for _ in jobs:
        await asyncio.sleep(0.1)
        made.say(DONE)
    assert not made.pipe.killed
    assert all(job.answer.result() == DONE for job in jobs)


async def test_the_limit_holds_for_what_comes_after_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "SLOW", 0.01)
    made = Made(limit=60.0)
    made.give(b"a")
    await asyncio.sleep(0.05)
    made.say(DONE)
    made.line._limit = 0.05
    (last,) = made.give(b"b")
    with pytest.raises(TranslationError):
        await asyncio.wait_for(last.answer, 10)


async def test_what_waits_behind_a_slow_one_is_passed_on_once_and_nothing_is_put_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "SLOW", 0.01)
    made = Made()
    _, *behind = made.give(b"a", b"b", b"c")
    async with asyncio.timeout(10):
        while not made.passed_on:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert made.passed_on == behind
    assert not made.line.takes_more
    behind[0].settle(DONE)  # by another process; what this one says of it later changes nothing
    made.say(DONE, Done(b"[]", 1, "v1", {}))
    assert behind[0].answer.result() == DONE
    assert made.line.takes_more


async def test_a_process_has_so_many_messages_and_bytes_but_always_one() -> None:
    made = Made()
    made.give(b"a" * 2 * line.MOST_BYTES)
    assert not made.line.takes_more
    made.say(DONE)
    assert made.line.takes_more
    made.give(*[b"a"] * line.MOST)
    assert not made.line.takes_more


async def test_a_process_takes_no_message_while_its_tables_are_under_way() -> None:
    made = Made()
    assert made.line.takes_more
    made.give(b"a")
    made.line.use(2, b"others")
    assert not made.line.takes_more
    made.say(DONE)
    assert not made.line.takes_more
    made.say(Loaded(2))
    assert made.line.takes_more


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_answers_come_in_any_pieces(size: int) -> None:
    said = [DONE, Loaded(3), Done(b"x" * 500, 2, "v1", {})]
    stream = b"".join(map(framed, said))
    answers = Answers()
    found = [one for at in range(0, len(stream), size) for one in answers.feed(stream[at : at + size])]
    assert found == said
