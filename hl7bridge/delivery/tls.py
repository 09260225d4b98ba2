"""TLS toward an endpoint: always verified, and read again when its files change.

What holds and why:

- The server's certificate and its name are always verified, against `ca` alone where it is set (so that no public
  authority may stand in for the hospital's), else against the machine's store.
- TLS 1.2 is the floor; of its ciphers only those with forward secrecy and authenticated encryption (RFC 9325, 4.2).
- Files are looked at before a connection is used, at most every `LOOK` seconds. Changed ones make a new context, so new
  connections use them and those under way end as they began. Unfit ones (a certificate whose key is not there yet)
  leave the old context in use and are told once; the next change is looked at again.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from hl7bridge.config import Tls
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.errors import UnavailableError

LOOK = 5.0  # seconds between looks at the files
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9325, 4.2; TLS 1.3 has only such

_Marks = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """The context of now. `key` is how the configuration calls it, such as fhir.tls.

    Raises UnavailableError when the files cannot be read at the start.
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

    def current(self) -> ssl.SSLContext:
        """The context for a request that begins now. Never raises: what cannot be read leaves the one before."""
        if not self._files or self._clock() < self._next:
            return self._context
        self._next = self._clock() + LOOK
        marks = self._look()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context = made(self._tls, self._key)
            except UnavailableError as error:
                self._observer.certificates(False, str(error))
            else:
                self._observer.certificates(True, "")
        return self._context

    def _look(self) -> _Marks:
        """What tells a file from its successor: inode, size, time of change."""
        return tuple(_mark(file) for file in self._files)


def made(tls: Tls, key: str) -> ssl.SSLContext:
    """A context from the files as they are. Raises UnavailableError, naming files and never their content."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise UnavailableError(f"{key}.ca: {tls.ca} cannot be read or holds no certificates ({_kind(error)})") from None
    if tls.certificate:
        try:
            context.load_cert_chain(tls.certificate, tls.key, password="")  # encrypted keys fail, never ask a terminal
        except (OSError, ssl.SSLError, ValueError) as error:
            files = f"{tls.certificate} and {tls.key}"
            raise UnavailableError(f"{key}: {files} are no certificate and its key ({_kind(error)})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context


def _kind(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
