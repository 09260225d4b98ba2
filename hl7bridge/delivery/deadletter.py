"""Dead letters as directories an operator reads with ls, less and jq.

    <root>/<reason>/<received date, UTC>/<message-id>/message.hl7    the bytes as received (or as edited for a replay)
                                                      bundle.json    what was to be delivered, if it came to that
                                                      reason.json    what happened, whose turn it is, what to do

With keys (encryption.keys) the message, the bundle and the server's answer are `message.hl7.sealed`,
`bundle.json.sealed` and `answer.json.sealed`; reason.json stays readable and has no OperationOutcome then.

What holds and why:

- The journal's state DEAD is the truth, a directory is the operator's view of it: one that is missing is written again
  at the next start, one that is damaged is listed as damaged, none is ever read to decide what is delivered.
- Written beside, fsynced and renamed: a directory is whole or not there. 0600 and 0700: this is patient data.
- One message has one directory: dying again for another reason moves it. A replay leaves it until the message is
  delivered, so that nothing vanishes from view before it has arrived.
- The server's diagnostics may quote the patient: they are in reason.json and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from hl7bridge.delivery.answer import Issue
from hl7bridge.delivery.disk import BESIDE, day, drop_folder, make_folder, sweep_beside, sync_folder, write_folder
from hl7bridge.reasons import Reason
from hl7bridge.sealing import Keyring

MESSAGE, BUNDLE, REASON, ANSWER = "message.hl7", "bundle.json", "reason.json", "answer.json"
SEALED = ".sealed"
_NAMES = tuple(name + end for name in (MESSAGE, BUNDLE, ANSWER) for end in ("", SEALED))
SIDECAR_MAX = 1024 * 1024  # a reason.json is some kilobytes; more than this is none of ours

_SAFE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is written. Times in seconds since the epoch."""

    id: str
    reason: Reason
    detail: str
    raw: bytes = field(repr=False)
    received_at: float
    died_at: float | None  # None: written again from the journal, which does not keep it
    attempts: int
    listener: str
    type: str
    control_id: str = field(repr=False)
    mapping_version: str = ""
    replays: int = 0
    bundle: bytes | None = field(default=None, repr=False)
    status: int = 0  # of the endpoint; 0: it was not asked, or did not answer
    issues: tuple[Issue, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A directory as it was found. `damaged` says what is wrong with it, None when it is whole."""

    id: str
    path: Path
    reason: str
    date: str
    content: dict[str, Any] | None = field(repr=False)
    damaged: str | None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.path / name for name in (*_NAMES, REASON)) if path.is_file())


class DeadLetters:
    """The directory tree. Every method may block on the disk; call it in a thread. Raises OSError."""

    def __init__(self, root: Path, keyring: Keyring | None = None) -> None:
        self.root = root
        self._keyring = keyring or Keyring()

    def begin(self) -> None:
        """For the one daemon that writes here, at its start: makes the root, removes what a crash left half-written."""
        make_folder(self.root)
        sweep_beside(self.root)

    def path_of(self, id: str, reason: str, received_at: float) -> Path:
        return self.root / reason / day(received_at) / _safe(id)

    def write(self, letter: Letter) -> Path:
        """Writes a letter's directory durably; the same letter again replaces it, another reason's one goes."""
        path = self.path_of(letter.id, letter.reason.code, letter.received_at)
        sealed = bool(self._keyring.active)
        guarded = {MESSAGE: letter.raw}
        if letter.bundle is not None:
            guarded[BUNDLE] = letter.bundle
        if sealed and letter.issues:
            guarded[ANSWER] = orjson.dumps([issue.as_dict() for issue in letter.issues])
        files = self._guarded(letter.id, guarded)
        files[REASON] = reason_json(replace(letter, issues=()) if sealed else letter)
        write_folder(self.root, path, files)
        for older in self._places(letter.id, letter.received_at):
            if older != path:
                self._remove(older)
        return path

    def remove(self, id: str, received_at: float | None = None) -> bool:
        """Removes a message's directory, if it is there. Removing twice is harmless. `received_at` spares a search."""
        found = list(self._places(id, received_at))
        for path in found:
            self._remove(path)
        return bool(found)

    def find(self, id: str, received_at: float | None = None) -> Found | None:
        """The directory of a message, None when there is none. `received_at` spares a search."""
        return next((_read(path) for path in self._places(id, received_at)), None)

    def has(self, id: str, reason: str, received_at: float) -> bool:
        """Is a message's directory there, for this reason and whole as far as names go?"""
        path = self.path_of(id, reason, received_at)
        return (path / REASON).is_file() and _has_message(path)

    def opened(self, found: Found, name: str) -> bytes | None:
        """A file of a directory in clear, None when there is none. Raises KeyMissing or Damaged."""
        for stored in (found.path / name, found.path / (name + SEALED)):
            with contextlib.suppress(FileNotFoundError):
                return self._keyring.open(stored.read_bytes(), _place(found.id, name))
        return None

    def with_answer(self, found: Found) -> Found:
        """The same with the server's sealed answer in its content. Raises KeyMissing or Damaged."""
        sealed = self.opened(found, ANSWER)
        if sealed is None or found.content is None:
            return found
        return replace(found, content=found.content | {"operation_outcome": orjson.loads(sealed)})

    def reseal(self, found: Found) -> bool:
        """Seals a directory's files with the active key; one that was clear becomes sealed. False: nothing to do.

        Raises KeyMissing or Damaged; then the directory is as it was.
        """
        names = [name for name in (MESSAGE, BUNDLE, ANSWER) if self._behind(found.path, name)]
        content = found.content or {}
        if not names and not content.get("operation_outcome"):
            return False
        kept = {name: text for name in (MESSAGE, BUNDLE, ANSWER) if (text := self.opened(found, name)) is not None}
        if content.get("operation_outcome"):
            kept[ANSWER] = orjson.dumps(content.pop("operation_outcome"))
        files = self._guarded(found.id, kept)
        if found.content is not None:
            files[REASON] = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write_folder(self.root, found.path, files)
        return True

    def _behind(self, path: Path, name: str) -> bool:
        """Is this file clear, or sealed by another key than the active one?"""
        sealed = path / (name + SEALED)
        return (path / name).is_file() or (sealed.is_file() and not self._keyring.is_current(sealed.read_bytes()))

    def _guarded(self, id: str, texts: Mapping[str, bytes]) -> dict[str, bytes]:
        if not self._keyring.active:
            return dict(texts)
        return {name + SEALED: self._keyring.seal(text, _place(id, name)) for name, text in texts.items()}

    def ids(self) -> set[str]:
        """The ids of all directories, whole or damaged."""
        return {path.name for path in self._all()}

    def scan(self) -> Iterator[Found]:
        """Every directory, by reason, date and id; damaged ones too."""
        for path in self._all():
            yield _read(path)

    def _all(self) -> Iterator[Path]:
        for date in self._dates():
            yield from _folders(date)

    def _dates(self) -> Iterator[Path]:
        for reason in _folders(self.root):
            yield from _folders(reason)

    def _places(self, id: str, received_at: float | None = None) -> Iterator[Path]:
        """Where a message's directory is: one, or two for a moment after it died again for another reason."""
        name = _safe(id)
        if received_at is None:
            dates = list(self._dates())
        else:
            dates = [reason / day(received_at) for reason in _folders(self.root)]
        for date in dates:
            if (date / name).is_dir():
                yield date / name

    def _remove(self, path: Path) -> None:
        drop_folder(self.root, path)
        for parent in (path.parent, path.parent.parent):
            try:
                parent.rmdir()  # if it is empty
            except OSError:
                break
        with contextlib.suppress(FileNotFoundError):
            sync_folder(path.parent if path.parent.is_dir() else self.root)


def _place(id: str, name: str) -> bytes:
    """What a sealed file is bound to."""
    return f"letter:{id}:{name}".encode("ascii")


def _has_message(path: Path) -> bool:
    return (path / MESSAGE).is_file() or (path / (MESSAGE + SEALED)).is_file()


def reason_json(letter: Letter) -> bytes:
    """What happened, whose turn it is, what to do: for people with jq, so indented and in a telling order."""
    reason = letter.reason
    content: dict[str, Any] = {
        "id": letter.id,
        "reason": reason.code,
        "sentence": reason.sentence,
        "detail": letter.detail,
        "whose_turn": reason.whose,
        "remedy": reason.remedy,
        "listener": letter.listener,
        "type": letter.type,
        "control_id": letter.control_id,
        "received_at": _instant(letter.received_at),
        "died_at": None if letter.died_at is None else _instant(letter.died_at),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "mapping_version": letter.mapping_version,
    }
    if letter.status:
        content["endpoint_status"] = letter.status
    if letter.issues:
        content["operation_outcome"] = [issue.as_dict() for issue in letter.issues]
    return orjson.dumps(_printable(content), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _printable(content: dict[str, Any]) -> dict[str, Any]:
    """Surrogates (bytes of a foreign charset in MSH-10) cannot be JSON: shown as \\udc.. instead of failing."""
    return {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for key, value in content.items()
    }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _safe(id: str) -> str:
    """An id that is one folder name. Ids are the journal's own, but a command line may name anything."""
    if not _SAFE_ID.fullmatch(id):
        raise ValueError("not a message id")
    return id


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, sorted; none when it is not there (it may go while we look)."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.name != BESIDE and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: Path) -> Found:
    content: dict[str, Any] | None = None
    damaged: str | None = None
    try:
        with (path / REASON).open("rb") as file:
            loaded = orjson.loads(file.read(SIDECAR_MAX))
        if isinstance(loaded, dict) and loaded.get("id") == path.name:
            content = loaded
        else:
            damaged = f"{REASON} is not about this message"
    except FileNotFoundError:
        damaged = f"{REASON} is missing"
    except orjson.JSONDecodeError:
        damaged = f"{REASON} cannot be read as JSON"
    except OSError as error:
        damaged = f"{REASON} cannot be read ({error.strerror})"
    if damaged is None and not _has_message(path):
        damaged = f"{MESSAGE} is missing"
    return Found(path.name, path, path.parent.parent.name, path.parent.name, content, damaged)
