"""`make fuzz TARGET=translator SECONDS=600`: a coverage-guided run with atheris; a crash becomes a file in crashes/TARGET.

libFuzzer ends at the first crash, so it runs as a child of this process, which keeps the corpus for the next run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CRASHES = HERE / "crashes"
LONGEST = 6000  # bytes of an input
SLOWEST = 30  # seconds for one input
INSTRUMENTED = ("hl7bridge.mllp", "hl7bridge.hl7v2", "hl7bridge.mapping", "hl7bridge.fhir", "hl7bridge.translation")
_RUNS = re.compile(rb"Done (\d+) runs|^#(\d+)\t", re.MULTILINE)


@dataclass(frozen=True)
class Fuzzed:
    """What came of a run. `crash`: the input, or None."""

    executions: int
    coverage: int
    crash: bytes | None
    output: str


def fuzz(target: str, seconds: int, corpus: Path, seed: int = 0) -> Fuzzed:
    """Runs a target for so long, from `corpus` and our seeds."""
    sys.path.insert(0, str(HERE))
    from fuzz_targets import seeds

    corpus.mkdir(parents=True, exist_ok=True)
    for content in seeds(target):
        (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)
    with tempfile.TemporaryDirectory() as scratch:
        words = [
            *(sys.executable, str(HERE / "run_fuzz.py"), "--child", target, str(corpus)),
            *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-rss_limit_mb=0"),
            *(f"-artifact_prefix={scratch}/", f"-seed={seed}", "-print_final_stats=1", "-use_value_profile=0"),
        ]
        ran = subprocess.run(words, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": _path()})
        found = sorted(Path(scratch).iterdir())
        crash = found[0].read_bytes() if found else None
    output = (ran.stdout + ran.stderr).decode(errors="replace")
    runs = [int(a or b) for a, b in _RUNS.findall(ran.stderr)]
    coverage = [int(number) for number in re.findall(r"cov: (\d+)", output)]
    if ran.returncode and crash is None:
        raise RuntimeError(f"the fuzzer itself failed:\n{output[-3000:]}")
    return Fuzzed(max(runs, default=0), max(coverage, default=0), crash, output)


def keep(target: str, crash: bytes) -> Path:
    """The crash as a file that test_fuzz.py replays from now on."""
    file = CRASHES / target / hashlib.sha1(crash).hexdigest()[:16]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(crash)
    return file


def _path() -> str:
    return os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])


def _child(target: str, words: list[str]) -> None:
    """The process that libFuzzer takes over."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
        from fuzz_targets import TARGETS
    TARGETS[target](b"MSH|^~\\&|")  # loads what is loaded once
    atheris.Setup([sys.argv[0], *words], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], sys.argv[3:])
        return 0
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("target")
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "hl7bridge-fuzz")
    wanted = asked.parse_args()
    result = fuzz(wanted.target, wanted.seconds, wanted.corpus / wanted.target)
    print(f"{wanted.target}: {result.executions} executions, coverage {result.coverage}")
    if result.crash is not None:
        print(f"a crash, kept as {keep(wanted.target, result.crash)}\n{result.output[-3000:]}")
    return 1 if result.crash is not None else 0


if __name__ == "__main__":
    sys.exit(main())
