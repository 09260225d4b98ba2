"""Which tables a person means by a word: `shipped`, a folder, a stored version, a git commit of a folder.

What holds: the first of these that fits is taken, in this order, and what was taken is told. A git commit is read
with `git archive` into a folder that is removed afterwards: the working tree is never touched.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hl7bridge.errors import Hl7BridgeError
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.schema import TableSet

SHIPPED = "shipped"
GIT_SECONDS = 60

Stored = Callable[[str], TableSet | None]  # the general tables of a stored version; None: there is none of this name


class UnknownRevision(Hl7BridgeError):
    """The word names no tables."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Revision:
    """`name`: what was taken, for people."""

    name: str
    tables: TableSet


@contextlib.contextmanager
def _at(commit: str, folder: Path) -> Iterator[Path]:
    """The folder as it was in a commit, under its own name. Raises UnknownRevision."""
    done = _git(folder, "archive", "--format=tar", commit)
    with tempfile.TemporaryDirectory(prefix="hl7bridge-") as above:
        there = Path(above) / folder.resolve().name
        there.mkdir()
        with tarfile.open(fileobj=io.BytesIO(done)) as archive:
            archive.extractall(there, filter="data")
        yield there


def _git(folder: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnknownRevision(f"git cannot be asked: {type(error).__name__}") from None
    if done.returncode:
        raise UnknownRevision(f"git: {done.stderr.decode(errors='replace').strip().splitlines()[-1:] or 'failed'}")
    return done.stdout


def _commit(word: str, folder: Path) -> str | None:
    """The full name of a commit of the folder's repository; None when there is none."""
    if word.startswith("-"):
        return None
    try:
        return _git(folder, "rev-parse", "--verify", "--quiet", f"{word}^{{commit}}").decode().strip()
    except UnknownRevision:
        return None


def find(words: Sequence[str], beside: Sequence[Path], stored: Stored, *, alone: bool = False) -> Revision:
    """The tables that `words` mean.

    words: one of `shipped`, folders (laid over the shipped tables in their order, or with `alone` the first of them is
    all there is), a stored version, or a commit of the repository that the folders `beside` belong to: these folders as
    they were then. Raises UnknownRevision, TablesError.
    """
    if all(Path(word).is_dir() for word in words if word != SHIPPED) and list(words) != [SHIPPED]:
        folders = [Path(word) for word in words if word != SHIPPED]
        return Revision(", ".join(map(str, folders)), load_tables(*folders, shipped=not alone))
    if len(words) != 1:
        missing = next(word for word in words if word != SHIPPED and not Path(word).is_dir())
        raise UnknownRevision(f"there is no folder {missing!r}")
    (word,) = words
    if word == SHIPPED:
        return Revision("the shipped tables", load_tables())
    if (tables := stored(word)) is not None:
        return Revision(f"version {tables.version}", tables)
    if beside and (commit := _commit(word, beside[0])) is not None:
        with contextlib.ExitStack() as stack:
            folders = [stack.enter_context(_at(commit, folder)) for folder in beside]
            name = f"{', '.join(map(str, beside))} at {word} ({commit[:10]})"
            return Revision(name, load_tables(*folders, shipped=not alone))
    where = f"{beside[0]}'s git repository" if beside else "a git repository"
    raise UnknownRevision(f"{word!r} is no folder, no stored version, and no commit of {where}")
