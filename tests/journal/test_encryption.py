"""Data at rest: nothing readable in the files, nothing lost by a wrong key, rotation that may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from journal_support import NOW, Clock, parked, received

from hl7bridge.cli.dlq import dlq
from hl7bridge.cli.journal import journal as journal_command
from hl7bridge.cli.keys import keys
from hl7bridge.cli.messages import messages
from hl7bridge.cli.prove import prove
from hl7bridge.config import Config, Encryption
from hl7bridge.delivery.answer import Issue
from hl7bridge.delivery.deadletter import DeadLetters, Letter
from hl7bridge.errors import ConfigError, JournalError, JournalRefusal
from hl7bridge.journal import files, verify
from hl7bridge.journal.acknowledgements import Acknowledgements, Built
from hl7bridge.journal.guard import open_guard
from hl7bridge.journal.protocol import Change, Filter, Owed, State, Terms
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.reasons import ENDPOINT_REJECTED
from hl7bridge.sealing import Damaged, KeyMissing, Keyring, key_of, new_key, open_keyring

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
SENTINEL = b"ZZSENTINELZZ"
RAW = b"MSH|^~\\&|LAB|HOSP|||20240101||ADT^A01|%d|P|2.5\rPID|1||ZZSENTINELZZ\r"


def message(number: int, **changed: Any) -> Any:
    raw = RAW % number
    return received(number, raw=raw, ack=b"MSA|AA|%d|ZZSENTINELZZ\r" % number, **changed)


async def opened(folder: Path, *ids: str, **more: Any) -> SqliteJournal:
    """With the keys of these ids, the last one active; none: in clear."""
    known = {"one": ONE, "two": TWO}
    keyring = Keyring({id: known[id] for id in ids}, ids[-1]) if ids else None
    return await SqliteJournal.open(folder, min_free_bytes=0, clock=Clock(), keyring=keyring, **more)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_nothing_of_a_message_can_be_read_in_the_files(tmp_path: Path) -> None:
    journal = await opened(tmp_path, "one")
    ids = [(await journal.append(message(n))).id for n in range(5)]
    await journal.apply(Change(ids[0], State.DEAD, 1, reason="structure"))
    await journal.replay(ids[0], b"MSH|ZZSENTINELZZ|edited")
    await journal.apply(Change(ids[1], State.DELIVERED, 1, proof={"written": ["Patient/ZZSENTINELZZ"]}))
    assert (await journal.get(ids[0])).raw == b"MSH|ZZSENTINELZZ|edited"  # type: ignore[union-attr]
    assert (await journal.get(ids[2])).raw == RAW % 2  # type: ignore[union-attr]
    assert (await journal.append(message(3))).ack == message(3).ack
    assert SENTINEL not in on_disk(tmp_path)
    await journal.close()
    assert SENTINEL not in on_disk(tmp_path)


HEADER = b"MSH|^~\\&|LAB|ZZSENTINELZZ|EHR|SOUTH|2024||ADT^A01|%d|P|2.5|||AL|AL"
OWED = Terms(owed=Owed("lab", "AL", "delivered", HEADER % 1))


async def answered(journal: SqliteJournal, number: int) -> Acknowledgements:
    """A delivered message whose application ACK is due, and one that was refused."""
    rows = Acknowledgements(journal)
    stored = await journal.append(message(number, terms=OWED))
    await journal.apply(Change(stored.id, State.DELIVERED, 1))
    (row,) = await rows.of(stored.id)
    assert row.header == HEADER % 1
    await rows.build(row.number, Built("AA", f"own{number}", b"MSA|AA|ZZSENTINELZZ\r"), NOW)
    await rows.owe(Owed("lab", "AL", "delivered", HEADER % 2), Built("AR", "ownr", b"MSA|AR|ZZSENTINELZZ\r"), NOW)
    return rows


async def test_nothing_of_an_application_ack_can_be_read_in_the_files_and_all_of_it_by_its_channel(
    tmp_path: Path,
) -> None:
    journal = await opened(tmp_path, "one")
    rows = await answered(journal, 1)
    assert SENTINEL not in on_disk(tmp_path)
    due = await rows.due("lab", NOW)
    assert [row.raw for row in due] == [b"MSA|AA|ZZSENTINELZZ\r", b"MSA|AR|ZZSENTINELZZ\r"]
    assert [row.header for row in due] == [HEADER % 1, HEADER % 2]
    assert not any(row.damaged for row in due)
    await journal.close()
    assert SENTINEL not in on_disk(tmp_path)


async def test_an_application_ack_in_another_s_place_is_damage_and_verify_names_it(tmp_path: Path) -> None:
    journal = await opened(tmp_path, "one")
    await answered(journal, 1)
    await journal.close()
    with contextlib.closing(sqlite3.connect(tmp_path / files.DATABASE, isolation_level=None)) as connection:
        connection.execute("UPDATE acknowledgements SET raw = (SELECT raw FROM acknowledgements WHERE number = 2)")
    journal = await opened(tmp_path, "one")
    swapped, whole = await Acknowledgements(journal).due("lab", NOW)
    assert swapped.damaged and swapped.raw == b"" and not whole.damaged
    await journal.close()
    with contextlib.closing(files.connect_proof(tmp_path / files.DATABASE)) as connection:
        guard = open_guard(connection, Keyring({"one": ONE}, "one"), 0.0, owner=False)
        (finding,) = verify.Whole(connection, guard).run().findings
    assert str(finding) == "the text of application ACK number 1 is not what was stored"


async def test_a_rotation_seals_application_acks_anew_and_only_then_lets_the_old_key_go(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await answered(journal, 1)
    await journal.close()
    await (await opened(tmp_path, "one")).close()
    journal = await opened(tmp_path, "one")
    await answered(journal, 2)
    await journal.close()
    journal = await opened(tmp_path, "one", "two")
    assert await rotated(journal) == 4
    assert await journal.retire() == [], "application ACKs are still sealed with it"
    batch = await journal.rotate_owed(0)
    assert (batch.last, batch.messages, batch.changed, batch.unopened) == (4, 4, 8, 0)
    assert (await journal.rotate_owed(0)).changed == 0
    assert (await journal.rotate_owed(4)).last is None
    assert await journal.retire() == ["one"]
    assert [row.header for row in await Acknowledgements(journal).due("lab", NOW)][:2] == [HEADER % 1, HEADER % 2]
    await journal.close()
    assert SENTINEL not in (tmp_path / files.DATABASE).read_bytes()


async def test_an_identifier_cannot_be_guessed_from_its_lane_and_the_order_stays(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    first = await journal.append(message(1, lanes=("0011223344556677",)))
    await journal.apply(Change(first.id, State.WAITING, 1, NOW + 50))
    await journal.close()
    journal = await opened(tmp_path, "one")
    await journal.append(message(2, lanes=("0011223344556677",)))
    entries = [entry async for entry in journal.find(Filter())]
    assert entries[0].lanes == entries[1].lanes != ("0011223344556677",)
    assert await journal.blocked_lanes(NOW, entries[1].lanes) == set(entries[1].lanes)
    await journal.close()
    with contextlib.closing(sqlite3.connect(tmp_path / files.DATABASE)) as connection:
        assert not connection.execute("SELECT 1 FROM messages WHERE lanes LIKE '%0011%'").fetchall()


async def test_a_ciphertext_in_another_s_place_is_damage(tmp_path: Path) -> None:
    journal = await opened(tmp_path, "one")
    ids = [(await journal.append(message(n))).id for n in (1, 2)]
    await journal.close()
    with contextlib.closing(sqlite3.connect(tmp_path / files.DATABASE, isolation_level=None)) as connection:
        connection.execute("UPDATE payloads SET raw = (SELECT raw FROM payloads WHERE seq = 2) WHERE seq = 1")
    journal = await opened(tmp_path, "one")
    swapped, whole = [await journal.get(id) for id in ids]
    assert swapped is not None and swapped.damaged and swapped.raw == b""
    assert whole is not None and not whole.damaged
    await journal.close()


@pytest.mark.parametrize("ids", [(), ("two",)])
async def test_a_missing_key_refuses_the_start_and_loses_nothing(tmp_path: Path, ids: tuple[str, ...]) -> None:
    journal = await opened(tmp_path, "one")
    kept = await journal.append(message(1))
    await journal.close()
    for mode in ("owner", "guest"):
        with pytest.raises(JournalError, match="encrypted with the key 'one', which is not in"):
            await opened(tmp_path, *ids, mode=mode)
    journal = await opened(tmp_path, "one")
    assert (await journal.get(kept.id)).raw == RAW % 1  # type: ignore[union-attr]
    await journal.close()


async def test_a_wrong_key_under_the_right_id_refuses_the_start(tmp_path: Path) -> None:
    await (await opened(tmp_path, "one")).close()
    with pytest.raises(JournalError, match=r"encryption\.keys\.one is not the key"):
        await SqliteJournal.open(tmp_path, min_free_bytes=0, keyring=Keyring({"one": TWO}, "one"))


async def test_a_key_that_the_daemon_does_not_know_yet_is_not_used_by_a_command(tmp_path: Path) -> None:
    await (await opened(tmp_path, "one")).close()
    with pytest.raises(JournalError, match="start `hl7bridge serve`"):
        await opened(tmp_path, "one", "two", mode="guest")


async def rotated(journal: SqliteJournal) -> int:
    after, changed = 0, 0
    while (batch := await journal.rotate(after)).last is not None:
        after, changed = batch.last, changed + batch.changed
    return changed


async def test_a_rotation_seals_everything_anew_beside_the_daemon_and_lets_the_old_key_go(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    clear = await journal.append(message(0, lanes=("0011223344556677",)))
    await journal.apply(Change(clear.id, State.DELIVERED, 1))
    await journal.close()
    journal = await opened(tmp_path, "one")
    ids = [(await journal.append(message(n))).id for n in range(1, 150)]
    lanes = (await journal.get(ids[0])).lanes  # type: ignore[union-attr]
    await journal.close()
    daemon = await opened(tmp_path, "one", "two")
    guest = await opened(tmp_path, "one", "two", mode="guest")
    assert await rotated(guest) == 2 * 150
    assert await rotated(guest) == 0
    assert await guest.retire() == ["one"]
    assert (await daemon.get(ids[5])).raw == RAW % 6  # type: ignore[union-attr]
    await guest.close()
    await daemon.close()
    journal = await opened(tmp_path, "two")
    assert (await journal.get(ids[0])).lanes == lanes  # type: ignore[union-attr]
    assert (await journal.get(clear.id)).lanes != ("0011223344556677",)  # type: ignore[union-attr]
    await journal.close()
    assert SENTINEL not in (tmp_path / files.DATABASE).read_bytes()
    with contextlib.closing(files.connect_proof(tmp_path / files.DATABASE)) as connection:
        guard = open_guard(connection, Keyring({"two": TWO}, "two"), 0.0, owner=False)
        assert verify.Whole(connection, guard).run().findings == ()


async def test_a_rotation_waits_for_a_daemon_that_encrypts_with_the_new_key(tmp_path: Path) -> None:
    await (await opened(tmp_path, "one", "two")).close()
    await (await opened(tmp_path, "two", "one")).close()  # the daemon went back to the old one
    guest = await opened(tmp_path, "one", "two", mode="guest")
    with pytest.raises(JournalRefusal, match="does not encrypt with 'two' yet"):
        await guest.rotate(0)
    await guest.close()


_ROTATE = """
import asyncio, os, sys
sys.path[:0] = [sys.argv[2]]
from hl7bridge.journal.sqlite import SqliteJournal
from hl7bridge.sealing import Keyring
async def main():
    keyring = Keyring({"one": bytes(range(32)), "two": bytes(range(32, 64))}, "two")
    journal = await SqliteJournal.open(sys.argv[1], mode="guest", min_free_bytes=0, keyring=keyring)
    await journal.rotate(0)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_a_rotation_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = await opened(tmp_path, "one")
    ids = [(await journal.append(message(n))).id for n in range(250)]
    await journal.close()
    daemon = await opened(tmp_path, "one", "two")
    root = str(Path(__file__).parents[2])
    ended = subprocess.run([sys.executable, "-c", _ROTATE, str(tmp_path), root], check=False)  # noqa: ASYNC221
    assert ended.returncode == -signal.SIGKILL
    for id in ids:
        assert (await daemon.get(id)).damaged == ""  # type: ignore[union-attr]
    guest = await opened(tmp_path, "one", "two", mode="guest")
    assert await rotated(guest) == 2 * 150, "the first hundred were done"
    assert await guest.retire() == ["one"]
    await guest.close()
    await daemon.close()


