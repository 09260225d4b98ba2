"""`hl7bridge validate`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from hl7bridge.cli.validate import validate

GOOD = "MSH|^~\\&|A|B|C|D|20240101||ADT^A01|C1|P|2.5\rEVN||2024\rPID|1||7||SENTINEL\rPV1|1|I\r"


def run(*arguments: object, text: str = "") -> Result:
    return CliRunner().invoke(validate, [*map(str, arguments)], input=text)


def test_a_good_message_ends_well() -> None:
    result = run("-", text=GOOD)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "1 messages: 0 errors, 0 warnings, 0 notes\n"


def test_each_finding_is_a_line_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "feed.hl7"
    file.write_text(GOOD + GOOD.replace("||7||", "||||") + "\rXYZ|1\r", newline="")
    result = run(file)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}: message 2: PID^1^3: error 101: PID-3 (patient identifier list) is required in version 2.5",
        f"{file}: message 2: warning 100: segment 5 of the message has an id that version 2.5 has not",
    ]
    assert len(run(file, "--errors-only").stdout.splitlines()) == 1
    assert "SENTINEL" not in result.output


def test_warnings_do_not_fail() -> None:
    result = run("-", text=GOOD.replace("ADT^A01", "ADT^A01^ADT_X99"))
    assert result.exit_code == 0
    assert "MSH^1^9^1^3: warning 103" in result.stdout


def test_json_has_a_line_for_each_finding() -> None:
    [line] = run("-", "--json", text=GOOD.replace("PV1|1|I\r", "")).stdout.splitlines()
    assert json.loads(line) == {
        "file": "-", "message": 1, "segment": "PV1", "field": 0, "location": "PV1^1", "severity": "error",
        "condition": "100", "text": "the required segment PV1 is missing",
    }  # fmt: skip


def test_envelopes_and_files_without_messages_are_judged_too(tmp_path: Path) -> None:
    batch = tmp_path / "batch.hl7"
    batch.write_text(f"BHS|^~\\&\r{GOOD}BTS|7\r", newline="")
    empty = tmp_path / "empty.hl7"
    empty.touch()
    result = run(batch, empty, tmp_path / "none")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{batch}: message 1: warning 100: BTS-1 is not the number of messages in the batch",
        f"{empty}: error 100: holds no HL7 v2 message",
        f"{tmp_path / 'none'}: error 100: cannot be read: No such file or directory",
    ]


def test_a_charset_for_bytes_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "latin.hl7"
    file.write_bytes(GOOD.replace("SENTINEL", "M\xfcller").encode("latin-1"))
    assert run(file).exit_code == 1
    assert run(file, "--charset", "latin-1").exit_code == 0


def test_the_help_shows_an_example() -> None:
    assert "hl7bridge validate samples/adt_a01_admit.hl7" in run("--help").output
