"""`hl7bridge torture`: the cases of hl7bridge.torture against any MLLP receiver, told as a report."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Sequence

import click

from hl7bridge.config import Tls
from hl7bridge.errors import EXIT_FAILED, UnavailableError
from hl7bridge.torture.battery import chosen
from hl7bridge.torture.case import Case, Verdict
from hl7bridge.torture.maker import Maker, Speaker
from hl7bridge.torture.report import announcement, facts, facts_of, lines_of, summary
from hl7bridge.torture.runner import Outcome, Target, Torture, load_of

SECONDS = click.FloatRange(min=0, min_open=True, max=600)
FILE = click.Path(dir_okay=False)
LARGEST = 16 * 1024 * 1024
_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.DIFFERS: "yellow", Verdict.NOT_APPLICABLE: "blue"}


@click.command()
@click.argument("target", required=False, metavar="HOST:PORT")
@click.option("--only", multiple=True, metavar="NAME", help="Cases or sections by name; * stands for anything.")
@click.option("--list", "listed", is_flag=True, help="Name the cases and end; nothing is sent.")
@click.option("--yes", is_flag=True, help="Send, although HOST is another machine.")
@click.option("--verbose", "-v", is_flag=True, help="Say of passed cases too what was sent and what came.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object on standard output.")
@click.option("--type", "type_", default="ADT^A01^ADT_A01", show_default=True, help="MSH-9 of the messages.")
@click.option("--version", default="2.5.1", show_default=True, help="Their MSH-12.")
@click.option("--processing-id", default="T", show_default=True, help="Their MSH-11: T training, D debugging.")
@click.option("--application", default="TORTURE", show_default=True, help="Their MSH-3.")
@click.option("--facility", default="HL7BRIDGE", show_default=True, help="Their MSH-4.")
@click.option("--to-application", default="", help="Their MSH-5.")
@click.option("--to-facility", default="", help="Their MSH-6.")
@click.option(
    "--largest",
    default=1024 * 1024,
    show_default=True,
    type=click.IntRange(1024, LARGEST),
    help="Bytes of the largest message, and of the longest junk.",
)
@click.option("--timeout", default=5.0, show_default=True, type=SECONDS, help="Seconds to wait for an answer.")
@click.option("--quiet", default=1.0, show_default=True, type=SECONDS, help="Seconds to listen where none is due.")
@click.option("--pause", default=0.2, show_default=True, type=SECONDS, help="Seconds between two pieces.")
@click.option("--tls", is_flag=True, help="Speak TLS.")
@click.option("--ca", type=FILE, help="PEM of the authority to trust; default: the machine's.")
@click.option("--certificate", type=FILE, help="PEM of our own certificate.")
@click.option("--key", type=FILE, help="PEM of its key.")
@click.pass_context
def torture(
    ctx: click.Context,
    target: str | None,
    only: tuple[str, ...],
    listed: bool,
    yes: bool,
    verbose: bool,
    as_json: bool,
    type_: str,
    version: str,
    processing_id: str,
    application: str,
    facility: str,
    to_application: str,
    to_facility: str,
    largest: int,
    timeout: float,
    quiet: float,
    pause: float,
    tls: bool,
    ca: str | None,
    certificate: str | None,
    key: str | None,
) -> None:
    """Try how an MLLP receiver bears what senders and networks do to it.

    Each case sends something, good or broken, judges what came back, and looks whether the receiver still answers an
    ordinary message on a new connection. A case passes, fails, differs (another behaviour that is legitimate, and the
    case says why), or is not applicable. What passed is one line, anything else says what was sent, expected and came.

    The messages are synthetic, but the receiver may store them: use it on systems for tests. What will be sent is said
    first, on standard error; for another machine than this one it is only sent with --yes.

    \b
    Examples:
      hl7bridge torture localhost:6661
      hl7bridge torture localhost:6661 --only framing --only 'control-id*' -v
      hl7bridge torture engine-test.example.org:2575 --yes --to-application RIS --json
      hl7bridge torture --list

    Exit codes: 0 no case failed (some may differ), 1 some failed, 2 wrong usage or no --yes, 3 unusable TLS files,
    4 nobody listens there.
    """
    try:
        cases = chosen(only)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if listed:
        _list(cases, as_json, verbose)
        return
    host, port = _address(target)
    texts = (type_, version, processing_id, application, facility, to_application, to_facility)
    if any(not text.isascii() or not text.isprintable() or "|" in text for text in texts):
        raise click.UsageError("the fields of MSH are printable ASCII without |")
    if certificate and not key:
        raise click.UsageError("--certificate needs --key")
    context = None
    if tls or ca or certificate:
        from hl7bridge.tls.contexts import client_context

        context = client_context(Tls(ca=ca, certificate=certificate, key=key))
    speaker = Speaker(
        now=time.strftime("%Y%m%d%H%M%S"),
        prefix=f"T{secrets.token_hex(4).upper()}",
        application=application,
        facility=facility,
        to_application=to_application,
        to_facility=to_facility,
        type=type_,
        version=version,
        processing_id=processing_id,
        largest=largest,
    )
    receiver = Target(host, port, context, timeout=timeout, quiet=quiet, pause=pause, settle=pause)
    click.echo(announcement(receiver.where, load_of(cases, speaker), speaker), err=True)
    if not yes and not _is_this_machine(host):
        raise click.UsageError(f"{host} is another machine: --yes sends this to it")

    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if not as_json:
            first, *more = lines_of(outcome, verbose)
            grade = f"{outcome.judgement.verdict}"
            click.echo(click.style(grade, fg=_COLOURS[outcome.judgement.verdict]) + first[len(grade) :])
            for line in more:
                click.echo(line)

    asyncio.run(Torture(receiver, Maker(speaker)).run(cases, done))
    click.echo(json.dumps(facts(receiver.where, outcomes), indent=2) if as_json else summary(outcomes))
    if any(outcome.judgement.verdict is Verdict.FAIL for outcome in outcomes):
        ctx.exit(EXIT_FAILED)


def _list(cases: Sequence[Case], as_json: bool, verbose: bool) -> None:
    """What --list shows."""
    if as_json:
        click.echo(json.dumps([facts_of(case) for case in cases], indent=2))
        return
    for case in cases:
        click.echo(f"{case.section:<12}  {case.name:<24}  {case.title}")
        if verbose:
            click.echo(f"{'':14}{case.sent} -> {case.expects}")


def _address(target: str | None) -> tuple[str, int]:
    """HOST:PORT; an IPv6 address stands in brackets."""
    host, _, port = (target or "").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError("whom to send to: HOST:PORT, such as localhost:6661")
    return host, int(port)


def _is_this_machine(host: str) -> bool:
    """Every address of that name can be bound here, as only one of this machine can."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        raise UnavailableError(f"{host} has no address") from None
    for family, _, _, _, address in found:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.bind(address)
        except OSError:
            return False
    return True
