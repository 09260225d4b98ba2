"""The samples' bundles and the tables of reasons and samples are what the code would make now: `make docs`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from hl7bridge.mapping.examples import run
from hl7bridge.mapping.mappings import load_mappings
from hl7bridge.reasons import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "samples" / "expected"
FILES = sorted((ROOT / "samples" / "enhanced").glob("*.hl7"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs_and_samples", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_sample_gives_the_bundle_that_stands_beside_it(generator: ModuleType) -> None:
    bundles: dict[str, bytes] = generator.expected_bundles()
    assert {file.name for file in EXPECTED.iterdir()} == set(bundles), "run `make docs`"
    differing = [name for name, bundle in bundles.items() if (EXPECTED / name).read_bytes() != bundle]
    assert not differing, "run `make docs`, and look at what changed in samples/expected"


def test_each_message_in_enhanced_mode_gets_the_answers_that_stand_beside_it(generator: ModuleType) -> None:
    answered: dict[str, bytes] = dict(generator.answered())
    folder = ROOT / "samples" / "enhanced" / "expected"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == answered, "run `make docs`"
    kinds = {file.stem: sum(name.startswith(f"{file.stem}.") for name in answered) for file in FILES}
    assert kinds == {"epic_adt_a08_al_ne": 1, "epic_adt_a08_al_al": 2, "epic_adt_a08_al_al_dead": 2}


@pytest.mark.parametrize(
    "name",
    ["docs/reasons.md", "samples/README.md", "docs/workbench.md", "docs/options.md", "docs/behaviour.md"],
)
def test_a_table_made_from_the_code_is_up_to_date(generator: ModuleType, name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == generator.MORE[name](), "run `make docs`"


def test_every_sample_is_described_and_only_broken_ones_have_no_bundle(generator: ModuleType) -> None:
    stems = {file.stem for file in (ROOT / "samples").glob("*.hl7")}
    assert stems == set(generator.SHOWS)
    without = {stem for stem in stems if not (EXPECTED / f"{stem}.json").exists()}
    assert without == {stem for stem in stems if stem.startswith("broken_")}


def test_the_samples_site_is_fit_for_use_and_its_examples_hold() -> None:
    count, differences = run(load_mappings(ROOT / "samples" / "site"))
    assert count and not [str(difference) for difference in differences]


def test_the_operator_finds_every_party_of_the_catalogue() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for whose in {reason.whose for reason in CATALOGUE.values()}:
        assert f"\n| {whose} |" in text


def test_behaviour_names_only_reasons_that_exist() -> None:
    text = (ROOT / "docs" / "behaviour.md").read_text("utf-8")
    for code in ("delivery-pending", "unparsable", "no-control-id", "unsupported-type", "unsupported-event",
                 "storage-failed", "backlog-full", "internal-error", "retries-exhausted", "endpoint-rejected",
                 "endpoint-not-found", "endpoint-too-large"):  # fmt: skip
        assert code in CATALOGUE and f"`{code}`" in text
