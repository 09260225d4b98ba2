"""`hl7bridge coverage`: what a feed, or the journal's last days, hold and the tables do not take. Counts only."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import click

from hl7bridge.cli.inputs import Input, Unusable, journaled, messages
from hl7bridge.cli.terminal import table
from hl7bridge.cli.translate import CHARSET, SET, TABLES, ZONE, settings_of, zone_of
from hl7bridge.config import Config
from hl7bridge.errors import EXIT_FAILED, PeerError
from hl7bridge.hl7v2.definitions import load_definitions
from hl7bridge.hl7v2.header import read_header
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.mapping.schema import Place
from hl7bridge.workbench.coverage import (
    ENOUGH,
    Counting,
    Counts,
    Coverage,
    Reachable,
    merged,
    named_codes,
    reachable,
    total,
)
from hl7bridge.workbench.traffic import work

DAY = 86400.0
LISTED = 25  # lines of each list unless --all
AT_ONCE = 250  # messages a process gets at a time: its answer is as large for one message as for many
Choice = Callable[[Input], tuple[Mappings, tzinfo | None, str | None]]


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--journal", is_flag=True, help="The messages of the configured journal, each with its sender's tables.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="With --journal: only the last so many days.")
@click.option(
    "--fail-below",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="End with exit code 1 when a smaller share of the populated fields is read.",
)
@click.option(
    "--codes-from",
    "enough",
    type=click.IntRange(min=1),
    default=ENOUGH,
    show_default=True,
    help="Name a code only when it is in so many messages.",
)
@click.option("--rows", is_flag=True, help="List every row that never fired, not only how many a table has.")
@click.option("--all", "everything", is_flag=True, help=f"All lines of each list, not only the first {LISTED}.")
@TABLES
@SET
@ZONE
@CHARSET
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.pass_obj
def command(
    config: Config,
    paths: tuple[str, ...],
    journal: bool,
    days: float | None,
    fail_below: float | None,
    enough: int,
    rows: bool,
    everything: bool,
    folders: tuple[str, ...],
    settings: tuple[str, ...],
    zone: str | None,
    charset: str | None,
    as_json: bool,
) -> None:
    """Count what a feed holds and the tables do not take, by sender and message type.

    Populated fields that no row reads, with the reason; codes that no code table maps; rows that never fired. PATH is
    a file (.gz, .bz2, .xz too), a directory or - for standard input; --journal takes the configured journal instead,
    beside a running daemon. Every field counts each time it is populated; a row reads it when it makes a value of it
    or, for the sake of another field, compares it in its condition.

    Values are never printed. A code is named when it looks like one (at most 12 letters, digits and . _ / + -, and not
    six or more digits alone) and is in enough messages; others are only counted.

    \b
    Examples:
      hl7bridge coverage feed.hl7.xz
      hl7bridge coverage feed/ --tables sites/north --fail-below 80
      hl7bridge coverage --journal --days 7 --json | jq '.senders[] | {sender, type, share}'

    Exit codes: 0 counted, 1 the share is below --fail-below or a file could not be read, 2 wrong usage, 3 the tables do
    not load, 4 there is no journal.
    """
    if journal == bool(paths):
        raise click.UsageError("give PATHs or --journal, one of them")
    if days is not None and not journal:
        raise click.UsageError("--days belongs to --journal")
    sets, choice = _journal_tables(config) if journal else _tables(folders, settings, zone, charset)
    source = journaled(config, days * DAY if days else None) if journal else messages(paths)
    unusable: list[Unusable] = []
    coverage = _counted(_usable(source, unusable), sets, choice)
    report = Report(coverage, sets, enough)
    if as_json:
        click.echo(json.dumps(report.document(), indent=1, ensure_ascii=False))
    else:
        report.show(None if everything else LISTED, rows)
    for item in unusable:
        click.echo(f"{item.name}: {item.why}", err=True)
    share = report.whole.share
    if fail_below is not None and share < fail_below:
        click.echo(f"failed: {share:.2f} % of the populated fields are read, not {fail_below:g} %", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    if unusable:
        raise click.exceptions.Exit(EXIT_FAILED)


def _tables(
    folders: tuple[str, ...], settings: tuple[str, ...], zone: str | None, charset: str | None
) -> tuple[list[Mappings], Choice]:
    mappings, place = load_mappings(*folders, settings=settings_of(settings)), zone_of(zone)
    return [mappings], lambda item: (mappings, place, charset)


def _journal_tables(config: Config) -> tuple[list[Mappings], Choice]:
    """Each message with the tables its listener and sender have now."""
    from hl7bridge.service.tablesets import TableSets

    sets = TableSets(config)

    def choose(item: Input) -> tuple[Mappings, tzinfo | None, str | None]:
        try:
            setting = sets.setting(item.listener, read_header(item.raw))
        except PeerError:
            setting = sets.general
        return setting.mappings, setting.zone, setting.charset_fallback

    return list(sets.sets.values()), choose


def _usable(source: Iterable[Input | Unusable], unusable: list[Unusable]) -> Iterator[Input]:
    for item in source:
        if isinstance(item, Unusable):
            unusable.append(item)
        else:
            yield item


def _counted(items: Iterable[Input], sets: list[Mappings], choice: Choice) -> Coverage:
    """In several processes where there is enough to do; a line tells how far it is when somebody looks on."""
    definitions = load_definitions()
    for mappings in sets:
        _ = mappings.traced_plans  # compiled here, so that the processes share it

    def count(chunk: list[Input]) -> Coverage:
        counting = Counting(definitions)
        for item in chunk:
            counting.message(item.raw, *choice(item))
        return dict(counting.coverage)

    return merged(_told(work(count, items, at_once=AT_ONCE)))


def _told(parts: Iterator[Coverage]) -> Iterator[Coverage]:
    done, begun, shown = 0, time.monotonic(), sys.stderr.isatty()
    for part in parts:
        done += sum(counts.messages for counts in part.values())
        if shown:
            click.echo(f"\r{done} messages, {done / (time.monotonic() - begun):.0f} a second ", err=True, nl=False)
        yield part
    if shown and done:
        click.echo("\r" + " " * 50 + "\r", err=True, nl=False)


@dataclass(frozen=True, slots=True)
class Unread:
    """A field of one sender that no row reads: how often, of how many, in which types, and the reason."""

    sender: str
    field: str
    times: int
    of: int
    types: tuple[str, ...]
    why: str
    row: str


class Report:
    """The counts for people and for machines."""

    def __init__(self, coverage: Coverage, sets: list[Mappings], enough: int) -> None:
        self.coverage = dict(sorted(coverage.items()))
        self.whole = total(coverage)
        self._sets, self._enough = sets, enough
        self._rows = self._reachable(self.whole)
        shown, self._hidden = named_codes(self.whole.codes, enough)
        self._codes = {(name, code) for name, code, _ in shown}

    def _reachable(self, counts: Counts) -> list[Reachable]:
        found: dict[Place, Reachable] = {}
        for mappings in self._sets:
            found |= {row.place: row for row in reachable(mappings.tables, counts.structures)}
        return [found[place] for place in sorted(found)]

    # ---- for people ----

    def show(self, limit: int | None, rows: bool) -> None:
        click.echo(table([_HEAD, *self._groups()]))
        unread = self._unread()
        if unread:
            click.echo("\nPopulated fields that no row reads:")
            lines = [
                (u.sender, u.field, str(u.times), str(u.of), _few(u.types), u.why, _short(u.row))
                for u in unread[:limit]
            ]
            click.echo(table([("SENDER", "FIELD", "TIMES", "OF", "TYPES", "WHY", "TABLE"), *lines]))
            _more(len(unread), limit)
        self._show_codes(limit)
        self._show_rows(limit, rows)

    def _groups(self) -> Iterator[tuple[str, ...]]:
        for (sender, type_), counts in self.coverage.items():
            yield (sender or "(none)", type_ or "(unreadable)", *_figures(counts))
        if len(self.coverage) > 1:
            yield ("all", "", *_figures(self.whole))

    def _unread(self) -> list[Unread]:
        times: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        of: Counter[tuple[str, str]] = Counter()
        why: dict[tuple[str, str], tuple[str, str]] = {}
        for (sender, type_), counts in self.coverage.items():
            for name, count in counts.unread.items():
                times[sender, name][type_] += count
                reason = counts.why[name]
                why.setdefault((sender, name), (f"{reason.kind}: {reason.text}", reason.place))
            for name, count in counts.fields.items():
                of[sender, name] += count
        found = [
            Unread(key[0], key[1], types.total(), of[key], tuple(t for t, _ in types.most_common()), *why[key])
            for key, types in times.items()
        ]
        return sorted(found, key=lambda one: (-one.times, one.sender, one.field))

    def _show_codes(self, limit: int | None) -> None:
        codes = self._named(self.whole)
        if not self.whole.codes:
            return
        click.echo("\nCodes that no table maps, and in how many messages:")
        if codes:
            click.echo(table([("CODE TABLE", "CODE", "MESSAGES"), *((t, c, str(n)) for t, c, n in codes[:limit])]))
            _more(len(codes), limit)
        if self._hidden:
            others = "others are" if self._hidden > 1 else "other is"
            click.echo(f"{self._hidden} {others} not named: rarer than {self._enough} messages, or no code by its form")

    def _show_rows(self, limit: int | None, rows: bool) -> None:
        never = [row for row in self._rows if row.place not in self.whole.rows]
        click.echo(f"\nRows that never fired: {len(never)} of the {len(self._rows)} that these messages could reach")
        if rows:
            click.echo(table([("TABLE", "ROW", "PLACE"), *((r.table, r.key, _short(str(r.place))) for r in never)]))
            return
        silent, have = Counter(row.table for row in never), Counter(row.table for row in self._rows)
        lines = [(name, str(count), str(have[name])) for name, count in silent.most_common(limit)]
        if lines:
            click.echo(table([("TABLE", "NEVER FIRED", "OF"), *lines]))
            _more(len(silent), limit)

    def _named(self, counts: Counts) -> list[tuple[str, str, int]]:
        """Codes that may be named because they are in enough messages of the whole feed."""
        found = named_codes(counts.codes, 1)[0]
        return [one for one in found if (one[0], one[1]) in self._codes]

    # ---- for machines ----

    def document(self) -> dict[str, Any]:
        never = [row for row in self._rows if row.place not in self.whole.rows]
        return {
            **self._summary(self.whole),
            "senders": [
                {"sender": sender, "type": type_, **self._summary(counts), **self._details(counts)}
                for (sender, type_), counts in self.coverage.items()
            ],
            "rows_never_fired": [{"table": r.table, "row": r.key, "place": str(r.place)} for r in never],
        }

    def _summary(self, counts: Counts) -> dict[str, Any]:
        rows = self._reachable(counts)
        return {
            "messages": counts.messages,
            "refused": dict(sorted(counts.refused.items())),
            "fields": counts.fields.total(),
            "read": counts.fields.total() - counts.unread.total(),
            "share": round(counts.share, 2),
            "codes_unmapped": len(counts.codes),
            "rows": len(rows),
            "rows_fired": sum(row.place in counts.rows for row in rows),
        }

    def _details(self, counts: Counts) -> dict[str, Any]:
        return {
            "not_read": [
                {
                    "field": name,
                    "times": count,
                    "of": counts.fields[name],
                    "why": counts.why[name].kind,
                    "text": counts.why[name].text,
                    "place": counts.why[name].place,
                }
                for name, count in sorted(counts.unread.items(), key=lambda item: (-item[1], item[0]))
            ],
            "codes": [{"table": t, "code": c, "messages": n} for t, c, n in self._named(counts)],
            "rows_silent": [str(row.place) for row in self._reachable(counts) if row.place not in counts.rows],
        }


_HEAD = ("SENDER", "TYPE", "MESSAGES", "REFUSED", "FIELDS", "NOT READ", "READ", "CODES")


def _figures(counts: Counts) -> tuple[str, ...]:
    refused = ", ".join(f"{count} {code}" for code, count in counts.refused.most_common())
    populated, unread = counts.fields.total(), counts.unread.total()
    share = f"{counts.share:.1f} %" if populated else "-"
    return (str(counts.messages), refused or "-", str(populated), str(unread), share, str(len(counts.codes)))


def _few(types: tuple[str, ...]) -> str:
    return ", ".join(types[:3]) + (f" and {len(types) - 3} more" if len(types) > 3 else "")


def _short(place: str) -> str:
    return place.removeprefix("mappings/")


def _more(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        click.echo(f"and {count - limit} more, with --all")
