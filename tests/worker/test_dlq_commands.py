"""`hl7bridge dlq` and the worker on the SQLite journal: beside a running worker and without one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from worker_fakes import START, Bundle, ScriptedEndpoint, TestClock

from hl7bridge import reasons
from hl7bridge.cli.dlq import dlq
from hl7bridge.config import Config
from hl7bridge.delivery.answer import Issue
from hl7bridge.delivery.deadletter import DeadLetters
from hl7bridge.delivery.outcome import Dead, Delivered
from hl7bridge.errors import TranslationError
from hl7bridge.journal.protocol import Entry, Filter, Received, State
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.worker import Worker

SENTINEL = "ZZSENTINELZZ"
RAW = b"MSH|^~\\&|LAB|HOSP|||20240101||%s|%d|P|2.5\rPID|1||%d||ZZSENTINELZZ\r"


class House:
    """A journal folder, dead letters, an endpoint, and what the tables do."""

    def __init__(self, folder: Path) -> None:
        self.config = Config.model_validate(
            {
                "journal": {"path": str(folder / "journal")},
                "dead_letters": {"path": str(folder / "dlq")},
                "retry": {"first": 0.01, "cap": 0.1},
            }
        )
        self.letters = DeadLetters(folder / "dlq")
        self.endpoint = ScriptedEndpoint()
        self.clock = TestClock()
        self.broken: set[bytes] = set()  # what a message must contain not to be translatable
        self.ids: list[str] = []

    def translate(self, entry: Entry) -> Bundle:
        if any(word in entry.raw for word in self.broken):
            raise TranslationError(reasons.NOT_TRANSLATABLE, "PID-5 leads nowhere")
        return Bundle(b'{"resourceType": "Bundle"}')

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SqliteJournal]:
        """The daemon's second half."""
        journal = await SqliteJournal.open(self.config.journal.path, clock=self.clock.time, min_free_bytes=0)
        worker = Worker(journal, self.translate, self.endpoint, self.letters, self.config, clock=self.clock)
        task = asyncio.create_task(worker.run())
        self.worker = worker
        try:
            yield journal
        finally:
            await worker.drain()
            await task
            await journal.close()

    async def append(self, journal: SqliteJournal, *types: str, lane: str = "a") -> None:
        for type in types:
            number = len(self.ids) + 1
            raw = RAW % (type.encode(), number, number)
            message = Received(
                raw=raw, sha256=hashlib.sha256(raw).digest(), received_at=START + number,
                listener="lab" if type == "ORU^R01" else "default", peer="192.0.2.1", sender="LAB|HOSP",
                control_id=f"C{number}", type=type, lanes=(lane,), ack=b"MSH", ack_code="AA",
            )  # fmt: skip
            self.ids.append((await journal.append(message)).id)
        self.worker.wake()

    async def until(self, journal: SqliteJournal, state: State, *ids: str) -> None:
        async with asyncio.timeout(10.0):
            for id in ids:
                while (entry := await journal.get(id)) is None or entry.state is not state:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

    def states(self) -> list[str]:
        async def read() -> list[str]:
            journal = await SqliteJournal.open(self.config.journal.path, mode="guest", min_free_bytes=0)
            entries = [await journal.get(id) for id in self.ids]
            await journal.close()
            return ["gone" if entry is None else entry.state.value for entry in entries]

        return asyncio.run(read())

    def audited(self) -> list[tuple[str, str, str]]:
        async def read() -> list[tuple[str, str, str]]:
            journal = await SqliteJournal.open(self.config.journal.path, mode="guest", min_free_bytes=0)
            entries = await journal.audited()
            await journal.close()
            return [(entry.action, entry.subject, entry.detail) for entry in entries]

        return asyncio.run(read())

    def run(self, *arguments: str) -> Result:
        names = ["-h", "--help"]  # as under the frame: click keeps the help option that was made first
        return CliRunner().invoke(dlq, arguments, obj=self.config, help_option_names=names)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Three dead letters: two ADT^A08 that the tables broke, one ORU^R01 the server refused; and no daemon."""
    house = House(tmp_path)
    house.broken = {b"ADT^A08"}
    refused = Dead(reasons.ENDPOINT_REJECTED, "HTTP 422", (Issue("error", "invalid", SENTINEL),), 422)
    house.endpoint.otherwise = refused

    async def prepare() -> None:
        async with house.running() as journal:
            await house.append(journal, "ADT^A08", "ORU^R01", "ADT^A08")
            await house.until(journal, State.DEAD, *house.ids)

    asyncio.run(prepare())
    house.endpoint.otherwise = Delivered(200)
    house.endpoint.sent.clear()
    yield house


def deliver(house: House, ids: Sequence[str]) -> None:
    """Starts the daemon until these are delivered."""

    async def work() -> None:
        async with house.running() as journal:
            await house.until(journal, State.DELIVERED, *ids)

    asyncio.run(work())


def test_list_says_by_reason_what_to_do_and_shows_no_patient(house: House) -> None:
    result = house.run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == ["not-translatable", "2"]
    assert "mend the table, then replay" in lines[1]
    assert lines[2].split()[:2] == ["endpoint-rejected", "1"]
    assert [line.split()[0] for line in lines[5:]] == house.ids[::-1]
    assert SENTINEL not in result.output


def test_list_as_json_gives_every_match_with_its_path(house: House) -> None:
    result = house.run("list", "--json", "--type", "ORU^R01", "--listener", "lab")
    (line,) = result.stdout.splitlines()
    letter = json.loads(line)
    assert letter["id"] == house.ids[1]
    assert letter["whose_turn"] == "endpoint"
    assert (Path(letter["path"]) / "message.hl7").is_file()
    assert letter["damaged"] is None


def test_list_filters_and_says_when_nothing_matches(house: House) -> None:
    assert "No dead letter matches" in house.run("list", "--reason", "charset").stderr
    assert house.run("list", "--reason", "nonsense").exit_code == 2
    assert len(house.run("list", "--older-than", "1h", "--json").stdout.splitlines()) == 3


def test_show_tells_what_happened_and_whose_turn_it_is(house: House) -> None:
    result = house.run("show", house.ids[1])
    assert result.exit_code == 0
    for words in ("the FHIR endpoint refused the bundle", "turn of:     endpoint", "answer:      HTTP 422", "C2"):
        assert words in result.stdout
    assert f"issue:       error: invalid: {SENTINEL}" in result.stdout  # the server's words, asked for by name
    assert SENTINEL not in house.run("show", house.ids[0]).output
    as_json = json.loads(house.run("show", house.ids[1], "--json").stdout)
    assert as_json["operation_outcome"][0]["code"] == "invalid"


def test_show_raw_prints_the_bytes_and_is_audited(house: House) -> None:
    result = house.run("show", house.ids[0], "--raw")
    assert result.stdout_bytes == RAW % (b"ADT^A08", 1, 1)
    assert "recorded in the audit" in result.stderr
    assert ("show message", house.ids[0], "") in house.audited()


def test_show_of_nothing_known_fails_and_a_damaged_folder_is_said(house: House) -> None:
    assert house.run("show", "0190b5a2-7a3c-7cc0-8000-000000000001").exit_code == 1
    found = house.letters.find(house.ids[0])
    assert found is not None
    (found.path / "reason.json").write_bytes(b'{"id"')
    assert "damaged: reason.json cannot be read as JSON" in house.run("show", house.ids[0]).stdout
    assert json.loads(house.run("list", "--json").stdout.splitlines()[0])["damaged"]


def test_a_replay_with_mended_tables_is_delivered_in_order_of_arrival_and_the_folders_go(house: House) -> None:
    house.broken = set()
    result = house.run("replay", "--all")
    assert (result.exit_code, result.stdout) == (0, "3 dead letters replayed.\n")
    assert house.states() == ["received"] * 3
    assert len(list(house.letters.scan())) == 3  # until they are delivered
    deliver(house, house.ids)
    assert house.endpoint.delivered == house.ids
    assert list(house.letters.scan()) == []


def test_replaying_twice_is_harmless_before_and_after_the_delivery(house: House) -> None:
    house.broken = set()
    assert house.run("replay", house.ids[0]).exit_code == 0
    again = house.run("replay", house.ids[0])
    assert (again.exit_code, again.stdout) == (0, "0 dead letters replayed.\n")
    assert "on its way already" in again.stderr
    deliver(house, house.ids[:1])
    assert "delivered already" in house.run("replay", house.ids[0]).stderr
    deliver(house, house.ids[:1])
    assert house.endpoint.sent == [house.ids[0]]


def test_a_replay_by_reason_takes_only_those_and_is_recorded(house: House) -> None:
    assert house.run("replay", "--reason", "endpoint-rejected").exit_code == 0
    assert house.states() == ["dead", "received", "dead"]
    assert ("replay dead letters", house.ids[1], "reason endpoint-rejected") in house.audited()


def test_a_dry_run_changes_nothing(house: House) -> None:
    result = house.run("replay", "--all", "--dry-run")
    assert [line.split()[0] for line in result.stdout.splitlines()[:3]] == house.ids
    assert "3 dead letters would be replayed." in result.stdout
    assert "would be purged" in house.run("purge", "--type", "ADT^A08", "--dry-run").stdout
    assert house.states() == ["dead"] * 3
    assert not [action for action, _, _ in house.audited() if action != "show message"]


def test_a_replay_with_an_edited_message_translates_the_edit(house: House, tmp_path: Path) -> None:
    edited = tmp_path / "mended.hl7"
    edited.write_bytes(RAW % (b"ADT^A31", 1, 1))
    assert house.run("replay", house.ids[0], "--edited", str(edited)).exit_code == 0
    deliver(house, house.ids[:1])
    assert house.endpoint.delivered == [house.ids[0]]
    assert [detail for action, _, detail in house.audited() if action.startswith("replay")] == ["by id, edited"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["purge"],
        ["purge", "--all"],
        ["replay", "ID", "--all"],
        ["replay", "--all", "--edited", "FILE"],
        ["replay", "ID", "--edited", "EMPTY"],
    ],
)
def test_a_command_that_does_not_say_which_does_nothing(house: House, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"MSH|")
    (tmp_path / "empty").write_bytes(b"\r\n")
    words = {"ID": house.ids[0], "FILE": str(tmp_path / "file"), "EMPTY": str(tmp_path / "empty")}
    assert house.run(*[words.get(word, word) for word in arguments]).exit_code == 2
    assert house.states() == ["dead"] * 3


def test_an_unknown_id_among_known_ones_is_named_and_the_others_are_replayed(house: House) -> None:
    unknown = "0190b5a2-7a3c-7cc0-8000-000000000001"
    result = house.run("replay", house.ids[2], unknown, house.ids[0])
    assert result.exit_code == 1
    assert f"{unknown}: no message" in result.stderr
    assert result.stdout == "2 dead letters replayed, 1 not.\n"


def test_a_purge_removes_message_and_folder_for_good_and_is_audited(house: House) -> None:
    result = house.run("purge", "--type", "ADT^A08", "--yes")
    assert (result.exit_code, result.stdout) == (0, "2 dead letters purged.\n")
    assert house.states() == ["gone", "dead", "gone"]
    assert [found.id for found in house.letters.scan()] == [house.ids[1]]
    assert ("purge dead letters", "2 messages", "type ADT^A08") in house.audited()
    assert house.run("purge", house.ids[0], "--yes").exit_code == 1


def test_a_replay_beside_the_running_daemon_goes_before_later_messages_of_its_patient(house: House) -> None:
    house.config = house.config.model_copy(
        update={"dead_letters": house.config.dead_letters.model_copy(update={"lane": "hold"})}
    )

    async def work() -> None:
        async with house.running() as journal:
            await house.append(journal, "ADT^A04", "ADT^A04")
            await asyncio.sleep(0.02)
            assert house.endpoint.sent == []  # held by the dead letters of the same patient
            house.broken = set()
            result = await asyncio.to_thread(house.run, "replay", "--all")
            assert result.exit_code == 0, result.output
            await house.until(journal, State.DELIVERED, *house.ids)

    asyncio.run(work())
    assert house.endpoint.delivered == house.ids


def test_a_purge_beside_the_running_daemon_frees_the_lane_and_leaves_no_folder(house: House) -> None:
    house.config = house.config.model_copy(
        update={"dead_letters": house.config.dead_letters.model_copy(update={"lane": "hold"})}
    )

    async def work() -> None:
        async with house.running() as journal:
            await house.append(journal, "ADT^A04")
            result = await asyncio.to_thread(house.run, "purge", "--all", "--yes")
            assert result.exit_code == 0, result.output
            await house.until(journal, State.DELIVERED, house.ids[-1])

    asyncio.run(work())
    assert list(house.letters.scan()) == []


def test_hundreds_of_patients_over_restarts_keep_their_order_on_the_real_journal(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def work() -> None:
        async with house.running() as journal:
            for number in range(200):
                await house.append(journal, "ADT^A08", lane=f"p{number % 20}")
        async with house.running() as journal:
            async for entry in journal.find(Filter(states=(State.RECEIVED, State.WAITING))):
                await house.until(journal, State.DELIVERED, entry.id)

    asyncio.run(work())
    assert sorted(house.endpoint.delivered) == sorted(house.ids)
    for lane in range(20):
        own = house.ids[lane::20]
        assert [id for id in house.endpoint.delivered if id in own] == own


def test_a_replay_of_many_that_was_broken_off_is_finished_by_the_next_one_and_each_is_delivered_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process ends after some were handed over; the second takes what is left, and only that."""
    from hl7bridge.cli import dlq_work as module

    right, handed = SqliteJournal.replay, 0

    async def dies(self: SqliteJournal, id: str, raw: bytes | None = None, *, by: str = "") -> None:
        nonlocal handed
        if handed:
            raise KeyboardInterrupt
        handed += 1
        await right(self, id, raw, by=by)

    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(SqliteJournal, "replay", dies)
    assert house.run("replay", "--all").exit_code != 0
    monkeypatch.setattr(SqliteJournal, "replay", right)
    dead = len(house.run("list", "--json").stdout.splitlines())
    assert dead and handed == 1
    again = house.run("replay", "--all")
    assert again.exit_code == 0 and f"{dead} dead letter" in again.stdout
    assert not house.run("list", "--json").stdout


def test_a_folder_whose_files_are_cut_or_gone_is_listed_and_its_message_replayed_from_the_journal(house: House) -> None:
    letters = list(house.letters.scan())
    (letters[0].path / "message.hl7").write_bytes(b"")
    (letters[0].path / "reason.json").write_bytes(b'{"id": ')
    (letters[1].path / "reason.json").unlink()
    told = [json.loads(line) for line in house.run("list", "--json").stdout.splitlines()]
    damaged = {one["id"]: one["damaged"] for one in told if one["damaged"]}
    assert set(damaged) == {letters[0].id, letters[1].id}
    result = house.run("replay", letters[0].id, letters[1].id)
    assert result.exit_code == 0 and "2 dead letters replayed" in result.stdout
