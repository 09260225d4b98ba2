"""The frame of the command line: which commands there are, how they find their configuration, how they end.

What holds:
- A command's module is imported only when the command is used, so that `--help` and `send` start fast; the list of
  commands is the table COMMANDS, and a test compares it with the modules.
- `ctx.obj` is the Config. It is loaded at its first use: a command that needs none works beside a broken file.
- An error of our tree is one line a mistake on standard error, and its exit code. A traceback is never shown;
  `--debug` adds the type and the places in our code, never the text of a foreign exception, which may quote a message.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hl7bridge import __version__
from hl7bridge.collecting import held
from hl7bridge.errors import EXIT_FAILED, EXIT_UNAVAILABLE, Hl7BridgeError

if TYPE_CHECKING:
    from hl7bridge.config import Config, Settings

EXIT_INTERRUPTED = 130  # the shell's convention for SIGINT

# name -> (module, attribute, short help); in the order of the help
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("hl7bridge.cli.serve", "serve", "Run the daemon: listen, journal, translate, deliver."),
    "send": ("hl7bridge.cli.send", "send", "Send HL7 files over MLLP and check each answer."),
    "torture": ("hl7bridge.cli.torture", "torture", "Try how an MLLP receiver bears faults."),
    "translate": ("hl7bridge.cli.translate", "command", "Turn HL7 files into FHIR bundles, without a daemon."),
    "explain": ("hl7bridge.cli.explain", "command", "Where each element came from, where each field went."),
    "diff": ("hl7bridge.cli.diff", "diff", "Show what a change of the tables does to real traffic."),
    "coverage": ("hl7bridge.cli.coverage", "command", "Count what a feed holds and the tables do not take."),
    "validate": ("hl7bridge.cli.validate", "validate", "Check HL7 files against HL7 itself."),
    "mappings": ("hl7bridge.cli.mappings", "mappings", "Check and test the mapping tables."),
    "messages": ("hl7bridge.cli.messages", "messages", "Look into the journal."),
    "prove": ("hl7bridge.cli.prove", "prove", "What happened to a message, and the proof of it."),
    "journal": ("hl7bridge.cli.journal", "journal", "Verify the journal, save what a damaged one holds."),
    "keys": ("hl7bridge.cli.keys", "keys", "Make, list, change and verify the keys of what is at rest."),
    "dlq": ("hl7bridge.cli.dlq", "dlq", "List, show, replay and purge dead letters."),
    "audit": ("hl7bridge.cli.audit", "audit", "Who saw or changed what; is the record whole?"),
    "tokens": ("hl7bridge.cli.tokens", "tokens", "Tokens that stand for identifiers: read one back, make one."),
    "endpoint": ("hl7bridge.cli.endpoint", "endpoint", "Keys for the FHIR endpoint; try its authentication."),
    "config": ("hl7bridge.cli.config", "config", "Check the configuration, show what is in effect."),
    "doctor": ("hl7bridge.cli.doctor", "doctor", "Try ports, disks and peers; say what to do."),
    "sbom": ("hl7bridge.cli.sbom", "sbom", "Print what this installation is made of (CycloneDX)."),
    "completion": ("hl7bridge.cli.config", "completion", "Print the completion script of a shell."),
}


@dataclass
class Shell:
    """What the frame knows: stands for the Config in `ctx.obj` and loads it when the first key is read."""

    path: Path | None = None
    debug: bool = False
    _settings: Settings | None = field(default=None, repr=False)

    @property
    def settings(self) -> Settings:
        """The configuration with its origins. Raises ConfigError."""
        if self._settings is None:
            with held():
                from hl7bridge.config import read

            self._settings = read(self.path)
        return self._settings

    @property
    def config(self) -> Config:
        return self.settings.config

    def __getattr__(self, key: str) -> Any:
        """A key of the Config, so that commands may take `ctx.obj` for one."""
        if key.startswith("_"):
            raise AttributeError(key)
        return getattr(self.config, key)


class Frame(click.Group):
    """A group whose commands are imported when they are used, and which ends as documented."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        with held():
            command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from hl7bridge.config.tree import suggestion

            if args and args[0] not in COMMANDS:
                raise click.UsageError(
                    f"No such command '{args[0]}'{suggestion(args[0], list(COMMANDS))}", ctx
                ) from None
            raise error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _hush()
            ctx.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            ctx.exit(_tell(error, debug=bool(ctx.params.get("debug"))))


def _tell(error: Exception, debug: bool) -> int:
    """One line on standard error; gives the exit code."""
    from hl7bridge.observe.frames import frames, kind

    code = EXIT_FAILED
    if isinstance(error, Hl7BridgeError):
        listed = hasattr(error, "mistakes")  # each line begins with its file then, as editors expect
        click.echo(str(error) if listed else f"hl7bridge: {error}", err=True)
        code = error.exit_code
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"hl7bridge: {where}{error.strerror}", err=True)
        code = EXIT_UNAVAILABLE
    else:
        place = (frames(error) or ["outside hl7bridge"])[-1]
        hint = "" if debug else "; --debug shows more"
        click.echo(f"hl7bridge: internal error: {kind(error)} at {place}; please report it{hint}", err=True)
    if debug:
        click.echo("".join(f"  {line}\n" for line in (kind(error), *frames(error))), err=True, nl=False)
    return code


def _hush() -> None:
    """The reader of our output went away: nothing more can be said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Frame,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  hl7bridge serve
  hl7bridge send samples/adt_a01_admit.hl7
  hl7bridge translate samples/oru_r01_lab_panel.hl7 | jq .
  hl7bridge dlq list

\b
Exit codes:
  0  done
  1  some of it could not be done; each failure was named
  2  wrong command line
  3  the configuration or the tables do not load
  4  a port, a disk or a peer is not there""",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file.  [default: HL7BRIDGE_CONFIG, else ./hl7bridge.yaml, else the defaults]",
)
@click.option("--debug", is_flag=True, help="On an error, show its type and the places in the code.")
@click.version_option(__version__, prog_name="hl7bridge")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, debug: bool) -> None:
    """HL7 v2 over MLLP in, FHIR out.

    Messages are durable before they are acknowledged, translated by YAML tables, delivered to a FHIR endpoint, or put
    among the dead letters, where they can be read, mended and replayed.
    """
    ctx.obj = Shell(config_path, debug)
