"""`hl7bridge config check|show` and `hl7bridge completion`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hl7bridge.cli.main import Shell, cli

if TYPE_CHECKING:
    from hl7bridge.config.describe import Effective


@click.group()
def config() -> None:
    """Check the configuration, show what is in effect.

    \b
    Examples:
      hl7bridge config check
      hl7bridge --config site.yaml config show --changed
    """


@config.command()
@click.pass_obj
def check(shell: Shell) -> None:
    """Read file and environment and name every mistake, with its line.

    Looks at nothing outside the configuration but folders of tables; `hl7bridge doctor` tries the rest. Exit code 3
    when something is wrong.

    \b
    Examples:
      hl7bridge config check
      HL7BRIDGE_FHIR__BASE_URL=https://fhir.example/r4 hl7bridge config check
    """
    settings = shell.settings
    source = settings.file or "no file: the defaults and the environment"
    click.echo(f"ok: {source}, {len(settings.config.listeners)} listener(s), to {settings.config.fhir.base_url}")


@config.command()
@click.option("--changed", is_flag=True, help="Only what is not a default.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def show(shell: Shell, changed: bool, as_json: bool) -> None:
    """Every key in effect, with where its value came from.

    Secrets are shown as the references they are, other request headers not at all.

    \b
    Examples:
      hl7bridge config show
      hl7bridge config show --changed
      hl7bridge config show --json | jq -r '.[] | select(.key | startswith("fhir")) | .value'
    """
    from hl7bridge.config.describe import describe

    rows = [row for row in describe(shell.settings) if not changed or row.origin != "default"]
    rows += _active(shell)
    if as_json:
        click.echo(json.dumps([{"key": row.key, "value": row.value, "origin": row.origin} for row in rows], indent=1))
        return
    width = max((len(row.key) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row.key:{width}}  {row.value}  ({row.origin})")


def _active(shell: Shell) -> list[Effective]:
    """Which tables serve is not decided here once a version is active: said beside the keys it stands over."""
    from hl7bridge.config.describe import Effective
    from hl7bridge.errors import UnavailableError
    from hl7bridge.service.activation import told
    from hl7bridge.service.versions import Versions

    store = Versions(shell.config.journal.path)
    try:
        active = store.active()
    except UnavailableError as error:
        return [Effective("mappings (active)", str(error), str(store.path))]
    if active is None:
        return []
    text = f"{told(active.version, active)}; decides over mappings.* and every overlays"
    return [Effective("mappings (active)", text, str(store.path / "active.json"))]


@click.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish.

    \b
    Examples:
      hl7bridge completion bash > ~/.local/share/bash-completion/completions/hl7bridge
      hl7bridge completion zsh > "${fpath[1]}/_hl7bridge"
      hl7bridge completion fish > ~/.config/fish/completions/hl7bridge.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell_name)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell_name}")
    script = kind(cli, {}, "hl7bridge", "_HL7BRIDGE_COMPLETE")
    click.echo(script.source_template % script.source_vars())
