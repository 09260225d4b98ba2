"""The pages whose commands a reader types one after the other give what they show; the files they end with are the samples'."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_pages", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["docs/tutorial.md", "docs/mapping-guide.md", "docs/comparison.md"])
def test_a_page_shows_what_its_commands_print(generator: ModuleType, name: str) -> None:
    assert name in generator.PAGES
    shown = (ROOT / name).read_text("utf-8")
    text, pictures = generator.page(name)
    steady = generator.pages.steady
    assert steady(shown).splitlines() == steady(text).splitlines(), "run `make docs`, and read what changed"
    for title, picture in pictures.items():
        stands = (ROOT / "docs" / "pictures" / f"{title}.svg").read_text("utf-8")
        assert steady(words(stands)) == steady(words(picture)), f"{title}: run `make docs`, and look at it"


def words(picture: str) -> str:
    """What can be read in a picture; where it stands changes with the length of times and versions."""
    return re.sub(r" {2,}", "  ", re.sub(r"<[^>]*>", "", picture))


def test_the_tutorial_ends_with_the_files_of_the_samples() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    written = dict(re.findall(r"^```yaml\n# (north/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    folder = ROOT / "samples" / "tutorial"
    files = {str(file.relative_to(folder)): file.read_text("utf-8") for file in (folder / "north").rglob("*.yaml")}
    assert files == {f: f"# {f}\n{t}" for f, t in written.items()}


def test_times_and_versions_are_what_may_differ(generator: ModuleType) -> None:
    steady = generator.pages.steady
    one = "ok: 305 tables, 1583 rows, 2267 codes, 240 examples, version aac31b57de89\n4 messages in 5.4 s"
    other = "ok: 306 tables, 1600 rows, 2300 codes, 251 examples, version 0123456789ab\n4 messages in 61.0 s"
    assert steady(one) == steady(other)
    assert steady("north/segments/PID-Patient.yaml:5 ROW") != steady("north/segments/PID-Patient.yaml:6 ROW")
    assert steady("changed  Patient.gender  2") != steady("changed  Patient.gender  3")


def test_the_readme_shows_the_conformance_that_the_command_prints(generator: ModuleType) -> None:
    corpus = Path(os.environ.get("HL7BRIDGE_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not (corpus.parent / "ig").is_dir():
        pytest.skip("the guide's rows are not at hand")
    text = (ROOT / "README.md").read_text("utf-8")
    assert "undecided" in text and generator.conformance(text) == text, "run `make docs`"


def test_the_workbench_shows_what_a_large_feed_holds_and_that_the_gate_fails() -> None:
    """Only its form: the command runs for minutes, and its feed is not part of the project."""
    text = (ROOT / "docs" / "workbench.md").read_text("utf-8")
    (shown,) = re.findall(r"^```console\n\$ hl7bridge coverage (.*?)^```$", text, re.MULTILINE | re.DOTALL)
    groups, unread, codes, rows = shown.split("\n\n")
    command, head, *_, whole = groups.splitlines()
    assert head.split() == ["SENDER", "TYPE", "MESSAGES", "REFUSED", "FIELDS", "NOT", "READ", "READ", "CODES"]
    name, messages, *_ = whole.split()
    assert (name, messages) == ("all", "20000") and "--fail-below 85" in command
    for line in unread.splitlines()[2:]:
        assert line == "..." or line.startswith("and ") or re.search(r"[A-Z]\w\w-\d+.* \d+ +\d+ ", line), line
    assert codes.startswith("Codes that no table maps") and rows.startswith("Rows that never fired: ")
    share = re.search(r"failed: ([\d.]+) % of the populated fields are read, not 85 %$", rows.strip())
    assert share and f" {float(share[1]):.1f} %" in whole


def test_the_workbench_shows_a_change_path_by_path_with_the_row_that_makes_it() -> None:
    """Only its form: the command runs for a minute, and its versions and times differ each time."""
    text = (ROOT / "docs" / "workbench.md").read_text("utf-8")
    (shown,) = re.findall(r"^```console\n\$ hl7bridge diff (.*?)^```$", text, re.MULTILINE | re.DOTALL)
    command, old, new, summary, empty, head, *lines = shown.splitlines()
    folder = command.partition("--new ")[2].split()[0]
    assert (ROOT / folder).is_dir()
    assert old.startswith("old: the shipped tables, version ") and new.startswith(f"new: {folder}, version ")
    assert re.fullmatch(r"\d+ messages in [\d.]+ s: \d+ differ, \d+ same, .*", summary) and not empty
    assert head.split() == ["CHANGE", "PATH", "MESSAGES", "TIMES", "EXAMPLES", "ROW"]
    for line in lines:
        assert re.match(r"(added|removed|changed) +[A-Z]\w+[.:] ?\S+ +\d+ +\d+ +\S", line), line
    places = re.findall(r"old-system/(\S+\.yaml):(\d+)", shown)
    assert places
    for file, number in places:
        row = (ROOT / folder / file).read_text("utf-8").splitlines()[int(number) - 1]
        assert row.strip().startswith("- {to: system")
