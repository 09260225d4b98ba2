"""Identifiers as tokens: the same for the same, read back only with the key, nowhere in the clear in what is delivered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge import load_mappings, translate
from hl7bridge.cli.main import cli
from hl7bridge.config import Config
from hl7bridge.errors import ConfigError
from hl7bridge.fhir.resource import Resource
from hl7bridge.fhir.tokens import PREFIX, NoToken, Tokens
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.sealing import new_key
from hl7bridge.service.tablesets import open_tokens
from hl7bridge.translators.answer import answer
from hl7bridge.translators.wire import Done, Work

KEY = bytes(range(32))
TYPES = ("MR", "SS")
MERGE = (
    b"MSH|^~\\&|A|B|||20240305143012+0100||ADT^A40^ADT_A39|1|P|2.5.1\rEVN|A40|20240305143012+0100\r"
    b"PID|1||SURV77^^^L&1.2.3.4&ISO^MR~999-11-2222^^^SSA&1.2.3.5&ISO^SS~KEEP5^^^L&1.2.3.6&ISO^PI||Test^Eva||19610317|F\r"
    b"MRG|GONE88^^^L&1.2.3.4&ISO^MR\r"
)


@pytest.fixture(scope="module")
def mappings() -> Mappings:
    return load_mappings()


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_token_leads_back_to_its_identifier_and_to_no_other(system: str, value: str) -> None:
    tokens = Tokens(KEY, TYPES)
    token = tokens.token(system, value)
    assert tokens.reveal(system, token) == value
    assert token == Tokens(KEY, TYPES).token(system, value), "the same after a restart"
    assert set(token.removeprefix(PREFIX)) <= set("abcdefghijklmnopqrstuvwxyz234567")
    with pytest.raises(NoToken):
        tokens.reveal(system + "x", token)
    with pytest.raises(NoToken):
        Tokens(bytes(32), TYPES).reveal(system, token)


@pytest.mark.parametrize("text", ["", "12345", PREFIX, PREFIX + "!!!!", PREFIX + "a" * 40, PREFIX + "ö" * 40])
def test_what_is_no_token_is_said_to_be_none(text: str) -> None:
    with pytest.raises(NoToken):
        Tokens(KEY, TYPES).reveal("s", text)


def test_identifiers_of_the_named_types_are_nowhere_in_the_bundle(mappings: Mappings) -> None:
    bundle = translate(MERGE, mappings, tokens=Tokens(KEY, TYPES)).bundle
    for value in (b"SURV77", b"999-11-2222", b"GONE88"):
        assert value in translate(MERGE, mappings).bundle
        assert value not in bundle
    assert b"KEEP5" in bundle, "of another type"


def test_conditional_writes_look_for_the_token(mappings: Mappings) -> None:
    tokens = Tokens(KEY, TYPES)
    bundle = json.loads(translate(MERGE, mappings, tokens=tokens).bundle)
    asked = json.dumps([entry["request"] for entry in bundle["entry"]])
    for value in ("SURV77", "GONE88"):
        assert tokens.token("urn:oid:1.2.3.4", value) in asked


def test_the_same_patient_in_two_messages_is_one_patient(mappings: Mappings) -> None:
    tokens = Tokens(KEY, TYPES)
    second = MERGE.replace(b"Eva", b"Eve").replace(b"|1|P|", b"|2|P|")
    urls = [
        {entry["fullUrl"] for entry in json.loads(translate(raw, mappings, tokens=tokens).bundle)["entry"]
         if entry.get("resource", {}).get("resourceType") == "Patient"}
        for raw in (MERGE, second)
    ]  # fmt: skip
    assert urls[0] == urls[1] != set()


def test_a_system_may_be_named_in_place_of_a_type(mappings: Mappings) -> None:
    tokens = Tokens(KEY, (), ["urn:oid:1.2.3.6"])
    bundle = translate(MERGE, mappings, tokens=tokens).bundle
    assert b"KEEP5" not in bundle
    assert b"SURV77" in bundle


def test_an_identifier_that_hangs_in_two_places_is_replaced_once() -> None:
    tokens = Tokens(KEY, ("MR",))
    resource = Resource("Patient", 1)
    shared: dict[str, Any] = {"system": "s", "value": "1", "type": {"coding": [{"code": "MR"}]}}
    resource.body["identifier"] = [shared]
    resource.known_by = [shared]
    tokens.replace([resource])
    assert tokens.reveal("s", shared["value"]) == "1"


def test_the_daemons_translating_processes_make_tokens(tmp_path: Path) -> None:
    from hl7bridge.service.tablesets import TableSets

    (tmp_path / "key").write_text(new_key(), "utf-8")
    tables = TableSets(Config.model_validate({"tokens": {"key": f"file:{tmp_path / 'key'}"}}))
    done = answer(Work(MERGE, "default"), tables)
    assert isinstance(done, Done)
    assert b"SURV77" not in done.bundle


# ---- the configuration and the command


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    file = tmp_path / "tokens.key"
    file.write_text(new_key(), "utf-8")
    monkeypatch.setenv("HL7BRIDGE_TOKENS__KEY", f"file:{file}")
    monkeypatch.setenv("HL7BRIDGE_JOURNAL__PATH", str(tmp_path / "journal"))
    return f"file:{file}"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_a_token_is_made_and_read_back_and_who_asked_is_recorded(key: str, tmp_path: Path) -> None:
    import asyncio

    from hl7bridge.journal.sqlite import SqliteJournal

    async def a_journal() -> None:
        await (await SqliteJournal.open(tmp_path / "journal", min_free_bytes=0)).close()

    asyncio.run(a_journal())
    token = run("tokens", "make", "12345", "--system", "urn:oid:1.2").output.strip()
    done = run("tokens", "reveal", token, "--system", "urn:oid:1.2")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "12345"
    told = json.loads(run("audit", "list", "--json").output)
    assert (told["action"], told["subject"], told["detail"]) == ("reveal token", token, "of urn:oid:1.2")


def test_nothing_is_shown_when_the_access_cannot_be_recorded(key: str) -> None:
    token = run("tokens", "make", "12345", "--system", "urn:oid:1.2").output.strip()
    done = run("tokens", "reveal", token, "--system", "urn:oid:1.2")  # there is no journal
    assert done.exit_code != 0
    assert "12345" not in done.output


def test_a_token_of_another_system_is_refused_in_words(key: str) -> None:
    token = run("tokens", "make", "12345", "--system", "urn:oid:1.2").output.strip()
    done = run("tokens", "reveal", token, "--system", "urn:oid:9.9")
    assert done.exit_code == 1
    assert "another system" in done.output


def test_without_a_key_the_command_says_so() -> None:
    done = run("tokens", "make", "1", "--system", "s")
    assert done.exit_code == 1
    assert "tokens.key is not set" in done.output


def test_a_key_that_is_none_is_named_not_shown(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("SENTINEL", "utf-8")
    for reference in (f"file:{tmp_path / 'bad'}", f"file:{tmp_path / 'absent'}"):
        with pytest.raises(ConfigError, match=r"tokens\.key: ") as caught:
            open_tokens(Config.model_validate({"tokens": {"key": reference}}).tokens)
        assert "SENTINEL" not in str(caught.value)
