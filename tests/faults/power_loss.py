"""What a disk may hold when the power fails: traced writes put onto a file layer that keeps only what was synced.

What holds (and is harsher than most file systems):
- What a completed fsync or fdatasync covered is on the disk. Everything written since may be there or not, each sector of
  512 bytes by itself and in any order; a change of a file's size since may have happened or not.
- After a sync that failed, what it should have covered is gone for good unless it is written again: a kernel may call the
  pages clean although they never reached the disk, and the next sync then says nothing of them.
- Names (created, renamed, removed) are on the disk after an fsync of their folder; before, any beginning of the list of
  such changes may be.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from traced_daemon import Call

SECTOR = 512


@dataclass(eq=False)
class Inode:
    """A file's bytes: as they are certain to be, and what was done to them since."""

    certain: bytearray = field(default_factory=bytearray)
    since: list[Call] = field(default_factory=list)

    def sync(self, until: int) -> None:
        """Everything that was done before line `until` is certain now."""
        for call in self.since:
            if call.done < until:
                _apply(self.certain, call, None)
        self.since = [call for call in self.since if call.done >= until]

    def after(self, choose: random.Random, share: float) -> bytes:
        """What is found: each sector written since with the probability `share`."""
        found = bytearray(self.certain)
        for call in self.since:
            _apply(found, call, lambda: choose.random() < share)
        return bytes(found)


def _apply(content: bytearray, call: Call, kept: object) -> None:
    keeps = kept if callable(kept) else (lambda: True)
    if call.name == "ftruncate":
        if keeps():
            size = call.number
            content[:] = content[:size] + bytes(max(0, size - len(content)))
        return
    for start in range(0, len(call.data), SECTOR):
        at = call.number + start
        part = call.data[start : start + SECTOR]
        if keeps():
            if len(content) < at + len(part):
                content.extend(bytes(at + len(part) - len(content)))
            content[at : at + len(part)] = part


class Disk:
    """The files of one folder as the calls leave them. `play` calls in order, then `cut`."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._names: dict[str, Inode] = {}  # as the process sees them
        self._certain: dict[str, Inode] = {}
        self._since: list[dict[str, Inode]] = []  # the names after each change that is not certain yet

    def play(self, call: Call) -> None:
        if call.path == self._folder and call.name in ("fsync", "fdatasync"):
            self._certain, self._since = dict(self._names), []
        if not call.path.startswith(self._folder + "/journal.") or call.path.endswith("-shm"):
            return  # the index of the log is made again from it; the probes of the disk's health are nobody's data
        path = call.path
        if call.name == "openat":
            if "O_CREAT" in call.flags and path not in self._names:
                self._names[path] = Inode()
                self._since.append(dict(self._names))
        elif call.name in ("unlink", "unlinkat"):
            if self._names.pop(path, None) is not None:
                self._since.append(dict(self._names))
        elif call.name in ("rename", "renameat2"):
            self._names[call.other] = self._names.pop(path)
            self._since.append(dict(self._names))
        elif path in self._names:
            inode = self._names[path]
            if call.name in ("pwrite64", "ftruncate"):
                inode.since.append(call)
            elif call.name in ("fsync", "fdatasync"):
                inode.sync(call.begun)
            elif call.name == "failed sync":
                inode.since.clear()
            elif call.name in ("write", "writev", "pwritev"):
                raise AssertionError(f"{call.name} into {path}: its place in the file is not traced")

    def cut(self, into: Path, choose: random.Random) -> None:
        """Writes what is found after a power failure now."""
        names = choose.choice([self._certain, *self._since])
        share = choose.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        into.mkdir(parents=True, exist_ok=True)
        for path, inode in names.items():
            (into / Path(path).name).write_bytes(inode.after(choose, share))