# --- dead letters


def letter(id: str, **changed: Any) -> Letter:
    values: dict[str, Any] = {
        "id": id, "reason": ENDPOINT_REJECTED, "detail": "HTTP 422", "raw": RAW % 1, "received_at": NOW,
        "died_at": NOW, "attempts": 1, "listener": "default", "type": "ADT^A01", "control_id": "C1",
        "bundle": b'{"id": "ZZSENTINELZZ"}', "status": 422, "issues": (Issue("error", "invalid", "ZZSENTINELZZ"),),
    }  # fmt: skip
    return Letter(**(values | changed))


def test_a_dead_letter_s_files_are_sealed_and_opened_by_those_who_have_the_key(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path, Keyring({"one": ONE}, "one"))
    path = letters.write(letter("m1"))
    assert SENTINEL not in on_disk(tmp_path)
    assert json.loads((path / "reason.json").read_bytes())["endpoint_status"] == 422
    found = letters.find("m1")
    assert found is not None and found.damaged is None
    assert letters.opened(found, "message.hl7") == RAW % 1
    answered = letters.with_answer(found).content
    assert answered is not None and answered["operation_outcome"][0]["diagnostics"] == SENTINEL.decode()
    with pytest.raises(KeyMissing):
        DeadLetters(tmp_path).opened(found, "bundle.json")
    other = letters.write(letter("m2", raw=b"MSH|other"))
    (other / "message.hl7.sealed").write_bytes((path / "message.hl7.sealed").read_bytes())
    swapped = letters.find("m2")
    assert swapped is not None
    with pytest.raises(Damaged):
        letters.opened(swapped, "message.hl7")


