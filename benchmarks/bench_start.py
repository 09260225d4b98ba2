"""From the command to a port that answers, all tables loaded, beside the import of `fhir.resources` alone.

python benchmarks/bench_start.py [--short] [--rounds 5]

Each start is the first in an empty folder: the journal is made, the tables are read, checked, kept as a version.
Modules are compiled on both sides, as an installation has them; one start of each before the rounds sees to it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

from figures import Effort, Figure, by_round, effort, interleaved, seconds, show
from served import Served, compiled

# what a converter that makes its bundles with the package imports
IMPORT = "import fhir.resources.R4B.bundle, fhir.resources.R4B.patient, fhir.resources.R4B.observation"


def _ours() -> float:
    with Served() as served:
        return served.started_in


def measure(effort: Effort) -> Iterator[Figure]:
    command = [sys.executable, "-c", IMPORT]

    def imported() -> float:
        return seconds(lambda: subprocess.run(command, check=True, env=compiled()))

    imported()
    _ours()
    base, ours = interleaved(effort.rounds, imported, _ours)
    yield Figure(
        "start to listening, all tables loaded",
        f"{statistics.median(ours):.2f} s",
        f"import of fhir.resources, {statistics.median(base):.2f} s",
        "1 s",
        by_round(ours, base),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
