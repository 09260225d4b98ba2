"""Dead-letter directories: whole or not there, private, tolerant of damage."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hl7bridge import reasons
from hl7bridge.delivery import disk
from hl7bridge.delivery.answer import Issue
from hl7bridge.delivery.deadletter import DeadLetters, Letter

SENTINEL = "ZZSENTINELZZ"

LETTER = Letter(
    id="0190b5a2-7a3c-7cc0-8000-000000000001",
    reason=reasons.ENDPOINT_REJECTED,
    detail="HTTP 422 (invalid)",
    raw=b"MSH|^~\\&|\xe4\r",
    received_at=1_700_000_000.0,
    died_at=1_700_000_060.5,
    attempts=2,
    listener="default",
    type="ADT^A08",
    control_id="C\udce4",  # a byte of a foreign charset
    mapping_version="v1",
    bundle=b"{}",
    status=422,
    issues=(Issue("error", "invalid", SENTINEL, "details", ("Patient.name",)),),
)


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    letters = DeadLetters(tmp_path / "var" / "dlq")
    letters.begin()
    return letters


def test_a_letter_is_a_folder_an_operator_can_read(letters: DeadLetters) -> None:
    path = letters.write(LETTER)
    assert path == letters.root / "endpoint-rejected" / "2023-11-14" / LETTER.id
    assert (path / "message.hl7").read_bytes() == LETTER.raw
    assert (path / "bundle.json").read_bytes() == b"{}"
    assert json.loads((path / "reason.json").read_text("utf-8")) == {
        "id": LETTER.id,
        "reason": "endpoint-rejected",
        "sentence": reasons.ENDPOINT_REJECTED.sentence,
        "detail": "HTTP 422 (invalid)",
        "whose_turn": "endpoint",
        "remedy": reasons.ENDPOINT_REJECTED.remedy,
        "listener": "default",
        "type": "ADT^A08",
        "control_id": "C\\udce4",
        "received_at": "2023-11-14T22:13:20.000Z",
        "died_at": "2023-11-14T22:14:20.500Z",
        "attempts": 2,
        "replays": 0,
        "mapping_version": "v1",
        "endpoint_status": 422,
        "operation_outcome": [
            {
                "severity": "error",
                "code": "invalid",
                "details": "details",
                "diagnostics": SENTINEL,
                "expression": ["Patient.name"],
            }
        ],
    }
    assert SENTINEL not in repr(LETTER)


def test_everything_is_private_whatever_the_umask(letters: DeadLetters) -> None:
    before = os.umask(0)
    try:
        path = letters.write(LETTER)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    folder = path
    while folder != letters.root.parent.parent:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder = folder.parent


def test_writing_twice_replaces_and_dying_for_another_reason_moves(letters: DeadLetters) -> None:
    letters.write(LETTER)
    letters.write(replace(LETTER, attempts=3, bundle=None))
    found = letters.find(LETTER.id)
    assert found is not None and found.content is not None
    assert found.content["attempts"] == 3
    assert [path.name for path in found.files] == ["message.hl7", "reason.json"]
    letters.write(replace(LETTER, reason=reasons.NOT_TRANSLATABLE))
    assert [(found.reason, found.id) for found in letters.scan()] == [("not-translatable", LETTER.id)]
    assert not (letters.root / "endpoint-rejected").exists()
    assert letters.has(LETTER.id, "not-translatable", LETTER.received_at)
    assert not letters.has(LETTER.id, "endpoint-rejected", LETTER.received_at)


def test_removing_takes_the_empty_folders_along_and_is_harmless_twice(letters: DeadLetters) -> None:
    letters.write(LETTER)
    other = replace(LETTER, id="0190b5a2-7a3c-7cc0-8000-000000000002")
    letters.write(other)
    assert letters.remove(LETTER.id, LETTER.received_at)
    assert not letters.remove(LETTER.id)
    assert letters.ids() == {other.id}
    assert letters.remove(other.id)
    assert [path.name for path in letters.root.iterdir()] == [disk.BESIDE]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: (path / "reason.json").unlink(), "reason.json is missing"),
        (lambda path: (path / "reason.json").write_bytes(b'{"id": "01'), "reason.json cannot be read as JSON"),
        (lambda path: (path / "reason.json").write_bytes(b""), "reason.json cannot be read as JSON"),
        (lambda path: (path / "reason.json").write_bytes(b"\xff\xfe"), "reason.json cannot be read as JSON"),
        (lambda path: (path / "reason.json").write_bytes(b"[]"), "reason.json is not about this message"),
        (lambda path: (path / "reason.json").write_bytes(b'{"id": "other"}'), "reason.json is not about this message"),
        (lambda path: (path / "message.hl7").unlink(), "message.hl7 is missing"),
    ],
)
def test_a_damaged_folder_is_listed_as_damaged(letters: DeadLetters, harm: object, said: str) -> None:
    path = letters.write(LETTER)
    assert callable(harm)
    harm(path)
    assert [found.damaged for found in letters.scan()] == [said]


def test_strange_things_in_the_tree_are_passed_over(letters: DeadLetters) -> None:
    letters.write(LETTER)
    (letters.root / "notes.txt").write_text("do not forget")
    (letters.root / "endpoint-rejected" / "file").write_text("")
    (letters.root / "loop").symlink_to(letters.root / "nowhere")
    assert [found.damaged for found in letters.scan()] == [None]
    assert list(DeadLetters(letters.root / "missing").scan()) == []


def test_what_a_crash_left_beside_is_never_listed_and_gone_at_the_next_start(letters: DeadLetters) -> None:
    left = letters.root / disk.BESIDE / "half"
    left.mkdir(parents=True)
    (left / "message.hl7").write_bytes(b"MSH")
    assert list(letters.scan()) == []
    letters.begin()
    assert not left.exists()


def test_a_write_that_fails_leaves_nothing_half_done(letters: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    letters.write(LETTER)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hl7bridge.delivery.disk.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        letters.write(replace(LETTER, attempts=9))
    monkeypatch.undo()
    found = letters.find(LETTER.id)
    assert found is not None and found.content is not None and found.content["attempts"] == 2
    assert list((letters.root / disk.BESIDE).iterdir()) == []


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "x" * 65])
def test_an_id_that_is_no_single_name_is_refused(letters: DeadLetters, id: str) -> None:
    with pytest.raises(ValueError, match="not a message id"):
        letters.find(id)
