"""`hl7bridge coverage`: counts of what the tables do not take, by sender and type, and never a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.hl7v2.definitions import load_definitions
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.workbench.coverage import Counting, named_codes

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def message(pid: str, sender: str = "APP|FAC", event: str = "A08", more: str = "") -> bytes:
    return f"MSH|^~\\&|{sender}|||20240101||ADT^{event}|1|P|2.5\rEVN||20240101\r{pid}\rPV1||O\r{more}".encode()


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["coverage", *map(str, arguments)], input=stdin)


def counted(*arguments: object, stdin: bytes) -> Any:
    result = run("-", "--json", *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


def test_a_field_that_no_row_reads_is_counted_with_its_reason() -> None:
    document = counted(stdin=message("PID|1||1^^^A^MR||DOE^JO|||||2106-3^White"))
    (group,) = document["senders"]
    unread = {one["field"]: one for one in group["not_read"]}
    assert (group["sender"], group["type"]) == ("APP|FAC", "ADT^A08")
    assert unread["PID-1"]["times"] == unread["PID-1"]["of"] == 1
    assert unread["PID-10.1"]["why"] == "unmapped" and "national profile" in unread["PID-10.1"]["text"]
    assert "PID-5.1" not in unread and "PID-3.1" not in unread
    assert document["fields"] - document["read"] == sum(one["times"] for one in group["not_read"])


def test_senders_and_types_are_counted_apart() -> None:
    pid = "PID|1||1^^^A^MR||DOE^JO"
    feed = message(pid) + message(pid, "APP|EAST") + message(pid, "APP|EAST", "A04") + message(pid, event="Z99")
    groups = {(one["sender"], one["type"]): one for one in counted(stdin=feed)["senders"]}
    assert {key: one["messages"] for key, one in groups.items()} == {
        ("APP|FAC", "ADT^A08"): 1,
        ("APP|EAST", "ADT^A08"): 1,
        ("APP|EAST", "ADT^A04"): 1,
        ("APP|FAC", "ADT^Z99"): 1,
    }
    assert groups["APP|FAC", "ADT^Z99"]["refused"] == {"unsupported-event": 1}


def test_a_repetition_without_room_and_a_false_condition_are_not_read() -> None:
    document = counted(stdin=message("PID|1||1^^^A^MR|1^^^A|DOE^JO||19700101~19710101|F~M"))
    unread = {one["field"]: one for one in document["senders"][0]["not_read"]}
    assert (unread["PID-7"]["why"], unread["PID-7"]["times"], unread["PID-7"]["of"]) == ("repetition-dropped", 1, 2)
    assert unread["PID-4.4"]["why"] == "condition"


def test_a_component_that_is_compared_counts_as_read() -> None:
    """OBX-2 makes no element, but chooses the rows of OBX-5."""
    obx = "OBX|1|NM|2345-7^G^LN||5.4|mg/dL|||||F\r"
    feed = b"MSH|^~\\&|L|H|||20240101||ORU^R01|1|P|2.5\rPID|1||1^^^A^MR\rOBR|1||F1|2345-7^G^LN\r" + obx.encode()
    unread = {one["field"] for one in counted(stdin=feed)["senders"][0]["not_read"]}
    assert "OBX-2" not in unread and "OBX-5" not in unread and "OBX-1" in unread


def test_codes_are_named_only_from_enough_messages_and_only_when_they_look_like_codes() -> None:
    feed = b"".join(
        message(f"PID|1||1^^^A^MR||DOE^JO||||||||||^^^^^^^^ |{code}") for code in ["QQ"] * 5 + ["RARE"] * 4
    ) + b"".join(message(f"PID|1||1^^^A^MR||DOE^JO|||||||||||{code}") for code in ["JOHN DOE"] * 6 + ["1234567"] * 6)
    document = counted(stdin=feed)
    named = [one["code"] for group in document["senders"] for one in group["codes"]]
    assert "RARE" not in named and "JOHN DOE" not in named and "1234567" not in named
    assert run("-", stdin=feed).output.count("JOHN") == 0


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("QQ", True),
        ("28b", True),
        ("L-1/2", True),
        ("JOHN DOE", False),
        ("1234567", False),
        ("", False),
        ("A" * 13, False),
    ],
)
def test_what_looks_like_a_code(code: str, shown: bool) -> None:
    assert named_codes({("T", code): 9}, 5) == ([("T", code, 9)] if shown else [], 0 if shown else 1)


def test_a_rare_code_is_only_counted() -> None:
    assert named_codes({("T", "QQ"): 4}, 5) == ([], 1)


def test_rows_that_never_fired_are_listed_with_their_place() -> None:
    result = run("-", "--rows", "--all", stdin=message("PID|1||1^^^A^MR||DOE^JO"))
    assert "Rows that never fired: " in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("PID-Patient ") and " PID-8 " in line)
    assert "segments/PID-Patient.yaml:" in line
    assert not any(
        line.startswith("PID-Patient ") and line.split()[1] == "PID-3" for line in result.stdout.splitlines()
    )


def test_the_gate_fails_below_the_share_and_says_both() -> None:
    stdin = message("PID|1||1^^^A^MR||DOE^JO|||||2106-3^White")
    assert run("-", "--fail-below", "10", stdin=stdin).exit_code == 0
    result = run("-", "--fail-below", "99.9", stdin=stdin)
    assert result.exit_code == 1
    assert "% of the populated fields are read, not 99.9 %" in result.stderr


def test_files_that_cannot_be_read_are_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    result = run(SAMPLES / "adt_a01_admit.hl7", tmp_path / "none.hl7")
    assert result.exit_code == 1
    assert "none.hl7: cannot be read" in result.stderr and "ADT^A01" in result.stdout


def test_paths_or_the_journal_one_of_them() -> None:
    assert run().exit_code == 2
    assert run("x.hl7", "--journal").exit_code == 2
    assert run("x.hl7", "--days", "2").exit_code == 2


def test_no_value_of_any_sample_is_printed(mappings: Mappings) -> None:
    files = sorted(SAMPLES.glob("*.hl7"))
    output = run(*files, "--all").output
    for file in files:
        names = {
            part.split("^")[0]
            for line in file.read_text("utf-8", "replace").splitlines()
            if line.startswith(("PID|", "NK1|"))
            for part in [*line.split("|"), "", "", "", "", "", ""][5:6]
        }
        assert not [name for name in names if len(name) > 3 and name in output], file.name


def test_no_data_at_all_is_fully_read(mappings: Mappings) -> None:
    counting = Counting(load_definitions())
    counting.message(b"garbage", mappings)
    (counts,) = counting.coverage.values()
    assert counts.share == 100.0 and counts.refused.total() == 1
