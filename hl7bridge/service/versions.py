"""Versions of the tables on disk: copies by content, which of them is active, and what happened when.

    JOURNAL.PATH/tables/active.json             the version that is active; absent: the configuration's folders decide
    JOURNAL.PATH/tables/history.jsonl           a line for each start with other tables, activation, rollback, refusal
    JOURNAL.PATH/tables/754ecd2b083c/           a version: version.json and its folders, 0/mappings, 1/north …

What holds and why:
- A version's name is the hash of its content, so a copy is never changed and never written twice. It is made beside,
  synced and renamed: there is a whole version or none.
- A copy holds all folders, the shipped tables too: what was active is served again letter by letter, whatever was
  edited, installed or removed since. Everything that ever was in service is there: a message's mapping version leads
  to its tables.
- `active.json` is replaced in one rename: a crash leaves the old version active or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hl7bridge.errors import UnavailableError

FOLDER = "tables"  # in the journal's folder: one daemon, one journal, one active version
SHORTEST = 4  # digits of a version that are enough to name it, where they fit one only
Folders = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A stored version. `sets`: the overlays of listener and sender -> the folders to load, the base first.

    `versions`: the same keys -> the mapping version that messages carry; `options`: the configuration's at the time.
    """

    id: str
    path: Path
    sets: Mapping[Folders, tuple[Path, ...]]
    versions: Mapping[Folders, str]
    options: Mapping[str, str]
    program: str


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the history. `action`: start, activate, rollback, refuse; `changes`: counts; `at`: seconds."""

    at: float
    action: str
    version: str
    by: str
    previous: str = ""
    changes: str = ""
    mistakes: int = 0
    versions: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Active:
    """What `active.json` says."""

    version: str
    at: float
    by: str


class Draft:
    """A copy that is being made; `keep` gives it its name, leaving the block without that removes it."""

    def __init__(self, path: Path, folders: Mapping[str, Path]) -> None:
        self.path = path
        self.folders = folders  # the folder as configured -> its copy


class Versions:
    """The store of one journal. Methods raise UnavailableError when the disk does not do."""

    def __init__(self, journal: Path | str) -> None:
        self.path = Path(journal) / FOLDER

    @contextlib.contextmanager
    def draft(self, folders: Sequence[tuple[str, Path, str]]) -> Iterator[Draft]:
        """Copies of (key, folder, name) side by side: of each folder the YAML files, hidden ones left out."""
        with _disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            above = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.path))
        try:
            copies: dict[str, Path] = {}
            with _disk(self.path):
                for number, (key, folder, name) in enumerate(folders):
                    copies[key] = above / str(number) / name
                    _copy(folder, copies[key])
            yield Draft(above, copies)
        finally:
            shutil.rmtree(above, ignore_errors=True)

    def keep(
        self,
        draft: Draft,
        id: str,
        sets: Mapping[Folders, Sequence[str]],
        versions: Mapping[Folders, str],
        options: Mapping[str, str],
        program: str,
    ) -> Version:
        """Gives the draft its name, unless a version of this content is there already. `sets`: keys of the draft."""
        target = self.path / id
        with _disk(self.path):
            if not self.has(id):
                paths = {key: str(path.relative_to(draft.path)) for key, path in draft.folders.items()}
                told = [
                    {"overlays": key, "folders": [paths[name] for name in names], "version": versions[key]}
                    for key, names in sets.items()
                ]
                document = {"id": id, "program": program, "options": dict(options), "sets": told}
                _write(draft.path / "version.json", document)
                shutil.rmtree(target, ignore_errors=True)
                draft.path.rename(target)
                _sync(self.path)
        return self.get(id)

    def has(self, id: str) -> bool:
        """Is a version of this name kept, whole?"""
        return (self.path / id / "version.json").is_file()

    def get(self, id: str) -> Version:
        """A version by its full name. UnavailableError: it is not there, or damaged."""
        path = self.path / id
        try:
            document = json.loads((path / "version.json").read_text("utf-8"))
            sets = {tuple(one["overlays"]): one for one in document["sets"]}
            return Version(
                document["id"],
                path,
                {key: tuple(path / name for name in one["folders"]) for key, one in sets.items()},
                {key: one["version"] for key, one in sets.items()},
                document["options"],
                document["program"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(f"{path}: no version of the tables can be read: {type(error).__name__}") from None

    def find(self, word: str) -> Version | None:
        """What `active` (in service), or the first digits of a version or mapping version, mean; None: nothing."""
        if word == "active":
            id = self.in_service()
            return self.get(id) if id else None
        if len(word) < SHORTEST or not all(sign in "0123456789abcdef" for sign in word):
            return None
        every = list(self.all())
        found = [one for one in every if one.id.startswith(word)]
        found = found or [one for one in every if any(name.startswith(word) for name in one.versions.values())]
        return found[0] if len(found) == 1 else None

    def all(self) -> Iterator[Version]:
        """Every whole version, by name."""
        for path in sorted(self.path.glob("*/version.json")):
            if not path.parent.name.startswith("."):
                yield self.get(path.parent.name)

    def active(self) -> Active | None:
        """None: nothing was ever activated. UnavailableError: `active.json` cannot be read."""
        file = self.path / "active.json"
        try:
            document = json.loads(file.read_text("utf-8"))
            return Active(document["version"], document["at"], document["by"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(f"{file} cannot be read: {type(error).__name__}") from None

    def in_service(self) -> str:
        """The active version, else what the last start took from the configuration's folders; "" before the first."""
        active = self.active()
        if active is not None:
            return active.version
        return next((event.version for event in reversed(self.history()) if event.action == "start"), "")

    def activate(self, event: Event) -> None:
        """Makes a version the active one and notes it. The pointer first: the history may lack a line, never lead."""
        with _disk(self.path):
            beside = self.path / f".active-{os.getpid()}"
            _write(beside, {"version": event.version, "at": event.at, "by": event.by})
            beside.rename(self.path / "active.json")
            _sync(self.path)
        self.note(event)

    def note(self, event: Event) -> None:
        """One line more in the history."""
        with _disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(event)) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def history(self) -> list[Event]:
        """Oldest first; a line cut off by a crash is left out."""
        found = []
        try:
            lines = (self.path / "history.jsonl").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnavailableError(f"{self.path}: {error.strerror}") from None
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                found.append(Event(**json.loads(line)))
        return found

    def before(self) -> str | None:
        """The version that a rollback leads to: the one in service before the present one; None: there was none.

        Rollbacks go back step by step; activating the same version again is no step.
        """
        stack: list[str] = []
        for event in self.history():
            if event.action == "rollback":
                while stack and stack[-1] != event.version:
                    stack.pop()
                stack = stack or [event.version]
            elif event.action in ("start", "activate") and (not stack or stack[-1] != event.version):
                stack.append(event.version)
        return stack[-2] if len(stack) > 1 else None


def _copy(folder: Path, to: Path) -> None:
    """What reading looks at (see mapping/source), and YAML at wrong places, which it names."""
    to.mkdir(parents=True)
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name.startswith((".", "_")):
            continue
        for file in sorted(entry.rglob("*")) if entry.is_dir() else (entry,):
            parts = file.relative_to(folder).parts
            hidden = file.name.startswith(".") or any(part.startswith((".", "_")) for part in parts[:-1])
            if not hidden and file.suffix.lower() in (".yaml", ".yml") and file.is_file():
                copy = to.joinpath(*parts)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())


def _write(file: Path, document: Mapping[str, Any]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{path}: versions cannot be kept: {error.strerror or type(error).__name__}") from None
