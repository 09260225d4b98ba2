"""A listener's TLS files in use: taken anew when they change on disk, kept when what stands there is unfit.

What holds:
  - Every handshake looks at the files (mtime, inode, size of each); a listener's timer and SIGHUP look too.
  - New files serve from the next handshake on, all of them or none: a certificate without its key, a key that cannot be
    read, a certificate that has ended or has not begun leaves what is loaded in use, and says so. It is tried again
    when the files change, and by the timer.
  - What is in use has an end that metrics, health and log tell before it comes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from hl7bridge.config import ListenerTls
from hl7bridge.errors import ConfigError
from hl7bridge.tls.certificates import certificate_begins, certificate_ends, revocation_lists
from hl7bridge.tls.contexts import server_context

DAY: Final = 86_400.0

_Stamp = tuple[int, int, int] | None


class Look(StrEnum):
    """What a look at the files found."""

    SAME = "same"
    DONE = "done"  # others were there, and are in use now
    REFUSED = "refused"  # others are there, unfit; told once for each state of the files


@dataclass(frozen=True, slots=True)
class Ending:
    """When a file in use ends. `key`: certificate, ca or revoked; `at`: seconds since the epoch."""

    key: str
    path: str
    at: float

    def warn_days(self, tls: ListenerTls) -> tuple[int, ...]:
        """When to warn: a revocation list lives for days, so that only the last warning says that no new one comes."""
        return tls.warn_days if self.key != "revoked" else tls.warn_days and (min(tls.warn_days),)

    def told(self, now: float) -> str:
        """`certificate /etc/x.pem ends in 12 days`."""
        left = self.at - now
        if left <= 0:
            return f"{self.key} {self.path} has ended"
        if left < DAY:
            return f"{self.key} {self.path} ends in {left / 3600:.0f} hours"
        return f"{self.key} {self.path} ends in {left / DAY:.0f} days"


class Rotating:
    """See the module's text. `clock`: seconds since the epoch.

    refused: why the files as they are now are not in use, "" when they are. trust_changed: the look that gave DONE
    found other authorities or revocation lists: what was let in by the old ones has to be judged again.
    """

    def __init__(self, tls: ListenerTls, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError when the files are unfit to begin with (one that has ended is not: see `endings`)."""
        self.tls = tls
        self.refused = ""
        self.trust_changed = False
        self._clock = clock
        self._warned: dict[tuple[str, float], float] = {}
        self._stamps = self._refused_stamps = _stamps(tls)
        self.context: ssl.SSLContext = server_context(tls)
        self.endings: tuple[Ending, ...] = tuple(_endings(tls, clock()))

    def look(self, again: bool = False) -> Look:
        """Takes changed files into use. `again`: tries files that were refused once more, though they are the same."""
        stamps = _stamps(self.tls)
        if stamps == self._stamps:
            self.refused = ""
            return Look.SAME
        if self.refused and stamps == self._refused_stamps and not again:
            return Look.SAME
        try:
            self._check_dates()
            context = server_context(self.tls)
            endings = tuple(_endings(self.tls, self._clock()))
        except (ConfigError, OSError) as error:  # OSError: it went away between two looks
            return self._refuse(str(error) if isinstance(error, ConfigError) else "a file cannot be read", stamps)
        self.trust_changed = any(stamps.get(key) != self._stamps.get(key) for key in ("ca", "revoked"))
        self.context, self.endings, self._stamps, self.refused = context, endings, stamps, ""
        return Look.DONE

    def _refuse(self, why: str, stamps: dict[str, _Stamp]) -> Look:
        news = why != self.refused or stamps != self._refused_stamps
        self.refused, self._refused_stamps = why, stamps
        return Look.REFUSED if news else Look.SAME

    def _check_dates(self) -> None:
        """Raises ConfigError when the new certificate or revocation list is not valid today."""
        now, tls = self._clock(), self.tls
        if tls.certificate and Path(tls.certificate).is_file():
            if any(end <= now for end in certificate_ends(tls.certificate)[:1]):
                raise ConfigError([f"tls.certificate: {tls.certificate} has ended"])
            if any(begin > now for begin in certificate_begins(tls.certificate)[:1]):
                raise ConfigError([f"tls.certificate: {tls.certificate} is not valid yet"])
        if any(ending.at <= now for ending in _endings(tls, now) if ending.key == "revoked"):
            raise ConfigError([f"tls.revoked: {tls.revoked} has run out"])

    def warnings(self) -> list[Ending]:
        """What has come within another of `warn_days` since the last call, or has ended; each once."""
        now, due = self._clock(), []
        for ending in self.endings:
            reached = [days for days in (0.0, *ending.warn_days(self.tls)) if ending.at - now <= days * DAY]
            told = self._warned.get((ending.path, ending.at))
            if reached and (told is None or min(reached) < told):
                self._warned[ending.path, ending.at] = min(reached)
                due.append(ending)
        return due


def _stamps(tls: ListenerTls) -> dict[str, _Stamp]:
    """mtime, inode and size of each file; None for one that is not there. Symbolic links are followed."""
    return {key: _stamp(path) for key in ("certificate", "key", "ca", "revoked") if (path := getattr(tls, key))}


def _stamp(path: str) -> _Stamp:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _endings(tls: ListenerTls, now: float) -> Iterator[Ending]:
    """A chain ends with its first certificate to end; authorities with the first that is still good for something."""
    if tls.certificate and (ends := certificate_ends(tls.certificate)):
        yield Ending("certificate", tls.certificate, min(ends))
    if tls.client == "none":
        return
    if tls.ca and (ends := certificate_ends(tls.ca)):
        yield Ending("ca", tls.ca, min((end for end in ends if end > now), default=max(ends)))
    if tls.revoked and Path(tls.revoked).is_file():
        with suppress(ValueError):  # server_context says what is wrong with it
            if ends := [end for end in revocation_lists(tls.revoked) if end is not None]:
                yield Ending("revoked", tls.revoked, min(ends))