def test_dead_letters_in_clear_are_sealed_by_a_rotation(tmp_path: Path) -> None:
    DeadLetters(tmp_path).write(letter("m1"))
    letters = DeadLetters(tmp_path, Keyring({"one": ONE, "two": TWO}, "two"))
    assert [letters.reseal(found) for found in letters.scan()] == [True]
    assert SENTINEL not in on_disk(tmp_path)
    assert [letters.reseal(found) for found in letters.scan()] == [False]
    (found,) = letters.scan()
    assert letters.opened(found, "bundle.json") == b'{"id": "ZZSENTINELZZ"}'
    content = letters.with_answer(found).content
    assert content is not None and content["operation_outcome"][0]["code"] == "invalid"


# --- keys and commands


def test_what_is_no_key_is_said_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("c2VjcmV0\n")
    (tmp_path / "text").write_text("my secret password\n")
    encryption = Config.model_validate(
        {
            "encryption": {
                "active": "a",
                "keys": {"a": f"file:{tmp_path}/short", "b": f"file:{tmp_path}/text", "c": f"file:{tmp_path}/none"},
            }
        }
    ).encryption
    with pytest.raises(ConfigError) as caught:
        open_keyring(encryption)
    assert len(caught.value.mistakes) == 3
    assert "6 bytes, 32 are wanted" in str(caught.value)
    assert "password" not in str(caught.value) and "c2VjcmV0" not in str(caught.value)
    assert len(key_of(new_key())) == 32


