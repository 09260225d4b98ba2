"""Spans of time as people type them: `90s`, `15m`, `2h`, `3d`, `1w`, or joined: `1h30m`. A bare number is seconds."""

from __future__ import annotations

import re

import click

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds. ValueError, with what would be right, for anything else."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise ValueError("not a span of time: write it like 90s, 15m, 2h, 3d, 1w or 1h30m")
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A click option's type; the command gets seconds as float."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
