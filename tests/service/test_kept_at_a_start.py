"""What a start takes from the configuration's folders is kept as a version: once, and only what serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hl7bridge.config import Config
from hl7bridge.errors import TablesError, UnavailableError
from hl7bridge.mapping.load import load_tables
from hl7bridge.service import activation
from hl7bridge.service.activation import Refused, Wanted
from hl7bridge.service.versions import Versions

OPTIONS = "set:\n  bundle-type: message\n"
CODES = """\
codes: AdministrativeSex
map:
  X: other
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An overlay: an option, and a code table whose file is a link in a folder that is one."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    site.mkdir()
    elsewhere.mkdir()
    (site / "options.yaml").write_text(OPTIONS)
    (elsewhere / "AdministrativeSex.yaml").write_text(CODES)
    (site / "codes").symlink_to(elsewhere)
    return site


@pytest.fixture
def config(tmp_path: Path, site: Path) -> Config:
    return Config.model_validate(
        {
            "journal": {"path": str(tmp_path / "journal")},
            "mappings": {"overlays": [str(site)], "options": {"narrative": "generated"}},
            "listeners": [{"senders": [{"application": "A", "overlays": [str(site)]}]}],
        }
    )


def test_what_is_kept_is_what_serves_and_loads_as_the_same_version(config: Config) -> None:
    store = Versions(config.journal.path)
    tables, id = activation.from_folders(config)
    assert not store.has(id)
    kept = activation.keep(config, store, tables, id)
    assert kept.version.id == id
    for overlays, folders in kept.version.sets.items():
        again = load_tables(*folders, shipped=False, settings=kept.version.options)
        assert again.version == kept.version.versions[overlays]
        assert again.codes["AdministrativeSex"].map["X"].code == "other"
    assert activation.ready(config, store, Wanted(id)).tables.version == tables.version


def test_a_start_with_tables_that_are_kept_already_copies_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Versions(config.journal.path)
    tables, id = activation.from_folders(config)
    activation.keep(config, store, tables, id)

    def draft(*_: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(Versions, "draft", draft)
    assert activation.keep(config, store, *activation.from_folders(config)).version.id == id


def test_tables_that_were_changed_while_they_were_read_are_not_kept_as_what_serves(config: Config, site: Path) -> None:
    store = Versions(config.journal.path)
    tables, id = activation.from_folders(config)
    (site / "options.yaml").write_text(OPTIONS + "# another\n")
    with pytest.raises(Refused, match="changed while they were read"):
        activation.keep(config, store, tables, id)
    assert not store.has(id)
    assert list(store.path.iterdir()) == []


def test_a_file_that_a_check_reads_is_served_and_kept(config: Config, site: Path) -> None:
    (site / "segments").mkdir()
    (site / "segments" / "_PID-Patient.yaml").write_text("table: _PID-Patient\nrows: {PID-8: {to: gender}}\n")
    with pytest.raises(TablesError, match=r"site/segments/_PID-Patient\.yaml:1: _PID-Patient: '_PID' is not a field"):
        activation.from_folders(config)
    with pytest.raises(Refused, match=r"site/segments/_PID-Patient\.yaml:1: "):
        activation.ready(config, Versions(config.journal.path), Wanted())


def test_what_reading_leaves_out_is_not_kept(config: Config, site: Path) -> None:
    store = Versions(config.journal.path)
    for folder in (".git", "_old"):
        shutil.copytree(site / "codes", site / folder)
    (site / "codes" / ".swap.yaml").write_text("x")
    (site / "README.md").write_text("x")
    version = activation.keep(config, store, *activation.from_folders(config)).version
    copy = version.sets[()][1]
    files = sorted(str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file())
    assert files == ["codes/AdministrativeSex.yaml", "options.yaml"]


def test_a_folder_that_is_not_there_is_named(config: Config, site: Path) -> None:
    shutil.rmtree(site)
    with pytest.raises(TablesError, match="site:1: there is no such folder of mapping tables"):
        activation.from_folders(config)


def test_a_place_that_cannot_be_written_is_told(config: Config, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    tables, id = activation.from_folders(config)
    with pytest.raises(UnavailableError, match="versions cannot be kept"):
        activation.keep(config, Versions(config.journal.path), tables, id)
