"""What an examination says: what was tried, what came of it, what to do; never a secret, nothing of a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok    journal ./var/journal: written and synced in 2 ms`."""

    grade: Grade
    subject: str
    text: str
    remedy: str = ""
