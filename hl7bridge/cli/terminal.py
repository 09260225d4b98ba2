"""What every listing prints alike: times, tables, and text that cannot steer a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime

import click

from hl7bridge.errors import Mistake

EVERY = 0.3  # seconds between two writings of a progress line


def moment(seconds: float) -> str:
    """Seconds since the epoch as local time with its offset, to the second."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def plain(text: str, keep: str = "") -> str:
    """Text from a message or a file, with `?` for all that is not printable (but `keep`): nothing steers a terminal."""
    return "".join(sign if sign.isprintable() or sign in keep else "?" for sign in text)


def placed(mistake: Mistake, kind: str = "") -> str:
    """`file:line:column: what is wrong`, the place in bold where colours are shown; `kind` is "note: " or nothing."""
    where = click.style(f"{mistake.file}:{mistake.line}:{mistake.column}:", bold=True)
    return f"{where} {click.style(kind, fg='cyan') if kind else ''}{plain(mistake.message)}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces between; what a cell holds is made plain.

    A first row in capitals is a heading: bold where colours are shown.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if cells and "".join(cells[0]).isupper():
        lines[0] = click.style(lines[0], bold=True)
    return "\n".join(lines)


class Progress:
    """`compared 12,300 (5,120 a second)` on standard error while it is a terminal, gone at the end; else nothing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._told = time.monotonic()
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def at(self, count: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if not self._shown or now - self._told < EVERY:
            return
        self._told = now
        sys.stderr.write(f"\r\x1b[K{self._what} {count:,} ({count / (now - self._began):,.0f} a second)")
        sys.stderr.flush()
