"""What README and docs show is so: commands and options exist, files exist, snippets run, output is what comes out."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import available_timezones

import click
import pytest
import yaml

from hl7bridge.cli.main import cli
from hl7bridge.config.load import load
from hl7bridge.mapping.mappings import load_mappings
from hl7bridge.reasons import CATALOGUE
from hl7bridge.translation import translate

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "samples" / "README.md"] + [
    path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "cli.md"
]
STANDS_FOR_SOMETHING = ("ID", "FILE", "sites/", "message.hl7", "mended.hl7")  # in place of an argument
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def command_lines() -> list[tuple[str, str]]:
    """(page, line) for each `hl7bridge …` in code, up to a pipe or a redirection."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        shown = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
        inline = re.findall(r"`(hl7bridge [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for line in (*shown, *inline):
            if line.startswith("hl7bridge ") and not line.startswith("hl7bridge starts"):
                found.append((page.name, re.split(r" [|>] ?", line.replace("\n", " "))[0]))
    return found


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_a_command_line_is_one_that_exists(page: str, line: str) -> None:
    command: click.Command = cli
    words = shlex.split(line)[1:]
    options = {name for parameter in cli.params for name in parameter.opts}
    for position, word in enumerate(words):
        if isinstance(command, click.Group) and not word.startswith("-"):
            if position and words[position - 1] == "--config":
                continue
            with click.Context(cli) as context:
                found = command.get_command(context, word)
            assert found is not None, f"{page}: no command {word} in: {line}"
            command = found
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        elif word.startswith("-"):
            assert word in options, f"{page}: no option {word} in: {line}"
        elif words[position - 1] == "--reason":
            assert word in CATALOGUE
        elif words[position - 1] == "--zone":
            assert word in available_timezones()
        elif "/" in word and not word.startswith(("/", *STANDS_FOR_SOMETHING)):
            assert list(ROOT.glob(word)), f"{page}: no file {word} in: {line}"


def test_there_are_command_lines_to_look_at() -> None:
    assert len(command_lines()) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


def test_the_make_targets_shown_first_exist() -> None:
    targets = re.findall(r"^make (\w+) +#", README, re.MULTILINE)
    assert targets == ["run", "test"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_python_snippet_runs_and_gives_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(snippet, names)
    for line in snippet.splitlines():
        expression, _, comment = line.partition("  # ")
        shown = re.search(r": ('[^']*'|\[.*\])$", comment)
        if expression.startswith(("result.", "[")) and shown:
            assert repr(eval(expression, names)) == shown[1]


def test_the_configuration_shown_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "hl7bridge.yaml"
    file.write_text(text.replace("/run/secrets/fhir-token", str(tmp_path / "token")), "utf-8")
    (tmp_path / "token").write_text("synthetic", "utf-8")
    monkeypatch.chdir(ROOT)
    config = load(file, {})
    assert [listener.name for listener in config.listeners] == ["admissions"]
    assert yaml.safe_load(text)["fhir"]["base_url"] == config.fhir.base_url


def test_the_bundle_shown_is_what_the_sample_gives() -> None:
    raw = (ROOT / "samples" / "adt_a01_admit.hl7").read_bytes()
    entries = translate(raw, load_mappings()).resource["entry"]
    counted = Counter(f"{entry['request']['method']} {entry['resource']['resourceType']}" for entry in entries)
    shown = {what: int(count) for count, what in re.findall(r"^ +(\d+) ((?:PUT|POST) \w+)$", README, re.MULTILINE)}
    assert shown == counted
    (encounter,) = (entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Encounter")
    (excerpt,) = re.findall(r"^(\{\n.*?^\})", README, re.DOTALL | re.MULTILINE)
    assert json.loads(excerpt) == {
        "status": encounter["status"],
        "class": encounter["class"]["code"],
        "period": encounter["period"],
        "reasonCode": encounter["reasonCode"][0]["coding"][0],
    }


def test_the_numbers_of_tables_rows_and_codes_are_those_of_the_shipped_tables() -> None:
    from click.testing import CliRunner

    output = CliRunner().invoke(cli, ["mappings", "check"]).output
    counts = re.search(r"ok: (\d+) tables, (\d+) rows, (\d+) codes", output)
    assert counts is not None
    said = re.search(r"by (\d+) tables with (\d+)\s+rows and (\d+) codes", README)
    assert said is not None and said.groups() == counts.groups(), "README: What it translates"


def test_the_events_named_are_those_the_tables_handle() -> None:
    named = re.search(r"^ADT ((?:A[\dA-]+\s)+)and ORU ((?:\s?R[\dR-]+)+),", README, re.MULTILINE)
    assert named is not None
    said = {(code, event) for code, events in (("ADT", named[1]), ("ORU", named[2])) for event in _listed(events)}
    assert said == load_mappings().events


def _listed(events: str) -> Iterator[str]:
    """`A01 A03-A05` one by one."""
    for first, _, last in (part.partition("-") for part in events.split()):
        yield from (f"{first[0]}{n:02}" for n in range(int(first[1:]), int((last or first)[1:]) + 1))
