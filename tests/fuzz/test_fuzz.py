"""Coverage-guided fuzzing for a bounded time, and every crash that was ever found, replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, seeds
from run_fuzz import CRASHES, fuzz

SECONDS = 20
KEPT = sorted(CRASHES.glob("*/*"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}")

    return tell


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_passes(target: str) -> None:
    for content in seeds(target):
        TARGETS[target](content)


@pytest.mark.parametrize("crash", KEPT, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_once_crashed_does_not_any_more(crash: Path) -> None:
    TARGETS[crash.parent.name](crash.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_bounded_time_of_fuzzing_finds_nothing(target: str, tmp_path: Path, say: Callable[[str], None]) -> None:
    pytest.importorskip("atheris", reason="no atheris: it is not made for this Python or machine")
    result = fuzz(target, SECONDS, tmp_path / "corpus")
    say(f"{target}: {result.executions} executions, coverage {result.coverage}")
    assert result.crash is None, (
        f"write this into {CRASHES / target} and mend it: {result.crash!r}\n{result.output[-2000:]}"
    )
    assert result.executions > 100, "it ran"


@pytest.mark.slow
def test_the_fuzzer_finds_a_planted_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("atheris", reason="no atheris: it is not made for this Python or machine")
    (tmp_path / "sitecustomize.py").write_text(
        "import hl7bridge.mllp.framing as f\n"
        "right = f.Framer.feed\n"
        "def feed(self, data):\n"
        "    return [e for e in right(self, data) if not (isinstance(e, f.Junk) and e.count == 3)]\n"
        "f.Framer.feed = feed\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert fuzz("framing", SECONDS, tmp_path / "corpus").crash is not None
