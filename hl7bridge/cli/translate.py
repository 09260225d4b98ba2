"""`hl7bridge translate`: messages to bundles without a daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

import click
import orjson

from hl7bridge import zone as zones
from hl7bridge.cli.inputs import STDIN, Input, Unusable, messages
from hl7bridge.cli.terminal import Progress
from hl7bridge.errors import EXIT_FAILED, MessageError
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.translation import Translation, translate
from hl7bridge.workbench.traffic import work

AT_ONCE = 20  # messages a process gets at a time: their bundles come back together
TABLES = click.option(
    "--tables",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Tables laid over the shipped ones; repeatable.",
)
SET = click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of mappings/options.yaml."
)
ZONE = click.option(
    "--zone",
    metavar="NAME",
    help="Zone of times without an offset (Europe/Vienna); default: the tables' time-zone option.",
)
CHARSET = click.option(
    "--charset", metavar="CODEC", help="For bytes that do not fit what MSH-18 declares, e.g. cp1252."
)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write DIR/<stem>.json, <stem>-2.json …"
)
@TABLES
@SET
@ZONE
@CHARSET
@click.option("--strict", is_flag=True, help="Also check each bundle with the models of fhir.resources (slow).")
@click.option("--pretty", is_flag=True, help="Indented JSON.")
@click.option("--processes", type=click.IntRange(1), help="How many work at once; default: one a core.")
def command(
    paths: tuple[str, ...],
    output: Path | None,
    folders: tuple[str, ...],
    settings: tuple[str, ...],
    zone: str | None,
    charset: str | None,
    strict: bool,
    pretty: bool,
    processes: int | None,
) -> None:
    """Translate HL7 v2 messages to FHIR R4 transaction bundles.

    PATH is a file, a directory (every file in it) or - for standard input. A file holds one message or many: bare,
    in MLLP frames or in FHS/BHS batches, with any line ends; it may be compressed (.gz, .bz2, .xz). Without -o each
    bundle is one JSON document on standard output, in the order of the messages.

    \b
    Examples:
      hl7bridge translate samples/adt_a01_admit.hl7 --pretty
      hl7bridge translate feed/ -o bundles/
      cat feed.hl7 | hl7bridge translate - | jq .entry[].resource.resourceType

    A message that cannot be translated gets one line on standard error (file, message number, reason); the others go
    on.
    Exit codes: 0 all translated, 1 some failed, 2 wrong usage, 3 the tables do not load.
    """
    mappings = load_mappings(*folders, settings=settings_of(settings))
    translating = Translating(mappings, zone_of(zone), charset, strict=strict, pretty=pretty)
    results = _Results(output)
    found = (message for file in _files(paths) for message in messages([file]))
    with Progress("translated") as progress:
        for part in work(translating, found, processes=processes, at_once=AT_ONCE):
            for outcome in part:
                results.take(outcome)
            if output is not None:  # else it would stand between the bundles
                progress.at(results.translated)
    results.finish()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message, or of a file that gave none (number 0). Of a message that failed: no bundle."""

    name: str
    number: int
    bundle: bytes = field(default=b"", repr=False)
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Translating:
    """Messages in, outcomes out, in their order. Forked into each process."""

    def __init__(
        self, mappings: Mappings, zone: tzinfo | None, charset: str | None, *, strict: bool, pretty: bool
    ) -> None:
        self._mappings, self._zone, self._charset = mappings, zone, charset
        self._strict, self._pretty = strict, pretty

    def __call__(self, chunk: list[Input | Unusable]) -> list[Outcome]:
        return [
            Outcome(found.name, 0, failures=(found.why,)) if isinstance(found, Unusable) else self._message(found)
            for found in chunk
        ]

    def _message(self, message: Input) -> Outcome:
        try:
            result = translate(message.raw, self._mappings, zone=self._zone, charset_fallback=self._charset)
        except MessageError as error:
            where = f" at {error.location}" if error.location else ""
            return Outcome(message.name, message.number, failures=(f"{error}{where}",), notes=message.problems)
        bundle = pretty_json(result.bundle) if self._pretty else result.bundle
        failures = tuple(f"--strict: {problem}" for problem in self._second_opinion(result))
        return Outcome(message.name, message.number, bundle, failures, message.problems)

    def _second_opinion(self, result: Translation) -> list[str]:
        if not self._strict:
            return []
        from hl7bridge.fhir.strict import problems

        return problems(result.bundle, self._mappings.conversion is not None)


class _Results:
    """Where the bundles go, and what is told of the others."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        self.translated = self.failed = 0
        self.written: dict[str, str] = {}
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)

    def take(self, outcome: Outcome) -> None:
        for note in outcome.notes:
            click.echo(f"{outcome.name}: message {outcome.number}: note: {note}", err=True)
        for failure in outcome.failures:
            self._fail(outcome, failure)
        if outcome.bundle and self._write(outcome) and not outcome.failures:
            self.translated += 1

    def _write(self, outcome: Outcome) -> bool:
        if self.output is None:
            sys.stdout.buffer.write(outcome.bundle + b"\n")
            return True
        stem = "stdin" if outcome.name == STDIN else Path(outcome.name).stem
        target = f"{stem}.json" if outcome.number == 1 else f"{stem}-{outcome.number}.json"
        if self.written.setdefault(target, outcome.name) != outcome.name:
            first = self.written[target]
            self._fail(outcome, f"{target} was already written for {first}; translate them into two folders")
            return False
        (self.output / target).write_bytes(outcome.bundle + b"\n")
        return True

    def _fail(self, outcome: Outcome, reason: str) -> None:
        self.failed += 1
        at = f"{outcome.name}: message {outcome.number}" if outcome.number else outcome.name
        click.echo(f"{at}: {reason}", err=True)

    def finish(self) -> None:
        if self.output is not None:
            click.echo(f"{self.translated} translated into {self.output}, {self.failed} failed", err=True)
        if self.failed:
            sys.exit(EXIT_FAILED)


def pretty_json(document: bytes) -> bytes:
    """Indented, every number with the digits it had."""
    return orjson.dumps(json.loads(document, parse_float=orjson.Fragment), option=orjson.OPT_INDENT_2)


def _files(paths: tuple[str, ...]) -> Iterator[str]:
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            yield from sorted(str(p) for p in Path(path).rglob("*") if p.is_file() and not p.name.startswith("."))
        else:
            yield path


def zone_of(name: str | None) -> tzinfo | None:
    """What --zone names. Raises BadParameter."""
    try:
        return zones.named(name) if name else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--zone") from None


def settings_of(texts: tuple[str, ...]) -> dict[str, str]:
    """What --set says, by option. Raises BadParameter."""
    return dict(_setting(text) for text in texts)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not OPTION=VALUE", param_hint="--set")
    return name.strip(), value.strip()
