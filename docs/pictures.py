"""Pictures of a terminal: what a command prints, with its colours, as SVG. Own and small: the docs need no package.

Only what the commands use is known: bold and the eight colours. A picture is text in a monospaced font, so it can be
read, searched and scaled; a line that is longer than the widest terminal here loses its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

WIDTH = 212  # letters; a picture whose lines are all shorter is as wide as they need
_LETTER, _LINE, _BORDER, _BAR = 8, 18, 16, 34  # in units of the picture, of which the font has 13.3
_INK, _PAPER, _DIM = "#d8dee9", "#1e2430", "#8792a5"
_COLOURS = {"31": "#ff7b85", "32": "#8fd18b", "33": "#e6c07b", "34": "#7fb2f0", "35": "#d3a0e8", "36": "#79cdd6"}
_ESCAPE = re.compile(r"\x1b\[([\d;]*)m")


def picture(title: str, commands: list[tuple[str, str]]) -> str:
    """title: what it shows, for those who do not see it. commands: each with its output, colours as escapes."""
    lines: list[str] = []
    for command, shown in commands:
        lines += [f"\x1b[36m$\x1b[0m \x1b[1m{command}\x1b[0m", *shown.splitlines(), ""]
    lines = [_cut(line) for line in lines[:-1]]
    letters = max(len(_ESCAPE.sub("", line)) for line in lines)
    width, height = max(letters, 80) * _LETTER + 2 * _BORDER, len(lines) * _LINE + _BAR + _BORDER
    rows = "\n".join(
        f'<text x="{_BORDER}" y="{_BAR + 13 + number * _LINE}">{"".join(_spans(line))}</text>'
        for number, line in enumerate(lines)
        if line
    )
    dots = "".join(f'<circle cx="{20 + 18 * n}" cy="17" r="5" fill="#465062"/>' for n in range(3))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">
<title>{escape(title)}</title>
<rect width="100%" height="100%" rx="8" fill="{_PAPER}"/>
{dots}
<g fill="{_INK}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13.3" xml:space="preserve">
{rows}
</g>
</svg>
"""


def _cut(line: str) -> str:
    """A line that is longer than the terminal is wide loses its end, which `…` says; colours have no width."""
    if len(_ESCAPE.sub("", line)) <= WIDTH:
        return line
    kept, left = "", WIDTH - 1
    for position, part in enumerate(_ESCAPE.split(line)):
        kept += f"\x1b[{part}m" if position % 2 else part[:left]
        left -= 0 if position % 2 else min(left, len(part))
    return f"{kept}\x1b[0m…"


def _spans(line: str) -> Iterator[str]:
    style, column = "", 0
    for position, part in enumerate(_ESCAPE.split(line)):
        if position % 2:
            style = _style(part.split(";"), style)
        elif part:
            # each piece has its place and its length: whatever the font's width is, columns stay below each other
            place = f'x="{_BORDER + column * _LETTER}" textLength="{len(part) * _LETTER}" lengthAdjust="spacing"'
            yield f"<tspan {place}{style}>{escape(part)}</tspan>"
            column += len(part)


def _style(codes: list[str], before: str) -> str:
    style = before
    for code in codes:
        if code in ("", "0"):
            style = ""
        elif code == "1":
            style += ' font-weight="bold"'
        elif code in _COLOURS:
            style += f' fill="{_COLOURS[code]}"'
    return style
