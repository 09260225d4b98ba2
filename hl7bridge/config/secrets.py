"""Secrets by reference: `file:/run/secrets/token` or `env:FHIR_TOKEN`, resolved when used.

What holds: no text made here carries a secret, and a literal secret in the configuration is refused, because files are
copied, mailed and committed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hl7bridge.config.model import Fhir
from hl7bridge.errors import ConfigError

_MAXIMUM = 64 * 1024  # no token is larger; a reference to a device or a log must not be read whole


def is_reference(text: str) -> bool:
    """Is this `file:…` or `env:…` with something behind the colon?"""
    kind, colon, rest = text.partition(":")
    return bool(colon and rest.strip()) and kind in ("file", "env")


def secret(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """The secret behind a reference, without the newline at the end of a file.

    Raises ConfigError (naming the file or variable, never the content) when it is not there, empty, or no reference.
    """
    if not is_reference(reference):
        raise ConfigError(["a secret must be given as file:PATH or env:NAME"])
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = (os.environ if environ is None else environ).get(name, "")
        if not value:
            raise ConfigError([f"secret env:{name}: the environment variable is not set"])
        return value
    try:
        with Path(name).open("rb") as file:
            value = file.read(_MAXIMUM).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError([f"secret file:{name}: {error.strerror or type(error).__name__}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"secret file:{name}: is not UTF-8 text"]) from None
    if not value:
        raise ConfigError([f"secret file:{name}: the file is empty"])
    return value


def with_headers(fhir: Fhir, environ: Mapping[str, str] | None = None) -> Fhir:
    """The same, with the references among its request headers resolved. Raises ConfigError."""
    headers = {name: secret(text, environ) if is_reference(text) else text for name, text in fhir.headers.items()}
    return fhir.model_copy(update={"headers": headers})
