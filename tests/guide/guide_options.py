"""Which site option switches on a row that needs a local decision, and which value switches it off."""

from __future__ import annotations

import re
from collections.abc import Mapping

OPTIONS: tuple[tuple[str, Mapping[str, str], Mapping[str, str]], ...] = ()


def settings_of(row_id: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """(on, off) for a row; empty where no option is needed."""
    for pattern, on, off in OPTIONS:
        if re.fullmatch(pattern, row_id):
            return on, off
    return {}, {}
