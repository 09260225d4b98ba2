"""What every listing prints alike: times, tables, and text that cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


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
