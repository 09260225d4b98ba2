"""`make chaos MINUTES=30 SEED=7`: a long run by hand, with progress lines and a table at the end.

`--break NAME` breaks the daemon on purpose (see broken_daemon.py): the run must then find it.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from chaos_driver import Setting, fresh_seed, run

MOST_TOLD = 40


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--minutes", type=float, default=5.0)
    asked.add_argument("--seed", default="")
    asked.add_argument("--feed", type=Path, default=None, help="real messages beside the synthetic ones")
    asked.add_argument("--break", dest="broken", default="")
    asked.add_argument("--keep", action="store_true", help="keep the folder with journal and log")
    wanted = asked.parse_args()
    seed = wanted.seed or fresh_seed()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, {wanted.minutes:g} minutes, in {folder}", flush=True)

    def say(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    result = run(Setting(seed, wanted.minutes * 60, folder, free_ports(), wanted.feed, wanted.broken, say))
    print(result.table())
    for breach in result.breaches[:MOST_TOLD]:
        print(f"BREACH {breach}")
    print(f"{len(result.breaches)} breaches" if result.breaches else "every invariant held")
    if not (wanted.keep or result.breaches):
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result.breaches else 0


def free_ports() -> tuple[int, int, int]:
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for probe in (first, second, third):
            probe.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1], third.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
