"""The battery against hl7bridge's own intake, the texts of its cases, and the command around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).resolve().parents[1] / "mllp"))
from paper_authority import Authority

from hl7bridge.admission import events_of
from hl7bridge.cli.torture import torture
from hl7bridge.config import Listener
from hl7bridge.errors import UnavailableError
from hl7bridge.intake import Intake
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.mllp.server import MllpServer
from hl7bridge.torture.battery import CASES, chosen
from hl7bridge.torture.case import SECTIONS, Ack, Came, Send, Verdict
from hl7bridge.torture.judge import block, taken
from hl7bridge.torture.maker import Maker, Speaker
from hl7bridge.torture.report import announcement, lines_of, summary
from hl7bridge.torture.runner import Outcome, Target, Torture, acks_of, load_of

SPEAKER = Speaker("20260101120000", "TT", largest=100_000)
README = Path(__file__).parents[2] / "docs" / "torture.md"


async def against_the_bridge(folder: Path, *only: str, **keys: Any) -> list[Outcome]:
    journal = await SqliteJournal.open(folder, min_free_bytes=0)
    listener = Listener(**{"host": "127.0.0.1", "port": 0, **keys})
    intake = Intake(listener, journal, events_of([("ADT", "A01")]))
    server = MllpServer(listener, intake.handle, intake.refuse)
    await server.start()
    outcomes: list[Outcome] = []
    try:
        target = Target("127.0.0.1", server.port, timeout=2, quiet=0.2, pause=0.01, settle=0.01)
        await Torture(target, Maker(SPEAKER)).run(chosen(only), outcomes.append)
    finally:
        await server.drain(5)
        await journal.close()
    return outcomes


async def test_hl7bridge_passes_every_case(tmp_path: Path) -> None:
    outcomes = await against_the_bridge(tmp_path)
    assert [(one.case.name, one.judgement) for one in outcomes if one.judgement.verdict is not Verdict.PASS] == []
    assert len(outcomes) == len(CASES)


async def test_with_require_cr_exactly_the_tolerances_for_fs_differ(tmp_path: Path) -> None:
    outcomes = await against_the_bridge(tmp_path, "framing", require_cr=True)
    verdicts = {one.case.name: one.judgement.verdict for one in outcomes}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.DIFFERS} == {
        "lf-for-cr",
        "fs-alone",
        "fs-then-vt",
    }
    assert Verdict.FAIL not in verdicts.values()


def test_every_case_has_a_name_of_its_own_a_section_and_its_texts() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.section in SECTIONS
        assert all((case.title, case.sent, case.expects, case.why, case.source)), case.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_silence_differs_only_where_the_case_names_an_alternative(case: Any) -> None:
    judgement = case.build(Maker(SPEAKER)).judge(Came())
    assert judgement.verdict is not Verdict.DIFFERS or case.alternative


def test_no_message_names_anyone_but_the_invented_patient_and_ids_never_repeat() -> None:
    maker = Maker(SPEAKER)
    data = b"".join(step.data for case in CASES for step in case.build(maker).steps if isinstance(step, Send))
    assert set(re.findall(rb"PID\|1\|\|(TORTURE[^\r^|#*]*)", data)) == {b"TORTURE-1"}
    assert len(set(maker.ids(500))) == 500


def test_a_batch_of_answers_has_many_and_a_block_without_msh_none() -> None:
    answer = b"MSH|^~\\&|A\rMSA|AA|1\r"
    assert [ack.control_id for ack in acks_of(b"BHS|x\r" + answer + answer.replace(b"|1\r", b"|2\r"))] == [b"1", b"2"]
    assert acks_of(b"MSA|AA|1\r") == []


@pytest.mark.parametrize(
    ("acks", "verdict"),
    [
        ([], Verdict.FAIL),
        ([(b"AA", b"1"), (b"AA", b"2")], Verdict.PASS),
        ([(b"AA", b"2"), (b"AA", b"1")], Verdict.FAIL),
        ([(b"AA", b"1"), (b"AA", b"1")], Verdict.FAIL),
        ([(b"AA", b"1"), (b"AE", b"2")], Verdict.FAIL),
        ([(b"ZZ", b"1"), (b"AA", b"2")], Verdict.FAIL),
        ([(b"AA", b"1"), (b"AA", b"9")], Verdict.FAIL),
    ],
)
def test_two_messages_are_taken_when_each_is_answered_once_in_order(
    acks: list[tuple[bytes, bytes]], verdict: Verdict
) -> None:
    came = Came(acks=tuple(Ack(code, control_id) for code, control_id in acks))
    assert taken(b"1", b"2")(came).verdict is verdict


@pytest.mark.parametrize(
    ("acks", "ended", "verdict"),
    [
        ([(b"AE", b""), (b"AA", b"2")], False, Verdict.PASS),
        ([(b"AE", b"x"), (b"AA", b"2")], False, Verdict.DIFFERS),
        ([(b"AA", b""), (b"AA", b"2")], False, Verdict.FAIL),
        ([(b"AA", b"2")], False, Verdict.FAIL),
        ([(b"AE", b"")], False, Verdict.FAIL),
        ([(b"AE", b"")], True, Verdict.PASS),
        ([], True, Verdict.DIFFERS),
        ([], False, Verdict.FAIL),
    ],
)
def test_a_bad_block_is_refused_and_the_message_behind_it_answered(
    acks: list[tuple[bytes, bytes]], ended: bool, verdict: Verdict
) -> None:
    came = Came(tuple(Ack(*ack) for ack in acks), ended=frozenset([0] if ended else []))
    assert block(b"2")(came).verdict is verdict


async def test_nobody_listens_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(UnavailableError, match="no connection"):
            await Torture(Target("127.0.0.1", sock.getsockname()[1]), Maker(SPEAKER)).run(CASES, print)


# -- the command


def command(*arguments: str) -> Result:
    return CliRunner().invoke(torture, arguments)


@contextlib.contextmanager
def bridge() -> Iterator[int]:
    from port_in_a_thread import port_in_a_thread
    from recording_journal import RecordingJournal

    def make(listener: Listener) -> Any:
        intake = Intake(listener, RecordingJournal(), events_of([("ADT", "A01")]))  # type: ignore[arg-type]
        return intake.handle, intake.refuse

    with port_in_a_thread(make) as port:
        yield port


@contextlib.contextmanager
def toy_in_a_thread() -> Iterator[int]:
    """Answers every message with a control id of its own."""
    from port_in_a_thread import port_in_a_thread

    async def handle(payload: bytes, peer: object) -> bytes:
        return b"MSH|^~\\&|A|||||||ACK|1|P|2.5\rMSA|AA|1\r"

    with port_in_a_thread(lambda listener: (handle, lambda *_: None)) as port:
        yield port


def test_the_command_says_first_what_it_will_send_then_what_came() -> None:
    with bridge() as port:
        result = command(f"127.0.0.1:{port}", "--only", "*-in-one-block", "-v", "--pause", "0.01", "--quiet", "0.05")
    assert result.exit_code == 0, result.output
    assert f"127.0.0.1:{port}: 2 cases, about 5 blocks" in result.stderr
    assert "processing id T" in result.stderr
    assert "2 cases: 2 pass" in result.stdout
    assert "expected:" in result.stdout


def test_the_report_as_json_holds_each_case_whole() -> None:
    with bridge() as port:
        result = command(f"127.0.0.1:{port}", "--only", "plain", "--json", "--pause", "0.01")
    report = json.loads(result.stdout)
    assert report["counts"] == {"pass": 1}
    assert report["cases"][0]["name"] == "plain"
    assert set(report["cases"][0]) >= {"sent", "expects", "alternative", "why", "source", "came", "verdict"}


def test_a_failed_case_ends_the_command_with_1() -> None:
    with toy_in_a_thread() as port:
        result = command(f"127.0.0.1:{port}", "--only", "plain", "--pause", "0.01")
    assert result.exit_code == 1, result.output
    assert "MSA-2 is not the MSH-10" in result.stdout


def test_another_machine_needs_yes() -> None:
    result = command("192.0.2.1:6661", "--only", "plain")
    assert result.exit_code == 2
    assert "1 cases" in result.stderr
    assert "--yes sends this to it" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["localhost"], ["localhost:0"], ["localhost:x"], ["a:1", "--only", "nix"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 2


def test_nothing_can_be_smuggled_into_msh() -> None:
    assert command("localhost:1", "--application", "A|B").exit_code == 2
    assert command("localhost:1", "--facility", "A\rPID|").exit_code == 2


def test_the_list_names_every_case_and_the_document_too() -> None:
    result = command("--list")
    assert [line.split()[1] for line in result.stdout.splitlines()] == [case.name for case in CASES]
    assert result.stdout.strip() in README.read_text("utf-8")
    assert [case["name"] for case in json.loads(command("--list", "--json").stdout)] == [case.name for case in CASES]


def test_an_outcome_that_is_no_pass_says_what_was_sent_expected_and_came() -> None:
    case = chosen(["fs-alone"])[0]
    outcome = Outcome(case, case.build(Maker(SPEAKER)).judge(Came()), "nothing", 1.0)
    text = "\n".join(lines_of(outcome, verbose=False))
    assert text.startswith("differs")
    assert all(word in text for word in ("sent:", "expected:", "legitimate too:", "came:", "source:"))
    assert summary([outcome]) == "1 cases: 1 differ; 1.0 s"
    assert "65 cases" in announcement("h:1", load_of(CASES, SPEAKER), SPEAKER)


async def test_over_tls_every_case_passes_or_does_not_apply(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("localhost")
    client, secret = authority.issue("torturer")
    tls = {"certificate": certificate, "key": key, "ca": authority.file, "client": "require"}
    journal = await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0)
    listener = Listener.model_validate({"host": "127.0.0.1", "port": 0, "tls": tls})
    intake = Intake(listener, journal, events_of([("ADT", "A01")]))
    server = MllpServer(listener, intake.handle, intake.refuse)
    await server.start()
    flags = ["--tls", "--ca", authority.file, "--certificate", client, "--key", secret, "--json"]
    only = ["--only", "framing", "--timeout", "5"]
    try:
        arguments = [f"localhost:{server.port}", *flags, *only]
        result = await asyncio.to_thread(CliRunner().invoke, torture, arguments)
    finally:
        await server.drain(5)
        await journal.close()
    assert result.exit_code == 0, result.output[-2000:]
    verdicts = [case["verdict"] for case in json.loads(result.stdout)["cases"]]
    assert set(verdicts) <= {"pass", "not applicable"} and verdicts.count("pass") > 10, verdicts
