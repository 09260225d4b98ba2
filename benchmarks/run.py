"""All benchmarks, one after another; their figures as a dated table in docs/performance.md.

    python benchmarks/run.py [--short] [--rounds 5] [--only ack] [--only memory] [--write]

`--write` puts the table between the marks in docs/performance.md. Nothing else should work on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path

from figures import Effort, Figure, progress, show

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
START, END = "<!-- figures -->\n", "<!-- end of figures -->"
PACKAGES = ("hl7", "hl7apy", "fhir.resources", "orjson", "aiohttp", "pydantic")


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


def table(figures: list[Figure], rounds: int) -> str:
    lines = [
        f"{machine()}. Medians of {rounds} rounds; in brackets the spread.",
        "",
        "| what | measured | beside it, in the same run | ratio | target |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {f.what} | {f.ours} | {f.yardstick} | {f.ratio} | {f.target} |" for f in figures]
    return "\n".join(lines) + "\n"


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
    figures: list[Figure] = []
    for path in sorted(HERE.glob("bench_*.py")):
        name = path.stem.removeprefix("bench_")
        if options.only and name not in options.only:
            continue
        progress(name)
        figures += show(importlib.import_module(path.stem).measure(effort))
    if options.write:
        text = DOCUMENT.read_text("utf-8")
        before, rest = text.split(START, 1)
        DOCUMENT.write_text(before + START + table(figures, effort.rounds) + END + rest.split(END, 1)[1], "utf-8")
        progress(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
