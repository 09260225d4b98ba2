"""TLS toward a server (the endpoint, who takes application ACKs): always verified, read again when its files change.

What holds and why:

- The policy is that of `hl7bridge.tls`; the server's certificate and its name are always verified, against `ca` alone
  where it is set (so that no public authority may stand in for the hospital's), else against the machine's store.
- Files are looked at before a connection is used, at most every `LOOK` seconds. Changed ones make a new context, so new
  connections use them and those under way end as they began. Unfit ones (a certificate whose key is not there yet, one
  that has ended) leave the old context in use and are told once; the next change is looked at again.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from hl7bridge.config import Tls
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.errors import ConfigError, UnavailableError
from hl7bridge.tls.certificates import certificate_ends
from hl7bridge.tls.contexts import client_context
from hl7bridge.tls.rotation import Ending

LOOK = 5.0  # seconds between looks at the files

_Marks = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """The context of now. `key` is how the configuration calls it, such as fhir.tls.

    Raises UnavailableError when the files cannot be used at the start.
    """

    def __init__(
        self,
        tls: Tls | None,
        key: str = "fhir.tls",
        observer: EndpointObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls, self._key, self._clock = tls or Tls(), key, clock
        self._observer = observer or EndpointObserver()
        self._files = [Path(file) for file in (self._tls.ca, self._tls.certificate, self._tls.key) if file]
        self._marks = self._look()
        self._next = clock() + LOOK
        self._context = made(self._tls, key)
        self._observer.certificates(key, endings(self._tls), None)

    def current(self) -> ssl.SSLContext:
        """The context for a request that begins now. Never raises: what cannot be read leaves the one before."""
        if not self._files or self._clock() < self._next:
            return self._context
        self._next = self._clock() + LOOK
        marks = self._look()
        if marks != self._marks:
            self._marks = marks
            try:
                context = made(self._tls, self._key)
                found = endings(self._tls)
                if any(ending.key == "certificate" and ending.at <= time.time() for ending in found):
                    raise UnavailableError(f"{self._key}.certificate: {self._tls.certificate} has ended")
            except UnavailableError as error:
                self._observer.certificates(self._key, (), str(error))
            else:
                self._context = context
                self._observer.certificates(self._key, found, "")
        return self._context

    def _look(self) -> _Marks:
        """What tells a file from its successor: inode, size, time of change."""
        return tuple(_mark(file) for file in self._files)


def made(tls: Tls, key: str) -> ssl.SSLContext:
    """A context from the files as they are. Raises UnavailableError, naming files and never their content."""
    try:
        return client_context(tls)
    except ConfigError as error:
        raise UnavailableError(str(error).replace("tls.", f"{key}.", 1)) from None
    except OSError as error:  # it went away between two looks
        raise UnavailableError(f"{key}: a file cannot be read ({type(error).__name__})") from None


def endings(tls: Tls) -> tuple[Ending, ...]:
    """When our certificate ends, and the authorities: with the first of them that ends from now on."""
    return tuple(_endings(tls))


def _endings(tls: Tls) -> Iterator[Ending]:
    now = time.time()
    for key, path in (("certificate", tls.certificate), ("ca", tls.ca)):
        with suppress(OSError, ValueError):
            if path and (ends := certificate_ends(path)):
                at = min(ends) if key == "certificate" else min((end for end in ends if end > now), default=max(ends))
                yield Ending(key, path, at)


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
