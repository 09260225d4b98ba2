"""A changed configuration is in the audit at the next start: which keys, what they were, never a secret."""

from __future__ import annotations

from pathlib import Path

from hl7bridge.config import changes, read


def effective(folder: Path, text: str) -> dict[str, str]:
    file = folder / "hl7bridge.yaml"
    file.write_text(text, "utf-8")
    return changes.in_effect(read(file, {}))


def test_the_first_start_tells_every_key_that_is_set(tmp_path: Path) -> None:
    now = effective(tmp_path, "drain_timeout: 7\n")
    assert changes.changes(now, tmp_path) == ["drain_timeout: was the default, is 7"]


def test_an_unchanged_configuration_tells_nothing(tmp_path: Path) -> None:
    now = effective(tmp_path, "drain_timeout: 7\n")
    changes.keep(now, tmp_path)
    assert changes.changes(now, tmp_path) == []
    assert (tmp_path / changes.FILE).stat().st_mode & 0o777 == 0o600


def test_a_change_tells_what_was_and_what_is(tmp_path: Path) -> None:
    changes.keep(effective(tmp_path, "drain_timeout: 7\nfhir:\n  timeout: 9\n"), tmp_path)
    now = effective(tmp_path, "drain_timeout: 8\n")
    assert changes.changes(now, tmp_path) == ["drain_timeout: was 7, is 8", "fhir.timeout: was 9, is the default"]


def test_a_damaged_record_counts_as_a_first_start(tmp_path: Path) -> None:
    (tmp_path / changes.FILE).write_bytes(b"\xff[")
    assert len(changes.changes({"drain_timeout": "7"}, tmp_path)) == 1


def test_a_secret_is_told_by_its_reference_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("SENTINEL", "utf-8")
    now = effective(tmp_path, f"fhir:\n  bearer_token: file:{tmp_path / 'token'}\n")
    told = changes.changes(now, tmp_path)
    assert told == [f"fhir.bearer_token: was the default, is file:{tmp_path / 'token'}"]
