"""Disks: can each folder be written and synced, is the journal on a local one, is there room? Probes are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hl7bridge.config import Config
from hl7bridge.examine.finding import Finding

# SQLite's WAL needs shared memory and honest locks; these file systems have neither, or lie about fsync
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})
SLOW_FSYNC = 0.1  # seconds: senders wait at least that long for their answer


def journal(config: Config) -> Iterator[Finding]:
    """The journal's folder, the file system it is on, what is free there."""
    place = Path(config.journal.path)
    yield from folder("journal", place, "journal.path")
    there = _nearest(place)
    kind = _file_system(there)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding("FAIL", "journal disk", f"{there} is on {kind}", "put the journal on a local disk (SQLite WAL)")
    free = shutil.disk_usage(there).free
    if free < config.journal.min_free_bytes:
        text = f"{_mebibytes(free)} free, journal.min_free_bytes is {_mebibytes(config.journal.min_free_bytes)}"
        yield Finding("FAIL", "journal disk", text, "free space: until then every sender gets AR/CE 207")
    elif free < 4 * config.journal.min_free_bytes:
        yield Finding("warn", "journal disk", f"{_mebibytes(free)} free", "it will not last long")
    else:
        yield Finding("ok", "journal disk", f"{_mebibytes(free)} free")


def folder(subject: str, folder: Path, key: str) -> Iterator[Finding]:
    """Can a file be written there and synced? The folder itself need not exist yet."""
    there = _nearest(folder)
    begun = time.perf_counter()
    try:
        with tempfile.TemporaryFile(prefix=".hl7bridge-doctor-", dir=there) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = f"let this user write there, or set {key}"
        yield Finding("FAIL", subject, f"{folder}: cannot be written: {error.strerror or type(error).__name__}", remedy)
        return
    took = time.perf_counter() - begun
    made = "" if folder.is_dir() else " (will be made)"
    text = f"{folder}{made}: written and synced in {took * 1000:.0f} ms"
    if took > SLOW_FSYNC:
        yield Finding("warn", subject, text, "a slow disk: every answer waits for it")
    else:
        yield Finding("ok", subject, text)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    here = folder.absolute()
    while not here.is_dir() and here != here.parent:
        here = here.parent
    return here


def _file_system(folder: Path) -> str:
    """The type of the file system a folder is on; empty where /proc does not tell."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _mebibytes(count: int) -> str:
    return f"{count / (1024 * 1024):,.0f} MiB"
