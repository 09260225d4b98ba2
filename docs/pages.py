"""Runs the blocks of a page as a reader would, one after the other, and puts in what comes out.

A block whose first line is `# north/segments/PID-Patient.yaml` is that file: it is written. In a block that begins with
`$ `, each such line is a command, and what stands below it is its output. The reader is in a folder of his own, with
`samples` beside. Only the commands a page needs are known: hl7bridge, cat, cp; `| head 14` keeps so many lines.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner
from pictures import picture

from hl7bridge.cli.main import cli

_BLOCK = re.compile(r"(?:^<!-- picture: (\w+), ([^>]*) -->\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.yaml)\n")
_OTHER_EACH_TIME = (  # what differs between two runs, or after any edit of the shipped tables, and proves nothing
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d\d:\d\d"), "TIME"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12}\b"), "VERSION"),
    (re.compile(r"\bin \d+\.\d s\b"), "in SECONDS"),
    (re.compile(r"\d+ tables, \d+ rows, \d+ codes, \d+ examples"), "COUNTS"),
    (re.compile(r"\d+ of \d+ examples"), "EXAMPLES"),
    (
        re.compile(r"(?<!north/)\b((?:mappings/)?(?:segments|datatypes|codes|messages|shared)/[\w-]+\.yaml):\d+"),
        r"\1:LINE",
    ),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r"(?<=VERSION  )(?!USER).+?(?=  rows|$)", re.MULTILINE), "USER"),
)


def made_anew(text: str, samples: Path) -> tuple[str, dict[str, str]]:
    """The page with the output of its commands as it is now; as it is where only times and versions would differ.

    And the pictures of the blocks that have `<!-- picture: name, what it shows -->` above them: name -> SVG.
    """
    pictures: dict[str, str] = {}
    with _a_readers_folder(samples):
        new = _BLOCK.sub(lambda block: _done(block, pictures), text)
    return (text if steady(text) == steady(new) else new), pictures


def steady(text: str) -> str:
    """The page without what is different each time."""
    for pattern, word in _OTHER_EACH_TIME:
        text = pattern.sub(word, text)
    return text


def output(command: str) -> str:
    """What a command line shows on a terminal, with its colours."""
    line, _, head = command.partition(" | head ")
    name, *words = shlex.split(line)
    if name == "hl7bridge":
        shown = CliRunner().invoke(cli, words, color=True, env={"TZ": "Europe/Vienna"}).output
    elif name == "cat":
        shown = Path(words[0]).read_text("utf-8")  # the ends of segments become those of lines
    elif name == "cp":
        shutil.copytree(words[1], words[2])
        shown = ""
    else:
        raise ValueError(f"no page may run {name!r}")
    lines = [line.rstrip() for line in shown.rstrip("\n").splitlines()]
    return "\n".join(lines[: int(head) if head else None])


def _done(block: re.Match[str], pictures: dict[str, str]) -> str:
    name, title, kind, text = block.groups()
    if file := _FILE.match(text):
        path = Path(file[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    elif text.startswith("$ "):
        seen = [(command, output(command)) for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]
        text = "".join(f"$ {command}\n" + (f"{plain(shown)}\n" if shown else "") for command, shown in seen)
        if name:
            pictures[name] = picture(title, seen)
    above = f"<!-- picture: {name}, {title} -->\n\n" if name else ""
    return f"{above}```{kind}\n{text}```"


def plain(shown: str) -> str:
    """Without colours."""
    return "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines())


@contextmanager
def _a_readers_folder(samples: Path) -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("samples").symlink_to(samples)
        try:
            yield
        finally:
            os.chdir(before)
