"""`hl7bridge diff`: what a change of the tables does to real traffic, before it is live."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from hl7bridge.cli.durations import Duration
from hl7bridge.cli.inputs import Input, Unusable, journaled, messages
from hl7bridge.cli.main import Shell
from hl7bridge.cli.terminal import Progress, plain, table
from hl7bridge.cli.translate import CHARSET, ZONE, zone_of
from hl7bridge.errors import EXIT_FAILED, MessageError
from hl7bridge.hl7v2.message import Message, parse
from hl7bridge.lineage import Line
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.mapping.reach import Touched
from hl7bridge.mapping.runtime import Issue
from hl7bridge.mapping.schema import TableSet
from hl7bridge.translation import Built, build, explain
from hl7bridge.workbench.difference import Difference, differences
from hl7bridge.workbench.revisions import Revision, find
from hl7bridge.workbench.traffic import work

EXAMPLES = 3  # control ids shown for each group
TRACED = 2  # messages of a group that each process asks for the row
VALUE_SHOWN = 200  # characters of a value with --values
NO_VERSION = "compared"  # both sides carry it: a bundle that names its tables' version is no difference by that

_COUNTS = re.compile(r"\[\d+\]")  # PID[1]-5[2].1: which segment, which repetition

Group = tuple[str, str]  # kind, path; or what became of the translation, and the reason


@dataclass(slots=True)
class Found:
    """One group: messages, occurrences, examples; `rows`: who wrote it; `values`: of the first example."""

    messages: int = 0
    times: int = 0
    examples: list[str] = field(default_factory=list)
    rows: dict[str, None] = field(default_factory=dict)
    values: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.messages += other.messages
        self.times += other.times
        self.examples = [*self.examples, *other.examples][:EXAMPLES]
        self.rows.update(other.rows)
        self.values = [*self.values, *other.values][:EXAMPLES]


@dataclass(slots=True)
class Result:
    """What was found in some messages; results of later ones are added."""

    messages: int = 0
    skipped: int = 0
    same: int = 0
    differ: int = 0
    refused: int = 0  # by both versions, for the same reason
    groups: dict[Group, Found] = field(default_factory=dict)
    outcomes: dict[Group, Found] = field(default_factory=dict)
    issues: Counter[Issue] = field(default_factory=Counter)  # more of them with the new version; fewer are negative

    def add(self, other: Result) -> None:
        self.messages += other.messages
        self.skipped += other.skipped
        self.same += other.same
        self.differ += other.differ
        self.refused += other.refused
        for mine, theirs in ((self.groups, other.groups), (self.outcomes, other.outcomes)):
            for group, found in theirs.items():
                mine.setdefault(group, Found()).add(found)
        for issue, count in other.issues.items():
            self.issues[issue] += count

    @property
    def is_empty(self) -> bool:
        return not self.groups and not self.outcomes and not any(self.issues.values())


class Comparison:
    """Both versions, ready: a chunk of messages in, a Result out. Forked into each process."""

    def __init__(
        self, old: Revision, new: Revision, zone: tzinfo | None, charset: str | None, *, values: bool, every: bool
    ) -> None:
        from hl7bridge.fhir.model import model

        self.touched = None if every else Touched(old.tables, new.tables)
        fhir = model()
        self._old, self._new = (
            Mappings(dataclasses.replace(revision.tables, version=NO_VERSION), fhir) for revision in (old, new)
        )
        self._zone, self._charset, self._values = zone, charset, values
        self._traced: Counter[Group] = Counter()

    def __call__(self, chunk: list[Input]) -> Result:
        result = Result()
        for message in chunk:
            result.messages += 1
            self._message(message.raw, result)
        return result

    def _message(self, raw: bytes, result: Result) -> None:
        try:
            message = parse(raw, charset_fallback=self._charset)
        except MessageError:
            result.refused += 1  # no table has to do with it
            return
        if self.touched is not None and not self.touched(message):
            result.skipped += 1
            return
        old, new = (self._built(message, mappings) for mappings in (self._old, self._new))
        control_id = plain(message.text(message.header.control_id.decode("utf-8", "replace")))
        if isinstance(old, Built) and isinstance(new, Built):
            self._both(message, old, new, control_id, result)
            return
        before, after = (one.reason.code if isinstance(one, MessageError) else "" for one in (old, new))
        if before == after:
            result.refused += 1
            return
        result.differ += 1
        kind = "begins" if not after else "stops" if not before else "other reason"
        group = (kind, f"{before} -> {after}" if before and after else before or after)
        result.outcomes.setdefault(group, Found()).add(Found(1, 1, [control_id]))

    def _built(self, message: Message, mappings: Mappings) -> Built | MessageError:
        try:
            return build(message, mappings, self._zone)
        except MessageError as error:
            return error

    def _both(self, message: Message, old: Built, new: Built, control_id: str, result: Result) -> None:
        found = differences(old.bundle, new.bundle)
        changed = dict(new.issues) != dict(old.issues)
        if changed:
            counts = Counter(new.issues)
            counts.subtract(old.issues)
            result.issues.update(counts)
        if not found and not changed:
            result.same += 1
            return
        result.differ += 1
        here: dict[Group, Found] = {}
        lines: dict[int, Sequence[Line]] = {}
        for difference in found:
            group: Group = (difference.kind, difference.path)
            one = here.setdefault(group, Found(1, 0, [control_id]))
            one.times += 1
            if self._values and not one.values:
                one.values.append((_shown(difference.old), _shown(difference.new)))
            if one.times == 1 and self._traced[group] < TRACED:
                self._traced[group] += 1
                mappings = self._old if difference.kind == "removed" else self._new
                if id(mappings) not in lines:
                    lines[id(mappings)] = explain(message, mappings, self._zone).elements
                row = _row(difference, lines[id(mappings)])
                one.rows.update({row: None} if row else {})
        for group, one in here.items():
            result.groups.setdefault(group, Found()).add(one)


def _row(difference: Difference, lines: Sequence[Line]) -> str:
    """The row that wrote it: the one of the element itself, else the first below it, else the nearest above."""
    at = difference.at
    exact = [line for line in lines if line.path == at]
    below = [line for line in lines if line.path.startswith((f"{at}.", f"{at}["))]
    above = [line for line in lines if at.startswith((f"{line.path}.", f"{line.path}["))]
    for line in (*exact[-1:], *below[:1], *above[-1:]):
        return f"{_COUNTS.sub('', line.source)} {line.place}"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return plain(text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 1] + "…")


@click.command()
@click.argument("paths", nargs=-1, metavar="[FEED...]")
@click.option("--old", multiple=True, required=True, metavar="REF", help="The tables to compare with; see below.")
@click.option("--new", multiple=True, required=True, metavar="DIR", help="The tables you mean to activate.")
@click.option("--alone", is_flag=True, help="Folders are whole tables, not laid over the shipped ones.")
@click.option("--journal", type=Duration(), metavar="SPAN", help="Also the journal's messages of the last 7d, 12h …")
@ZONE
@CHARSET
@click.option("--values", is_flag=True, help="Show an example of the values, which are patient data.")
@click.option("--every", is_flag=True, help="Translate every message, also those that nothing changed can touch.")
@click.option("--processes", type=click.IntRange(1), help="How many work at once; default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.pass_obj
def diff(
    shell: Shell,
    paths: tuple[str, ...],
    old: tuple[str, ...],
    new: tuple[str, ...],
    alone: bool,
    journal: float | None,
    zone: str | None,
    charset: str | None,
    values: bool,
    every: bool,
    processes: int | None,
    as_json: bool,
) -> None:
    """Translate traffic with two versions of the tables and show what differs, by FHIR path.

    FEED is a file, a directory or - for standard input; files may be compressed. REF and DIR are folders laid over the
    shipped tables (repeat the option for several), or `shipped`. REF may also be a version that was activated
    (`active`, or as `mappings versions` lists it) or a git commit, branch or tag: the folders of --new as they were
    then. A message in which nothing that changed can play a part is not translated.

    Shown are paths, counts and control ids (MSH-10), and the row that wrote the value; never a value without --values.

    \b
    Examples:
      hl7bridge diff --old active --new sites/north feed.hl7.xz
      hl7bridge diff --old HEAD --new sites/north feed/
      hl7bridge diff --old shipped --new sites/north --journal 7d

    Exit codes: 0 no differences, 1 differences, 2 wrong usage, 3 the tables do not load.
    """
    if not paths and journal is None:
        raise click.UsageError("give a FEED, or --journal SPAN")
    began = time.monotonic()
    beside = [Path(word) for word in new if Path(word).is_dir()]
    before = find(old, beside, lambda word: _stored(shell, word), alone=alone)
    after = find(new, [], lambda word: _stored(shell, word), alone=alone)
    comparison = Comparison(before, after, zone_of(zone), charset, values=values, every=every)
    result, unusable = Result(), 0

    def feed() -> Iterator[Input]:
        nonlocal unusable
        kept = journaled(shell.config, journal) if journal is not None else ()
        for found in itertools.chain(messages(paths), kept):
            if isinstance(found, Unusable):
                unusable += 1
                click.echo(f"{found.name}: {found.why}", err=True)
            else:
                yield found

    with Progress("compared") as progress:
        for part in work(comparison, feed(), processes=processes):
            result.add(part)
            progress.at(result.messages)
    took = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(_document(before, after, result, took, values), indent=1, ensure_ascii=False))
    else:
        _tell(before, after, result, took, values)
    if unusable or not result.messages:
        click.echo("nothing was compared" if not result.messages else f"{unusable} files could not be read", err=True)
        sys.exit(2)
    if not result.is_empty:
        sys.exit(EXIT_FAILED)


def _stored(shell: Shell, word: str) -> TableSet | None:
    """The tables of an activated version. The configuration is asked only where a word is nothing else."""
    from hl7bridge.service.activation import general
    from hl7bridge.service.versions import Versions

    version = Versions(shell.config.journal.path).find(word)
    return general(version) if version is not None else None


def _tell(before: Revision, after: Revision, result: Result, took: float, values: bool) -> None:
    for which, tables in (("old", before), ("new", after)):
        version = f"version {tables.tables.version}"
        click.echo(f"{which}: {version if tables.name == version else f'{tables.name}, {version}'}")
    messages_ = f"{result.messages:,} message{'s' * (result.messages != 1)}"
    click.echo(
        f"{messages_} in {took:.1f} s: {result.differ:,} differ, {result.same:,} same,"
        f" {result.skipped:,} skipped (no change can touch them)"
        + (f", {result.refused:,} translated by neither" if result.refused else "")
    )
    if result.outcomes:
        rows = [("", "TRANSLATION", "REASON", "MESSAGES", "EXAMPLES")]
        for (kind, reason), found in _largest(result.outcomes):
            rows.append(("", kind, reason, f"{found.messages:,}", ", ".join(found.examples)))
        click.echo("\n" + table([row[1:] for row in rows]))
    if result.groups:
        lines: list[tuple[str, ...]] = [("CHANGE", "PATH", "MESSAGES", "TIMES", "EXAMPLES", "ROW")]
        for (kind, path), found in _largest(result.groups):
            row = next(iter(found.rows), "")
            lines.append((kind, path, f"{found.messages:,}", f"{found.times:,}", ", ".join(found.examples), row))
            if values and found.values:
                was, now = found.values[0]
                lines += [("", f"  - {was}", "", "", "", "")] * bool(was) + [("", f"  + {now}", "", "", "", "")] * bool(
                    now
                )
        click.echo("\n" + _columns(lines))
    changed = sorted((issue, count) for issue, count in result.issues.items() if count)
    if changed:
        rows_ = [("ISSUE", "TABLE", "FIELD", "MORE OR FEWER")]
        rows_ += [(issue.kind, issue.table, issue.source, f"{count:+,}") for issue, count in changed]
        click.echo("\n" + table(rows_))
    if result.is_empty:
        click.echo("no differences")


def _columns(lines: list[tuple[str, ...]]) -> str:
    """A table in which example values stand on lines of their own, whatever their length."""
    shown = iter(table([line for line in lines if line[0]]).splitlines())
    return "\n".join(next(shown) if line[0] else f"  {line[1]}" for line in lines)


def _largest(groups: dict[Group, Found]) -> list[tuple[Group, Found]]:
    return sorted(groups.items(), key=lambda item: (-item[1].messages, item[0][1], item[0][0]))


def _document(before: Revision, after: Revision, result: Result, took: float, values: bool) -> dict[str, Any]:
    return {
        "old": {"name": before.name, "version": before.tables.version},
        "new": {"name": after.name, "version": after.tables.version},
        "seconds": round(took, 3),
        "messages": result.messages,
        "differ": result.differ,
        "same": result.same,
        "skipped": result.skipped,
        "translated_by_neither": result.refused,
        "translations": [
            {"change": kind, "reason": reason, "messages": found.messages, "examples": found.examples}
            for (kind, reason), found in _largest(result.outcomes)
        ],
        "differences": [
            {
                "change": kind,
                "path": path,
                "messages": found.messages,
                "times": found.times,
                "examples": found.examples,
                "rows": list(found.rows),
                **({"values": [{"old": was, "new": now} for was, now in found.values]} if values else {}),
            }
            for (kind, path), found in _largest(result.groups)
        ],
        "issues": [
            {"issue": issue.kind, "table": issue.table, "field": issue.source, "change": count}
            for issue, count in sorted(result.issues.items())
            if count
        ],
    }
