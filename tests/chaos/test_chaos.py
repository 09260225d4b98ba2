"""Minutes of chaos with a fixed and a fresh seed: whatever happens to daemon, endpoint, disk and wire, the invariants hold.

`make chaos MINUTES=30 SEED=7` is the long run, and repeats a seed printed here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_driver import Setting, fresh_seed, run
from run_chaos import free_ports

SECONDS = 60.0
HERE = Path(__file__).resolve().parent


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="")

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fixed", "fresh"])
def test_whatever_happens_nothing_is_lost_nothing_takes_effect_twice_and_every_patient_keeps_the_order(
    tmp_path: Path, say: Callable[[str], None], kind: str
) -> None:
    seed = "1989" if kind == "fixed" else fresh_seed()
    feed = os.environ.get("HL7BRIDGE_CORPUS")
    sample = Path(feed or HERE.parents[2] / "shared" / "corpus") / "simhospital_sample.hl7"
    say(f"seed {seed}, {SECONDS:g} seconds")
    result = run(Setting(seed, SECONDS, tmp_path, free_ports(), sample if sample.exists() else None, say=say))
    say("\n" + result.table() + "\n")
    assert not result.breaches, "\n".join(result.breaches[:20])
    assert result.events["kill"] and result.figures["delivered"], "there was chaos, and something came through it"


def test_every_mutation_of_the_daemon_still_finds_its_place() -> None:
    """A mutation whose target was renamed would prove nothing."""
    code = "from broken_daemon import MUTATIONS\nfor name, work in MUTATIONS.items(): work()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
