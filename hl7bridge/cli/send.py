"""`hl7bridge send`: files over MLLP, each answer checked."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from hl7bridge.cli.inputs import Unusable, messages
from hl7bridge.cli.sending import Job, Options, Tally
from hl7bridge.config import Tls
from hl7bridge.errors import EXIT_FAILED

COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
FILE = click.Path(dir_okay=False)
SHOWN_FAILURES = 50  # lines on standard error; --json has them all


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the listener is.")
@click.option("--port", default=6661, show_default=True, type=click.IntRange(1, 65535), help="Its port.")
@click.option("--rate", type=SECONDS, help="At most this many messages a second.")
@click.option("--repeat", default=1, show_default=True, type=COUNT, help="Send everything N times over.")
@click.option("--connections", default=1, show_default=True, type=COUNT, help="Connections side by side.")
@click.option("--window", default=1, show_default=True, type=COUNT, help="Messages in flight on each.")
@click.option("--timeout", default=30.0, show_default=True, type=SECONDS, help="Seconds to wait for an answer.")
@click.option(
    "--retry-for",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to go on sending a message that gets no answer, as an interface engine would.",
)
@click.option("--mllp2", is_flag=True, help="MLLP Release 2: each message is out when its commit byte came.")
@click.option(
    "--ack-port",
    type=click.IntRange(1, 65535),
    help="Take application ACKs (MSH-16) on this port, and wait for those that are owed.",
)
@click.option("--tls", is_flag=True, help="Speak TLS.")
@click.option("--ca", type=FILE, help="PEM of the authority to trust; default: the machine's.")
@click.option("--certificate", type=FILE, help="PEM of our own certificate.")
@click.option("--key", type=FILE, help="PEM of its key.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object on standard output.")
@click.pass_context
def send(
    ctx: click.Context,
    files: tuple[str, ...],
    host: str,
    port: int,
    rate: float | None,
    repeat: int,
    connections: int,
    window: int,
    timeout: float,
    retry_for: float,
    mllp2: bool,
    ack_port: int | None,
    tls: bool,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Send HL7 v2 messages to an MLLP listener and check each answer.

    FILE is a file, a directory (every file in it) or - for standard input. A file may hold many messages: bare, in MLLP
    frames or in batches; each is sent in a frame of its own. A message counts as accepted when MSA-1 of its answer is
    AA or CA and MSA-2 is its own MSH-10. Messages are dealt out to the connections in turn, and keep their order there.

    \b
    Examples:
      hl7bridge send samples/adt_a01_admit.hl7
      hl7bridge send feed.hl7 --connections 8 --rate 200
      hl7bridge send --host hl7.example.org --port 2575 --tls --ca hospital.pem samples/

    In enhanced mode the answer is the accept ACK (CA). A message that asks for an application ACK too (MSH-16 AL) gets
    it later: on the same connection, or with --ack-port on a connection of its own, which is answered as MSH-15 asks.
    What did not come within --timeout of the last message is a failure.

    \b
    Each message that was not accepted gets a line on standard error, without any value of it:
      feed.hl7: message 7: AR 201 Unsupported event code

    Exit codes: 0 all accepted, 1 some not, 2 wrong usage, 3 unusable TLS files, 4 nobody listens there.
    """
    if certificate and not key:
        raise click.UsageError("--certificate needs --key")
    context = None
    if tls or ca or certificate:
        from hl7bridge.tls.contexts import client_context

        context = client_context(Tls(ca=ca, certificate=certificate, key=key))
    tally = Tally()
    inputs = []
    for item in messages(files):
        if isinstance(item, Unusable):
            tally.unusable(item)
        else:
            inputs.append(item)
    options = Options(host, port, context, rate, repeat, connections, window, timeout, retry_for, mllp2, ack_port)
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=len(inputs) * repeat, label="sending", file=sys.stderr, hidden=hidden) as bar:
        asyncio.run(Job(options, inputs, tally, lambda: bar.update(1)).run())
    if as_json:
        click.echo(json.dumps(tally.facts()))
    else:
        for failure in tally.failures[:SHOWN_FAILURES]:
            click.echo(failure.line(), err=True)
        if len(tally.failures) > SHOWN_FAILURES:
            click.echo(f"… and {len(tally.failures) - SHOWN_FAILURES} more; --json lists them all", err=True)
        click.echo(tally.summary())
    if tally.failures:
        ctx.exit(EXIT_FAILED)
