"""What every listing prints alike: times, tables, and text that cannot steer a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime

EVERY = 0.3  # seconds between two writings of a progress line


def moment(seconds: float) -> str:
    """Seconds since the epoch as local time with its offset, to the second."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def plain(text: str, keep: str = "") -> str:
    """Text from a message or a file, with `?` for all that is not printable (but `keep`): nothing steers a terminal."""
    return "".join(sign if sign.isprintable() or sign in keep else "?" for sign in text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces between; what a cell holds is made plain."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


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
