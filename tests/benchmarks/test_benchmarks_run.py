"""Every benchmark runs, in a short form that says nothing about speed, and gives each of its figures beside a yardstick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FIGURES = {
    "ack": ("durable ACK, 1 connection ", "durable ACK, 1 connection, pipelined", "durable ACK, 100 connections"),
    "backlog": ("receive rate, ", "claim of the next 100"),
    "feed": ("translate of a feed of ",),
    "flow": ("receive to the endpoint's answer",),
    "large": ("framing of one message of ", "translate of one message of "),
    "memory": ("resident memory after",),
    "server": ("delivery into the real FHIR server",),
    "start": ("start to listening",),
    "translate": ("translate, ", "parse and read 18 fields"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, str(BENCHMARKS / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_benchmark_gives_its_figures(name: str) -> None:
    done = run("--short", "--only", name)
    assert done.returncode == 0, done.stderr[-2000:]
    if "no real FHIR server at hand" in done.stderr:
        pytest.skip("no real servers: ../shared/servers is absent (or set HL7BRIDGE_SERVERS)")
    for what in FIGURES[name]:
        lines = [line for line in done.stdout.splitlines() if line.startswith(what)]
        assert lines, f"no figure for {what!r} in:\n{done.stdout}"


def test_no_benchmark_is_forgotten() -> None:
    assert {path.stem.removeprefix("bench_") for path in BENCHMARKS.glob("bench_*.py")} == set(FIGURES)


def test_figures_of_the_short_form_are_never_written() -> None:
    done = run("--short", "--write")
    assert done.returncode == 2
    assert "not written" in done.stderr
