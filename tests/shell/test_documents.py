"""Documents that are made from the code are what the code would make now: `make docs` after a change."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["hl7bridge.yaml", "docs/configuration.md", "docs/metrics.md", "docs/log.md", "docs/cli.md"]
)
def test_a_document_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == generator().DOCUMENTS[name](), "run `make docs`"


def test_every_document_is_compared() -> None:
    assert set(generator().DOCUMENTS) == {
        "hl7bridge.yaml",
        "docs/configuration.md",
        "docs/metrics.md",
        "docs/log.md",
        "docs/cli.md",
    }


def test_every_sample_that_a_help_text_names_exists() -> None:
    named = set(re.findall(r"samples/[\w.]+\.hl7", (ROOT / "docs" / "cli.md").read_text("utf-8")))
    assert named and all((ROOT / name).is_file() for name in named)
