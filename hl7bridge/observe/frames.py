"""What may be told of any exception: its type and the places in our own code. Never its text, a source line, a local.

Apart from `log` so that a command that fails need not import the log.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

_PACKAGE = Path(__file__).resolve().parent.parent
_FRAMES_SHOWN = 12
_CAUSES_SHOWN = 5


def frames(error: BaseException) -> list[str]:
    """`bridge.py:81 start`: the frames of our own code, innermost last."""
    found: list[str] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        file = Path(code.co_filename)
        if file.is_relative_to(_PACKAGE):
            found.append(f"{file.relative_to(_PACKAGE)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-_FRAMES_SHOWN:]


def kind(error: BaseException) -> str:
    """`ConnectionError <- TimeoutError`: the type and those of its causes."""
    names: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(names) < _CAUSES_SHOWN:
        names.append(type(seen).__name__)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return " <- ".join(names)
