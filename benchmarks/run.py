"""All benchmarks, one after another; their figures as a dated table in docs/performance.md.

    python benchmarks/run.py [--short] [--rounds 5] [--only ack] [--only memory] [--write]

`--write` puts the rows of each benchmark into docs/performance.md as soon as it ends: a run that is stopped loses only
what it was at. Rows of a benchmark that did not run, or failed, stay as they were, with their day. Nothing else should
work on the machine meanwhile; all of it takes about 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

from figures import Effort, Figure, progress, show

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
START, END = "<!-- figures -->\n", "<!-- end of figures -->"
PACKAGES = ("hl7", "hl7apy", "fhir.resources", "orjson", "uvloop", "httptools", "pydantic")


def machine() -> str:
    """What was measured on what."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {model.group(1) if model else platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}"
    )


HEAD = ("| benchmark | what | measured | beside it, in the same run | ratio | target | day |", "|---" * 7 + "|")


def rows(name: str, figures: list[Figure]) -> list[str]:
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return [f"| {name} | {f.what} | {f.ours} | {f.yardstick} | {f.ratio} | {f.target} | {day} |" for f in figures]


def write(name: str, figures: list[Figure], rounds: int) -> None:
    """The rows of one benchmark take the place of those it had; all stand in the order of the names."""
    before, _, rest = DOCUMENT.read_text("utf-8").partition(START)
    table, _, after = rest.partition(END)
    kept = [line for line in table.splitlines() if re.match(r"\| [a-z]+ \|", line) and line not in HEAD]
    kept = [line for line in kept if line.split()[1] != name] + rows(name, figures)
    kept.sort(key=lambda line: line.split()[1])
    said = f"{machine()}. Medians of {rounds} rounds; in brackets the spread."
    DOCUMENT.write_text(before + START + "\n".join([said, "", *HEAD, *kept]) + "\n" + END + after, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="only see that they run: few messages, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="the benchmarks of these names")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    if options.short and options.write:
        parser.error("figures of --short say nothing: they are not written")
    effort = Effort(options.short, 1 if options.short else options.rounds)
    begin, failed = time.monotonic(), []
    for path in sorted(HERE.glob("bench_*.py")):
        name = path.stem.removeprefix("bench_")
        if options.only and name not in options.only:
            continue
        progress(name)
        try:
            figures = show(importlib.import_module(path.stem).measure(effort))
        except (Exception, SystemExit) as error:  # one that fails is no reason to lose the others
            progress(f"{name} failed: {error or type(error).__name__}")
            failed.append(name)
            continue
        if options.write and figures:
            write(name, figures, effort.rounds)
    minutes, left = divmod(time.monotonic() - begin, 60)
    progress(f"all of it took {minutes:.0f} min {left:.0f} s")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
