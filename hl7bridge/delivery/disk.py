"""Writing what must be there whole or not at all: beside, fsync, rename, fsync of the folder. Private modes throughout.

What holds: a reader never sees half a file, and after the call returns the file survives a power cut. Everything here
may hold patient data, so files are 0600 and folders 0700, whatever the umask.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
BESIDE = ".beside"  # folder for what is not whole yet; on the same file system, so that a rename suffices


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, private, each made durable in its parent; one that exists is left as it is."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """fsync of a folder: the names in it are durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that is not there yet and fsyncs it. Raises OSError; a partial file is the caller's to remove."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_file(root: Path, path: Path, content: bytes) -> None:
    """Puts `content` at `path` (below `root`), replacing what is there, atomically and durably."""
    beside = _beside(root)
    try:
        write_new(beside, content)
        make_folder(path.parent)
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_folder(root: Path, path: Path, files: Mapping[str, bytes]) -> None:
    """Puts a folder with these files at `path` (below `root`), replacing what is there. Durable when it returns.

    A folder cannot be renamed over a full one, so an older one steps aside first; for that moment it is missing.
    """
    beside = _beside(root)
    try:
        beside.mkdir(mode=FOLDER_MODE)
        for name, content in files.items():
            write_new(beside / name, content)
        sync_folder(beside)
        make_folder(path.parent)
        if path.exists():
            older = _beside(root)
            path.rename(older)
            beside.rename(path)
            shutil.rmtree(older, ignore_errors=True)
        else:
            beside.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def drop_folder(root: Path, path: Path) -> None:
    """Removes the folder `path` (below `root`): it is there whole or not at all, even if this is interrupted."""
    aside = _beside(root)
    try:
        path.rename(aside)
    except FileNotFoundError:  # somebody else was faster
        return
    shutil.rmtree(aside, ignore_errors=True)


def sweep_beside(root: Path) -> None:
    """Removes what a crash left half-written. For the one process that writes here, at its start.

    The folder itself stays: another process may be putting something aside this moment.
    """
    beside = root / BESIDE
    for entry in beside.iterdir() if beside.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def wider_than_private(*roots: Path) -> list[Path]:
    """What others than the owner may read or enter: the roots and what is in them."""
    found = []
    for root in roots:
        for path in (root, *root.glob("*")):
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if not stat.S_ISLNK(mode) and not stat.S_ISSOCK(mode) and mode & 0o077:
                found.append(path)
    return found


def day(seconds: float) -> str:
    """The UTC date of a time since the epoch, as folders are named: 2024-05-01."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _beside(root: Path) -> Path:
    make_folder(root / BESIDE)
    return root / BESIDE / secrets.token_hex(8)
