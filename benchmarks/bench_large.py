"""One large message, almost all of it one embedded document: time and memory along its way, 16 MiB beside 1 MiB.

python benchmarks/bench_large.py [--short] [--rounds 5]

Memory is the peak of what is resident above what was before, as a multiple of the message's size (Linux: VmHWM, in a
process of its own for each size): for framing what is kept of the stream and the payload it gives, for translating the
message, the bundle and all between. The bundle holds the document twice, in the report's presentedForm and in the
result's extension, as the guide has it: two of the multiples are the answer itself.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from figures import Effort, Figure, effort, progress, show

from hl7bridge import load_mappings, translate
from hl7bridge.mllp.framing import END, START, Frame, Framer
from hl7bridge.translators.pool import LARGE_BLOCKS

MIB = 1024 * 1024
AT_ONCE = 64 * 1024  # bytes a socket gives
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HEAD = (
    b"MSH|^~\\&|DOCS|NORTH|HL7BRIDGE|NORTH|20240301120000+0100||ORU^R01^ORU_R01|L1|P|2.5.1\r"
    b"PID|1||4711^^^NORTH^MR||EXAMPLE^LARGE||19700101|F\r"
    b"OBR|1|P1|F1|18842-5^Discharge summary^LN|||20240301110000+0100|||||||||||||||20240301113000+0100|||F\r"
    b"OBX|1|ED|18842-5^Discharge summary^LN||^application^pdf^Base64^"
)
TAIL = b"||||||F\r"


def large(size: int) -> bytes:
    """A message of about `size` bytes."""
    return HEAD + b"QUJD" * ((size - len(HEAD) - len(TAIL)) // 4) + TAIL


def framed(raw: bytes) -> bytes:
    """The payload of a block that comes in pieces."""
    framer = Framer(len(raw))
    framer.feed(START)
    view = memoryview(raw)
    for start in range(0, len(raw), AT_ONCE):
        framer.feed(bytes(view[start : start + AT_ONCE]))
    (event,) = framer.feed(END)
    if not isinstance(event, Frame):
        raise ValueError("no frame")
    return event.payload


def resident(which: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


def above(work: Callable[[], object]) -> int:
    """Bytes that become resident while `work` runs, at most at one time."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not there to be used again
    RESET.write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def one_size(size: int, rounds: int) -> dict[str, float]:
    """Of a message of so many bytes: CPU seconds and memory, by step."""
    mappings = load_mappings()
    for _ in range(3):
        translate(large(20_000), mappings)
    raw = large(size)
    figures: dict[str, float] = {}
    for name, work in (("framing", lambda: framed(raw)), ("translate", lambda: translate(raw, mappings))):
        taken = []
        for _ in range(rounds):
            begin = time.process_time()
            work()
            taken.append(time.process_time() - begin)
        figures[name] = statistics.median(taken)
        figures[f"{name} memory"] = above(work) / len(raw) + (name == "translate")  # the message was there before
    return figures


def in_its_own_process(size: int, rounds: int) -> dict[str, float]:
    os.environ.update(LARGE_BLOCKS)  # as the daemon starts the processes that translate
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(one_size, (size, rounds))


def measure(effort: Effort) -> Iterator[Figure]:
    if not RESET.exists():
        progress("no /proc/self/clear_refs here: memory cannot be measured")
        return
    small, big = 1, effort.of(16, 4)  # MiB
    one, other = (in_its_own_process(size * MIB, effort.rounds) for size in (small, big))
    for name, target in (("framing", ""), ("translate", "linear")):
        yield Figure(
            f"{name} of one message of {big} MiB, for each MiB of it",
            f"{other[name] / big * 1000:,.1f} ms CPU",
            f"one of {small} MiB, {one[name] / small * 1000:,.1f} ms",
            target,
            [other[name] / big / max(one[name] / small, 1e-6)],
        )
        yield Figure(
            f"{name} of one message of {big} MiB, peak memory",
            f"{other[f'{name} memory']:.2f} times the message",
            "the message's size",
            "4 x",
            [other[f"{name} memory"]],
        )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
