"""Translation in processes: what dies, hangs or changes under way, and what becomes of the messages."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hl7bridge import reasons
from hl7bridge.config import Config, load
from hl7bridge.errors import ConfigError, PeerError, TranslationError
from hl7bridge.mapping.mappings import load_mappings
from hl7bridge.service.tablesets import TableSets
from hl7bridge.translation import translate
from hl7bridge.translators import Pool, count, line, pool
from hl7bridge.translators.line import Line
from hl7bridge.translators.process import serve
from hl7bridge.translators.wire import Work, framed

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
WITHIN = 60.0  # seconds for what takes one or two on a quiet machine
ADMIT = (SAMPLES / "adt_a01_admit.hl7").read_bytes().replace(b"\n", b"\r")


@pytest.fixture(scope="module")
def tables() -> TableSets:
    return TableSets(Config())


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
async def one(tables: TableSets, troubles: list[str]) -> AsyncIterator[Pool]:
    """A pool of one process, ready."""
    made = Pool(1, tables, WITHIN, lambda what, detail: troubles.append(f"{what}: {detail}"))
    made.start()
    await ask(made)
    yield made
    await made.close()


async def ask(of: Pool, raw: bytes = ADMIT) -> bytes:
    return (await asyncio.wait_for(of.translate(raw, "default"), WITHIN)).bundle


async def under_way(of: Pool, raw: bytes = ADMIT) -> tuple[asyncio.Task[bytes], int]:
    """A message in a process that is stopped in the middle of it: the task, and the process."""
    pid = of.processes[0]
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(ask(of, raw))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task, pid


async def another(of: Pool, than: int) -> int:
    async with asyncio.timeout(WITHIN):
        while of.processes.get(0, than) == than:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return of.processes[0]


async def test_a_process_gives_the_bytes_that_a_thread_would_give(one: Pool, tables: TableSets) -> None:
    made = await one.translate(ADMIT, "default")
    here = translate(ADMIT, tables.general.mappings)
    assert (made.bundle, made.entries, made.mapping_version) == (here.bundle, here.entries, here.mapping_version)
    assert made.issues == here.issues


async def test_a_message_at_fault_is_told_as_it_is_without_a_process(one: Pool) -> None:
    with pytest.raises(PeerError) as failed:
        await ask(one, ADMIT.replace(b"ADT^A01", b"ADT^Q99"))
    assert failed.value.reason is reasons.UNSUPPORTED_EVENT
    assert failed.value.location == "MSH^1^9^1^2"
    assert failed.value.mapping_version == one._tables.version  # type: ignore[attr-defined]


async def test_a_message_whose_process_is_killed_is_translated_by_the_next(one: Pool, troubles: list[str]) -> None:
    task, pid = await under_way(one)
    os.kill(pid, signal.SIGKILL)
    assert b'"Patient"' in await task
    assert one.processes[0] != pid
    assert troubles == ["translator: a translating process ended (-9); it is replaced"]


async def test_a_message_that_ends_two_processes_is_given_up_and_those_behind_it_are_not(
    one: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PAUSE", (0.0, 0.0))
    task, pid = await under_way(one)
    behind = [asyncio.create_task(ask(one)) for _ in range(3)]
    await asyncio.sleep(0.05)
    heard = Line.pipe_data_received

    def deadly(self: Line, fd: int, data: bytes) -> None:
        """The next process ends as soon as it has its tables, in its first message: the one that was given back."""
        if not self.loaded:
            os.kill(self.pid, signal.SIGKILL)
            monkeypatch.setattr(Line, "pipe_data_received", heard)
        heard(self, fd, data)

    monkeypatch.setattr(Line, "pipe_data_received", deadly)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TranslationError, match="ended its process 2 times") as failed:
        await task
    assert failed.value.reason is reasons.INTERNAL_ERROR
    assert all(b'"Patient"' in bundle for bundle in await asyncio.gather(*behind))


async def test_a_process_killed_while_it_rests_counts_against_no_message(
    one: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "DEATHS", 1)
    pid = one.processes[0]
    os.kill(pid, signal.SIGKILL)
    await another(one, pid)
    assert b'"Patient"' in await ask(one)


async def test_a_message_that_hangs_is_given_up_and_the_next_is_translated(one: Pool) -> None:
    one._lines[0]._limit = 0.2
    task, pid = await under_way(one)
    with pytest.raises(TranslationError, match=r"longer than 0\.2 s") as failed:
        await task
    assert failed.value.reason is reasons.INTERNAL_ERROR
    assert b'"Patient"' in await ask(one)
    assert one.processes[0] != pid


async def test_what_is_asked_after_a_swap_gets_the_new_tables_and_what_was_before_the_old(
    one: Pool, tables: TableSets
) -> None:
    new = load_mappings(settings={"narrative": "generated"})
    assert new.version != tables.version
    task, pid = await under_way(one)
    await asyncio.sleep(0.05)  # handed over
    one.swap(TableSets(Config(), lambda _: new))
    after = [one.translate(ADMIT, "default") for _ in range(3)]
    os.kill(pid, signal.SIGCONT)
    assert b'"div"' not in await task
    assert [made.mapping_version for made in await asyncio.gather(*after)] == [new.version] * 3
    assert one.processes[0] == pid


async def test_what_stands_behind_a_message_that_takes_long_is_translated_by_others(
    tables: TableSets, troubles: list[str]
) -> None:
    made = Pool(2, tables, WITHIN, lambda what, detail: troubles.append(f"{what}: {detail}"))
    made.start()
    async with asyncio.timeout(WITHIN):
        while not all(running.loaded for running in made._lines.values()) or len(made._lines) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    os.kill(made.processes[0], signal.SIGSTOP)
    asked = [asyncio.create_task(ask(made)) for _ in range(8)]
    async with asyncio.timeout(WITHIN):
        while sum(task.done() for task in asked) < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert sum(task.done() for task in asked) == 7  # but for the one that is under way
        os.kill(made.processes[0], signal.SIGCONT)
        assert all(b'"Patient"' in bundle for bundle in await asyncio.gather(*asked))
    assert not troubles
    await made.close()


async def test_what_a_sender_waits_for_goes_before_what_does_not(one: Pool) -> None:
    os.kill(one.processes[0], signal.SIGSTOP)
    order: list[str] = []
    for number in range(2 * line.MOST):
        one.translate(ADMIT, "default").add_done_callback(lambda _, number=number: order.append(str(number)))
    await asyncio.sleep(0.01)
    last = one.translate(ADMIT, "default", urgent=True)
    last.add_done_callback(lambda _: order.append("urgent"))
    os.kill(one.processes[0], signal.SIGCONT)
    async with asyncio.timeout(WITHIN):
        while len(order) <= 2 * line.MOST:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert order.index("urgent") == line.MOST  # right behind what the process had already


async def test_a_process_that_does_not_start_is_tried_again_and_harms_no_message(
    tables: TableSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PAUSE", (0.01, 0.01))
    troubles: list[str] = []
    made = Pool(1, tables, WITHIN, lambda _, detail: troubles.append(detail))
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made.start()
    task = asyncio.create_task(ask(made))
    async with asyncio.timeout(WITHIN):
        while len(troubles) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    monkeypatch.setattr(sys, "executable", python)
    assert b'"Patient"' in await task
    await made.close()


async def test_closing_ends_the_processes_and_cancels_what_waits(tables: TableSets) -> None:
    made = Pool(2, tables, WITHIN, lambda *_: None)
    made.start()
    await ask(made)
    pids = list(made.processes.values())
    waiting = made.translate(ADMIT, "default")
    await asyncio.sleep(0)
    await made.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not any(alive(pid) for pid in pids)


PARENT = """
import asyncio, os, signal
from hl7bridge.config import Config, load
from hl7bridge.service.tablesets import TableSets
from hl7bridge.translators import Pool
async def main():
    pool = Pool(2, TableSets(Config()), 60, print)
    pool.start()
    while len(pool.processes) < 2:
        await asyncio.sleep(0.01)
    await pool.translate(open({sample!r}, "rb").read(), "default")
    print(*pool.processes.values(), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize("kept", [0, 3, 8, 20])
def test_a_word_that_is_cut_off_ends_the_process_quietly(kept: int) -> None:
    answers = io.BytesIO()
    serve(io.BytesIO(framed(Work(b"MSH|^~\\&|", "default"))[:kept]), answers)
    assert answers.getvalue() == b""


def test_no_process_outlives_a_killed_daemon() -> None:
    script = PARENT.format(sample=str(SAMPLES / "adt_a01_admit.hl7"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # theirs is the daemon's end, nothing else
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.kill()
    until = time.monotonic() + WITHIN
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a translating process is left behind"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_auto_is_a_process_for_each_core_and_zero_is_none() -> None:
    assert 1 <= count("auto") <= pool.MOST
    assert (count(0), count(3)) == (0, 3)


@pytest.mark.parametrize("given", ["-1", "65", "many", "1.5", "true"])
def test_a_number_of_processes_that_is_none_is_refused_in_one_sentence(given: str, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"translate:\n  workers: {given}\n")
    with pytest.raises(ConfigError, match=r"must be auto or a whole number from 0 to 64"):
        load(file, {})


def test_the_environment_may_say_how_many() -> None:
    assert load(None, {"HL7BRIDGE_TRANSLATE__WORKERS": "3"}).translate.workers == 3