@pytest.fixture
def config(tmp_path: Path) -> Config:
    paths = {}
    for id in ("one", "two"):
        result = CliRunner().invoke(keys, ["new", id, str(tmp_path / id)])
        assert result.exit_code == 0, result.output
        assert (tmp_path / id).stat().st_mode & 0o777 == 0o600
        paths[id] = f"file:{tmp_path / id}"
    return Config.model_validate(
        {
            "journal": {"path": str(tmp_path / "journal")},
            "dead_letters": {"path": str(tmp_path / "dlq")},
            "encryption": {"keys": paths, "active": "one"},
        }
    )


def with_active(config: Config, id: str) -> Config:
    return config.model_copy(update={"encryption": config.encryption.model_copy(update={"active": id})})


async def _filled(config: Config) -> str:
    keyring = open_keyring(config.encryption)
    journal = await SqliteJournal.open(config.journal.path, min_free_bytes=0, clock=Clock(), keyring=keyring)
    found = await journal.append(parked(1, raw=RAW % 1))
    DeadLetters(Path(config.dead_letters.path), keyring).write(letter(found.id, raw=RAW % 1))
    await answered(journal, 2)
    await journal.close()
    return found.id


async def test_a_key_file_is_never_overwritten(config: Config, tmp_path: Path) -> None:
    before = (tmp_path / "one").read_bytes()
    result = CliRunner().invoke(keys, ["new", "one", str(tmp_path / "one")])
    assert result.exit_code != 0
    assert (tmp_path / "one").read_bytes() == before


