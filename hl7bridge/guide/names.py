"""How the guide's rows are named in our tables: `PID[Patient]#4`, `PID[Patient]#58-#60`, `ADT_A01#5.ref1`.

Sans-IO. A note names rows anywhere in its text; more of the same map may follow in short: `PID[Patient]#58, #60`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAP = r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\[[^\]\s]+\])?"
_NUMBER = r"#(\d+)(\.ref\d+)?(?:-#?(\d+))?"
_ROWS = re.compile(rf"({_MAP}){_NUMBER}((?:(?:,| and|, and)? #\d+(?:\.ref\d+)?(?:-#?\d+)?)*)")
_MORE = re.compile(_NUMBER)


def table_name(map_name: str) -> str:
    """`PID[Patient]` -> `PID-Patient`: the guide's map as our file is named."""
    return map_name.replace("[", "-").replace("]", "").replace(" ", "")


def rows_named(text: str) -> Iterator[str]:
    """Every row id that a text names, ranges written out."""
    for match in _ROWS.finditer(text):
        yield from _range(match[1], match[2], match[3], match[4])
        for more in _MORE.finditer(match[5]):
            yield from _range(match[1], more[1], more[2], more[3])


def _range(map_name: str, first: str, ref: str | None, last: str | None) -> Iterator[str]:
    if ref:
        yield f"{map_name}#{first}{ref}"
        return
    for number in range(int(first), int(last or first) + 1):
        yield f"{map_name}#{number}"
