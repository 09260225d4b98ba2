"""`hl7bridge send` against a listener that runs the intake, and against listeners that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from port_in_a_thread import Handler, port_in_a_thread
from recording_journal import RecordingJournal

from hl7bridge.admission import events_of
from hl7bridge.cli.send import send
from hl7bridge.cli.sending import asks_for_answer, error_condition
from hl7bridge.config import Listener
from hl7bridge.errors import ConfigError, JournalError
from hl7bridge.intake import Intake
from hl7bridge.mllp.client import NotSent, control_id_of
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.gate import Refusal, Refuse
from hl7bridge.mllp.peer import Peer


def message(control_id: str, type: str = "ADT^A01", more: str = "") -> bytes:
    return f"MSH|^~\\&|A|B|C|D|20240101||{type}|{control_id}|P|2.5{more}\rPID|1||SENTINEL\r".encode()


@contextlib.contextmanager
def bridge(commit_bytes: bool = False) -> Iterator[tuple[int, RecordingJournal]]:
    journal = RecordingJournal()

    def make(listener: Listener) -> tuple[Handler, Refuse]:
        intake = Intake(listener, journal, events_of([("ADT", "A01")]))  # type: ignore[arg-type]
        return intake.handle, intake.refuse

    with port_in_a_thread(make, commit_bytes=commit_bytes) as port:
        yield port, journal


@contextlib.contextmanager
def answering(answer: Callable[[bytes], Awaitable[bytes | None]]) -> Iterator[int]:
    async def handle(payload: bytes, peer: Peer) -> bytes | None:
        return await answer(payload)

    def refuse(head: bytes, refusal: Refusal, peer: Peer) -> bytes | None:
        return None

    with port_in_a_thread(lambda listener: (handle, refuse)) as port:
        yield port


def run(port: int, *arguments: object, **more: Any) -> Result:
    return CliRunner().invoke(send, ["--port", str(port), *map(str, arguments)], **more)


def feed(folder: Path, *messages: bytes, name: str = "feed.hl7") -> Path:
    file = folder / name
    file.write_bytes(b"".join(messages))
    return file


def test_what_is_accepted_is_counted(tmp_path: Path) -> None:
    with bridge() as (port, journal):
        result = run(port, feed(tmp_path, *(message(f"C{i}") for i in range(5))))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("sent 5: 5 AA; ")
    assert [stored.control_id for stored in journal.committed] == [f"C{i}" for i in range(5)]


def test_what_is_refused_is_named_without_its_values(tmp_path: Path) -> None:
    with bridge() as (port, _):
        result = run(port, feed(tmp_path, message("C1"), message("C2", "ADT^A99"), message("", "ADT^A01")))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines == [
        f"{tmp_path}/feed.hl7: message 2: AR 201 Unsupported event code",
        f"{tmp_path}/feed.hl7: message 3: AE 101 Required field missing",
    ]
    assert "sent 3: 1 AA, 1 AR, 1 AE; " in result.stdout
    assert "SENTINEL" not in result.output


def test_messages_are_dealt_out_and_keep_their_order_on_each_connection(tmp_path: Path) -> None:
    with bridge() as (port, journal):
        file = feed(tmp_path, *(message(f"C{i:03}") for i in range(60)))
        result = run(port, file, "--connections", 3, "--window", 4)
    assert result.exit_code == 0, result.output
    ids = [int(stored.control_id[1:]) for stored in journal.came]
    for line in range(3):
        assert [n for n in ids if n % 3 == line] == list(range(line, 60, 3))


def test_repeating_sends_everything_again_and_json_says_all(tmp_path: Path) -> None:
    with bridge() as (port, journal):
        result = run(port, feed(tmp_path, message("C1"), message("C2", "XXX")), "--repeat", 3, "--json", "--rate", 500)
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["sent"] == 6
    assert facts["answers"] == {"AA": 3, "AR": 3}
    assert facts["failures"][0] == {
        "file": f"{tmp_path}/feed.hl7", "number": 2, "code": "AR", "condition": "200",
        "text": "Unsupported message type",
    }  # fmt: skip
    assert len(journal.committed) == 1


def test_directories_and_standard_input_are_read(tmp_path: Path) -> None:
    feed(tmp_path, message("C1"), name="a.hl7")
    feed(tmp_path, b"\x0b" + message("C2") + b"\x1c\r", name="b.hl7")
    feed(tmp_path, b"not hl7", name=".hidden")
    with bridge() as (port, journal):
        result = run(port, tmp_path, "-", input=message("C3"))
    assert result.exit_code == 0, result.output
    assert [stored.control_id for stored in journal.committed] == ["C1", "C2", "C3"]


def test_a_file_that_gives_nothing_is_a_failure(tmp_path: Path) -> None:
    with bridge() as (port, _):
        result = run(port, feed(tmp_path, b"", name="empty"), tmp_path / "missing", feed(tmp_path, message("C1")))
    assert result.exit_code == 1
    assert "empty: holds no HL7 v2 message" in result.stderr
    assert "missing: cannot be read: No such file" in result.stderr
    assert "sent 1: 1 AA" in result.stdout


def test_an_answer_to_another_message_is_mismatched(tmp_path: Path) -> None:
    async def other(payload: bytes) -> bytes:
        return b"MSH|^~\\&|A\rMSA|AA|OTHER\r"

    with answering(other) as port:
        result = run(port, feed(tmp_path, message("C1"), message("C2")))
    assert result.exit_code == 1
    assert "sent 2: 2 mismatched" in result.stdout
    assert "message 1: mismatched" in result.stderr


def test_no_answer_is_a_failure(tmp_path: Path) -> None:
    async def silent(payload: bytes) -> None:
        return None

    with answering(silent) as port:
        result = run(port, feed(tmp_path, message("C1")), "--timeout", 0.02)
    assert result.exit_code == 1
    assert "sent 1: 1 no answer" in result.stdout


def test_a_message_without_answer_is_sent_again_where_that_is_asked(tmp_path: Path) -> None:
    tries = []

    async def at_last(payload: bytes) -> bytes | None:
        tries.append(payload)
        return b"MSH|^~\\&|A\rMSA|AA|" + control_id_of(payload) + b"\r" if len(tries) > 1 else None

    with answering(at_last) as port:
        result = run(port, feed(tmp_path, message("C1")), "--timeout", 0.02, "--retry-for", 5)
    assert result.exit_code == 0, result.output
    assert len(tries) == 2


def test_a_message_that_asks_for_no_answer_is_not_waited_for(tmp_path: Path) -> None:
    never, on_error = "|||NE|NE", "|||ER"
    file = feed(tmp_path, message("C1", more=never), message("C2", more=on_error), message("C3", "ADT^A99", on_error))
    with bridge() as (port, journal):
        result = run(port, file)
    assert result.exit_code == 1
    assert "1 CR, 2 that ask for no answer" in result.stdout
    assert "message 3: CR 201 Unsupported event code" in result.stderr
    assert [stored.control_id for stored in journal.committed] == ["C1", "C2"]


def test_nobody_listening_is_an_error_of_its_own(tmp_path: Path) -> None:
    with bridge() as (port, _):
        pass
    result = run(port, feed(tmp_path, message("C1")))
    assert isinstance(result.exception, NotSent)
    assert result.exception.exit_code == 4


def test_waiting_for_a_listener_to_come_up(tmp_path: Path) -> None:
    with bridge() as (port, _):
        pass
    results: list[Result] = []
    file = feed(tmp_path, message("C1"))
    thread = threading.Thread(target=lambda: results.append(run(port, file, "--retry-for", 10)))
    thread.start()

    def make(listener: Listener) -> tuple[Handler, Refuse]:
        intake = Intake(listener, RecordingJournal(), events_of([("ADT", "A01")]))  # type: ignore[arg-type]
        return intake.handle, intake.refuse

    with port_in_a_thread(make, port):
        thread.join()
    assert results[0].exit_code == 0, results[0].output


def test_tls_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    result = run(1, feed(tmp_path, message("C1")), "--tls", "--ca", tmp_path / "none.pem")
    assert isinstance(result.exception, ConfigError)
    assert run(1, "x", "--certificate", "a").exit_code == 2


def test_the_help_shows_an_example() -> None:
    assert "hl7bridge send samples/adt_a01_admit.hl7" in CliRunner().invoke(send, ["--help"]).output


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"MSH|^~\\&|A\rMSA|AE|1\rERR||PID^1|101^x^HL70357|E\r", "101"),
        (b"MSH|^~\\&|A\nMSA|AE|1\nERR|PID^1^5^102&x&HL70357\n", "102"),
        (b"MSH|^~\\&|A\rMSA|AE|1\rERR|\r", ""),
        (b"MSH|^~\\&|A\rMSA|AE|1\rERR||PID^1|SENTINEL^x\r", ""),
        (b"MSH|^~\\&|A\rMSA|AE|1\r", ""),
        (b"ERR|x", ""),
    ],
)
def test_the_condition_of_an_answer_is_read_in_both_forms(answer: bytes, expected: str) -> None:
    assert error_condition(answer) == expected


def test_which_messages_are_answered_in_any_case() -> None:
    assert asks_for_answer(message("C1"))
    assert asks_for_answer(b"junk")
    assert asks_for_answer(message("C1", more="|||AL|NE"))
    assert not asks_for_answer(message("C1", more="|||SU"))
    assert not asks_for_answer(message("C1", "ACK"))


def test_with_mllp_release_2_a_message_counts_when_its_commit_byte_came(tmp_path: Path) -> None:
    with bridge(commit_bytes=True) as (port, journal):
        taken = run(port, feed(tmp_path, message("C1"), message("C2")), "--mllp2")
        refused = run(port, feed(tmp_path, message("C3", "ADT^Z99")), "--mllp2")
        journal.failure = JournalError("disk")
        failing = run(port, feed(tmp_path, message("C4")), "--mllp2")
    assert taken.stdout.startswith("sent 2: 2 AA; ") and taken.exit_code == 0
    assert "message 1: AR 201 Unsupported event code" in refused.stderr
    assert "message 1: AR 207" in failing.stderr


def test_a_receiver_without_mllp_release_2_is_no_answer_where_it_is_asked_for(tmp_path: Path) -> None:
    with bridge() as (port, _):
        result = run(port, feed(tmp_path, message("C1")), "--mllp2", "--timeout", "0.3")
    assert result.exit_code == 1 and "no answer" in result.stderr


ENHANCED = "|||AL|AL"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reply(control_id: str, code: str, own: str, asks: str = "") -> bytes:
    return f"MSH|^~\\&|C|D|A|B|2024||ACK|{own}|P|2.5|||{asks}\rMSA|{code}|{control_id}\r".encode()


def test_application_acks_on_a_connection_of_their_own_are_taken_answered_and_waited_for(tmp_path: Path) -> None:
    port_of_acks, answers = free_port(), list[bytes]()

    async def answer(payload: bytes) -> bytes | None:
        control_id = control_id_of(payload).decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of_acks)
        later = reply(control_id, "AA" if control_id == "C1" else "AE", "LATER", "AL")
        writer.write(frame(later))  # before the accept ACK: the order of two connections is nobody's
        answers.append(await reader.readuntil(b"\x1c\r"))
        writer.close()
        return reply(control_id, "CA", "NOW")

    with answering(answer) as port:
        feed_file = feed(tmp_path, message("C1", more=ENHANCED), message("C2", more=ENHANCED), message("C3"))
        result = run(port, feed_file, "--ack-port", port_of_acks)
    assert "sent 3: 3 CA;" in result.stdout and "application ACKs: 1 AA, 1 AE" in result.stdout
    assert "message 2: AE" in result.stderr and result.exit_code == 1
    assert all(b"MSA|CA|LATER\r" in answer for answer in answers) and len(answers) == 3


def test_an_application_ack_that_never_comes_is_a_failure(tmp_path: Path) -> None:
    async def answer(payload: bytes) -> bytes | None:
        return reply(control_id_of(payload).decode(), "CA", "NOW")

    with answering(answer) as port:
        arguments = (
            feed(tmp_path, message("C1", more=ENHANCED)),
            "--ack-port",
            free_port(),
            "--timeout",
            "0.2",
            "--json",
        )
        result = run(port, *arguments)
    assert json.loads(result.stdout)["application_acks"] == {"did not come": 1}
    assert result.exit_code == 1


def test_a_message_that_is_refused_is_owed_no_application_ack(tmp_path: Path) -> None:
    async def answer(payload: bytes) -> bytes | None:
        return reply(control_id_of(payload).decode(), "CR", "NOW")

    with answering(answer) as port:
        result = run(port, feed(tmp_path, message("C1", more=ENHANCED)), "--ack-port", free_port(), "--timeout", "60")
    assert "sent 1: 1 CR;" in result.stdout


def test_a_taken_port_for_application_acks_is_an_error_of_its_own(tmp_path: Path) -> None:
    with bridge() as (port, _):
        result = run(port, feed(tmp_path, message("C1")), "--ack-port", port)
    assert isinstance(result.exception, NotSent)
