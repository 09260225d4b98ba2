"""The journal's state machine against a model in memory: any sequence of operations gives what the model says.

At any moment, what lies on the disk replays into what is live, and so do the recorded stories of the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from journal_support import Clock, received

from hl7bridge.errors import JournalFull, JournalRefusal
from hl7bridge.journal import files, verify
from hl7bridge.journal.guard import Guard
from hl7bridge.journal.protocol import Change, Filter, State
from hl7bridge.journal.sqlite import DAY, SqliteJournal
from hl7bridge.journal.transaction import NEXT_STATES, REPLAYABLE
from hl7bridge.sealing import is_sealed

BACKLOG = 8
ENDED = (State.DELIVERED, State.DEAD)


@dataclass
class Model:
    """What the journal should know of one message."""

    key: tuple[int, int]  # control id, payload
    state: State
    raw: bytes
    next_attempt: float = 0.0
    delivered_at: float = 0.0
    replays: int = 0
    story: list[State] = field(default_factory=list)


def raw(key: tuple[int, int]) -> bytes:
    return b"MSH|%d|%d" % key


class JournalStates(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.model: dict[str, Model] = {}  # in order of arrival
        self.journal = self.run(self.opened())

    def opened(self, folder: Path | None = None) -> Coroutine[Any, Any, SqliteJournal]:
        return SqliteJournal.open(
            folder or self.folder, clock=self.clock, min_free_bytes=0, max_backlog=BACKLOG, retention_days=1
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.journal.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def undelivered(self) -> list[str]:
        return [id for id, message in self.model.items() if message.state not in ENDED]

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.model)), label="message")

    @rule(control=st.integers(0, 3), payload=st.integers(0, 2), dead=st.booleans())
    def append(self, control: int, payload: int, dead: bool) -> None:
        key = (control, payload)
        state = State.DEAD if dead else State.RECEIVED
        message = received(control, raw=raw(key), ack=raw(key), state=state, received_at=self.clock())
        first = next((id for id, known in self.model.items() if known.key == key), None)
        try:
            appended = self.run(self.journal.append(message))
        except JournalFull:
            assert first is None and len(self.undelivered()) >= BACKLOG
            return
        assert appended.ack == raw(key)
        assert appended.duplicate == (first is not None)
        if first is not None:
            assert appended.id == first
            return
        assert len(self.undelivered()) < BACKLOG
        assert appended.reused_control_id == any(known.key[0] == control for known in self.model.values())
        story = [State.RECEIVED, State.DEAD] if dead else [State.RECEIVED]
        self.model[appended.id] = Model(key, state, message.raw, story=story)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), state=st.sampled_from(State), delay=st.integers(0, 50))
    def apply(self, data: st.DataObject, state: State, delay: int) -> None:
        id = self.pick(data)
        message = self.model[id]
        change = Change(id, state, 1, next_attempt=self.clock() + delay, at=self.clock())
        try:
            self.run(self.journal.apply(change))
        except JournalRefusal:
            assert message.state in ENDED or state is State.RECEIVED
            return
        assert message.state not in ENDED and state is not State.RECEIVED
        message.state, message.next_attempt, message.delivered_at = state, change.next_attempt, change.at
        message.story.append(state)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), edit=st.none() | st.binary(max_size=5))
    def replay(self, data: st.DataObject, edit: bytes | None) -> None:
        id = self.pick(data)
        message = self.model[id]
        try:
            self.run(self.journal.replay(id, edit))
        except JournalRefusal:
            assert edit is not None
            assert message.state not in ENDED or is_sealed(edit)  # what looks sealed is no message
            return
        if message.state in ENDED:
            message.state, message.replays = State.RECEIVED, message.replays + 1
            message.raw = message.raw if edit is None else edit
            message.story.append(State.RECEIVED)
        else:
            assert edit is None

    @rule(seconds=st.sampled_from([1, 60, DAY / 2, -30]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def retain(self) -> None:
        old = {
            id
            for id, message in self.model.items()
            if message.state is State.DELIVERED and message.delivered_at < self.clock() - DAY
        }
        assert self.run(self.journal.retain(self.clock())) == len(old)
        self.model = {id: message for id, message in self.model.items() if id not in old}

    @rule(limit=st.none() | st.integers(1, 2))
    def purge(self, limit: int | None) -> None:
        dead = [id for id, message in self.model.items() if message.state is State.DEAD][:limit]
        assert self.run(self.journal.purge(Filter(limit=limit))) == len(dead)
        for id in dead:
            del self.model[id]

    @rule()
    def restart(self) -> None:
        self.run(self.journal.close())
        self.journal = self.run(self.opened())

    @rule()
    def replay_the_files(self) -> None:
        """What a killed process leaves, the file and its log, replays into the very journal that was live."""
        copy = Path(tempfile.mkdtemp())
        try:
            for name in (files.DATABASE, files.DATABASE + "-wal"):
                if (self.folder / name).exists():
                    shutil.copyfile(self.folder / name, copy / name)
            replayed = self.run(self.opened(copy))
            try:
                assert self.run(self.told(replayed)) == self.run(self.told(self.journal))
            finally:
                self.run(replayed.close())
            with contextlib.closing(files.connect_proof(copy / files.DATABASE)) as connection:
                assert verify.Whole(connection, Guard()).run().findings == ()
        finally:
            shutil.rmtree(copy)

    @rule()
    def replay_the_stories(self) -> None:
        """Each message's recorded steps, applied in order from its arrival, end in the state, counts and reason it has;
        and the tally that every transaction keeps is what counting gives."""
        for entry in self.run(self.all()):
            first, *steps = self.run(self.journal.history(entry.id))
            state, attempts, replays, reason = first.state, 0, 0, ""
            for step in steps:
                replays += step.state is State.RECEIVED
                assert step.state in NEXT_STATES[state] or (state in REPLAYABLE and step.state is State.RECEIVED)
                state, attempts, reason = step.state, step.attempts, step.reason
            assert (state, attempts, replays, reason) == (entry.state, entry.attempts, entry.replays, entry.reason)
        with contextlib.closing(files.connect_reader(self.folder / files.DATABASE)) as connection:
            tally = connection.execute("SELECT received, waiting, delivered, dead FROM tally").fetchone()
            counted = dict(connection.execute("SELECT state, count(*) FROM messages GROUP BY state"))
            assert tally == tuple(counted.get(state, 0) for state in ("received", "waiting", "delivered", "dead"))

    async def told(self, journal: SqliteJournal) -> tuple[Any, ...]:
        """Everything a journal tells: messages with their stories, what may be claimed, what is blocked, figures."""
        now = self.clock()
        entries = [entry async for entry in journal.find(Filter())]
        stories = [await journal.history(entry.id) for entry in entries]
        claims = [entry.id for entry in await journal.claimable(now, 0, 100)]
        return entries, stories, claims, await journal.blocked_lanes(now), await journal.figures(), await journal.head()

    @invariant()
    def the_journal_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "journal"):
            return
        entries = self.run(self.all())
        assert [(entry.id, entry.state, entry.raw, entry.replays) for entry in entries] == [
            (id, message.state, message.raw, message.replays) for id, message in self.model.items()
        ]
        for id, message in self.model.items():
            assert [step.state for step in self.run(self.journal.history(id))] == message.story

    @invariant()
    def claims_lanes_and_figures_follow(self) -> None:
        if not hasattr(self, "journal"):
            return
        now = self.clock()
        due = [
            id
            for id, message in self.model.items()
            if message.state is State.RECEIVED or (message.state is State.WAITING and message.next_attempt <= now)
        ]
        assert [entry.id for entry in self.run(self.journal.claimable(now, 0, 100))] == due
        blocked = {f"lane{self.model[id].key[0] % 7}" for id in self.undelivered() if id not in due}
        assert self.run(self.journal.blocked_lanes(now)) == blocked
        assert self.run(self.journal.blocked_lanes(now, [f"lane{n}" for n in range(7)])) == blocked
        figures = self.run(self.journal.figures())
        dead = sum(message.state is State.DEAD for message in self.model.values())
        assert (figures.undelivered, figures.dead) == (len(self.undelivered()), dead)
        assert (figures.oldest_undelivered_at is None) == (not self.undelivered())

    async def all(self) -> list[Any]:
        return [entry async for entry in self.journal.find(Filter())]


JournalStates.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestJournalStates = JournalStates.TestCase
