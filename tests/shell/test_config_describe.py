"""What is shown of the configuration: values with their origin, secrets as references only; and secrets themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from hl7bridge.config import Config, load, read, secret
from hl7bridge.config.describe import describe
from hl7bridge.config.document import sample
from hl7bridge.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(
        "listeners:\n- name: adt\n  versions: [2.3, 2.5]\nfhir:\n  headers: {X-Tenant: TENANT, X-Other: 'env:OTHER'}\n"
        "  bearer_token: file:/run/token\n",
        "utf-8",
    )
    return file


def test_every_value_is_shown_with_where_it_came_from(file: Path) -> None:
    rows = {row.key: (row.value, row.origin) for row in describe(read(file, {"HL7BRIDGE_RETRY__CAP": "9"}))}
    assert rows["listeners.0.name"] == ("adt", f"{file}:2")
    assert rows["listeners.0.versions"] == ("2.3, 2.5", f"{file}:3")
    assert rows["listeners.0.port"] == ("6661", "default")
    assert rows["listeners.0.validate"] == ("off", "default")
    assert rows["retry.cap"] == ("9", "environment HL7BRIDGE_RETRY__CAP")
    assert rows["retry.give_up_after"] == ("259200", "default")
    assert rows["fhir.tls"] == ("(unset)", "default")


def test_a_secret_is_shown_as_its_reference_and_other_headers_not_at_all(file: Path) -> None:
    rows = {row.key: row.value for row in describe(read(file, {}))}
    assert rows["fhir.bearer_token"] == "file:/run/token"
    assert rows["fhir.headers"] == "X-Tenant: (hidden), X-Other: env:OTHER"


def test_the_sample_file_says_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "sample.yaml").write_text(sample(), "utf-8")
    assert load(tmp_path / "sample.yaml", {}) == Config()


def test_every_key_of_the_sample_can_be_uncommented(tmp_path: Path) -> None:
    text = "\n".join(line.replace("# ", "", 1) if _is_key(line) else line for line in sample().splitlines())
    (tmp_path / "sample.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:  # only what the values miss is told, no unknown key and no bad YAML
        load(tmp_path / "sample.yaml", {})
    told = "\n".join(caught.value.mistakes)
    assert "unknown key" not in told
    assert "not YAML" not in told
    assert "listeners.0.tls" in told


def _is_key(line: str) -> bool:
    words = line.split("#")[-1].strip()
    return line.lstrip().startswith("# ") and words.split(":")[0].lstrip("- ").isidentifier() and ":" in words


def test_a_secret_is_read_from_its_file_without_the_last_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n", "utf-8")
    assert secret(f"file:{tmp_path / 'token'}") == "abc"


def test_a_secret_is_read_from_the_environment() -> None:
    assert secret("env:TOKEN", {"TOKEN": "abc"}) == "abc"


def test_what_is_wrong_with_a_secret_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", "utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    told = []
    for reference in (
        "SENTINEL",
        "env:",
        "env:T",
        f"file:{tmp_path}/a",
        f"file:{tmp_path}/empty",
        f"file:{tmp_path}/binary",
    ):
        with pytest.raises(ConfigError) as caught:
            secret(reference, {})
        told.append(str(caught.value).replace(str(tmp_path), ""))
    assert told == [
        "a secret must be given as file:PATH or env:NAME",
        "a secret must be given as file:PATH or env:NAME",
        "secret env:T: the environment variable is not set",
        "secret file:/a: No such file or directory",
        "secret file:/empty: the file is empty",
        "secret file:/binary: is not UTF-8 text",
    ]
