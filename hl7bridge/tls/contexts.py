"""TLS contexts from the configuration, for listeners and for whoever connects to a server, by one policy.

The policy is BCP 195 (RFC 9325, RFC 8996) as far as it can be set here:
  - TLS 1.2 at least, or 1.3 only (`minimum`). For 1.2 ephemeral elliptic curves with AES-GCM or ChaCha20 and nothing
    else; what 1.3 has is all of that kind. Curves are OpenSSL's own choice: X25519, P-256 and stronger.
  - Keys and signatures of 112 bits and more: RSA from 2048 bits, no SHA-1 (OpenSSL's security level 2).
  - No renegotiation, no compression. No session tickets from a listener: a resumed session would skip what is checked
    of a certificate, and a connection that lasts for weeks has nothing to gain.
  - One authority file decides (`ca`), and an intermediate or a sender's own certificate in it may be trusted by itself.
Every mistake is a ConfigError that names key and file; no secret is ever part of a text.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from hl7bridge.config import ListenerTls, Tls
from hl7bridge.errors import ConfigError
from hl7bridge.tls.certificates import revocation_lists

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CLIENT: Final = {"none": ssl.CERT_NONE, "want": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


def server_context(tls: ListenerTls) -> ssl.SSLContext:
    """For a listener: needs certificate and key, and ca when clients are asked for certificates."""
    mistakes = [f"tls.{key}: a TLS listener needs it" for key in ("certificate", "key") if not getattr(tls, key)]
    if tls.client != "none" and not tls.ca:
        mistakes.append(f"tls.ca: client: {tls.client} needs the authority that signs the clients' certificates")
    if mistakes:
        raise ConfigError(mistakes)
    context = _SayingWhy(ssl.PROTOCOL_TLS_SERVER)
    harden(context, tls.minimum)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    _load(context, tls)
    context.verify_mode = CLIENT[tls.client]
    if tls.revoked and tls.client != "none":
        _load_revoked(context, tls.revoked)
    return context


class _Spoken(ssl.SSLObject):
    """A handshake that fails leaves what OpenSSL wants the peer to read: the alert that says why."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            error.last_words = self.outgoing.read()  # type: ignore[attr-defined]
            raise


class _SayingWhy(ssl.SSLContext):
    """A context whose failed handshakes can still be told to the peer; asyncio closes without a word."""

    sslobject_class = _Spoken

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **keys: Any) -> ssl.SSLObject:
        spoken = super().wrap_bio(incoming, outgoing, *args, **keys)
        assert isinstance(spoken, _Spoken)
        spoken.outgoing = outgoing
        return spoken


def last_words(error: BaseException) -> bytes:
    """What to send the peer when a handshake with a listener's context has failed with this: a TLS alert, or b""."""
    words: bytes = getattr(error, "last_words", b"")
    return words


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a client: `ca` (else the machine's authorities) vouches for the server, certificate and key for us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host's name in it
    harden(context, tls.minimum)
    _load(context, tls)
    if not tls.ca:  # beside a `ca` the machine's own would let any public certificate stand in for the hospital's
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def harden(context: ssl.SSLContext, minimum: str = "1.2") -> None:
    """The policy of the module's text, for any context. `minimum`: 1.2 or 1.3."""
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    for key in ("certificate", "key", "ca"):
        if path := getattr(tls, key):
            _readable(path, key)
    if tls.certificate:
        try:
            # a password that is never right: OpenSSL would ask for one on the terminal, and a daemon waits there
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "-")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([_why_no_pair(tls, error)]) from None
    if tls.ca:
        try:
            context.load_verify_locations(tls.ca)
        except (OSError, ssl.SSLError):
            raise ConfigError([f"tls.ca: {tls.ca} holds no certificates"]) from None


def _readable(path: str, key: str) -> None:
    if not Path(path).is_file():
        raise ConfigError([f"tls.{key}: there is no file {path}"])
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError([f"tls.{key}: {path} cannot be read: {why}"]) from None


def _why_no_pair(tls: Tls, error: Exception) -> str:
    """The sentence for a certificate and a key that do not load."""
    if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
        return f"tls.key: {tls.key} is not the key of the certificate {tls.certificate}"
    if "_TOO_SMALL" in str(getattr(error, "reason", "")) or "_TOO_WEAK" in str(getattr(error, "reason", "")):
        return f"tls.certificate: {tls.certificate} is too weak: RSA from 2048 bits, no SHA-1 signatures"
    key = Path(tls.key or tls.certificate or "")
    if b"ENCRYPTED" in key.read_bytes():
        return f"tls.key: {key} is encrypted; `openssl pkey -in {key} -out plain.key` writes it in clear, mode 0600"
    return f"tls.certificate: {tls.certificate} and its key are no certificate and its key"


def _load_revoked(context: ssl.SSLContext, path: str) -> None:
    """Revocation lists. Read by ourselves first: OpenSSL would trust a certificate that stands in this file."""
    _readable(path, "revoked")
    try:
        revocation_lists(path)
        context.load_verify_locations(path)
    except (OSError, ValueError, ssl.SSLError):
        remedy = "`openssl crl -inform der -in FILE -out FILE.pem` makes one of what authorities publish"
        raise ConfigError([f"tls.revoked: {path} is no PEM file of revocation lists only; {remedy}"]) from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
