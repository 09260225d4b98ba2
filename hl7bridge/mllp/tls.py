"""TLS contexts from the configuration, for listeners and for clients (IHE ITI-19: 1.2 is the floor, mutual by choice).

Every mistake is a ConfigError that names the key; no secret is ever part of a text.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from hl7bridge.config import Tls
from hl7bridge.errors import ConfigError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CLIENT = {"none": ssl.CERT_NONE, "want": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}


def server_context(tls: Tls) -> ssl.SSLContext:
    """For a listener: needs certificate and key, and ca when clients are asked for certificates."""
    mistakes = [f"tls.{key}: a TLS listener needs it" for key in ("certificate", "key") if not getattr(tls, key)]
    if tls.client != "none" and not tls.ca:
        mistakes.append(f"tls.ca: client: {tls.client} needs the authority that signs the clients' certificates")
    if mistakes:
        raise ConfigError(mistakes)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.minimum]
    _load(context, tls)
    context.verify_mode = CLIENT[tls.client]
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a client: `ca` (else the machine's authorities) vouches for the server, certificate and key for us."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if tls.ca:
        # only this authority: the machine's own would let any public certificate stand in for the hospital's
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[tls.minimum]
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    for key in ("certificate", "key", "ca"):
        path = getattr(tls, key)
        if path and not Path(path).is_file():
            raise ConfigError([f"tls.{key}: there is no file {path}"])
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError):
        raise ConfigError([f"tls.certificate: {tls.certificate} and its key are no certificate and its key"]) from None
    try:
        if tls.ca:
            context.load_verify_locations(tls.ca)
    except (OSError, ssl.SSLError):
        raise ConfigError([f"tls.ca: {tls.ca} holds no certificates"]) from None
