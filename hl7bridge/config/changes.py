"""What changed in the configuration since the daemon last started, by key: for the audit.

The keys and values in effect (no secret, no default) are kept beside the journal. What cannot be read there counts as
a first start.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from hl7bridge.config.describe import describe
from hl7bridge.config.load import Settings

FILE = "configuration.json"


def in_effect(settings: Settings) -> dict[str, str]:
    """Every key that is not at its default: `fhir.base_url` -> its value, secrets as their references."""
    return {one.key: one.value for one in describe(settings) if one.origin != "default"}


def changes(now: dict[str, str], folder: Path) -> list[str]:
    """`fhir.base_url: was …, is …`, one for each key that differs from what is kept in `folder`; none: no change."""
    try:
        before = json.loads((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        before = {}
    if not isinstance(before, dict):
        before = {}
    keys = sorted({*now, *before})
    return [
        f"{key}: was {before.get(key, 'the default')}, is {now.get(key, 'the default')}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def keep(now: dict[str, str], folder: Path) -> None:
    """Keeps what is in effect for the next start. OSError: it cannot be written."""
    path = folder / FILE
    beside = path.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(now, file, indent=1, sort_keys=True)
    beside.replace(path)
