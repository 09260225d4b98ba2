"""`hl7bridge diff`: what an analyst sees before a change is activated."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli

ADMIT = b"MSH|^~\\&|ADT|NORTH|||20240501120000+0100||ADT^A01|C%d|P|2.5\rEVN|A01\rPID|1||P%d^^^NORTH^MR||DOE^EVE||1980|%s\rPV1|1|I\r"
RESULT = b"MSH|^~\\&|LAB|NORTH|||20240501120000+0100||ORU^R01|R%d|P|2.5\rPID|1||P1^^^NORTH^MR||DOE^EVE\rOBR|1|||X^Y^L\r"
CHANGE = "table: PID-Patient\nrows:\n  PID-8: {to: gender, value: other}\n"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, words)])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "north"
    (folder / "segments").mkdir(parents=True)
    (folder / "segments" / "PID-Patient.yaml").write_text(CHANGE)
    return folder


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    file = tmp_path / "feed.hl7"
    parts = [ADMIT % (n, n, b"F") for n in range(3)] + [ADMIT % (9, 9, b"")] + [RESULT % n for n in range(2)]
    file.write_bytes(b"".join(parts))
    return file


def test_differences_are_grouped_by_path_with_counts_examples_and_the_row(site: Path, feed: Path) -> None:
    found = run("--old", "shipped", "--new", site, feed)
    assert found.exit_code == 1, found.output
    assert "6 messages in" in found.stdout and "3 differ, 0 same, 3 skipped" in found.stdout
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("changed")]
    assert line.split() == [
        "changed",
        "Patient.gender",
        "3",
        "3",
        "C0,",
        "C1,",
        "C2",
        "PID-8",
        "north/segments/PID-Patient.yaml:3",
    ]


def test_values_are_shown_only_when_asked_for(site: Path, feed: Path) -> None:
    assert "female" not in run("--old", "shipped", "--new", site, feed).stdout
    assert "female" not in run("--old", "shipped", "--new", site, feed, "--json").stdout
    shown = run("--old", "shipped", "--new", site, feed, "--values").stdout
    assert '- "female"' in shown and '+ "other"' in shown


def test_no_difference_ends_with_0(site: Path, feed: Path) -> None:
    found = run("--old", site, "--new", site, feed)
    assert (found.exit_code, found.stdout.splitlines()[-1]) == (0, "no differences")
    assert "6 skipped" in found.stdout


def test_every_message_is_translated_on_demand(site: Path, feed: Path) -> None:
    found = json.loads(run("--old", "shipped", "--new", site, feed, "--every", "--json").stdout)
    assert (found["messages"], found["differ"], found["same"], found["skipped"]) == (6, 3, 3, 0)
    assert found["differences"][0]["path"] == "Patient.gender"
    assert found["differences"][0]["examples"] == ["C0", "C1", "C2"]


def test_messages_that_begin_or_stop_to_translate_are_told_by_reason(site: Path, feed: Path) -> None:
    (site / "codes").mkdir()
    (site / "codes" / "AdministrativeSex.yaml").write_text(
        "codes: AdministrativeSex\nmap:\n  X: other\notherwise: error\n"
    )
    (site / "segments" / "PID-Patient.yaml").unlink()
    feed.write_bytes(feed.read_bytes() + ADMIT % (20, 20, b"Q"))
    found = run("--old", "shipped", "--new", site, feed)
    assert found.exit_code == 1
    assert "stops        not-translatable  1         C20" in found.stdout, found.stdout
    back = json.loads(run("--old", site, "--new", "shipped", feed, "--json").stdout)
    assert [(t["change"], t["reason"], t["messages"]) for t in back["translations"]] == [
        ("begins", "not-translatable", 1)
    ]


def test_several_processes_find_the_same(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "many.hl7"
    file.write_bytes(b"".join(ADMIT % (n, n, b"F" if n % 3 else b"M") for n in range(250)))
    documents = [
        json.loads(run("--old", "shipped", "--new", site, file, "--json", "--processes", n).stdout) for n in (1, 2)
    ]
    for document in documents:
        document.pop("seconds")
    assert documents[0] == documents[1] and documents[0]["differ"] == 250


def test_a_git_commit_stands_for_the_folder_as_it_was(site: Path, feed: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(site), *identity, *words], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    assert run("--old", "HEAD", "--new", site, feed).exit_code == 0
    (site / "segments" / "PID-Patient.yaml").write_text(CHANGE.replace("other", "unknown"))
    found = run("--old", "HEAD", "--new", site, feed, "--values")
    assert found.exit_code == 1
    assert "at HEAD (" in found.stdout and '- "other"' in found.stdout and '+ "unknown"' in found.stdout


def test_what_names_no_tables_is_wrong_usage(site: Path, feed: Path) -> None:
    found = run("--old", "nowhere", "--new", site, feed)
    assert found.exit_code == 2
    assert "'nowhere' is no folder, no stored version, and no commit of" in found.stderr
    assert run("--old", "shipped", "--new", site).exit_code == 2  # nothing to compare


def test_tables_that_do_not_load_end_with_3_and_all_mistakes(site: Path, feed: Path) -> None:
    (site / "segments" / "PID-Patient.yaml").write_text(CHANGE.replace("gender", "gendre"))
    found = run("--old", "shipped", "--new", site, feed)
    assert found.exit_code == 3
    assert "north/segments/PID-Patient.yaml:3: Patient has no element 'gendre'" in found.stderr
