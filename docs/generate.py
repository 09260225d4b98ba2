"""Writes the documents that are made from the code: `make docs`. tests/shell/test_documents.py compares them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from hl7bridge.cli.main import cli
from hl7bridge.config.document import keys_document, sample
from hl7bridge.observe.log import FIELDS
from hl7bridge.observe.metrics import document as metrics_document

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100


def commands_document() -> str:
    """docs/cli.md: the help of every command."""
    head = "# Commands\n\nMade by `make docs` from the commands' own help; a test keeps it so.\n"
    return "\n".join([head, *_with_subcommands(cli, "hl7bridge", None)])


def _with_subcommands(command: click.Command, name: str, above: click.Context | None) -> list[str]:
    command = copy.copy(command)
    command._help_option = None  # click keeps the one it made for whoever asked first
    options = ["-h", "--help"]  # as the frame's context settings say; a context made by hand does not know them
    with click.Context(command, above, name, terminal_width=WIDTH, color=False, help_option_names=options) as here:
        lines = "\n".join(line.rstrip() for line in command.get_help(here).splitlines())
        parts = [f"## `{here.command_path}`\n\n```\n{lines}\n```\n"]
        for sub in command.list_commands(here) if isinstance(command, click.Group) else ():
            found = command.get_command(here, sub)  # type: ignore[attr-defined]
            assert found is not None
            parts += _with_subcommands(found, sub, here)
    return parts


def log_document() -> str:
    """docs/log.md: every field a log line may have."""
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in FIELDS.items())
    return f"""# Log

Made by `make docs` from `hl7bridge/observe/log.py`; a test keeps it so. One line an event, on standard error; JSON,
or for people when standard error is a terminal (`observe.log_format`). Only these fields pass; the names of others are
listed under `dropped_fields`, their values are gone. Exceptions are told by type and place, never by text.

| field | meaning |
|---|---|
{rows}"""


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "hl7bridge.yaml": sample,
    "docs/configuration.md": keys_document,
    "docs/metrics.md": metrics_document,
    "docs/log.md": log_document,
    "docs/cli.md": commands_document,
}


def main() -> None:
    for name, make in DOCUMENTS.items():
        (ROOT / name).write_text(make(), "utf-8")
        sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
