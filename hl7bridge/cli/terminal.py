"""What every listing prints alike: times and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime


def moment(seconds: float) -> str:
    """Seconds since the epoch as local time with its offset, to the second."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def table(rows: Sequence[Sequence[str]], plain: Callable[[str], str]) -> str:
    """Columns as wide as their widest cell, two spaces between. `plain` takes out of a cell what steers a terminal."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
