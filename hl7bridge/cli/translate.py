"""`hl7bridge translate`: messages to bundles without a daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import tzinfo
from pathlib import Path

import click
import orjson

from hl7bridge import zone as zones
from hl7bridge.errors import EXIT_FAILED, MessageError
from hl7bridge.hl7v2.batch import split
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.translation import Translation, translate

STDIN = "-"
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
def command(
    paths: tuple[str, ...],
    output: Path | None,
    folders: tuple[str, ...],
    settings: tuple[str, ...],
    zone: str | None,
    charset: str | None,
    strict: bool,
    pretty: bool,
) -> None:
    """Translate HL7 v2 messages to FHIR R4 transaction bundles.

    PATH is a file, a directory (every file in it) or - for standard input. A file holds one message or many: bare,
    in MLLP frames or in FHS/BHS batches, with any line ends. Without -o each bundle is one JSON document on standard
    output.

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
    job = _Job(mappings, output, zone, charset, strict, pretty)
    files = list(_files(paths))
    with click.progressbar(files, label="translating", file=sys.stderr, hidden=output is None or len(files) < 2) as bar:
        for file in bar:
            job.file(file)
    job.finish()


class _Job:
    def __init__(
        self, mappings: Mappings, output: Path | None, zone: str | None, charset: str | None, strict: bool, pretty: bool
    ) -> None:
        self.mappings, self.output, self.charset, self.strict = mappings, output, charset, strict
        self.zone = zone_of(zone)
        self.pretty = pretty
        self.translated = self.failed = 0
        self.written: dict[str, str] = {}
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)

    def file(self, name: str) -> None:
        try:
            data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        except OSError as error:
            self._fail(name, None, f"cannot be read: {error.strerror}")
            return
        number = 0
        for piece in split(data):
            number = piece.number
            for problem in piece.problems:
                click.echo(f"{name}: message {number}: note: {problem}", err=True)
            self._message(name, number, piece.raw)
        if number == 0:
            self._fail(name, None, "holds no HL7 v2 message")

    def _message(self, name: str, number: int, raw: bytes) -> None:
        try:
            result = translate(raw, self.mappings, zone=self.zone, charset_fallback=self.charset)
        except MessageError as error:
            where = f" at {error.location}" if error.location else ""
            self._fail(name, number, f"{error}{where}")
            return
        problems = self._second_opinion(result)
        for problem in problems:
            self._fail(name, number, f"--strict: {problem}")
        if self._write(name, number, result) and not problems:
            self.translated += 1

    def _second_opinion(self, result: Translation) -> list[str]:
        if not self.strict:
            return []
        from hl7bridge.fhir.strict import problems

        return problems(result.bundle, self.mappings.conversion is not None)

    def _write(self, name: str, number: int, result: Translation) -> bool:
        bundle = pretty_json(result.bundle) if self.pretty else result.bundle
        if self.output is None:
            sys.stdout.buffer.write(bundle + b"\n")
            return True
        stem = "stdin" if name == STDIN else Path(name).stem
        target = f"{stem}.json" if number == 1 else f"{stem}-{number}.json"
        if self.written.setdefault(target, name) != name:
            self._fail(
                name,
                number,
                f"{target} was already written for {self.written[target]}; translate them into two folders",
            )
            return False
        (self.output / target).write_bytes(bundle + b"\n")
        return True

    def _fail(self, name: str, number: int | None, reason: str) -> None:
        self.failed += 1
        at = f"{name}: message {number}" if number is not None else name
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
