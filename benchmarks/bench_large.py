"""One large message, almost all of it one embedded document: time and memory along its way, 16 MiB beside 1 MiB.

python benchmarks/bench_large.py [--sizes 1 16] [--rounds 3] [--json]

Memory is the peak of what is resident above what was before, as a multiple of the message's size (Linux: VmHWM, in a
process of its own for each size): for framing what is kept of the stream and the payload it gives, for translating the
message, the bundle and all between. The bundle holds the document twice, in the report's presentedForm and in the
result's extension, as the guide has it: two of the multiples are the answer itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hl7bridge import load_mappings, translate
from hl7bridge.mllp.framing import END, START, Frame, Framer

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
    RESET.write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def measure(size: int, rounds: int) -> dict[str, float]:
    mappings = load_mappings()
    for _ in range(3):
        translate(large(20_000), mappings)
    raw = large(size)
    figures: dict[str, float] = {"bytes": len(raw)}
    for name, work in (("framing", lambda: framed(raw)), ("translate", lambda: translate(raw, mappings))):
        seconds = []
        for _ in range(rounds):
            begin = time.process_time()
            work()
            seconds.append(time.process_time() - begin)
        figures[f"{name} ms"] = statistics.median(seconds) * 1000
        figures[f"{name} memory"] = above(work) / len(raw) + (name == "translate")
    return figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[1, 16], help="MiB")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    said = arguments.parse_args()
    if not RESET.exists():
        sys.exit("no /proc/self/clear_refs here: memory cannot be measured")
    spawn = multiprocessing.get_context("spawn")
    found = []
    for size in said.sizes:
        with spawn.Pool(1) as pool:
            found.append(pool.apply(measure, (size * MIB, said.rounds)))
    if said.json:
        print(json.dumps(found))
        return
    print(f"{'':10}{'framing':>12}{'memory':>10}{'translate':>14}{'memory':>10}{'ms a MiB':>12}")
    for size, one in zip(said.sizes, found, strict=True):
        print(
            f"{size:>6} MiB{one['framing ms']:>9.0f} ms{one['framing memory']:>8.2f} x{one['translate ms']:>11.0f} ms"
            f"{one['translate memory']:>8.2f} x{one['translate ms'] / size:>12.1f}"
        )


if __name__ == "__main__":
    main()
