"""`hl7bridge endpoint key|jwks|check`: what the FHIR endpoint's people need of us, and whether they have it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hl7bridge.cli.main import Shell
from hl7bridge.errors import EXIT_UNAVAILABLE, ConfigError

if TYPE_CHECKING:
    from hl7bridge.delivery.assertion import Key


@click.group()
def endpoint() -> None:
    """Keys for the FHIR endpoint (SMART Backend Services); try its authentication.

    \b
    Examples:
      hl7bridge endpoint key /etc/hl7bridge/smart.pem
      hl7bridge endpoint jwks > jwks.json
      hl7bridge endpoint check
    """


@endpoint.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--type", "kind", type=click.Choice(["ec", "rsa"]), default="ec", show_default=True, help="ES384 or RS384."
)
@click.pass_obj
def key(_shell: Shell, file: Path, kind: str) -> None:
    """Make a private key and write it to FILE, readable by this user only.

    A file that is there is never replaced. To rotate: make a new key, add it to fhir.smart.keys behind the old one,
    publish `hl7bridge endpoint jwks`, wait until the server has read it, put the new one first, and later remove the
    old one. The daemon reads the first key's file for each token; a changed list needs a restart.

    \b
    Examples:
      hl7bridge endpoint key /etc/hl7bridge/smart.pem
      hl7bridge endpoint key --type rsa /etc/hl7bridge/smart-2026.pem
    """
    from hl7bridge.delivery.assertion import new_key, read_key

    pem = new_key("rsa" if kind == "rsa" else "ec")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(pem)
    made = read_key(pem.decode(), str(file))
    click.echo(f"{made.alg} {made.kid}")
    click.echo(f"next: fhir.smart.keys: [file:{file}], then publish `hl7bridge endpoint jwks`", err=True)


@endpoint.command()
@click.pass_obj
def jwks(shell: Shell) -> None:
    """Print the public keys of fhir.smart.keys as a JWK Set, for registration or to be served.

    \b
    Examples:
      hl7bridge endpoint jwks > jwks.json
      hl7bridge endpoint jwks | jq -r .keys[].kid
    """
    from hl7bridge.delivery.assertion import jwks as published

    click.echo(json.dumps(published(_keys(shell)), indent=2))


@endpoint.command()
@click.pass_obj
def check(shell: Shell) -> None:
    """Ask for a token and for /metadata with it, as the daemon would; exit code 4 where that fails.

    \b
    Examples:
      hl7bridge endpoint check
    """
    from hl7bridge.cli.doctor import tell
    from hl7bridge.examine.endpoint import endpoint as examined

    if tell(asyncio.run(examined(shell.config))):
        raise click.exceptions.Exit(EXIT_UNAVAILABLE)


def _keys(shell: Shell) -> list[Key]:
    from hl7bridge.config import secret
    from hl7bridge.delivery.assertion import read_key

    smart = shell.config.fhir.smart
    if smart is None:
        raise ConfigError(["fhir.smart is not set: see docs/configuration.md"])
    return [
        read_key(secret(reference.get_secret_value()), f"fhir.smart.keys.{index}")
        for index, reference in enumerate(smart.keys)
    ]
