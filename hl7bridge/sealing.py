"""Patient data at rest: AES-256-GCM by keys with ids, each ciphertext bound to the place it stands at.

What holds and why:
- A sealed text is `\\0H7\\1`, the length of the key id and the id, a nonce of 96 random bits, ciphertext and tag. No
  HL7 message, ACK or bundle begins with a NUL, so clear and sealed data can stand side by side: encryption can be
  turned on for a journal that is in use, and several keys can be in use at once.
- The place (kind of data, message) is authenticated, not stored: a ciphertext that was copied to another place does not
  open there.
- Nonces are random: docs/decisions/0031 says how far that carries (2^32 texts a key).
- A key that is not at hand (KeyMissing) is the operator's mistake and loses nothing; a text that does not open with its
  key (Damaged) was changed.
- Neither keys nor texts are ever printed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hl7bridge.config import Encryption, secret
from hl7bridge.errors import ConfigError, Hl7BridgeError, UnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\x00H7\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class KeyMissing(UnavailableError):
    """What is sealed cannot be opened because its key is not in the configuration."""


class Damaged(Hl7BridgeError):
    """What is stored is not what was stored: it was changed, cut, or put in another's place."""


class Keyring:
    """The keys by id, and which of them seals. Without keys nothing is sealed. Safe to use in several threads."""

    def __init__(self, keys: Mapping[str, bytes] | None = None, active: str = "") -> None:
        self._ciphers = _ciphers(keys) if keys else {}
        self.active = active
        self._prefix = prefix_of(active) if active else b""
        self._cipher = self._ciphers[active] if active else None

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._ciphers)

    def seal(self, text: bytes, place: bytes) -> bytes:
        """The text as it is to be stored at `place`."""
        if self._cipher is None:
            return text
        nonce = os.urandom(NONCE_BYTES)
        return self._prefix + nonce + self._cipher.encrypt(nonce, text, place)

    def open(self, stored: bytes, place: bytes) -> bytes:
        """The text. Raises KeyMissing or Damaged."""
        if not is_sealed(stored):
            return stored
        id, at = _key_id(stored)
        cipher = self._ciphers.get(id)
        if cipher is None:
            raise KeyMissing(f"the key '{id}' is not in encryption.keys: add it, nothing is lost meanwhile")
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(stored[at : at + NONCE_BYTES], stored[at + NONCE_BYTES :], place)
        except (InvalidTag, ValueError):
            raise Damaged("a sealed text does not open: it was changed, or stands in another's place") from None

    def is_current(self, stored: bytes) -> bool:
        """Is it sealed by the active key (or clear, where there is none)?"""
        return stored.startswith(self._prefix) if self._prefix else not is_sealed(stored)


def _ciphers(keys: Mapping[str, bytes]) -> dict[str, AESGCM]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # only who encrypts waits for it

    return {id: AESGCM(key) for id, key in keys.items()}


def is_sealed(stored: bytes) -> bool:
    return stored[:4] == MAGIC


def prefix_of(id: str) -> bytes:
    """What every text begins with that this key sealed."""
    return MAGIC + bytes([len(id)]) + id.encode("ascii")


def key_id(stored: bytes) -> str:
    """The id of the key that sealed it; "" when it is clear. Raises Damaged."""
    return _key_id(stored)[0] if is_sealed(stored) else ""


def _key_id(stored: bytes) -> tuple[str, int]:
    """The id and where the nonce begins."""
    end = len(MAGIC) + 1 + (stored[len(MAGIC)] if len(stored) > len(MAGIC) else 0)
    id = stored[len(MAGIC) + 1 : end].decode("ascii", "replace")
    if not KEY_ID.fullmatch(id) or len(stored) < end + NONCE_BYTES + TAG_BYTES:
        raise Damaged("a sealed text is cut short or its beginning was changed")
    return id, end


# ---- keys as they are written down


def new_key() -> str:
    """A new key as text, for a file or an environment variable."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def key_of(text: str) -> bytes:
    """The key behind its text: 32 bytes in base64. ValueError when it is none."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no key: 32 bytes in base64, as `hl7bridge keys new` makes them") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"is no key: {len(key)} bytes, {KEY_BYTES} are wanted (`hl7bridge keys new` makes one)")
    return key


def open_keyring(encryption: Encryption) -> Keyring:
    """The keyring of the configuration. Raises ConfigError with every mistake; it never holds a key."""
    keys: dict[str, bytes] = {}
    mistakes: list[str] = []
    for id, reference in encryption.keys.items():
        try:
            keys[id] = key_of(secret(reference))
        except ConfigError as error:
            mistakes += [f"encryption.keys.{id}: {mistake}" for mistake in error.mistakes]
        except ValueError as error:
            mistakes.append(f"encryption.keys.{id}: {reference} {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return Keyring(keys, encryption.active)
