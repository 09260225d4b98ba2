"""The command line's frame: what is listed, what is imported, how commands end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hl7bridge
from hl7bridge.cli import main
from hl7bridge.cli.main import COMMANDS, Shell, cli
from hl7bridge.config import Config
from hl7bridge.errors import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    ConfigError,
    Hl7BridgeError,
    JournalError,
    Mistake,
    TablesError,
)

SENTINEL = "EVERYWOMAN"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, **more: object) -> click.testing.Result:
    return CliRunner().invoke(cli, list(words), **more)  # type: ignore[arg-type]


def every_command(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1] if path else "hl7bridge")
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, (*path, name))


# ---- what there is ----


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listing_says_what_the_command_itself_says(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    assert isinstance(command, click.Command)
    assert (command.help or "").strip()


def test_every_command_teaches_with_examples() -> None:
    without = [" ".join(path) for path, command in every_command(cli, ()) if "Example" not in _help(path, command)]
    assert without == []


def _help(path: tuple[str, ...], command: click.Command) -> str:
    result = run(*path, "--help")
    assert result.exit_code == EXIT_OK, path
    if isinstance(command, click.Group) and path:  # a group's examples may stand with its commands
        return result.output + "".join(
            run(*path, name, "--help").output for name in command.list_commands(click.Context(command))
        )
    return result.output


def test_the_listing_imports_no_command() -> None:
    code = (
        "import sys; from hl7bridge.cli.main import cli\n"
        "try: cli(['--help'], prog_name='hl7bridge')\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'yaml', 'aiohttp', 'hl7apy', 'structlog', 'orjson', 'fhir'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environ(), check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout


def test_a_command_that_is_mistyped_is_suggested() -> None:
    result = run("dqlq")
    assert result.exit_code == EXIT_USAGE
    assert "No such command 'dqlq'; did you mean 'dlq'?" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == EXIT_OK
    assert "_HL7BRIDGE_COMPLETE" in result.output


def test_completion_offers_the_commands() -> None:
    environ = {"_HL7BRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": "hl7bridge do", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hl7bridge"], capture_output=True, text=True, env=environ | _environ(), check=False
    )
    assert done.stdout == "plain,doctor\n"


def _environ() -> dict[str, str]:
    """For a process of its own, wherever this package was imported from."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(hl7bridge.__file__).resolve().parents[1])}


# ---- how commands end ----


def failing(error: Exception) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Hl7BridgeError("two of five failed"), EXIT_FAILED, "hl7bridge: two of five failed\n"),
        (ConfigError(["a.yaml:1: x: y", "a.yaml:2: x: y"]), EXIT_CONFIG, "a.yaml:1: x: y\na.yaml:2: x: y\n"),
        (TablesError([Mistake("PID.yaml", 3, 1, "no such element")]), EXIT_CONFIG, "PID.yaml:3: no such element\n"),
        (JournalError("the disk is full"), EXIT_UNAVAILABLE, "hl7bridge: the disk is full\n"),
        (FileNotFoundError(2, "No such file", "x.hl7"), EXIT_UNAVAILABLE, "hl7bridge: x.hl7: No such file\n"),
        (KeyboardInterrupt(), main.EXIT_INTERRUPTED, ""),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    error: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main.Frame, "get_command", lambda *_: failing(error))
    result = run("serve")
    assert (result.exit_code, result.stderr) == (code, text)


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_is_told_by_type_and_place_and_never_by_its_text(debug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main.Frame, "get_command", lambda *_: failing(ValueError(SENTINEL)))
    result = run(*(["--debug"] if debug else []), "serve")
    assert result.exit_code == EXIT_FAILED
    assert "hl7bridge: internal error: ValueError at cli/main.py:" in result.stderr
    assert "Traceback" not in result.stderr
    assert SENTINEL not in result.output + result.stderr
    assert ("  cli/main.py:" in result.stderr) is debug


# ---- the configuration reaches the commands ----


def test_a_broken_configuration_is_named_when_it_is_needed_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "hl7bridge.yaml").write_text("retri: {}", "utf-8")
    assert run("config", "check", "--help").exit_code == EXIT_OK
    assert run("completion", "bash").exit_code == EXIT_OK
    result = run("config", "check")
    assert result.exit_code == EXIT_CONFIG
    assert result.stderr == "hl7bridge.yaml:1: retri: unknown key; did you mean 'retry'?\n"


def test_the_object_of_a_command_stands_for_the_configuration() -> None:
    shell = Shell()
    assert shell.config == Config()
    assert shell.journal == Config().journal
    assert shell.config is shell.config  # read once
    with pytest.raises(AttributeError):
        _ = shell.nonsense


def test_config_check_says_what_was_read(tmp_path: Path) -> None:
    assert (
        run("config", "check").output
        == "ok: no file: the defaults and the environment, 1 listener(s), to file:./var/out\n"
    )
    (tmp_path / "s.yaml").write_text("fhir: {base_url: 'https://x/r4'}", "utf-8")
    assert run("--config", "s.yaml", "config", "check").output == "ok: s.yaml, 1 listener(s), to https://x/r4\n"


def test_config_show_tells_only_changes_when_asked(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("fhir:\n  bearer_token: env:T\n", "utf-8")
    result = run("--config", "s.yaml", "config", "show", "--changed")
    assert result.output == "fhir.bearer_token  env:T  (s.yaml:2)\n"
    assert '"key": "fhir.bearer_token"' in run("--config", "s.yaml", "config", "show", "--json").output