def test_the_commands_of_a_rotation_in_their_order(config: Config, tmp_path: Path) -> None:
    id = asyncio.run(_filled(config))
    run = CliRunner().invoke
    after = with_active(config, "two")
    early = run(keys, ["rotate"], obj=after)
    assert early.exit_code != 0, "the daemon was not started with it yet"
    asyncio.run(_reopened(after))
    done = run(keys, ["rotate"], obj=after)
    assert done.exit_code == 0, done.output
    assert "Nothing is encrypted with 'one' any more" in done.output
    listed = run(keys, ["list", "--json"], obj=after)
    assert [json.loads(line)["use"] for line in listed.stdout.splitlines()] == ["not in use: may go", "encrypts"]
    only_two = after.model_copy(
        update={"encryption": Encryption(keys={"two": after.encryption.keys["two"]}, active="two")}
    )
    counted = json.loads(run(keys, ["verify", "--json"], obj=only_two).stdout)
    assert counted == {"by_key": {"two": 8}, "unopened": 0, "unopened_dead_letters": 0}
    raw = run(messages, ["show", id, "--raw"], obj=only_two)
    assert raw.stdout_bytes == RAW % 1


async def _reopened(config: Config) -> None:
    keyring = open_keyring(config.encryption)
    await (await SqliteJournal.open(config.journal.path, min_free_bytes=0, keyring=keyring)).close()


def test_prove_and_journal_verify_hold_an_encrypted_journal_before_and_after_a_rotation(
    config: Config, tmp_path: Path
) -> None:
    id = asyncio.run(_filled(config))
    run = CliRunner().invoke
    after = with_active(config, "two")
    for step in (config, after):
        proved = run(prove, [id, "--json"], obj=step)
        assert proved.exit_code == 0, proved.output
        document = json.loads(proved.stdout)
        assert document["verified"] is True and document["stored"] == "whole"
        whole = run(journal_command, ["verify", "--json"], obj=step)
        assert whole.exit_code == 0, whole.output
        assert json.loads(whole.stdout)["verified"] is True
        assert SENTINEL.decode() not in proved.output + whole.output
        if step is config:
            asyncio.run(_reopened(after))
            assert run(keys, ["rotate"], obj=after).exit_code == 0
    without = config.model_copy(update={"encryption": Encryption(keys={"one": config.encryption.keys["one"]})})
    for refused in (run(prove, [id], obj=without), run(journal_command, ["verify"], obj=without)):
        assert isinstance(refused.exception, JournalError), refused.output
        assert "the key 'two'" in str(refused.exception), "neither right nor wrong: the key is not there"
    with contextlib.closing(sqlite3.connect(tmp_path / "journal" / files.DATABASE, isolation_level=None)) as connection:
        connection.execute("UPDATE payloads SET raw = (SELECT raw FROM payloads ORDER BY seq DESC) WHERE seq = 1")
    proved = run(prove, [id], obj=after)
    assert proved.exit_code == 1 and "is not the one that was received" in proved.output
    assert run(journal_command, ["verify"], obj=after).exit_code == 1


def test_show_and_export_decrypt_with_an_audit_line(config: Config, tmp_path: Path) -> None:
    id = asyncio.run(_filled(config))
    run = CliRunner().invoke
    shown = run(dlq, ["show", id], obj=config)
    assert shown.exit_code == 0, shown.output
    assert SENTINEL.decode() in shown.stdout and "recorded in the audit" in shown.stderr
    exported = run(dlq, ["export", id, "--to", str(tmp_path / "out")], obj=config)
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "out" / id / "message.hl7").read_bytes() == RAW % 1
    assert (tmp_path / "out" / id / "bundle.json").read_bytes() == b'{"id": "ZZSENTINELZZ"}'
    assert (tmp_path / "out" / id).stat().st_mode & 0o077 == 0
    assert asyncio.run(_audited(config)) == ["show server's answer", "export dead letters"]


async def _audited(config: Config) -> list[str]:
    keyring = open_keyring(config.encryption)
    journal = await SqliteJournal.open(config.journal.path, mode="guest", min_free_bytes=0, keyring=keyring)
    entries = await journal.audited()
    await journal.close()
    return [entry.action for entry in entries]


def test_an_edit_shows_a_segment_a_line_and_replays_what_was_saved(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = asyncio.run(_filled(config))
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\ncp \"$1\" '%s'\nsed -i 's/ZZSENTINELZZ/7/' \"$1\"\n" % (tmp_path / "seen"))
    editor.chmod(0o700)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    result = CliRunner().invoke(dlq, ["edit", id], obj=config)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "seen").read_bytes() == (RAW % 1).replace(b"\r", b"\n")
    raw = CliRunner().invoke(messages, ["show", id, "--raw"], obj=config).stdout_bytes
    assert raw == (RAW % 1).replace(SENTINEL, b"7")
    again = CliRunner().invoke(dlq, ["edit", id], obj=config)
    assert again.exit_code != 0, "it is on its way"
    assert os.environ["EDITOR"] == str(editor)
