"""What stands in the Authorization header: nothing, a bearer token or password of the configuration, or SMART's token.

What holds: references to secrets are resolved when used, never at the start, so that a file may be mended or rotated
while the daemon runs. Nothing here is ever part of a text.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Protocol

from hl7bridge.config import Fhir
from hl7bridge.delivery.outcome import TransportFailure
from hl7bridge.errors import ConfigError

Secret = Callable[[str], str]
Authorization = str | TransportFailure | None  # a header's value; none could be had; none is wanted


class Credentials(Protocol):
    """`authorization`: for the next request. `renewed`: after the endpoint answered 401 to `refused`: another one, or
    the same where there is no other."""

    async def authorization(self) -> Authorization: ...
    async def renewed(self, refused: str) -> Authorization: ...
    async def close(self) -> None: ...


class FromConfiguration:
    """A bearer token or a password; kept until the endpoint refuses it, then its reference is read again."""

    def __init__(self, fhir: Fhir, secret: Secret) -> None:
        self._fhir, self._secret = fhir, secret
        self._known: str | None = None

    async def authorization(self) -> Authorization:
        if self._known is None:
            try:
                self._known = self._read()
            except (ConfigError, OSError, ValueError):
                return TransportFailure("secret")
        return self._known

    async def renewed(self, refused: str) -> Authorization:
        if self._known == refused:
            self._known = None
        return await self.authorization()

    async def close(self) -> None:
        return None

    def _read(self) -> str | None:
        fhir = self._fhir
        if fhir.bearer_token is not None:
            token = self._secret(fhir.bearer_token.get_secret_value())
            if not (token.isascii() and token.isprintable()):
                raise ValueError("a header cannot carry it")
            return f"Bearer {token}"
        if fhir.basic_user is not None:
            password = self._secret(fhir.basic_password.get_secret_value()) if fhir.basic_password is not None else ""
            pair = f"{fhir.basic_user}:{password}".encode()  # RFC 7617, charset UTF-8
            return f"Basic {base64.b64encode(pair).decode('ascii')}"
        return None
