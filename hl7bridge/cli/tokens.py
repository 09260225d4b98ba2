"""`hl7bridge tokens`: the identifier behind a token, which is recorded, and the token of an identifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hl7bridge.cli.messages import operator_name, run_with_journal
from hl7bridge.config import Config
from hl7bridge.errors import ConfigError

if TYPE_CHECKING:
    from hl7bridge.fhir.tokens import Tokens
    from hl7bridge.journal.sqlite import SqliteJournal

_SYSTEM = click.option(
    "--system", required=True, metavar="URI", help="The identifier's system, as it stands beside the token."
)


@click.group()
def tokens() -> None:
    """Tokens that stand for identifiers at the endpoint (tokens.key).

    \b
    Examples:
      hl7bridge tokens reveal tok1-4kf2… --system urn:oid:2.16.840.1.113883.19.5
      hl7bridge tokens make 12345 --system urn:oid:2.16.840.1.113883.19.5
    """


@tokens.command()
@click.argument("token")
@_SYSTEM
@click.pass_obj
def reveal(config: Config, token: str, system: str) -> None:
    """Print the identifier behind TOKEN.

    It is patient data: who asked is recorded in the audit, under the name of the operating system's user, before
    anything is printed.

    \b
    Examples:
      hl7bridge tokens reveal tok1-4kf2… --system urn:oid:2.16.840.1.113883.19.5
    """
    from hl7bridge.fhir.tokens import NoToken

    made = _tokens(config)
    try:
        value = made.reveal(system, token)
    except NoToken as error:
        raise click.ClickException(str(error)) from None

    async def record(journal: SqliteJournal) -> None:
        await journal.audit(operator_name(), "reveal token", token, f"of {system}")

    run_with_journal(config, record)
    click.echo(f"This access to patient data was recorded in the audit for {operator_name()}.", err=True)
    click.echo(value)


@tokens.command()
@click.argument("value")
@_SYSTEM
@click.pass_obj
def make(config: Config, value: str, system: str) -> None:
    """Print the token of the identifier VALUE, to look for it at the endpoint.

    \b
    Examples:
      hl7bridge tokens make 12345 --system urn:oid:2.16.840.1.113883.19.5
    """
    click.echo(_tokens(config).token(system, value))


def _tokens(config: Config) -> Tokens:
    from hl7bridge.service.tablesets import open_tokens

    try:
        made = open_tokens(config.tokens)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    if made is None:
        raise click.ClickException("no tokens are made here: tokens.key is not set")
    return made
