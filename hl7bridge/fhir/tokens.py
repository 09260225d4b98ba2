"""Identifiers as tokens toward the endpoint: keyed, the same for the same identifier, read back only with the key.

What holds and why:
- AES-SIV (RFC 5297): deterministic, so that a patient stays one patient and conditional writes find the record; and
  authenticated, so that what is no token of this key is said to be none. The identifier's system is bound to the token:
  the same number in two systems gives two tokens, and none tells of the other.
- Only the values of Identifiers are replaced: of the types and systems that are named. A number that also stands in a
  text (a narrative of the sender, a note) stays there.
- The key cannot be changed without making every token anew: decision 0033.
- Sans-IO; neither key nor value is ever printed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hl7bridge.fhir.resource import Body, Resource

PREFIX = "tok1-"
_PURPOSE = b"hl7bridge identifier tokens 1"


class NoToken(ValueError):
    """A text that is no token of this key and system."""


class Tokens:
    """Replaces identifiers. `key`: 32 bytes. `types`: codes of Identifier.type; `systems`: Identifier.system."""

    def __init__(self, key: bytes, types: Iterable[str], systems: Iterable[str] = ()) -> None:
        self._cipher = AESSIV(HKDF(SHA512(), 64, None, _PURPOSE).derive(key))
        self._types, self._systems = frozenset(types), frozenset(systems)

    def __repr__(self) -> str:
        return "Tokens(…)"

    def token(self, system: str, value: str) -> str:
        """The token of an identifier; letters and digits only, 16 bytes longer than the value, in base32."""
        sealed = self._cipher.encrypt(value.encode("utf-8"), [system.encode("utf-8")])
        return PREFIX + base64.b32encode(sealed).decode("ascii").rstrip("=").lower()

    def reveal(self, system: str, token: str) -> str:
        """The identifier behind a token. Raises NoToken."""
        if not token.startswith(PREFIX):
            raise NoToken("this is no token of hl7bridge")
        letters = token.removeprefix(PREFIX).upper()
        try:
            sealed = base64.b32decode(letters + "=" * (-len(letters) % 8))
            return self._cipher.decrypt(sealed, [system.encode("utf-8")]).decode("utf-8")
        except (binascii.Error, InvalidTag, ValueError):
            raise NoToken("this is no token of this key, or it is of another system") from None

    def replace(self, resources: Iterable[Resource]) -> None:
        """Puts tokens in place of the identifiers in the resources' bodies, each once."""
        done: set[int] = set()  # an Identifier may hang in two places
        for resource in resources:
            self._walk(resource.body, done)
            for identifier in resource.known_by:
                self._one(identifier, done)
            if resource.undone is not None:
                self._walk(resource.undone.body, done)

    def _walk(self, node: Body, done: set[int]) -> None:
        for key, value in node.items():
            if key == "identifier":
                for identifier in value if isinstance(value, list) else [value]:
                    if isinstance(identifier, dict):
                        self._one(identifier, done)
            if isinstance(value, dict):
                self._walk(value, done)
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, dict):
                        self._walk(part, done)

    def _one(self, identifier: Body, done: set[int]) -> None:
        if id(identifier) in done or not self._is_meant(identifier):
            return
        done.add(id(identifier))
        identifier["value"] = self.token(identifier.get("system", ""), str(identifier["value"]))
        # a check digit or the text of a number would give it away again
        for key in ("extension", "_value"):
            identifier.pop(key, None)

    def _is_meant(self, identifier: Body) -> bool:
        if not isinstance(identifier.get("value"), str):
            return False
        codings: list[dict[str, Any]] = (identifier.get("type") or {}).get("coding", [])
        return identifier.get("system") in self._systems or any(one.get("code") in self._types for one in codings)
