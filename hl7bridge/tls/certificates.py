"""What certificates say: who a peer is, whether a `clients` item of the configuration fits it, when a file ends.

Names are compared as RFC 9525 would: the kind counts (a DNS name is no IP address), upper and lower case are one for
DNS names and common names, addresses are compared as numbers, URIs letter by letter. The common name counts only where
the certificate has no such name in subjectAltName; the last one, as the most specific. No wildcards: a client is one
machine.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hl7bridge.config import Client

if TYPE_CHECKING:
    from cryptography import x509

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^:].*")
_KINDS: Final = {"DNS": "dns", "IP Address": "ip", "URI": "uri"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer's certificate, which OpenSSL has verified. `names`: kind and value, made comparable by `name_of`.

    `fingerprints`: SHA-256 in lower-case hex, of the certificate (also `fingerprint`) and of its public key (SPKI).
    `ends`: seconds since the epoch.
    """

    common_name: str
    names: frozenset[tuple[str, str]]
    fingerprint: str
    fingerprints: frozenset[str]
    ends: float

    @property
    def shown(self) -> str:
        """What logs and `senders.certificate` call it: the common name, else the fingerprint."""
        return self.common_name or self.fingerprint


def identity_of(fields: Mapping[str, Any], der: bytes) -> Identity:
    """From what `SSLObject.getpeercert` gives, once as fields and once as DER."""
    subject = [value for part in fields.get("subject", ()) for key, value in part if key == "commonName"]
    given = [(_KINDS[kind], value) for kind, value in fields.get("subjectAltName", ()) if kind in _KINDS]
    if not given and subject:
        given = [("dns", subject[-1])]
    fingerprint = hashlib.sha256(der).hexdigest()
    return Identity(
        str(subject[-1]) if subject else "",
        frozenset((kind, _comparable(kind, str(value))) for kind, value in given),
        fingerprint,
        frozenset({fingerprint, *_key_fingerprint(der)}),
        float(ssl.cert_time_to_seconds(fields["notAfter"])),
    )


def _key_fingerprint(der: bytes) -> list[str]:
    """The public key's. A key of a kind nobody knows here has none, and so fits no `fingerprint` by its key."""
    from cryptography import x509  # here and below: only who uses TLS waits for it
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(der).public_key()
        return [hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()]
    except Exception:  # ValueError, UnsupportedAlgorithm, and what their parser may think of later
        return []


def clients_of(identity: Identity, clients: Sequence[Client]) -> tuple[Client, ...]:
    """The items that fit the certificate."""
    return tuple(client for client in clients if _fits(identity, client))


def _fits(identity: Identity, client: Client) -> bool:
    if client.name and name_of(client.name) not in identity.names:
        return False
    return not client.fingerprint or fingerprint_of(client.fingerprint) in identity.fingerprints


def name_of(text: str) -> tuple[str, str]:
    """The kind and the comparable form of a name in the configuration: an address, a URI, else a DNS name."""
    try:
        return "ip", _comparable("ip", str(ipaddress.ip_address(text)))
    except ValueError:
        kind = "uri" if _URI.fullmatch(text) else "dns"
        return kind, _comparable(kind, text)


def _comparable(kind: str, value: str) -> str:
    if kind == "uri":
        return value
    if kind == "ip":
        try:
            return str(ipaddress.ip_address(value.strip()))
        except ValueError:
            return value
    return value.strip().rstrip(".").casefold()


def fingerprint_of(text: str) -> str:
    """64 lower-case hex digits, from what openssl prints: `sha256 Fingerprint=3F:9A:…`, `SHA2-256(stdin)= 3f9a…`.

    Raises ValueError when it is no SHA-256.
    """
    digits = re.sub(r"[:\s]", "", text.rpartition("=")[2]).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("no SHA-256")
    return digits


# ---- files ----


def certificate_ends(path: str) -> list[float]:
    """When each certificate of a PEM file ends, in the order of the file; seconds since the epoch."""
    return [certificate.not_valid_after_utc.timestamp() for certificate in _certificates(path)]


def certificate_begins(path: str) -> list[float]:
    """When each certificate of a PEM file begins to be valid."""
    return [certificate.not_valid_before_utc.timestamp() for certificate in _certificates(path)]


def _certificates(path: str) -> Iterator[x509.Certificate]:
    """What OpenSSL takes and this parser does not is left out: OpenSSL decides what is good, this only tells dates."""
    from cryptography import x509

    for kind, text in _blocks(path):
        if kind in _CERTIFICATES:
            with suppress(ValueError):
                yield x509.load_pem_x509_certificate(text)


def revocation_lists(path: str) -> list[float | None]:
    """When each revocation list of a PEM file runs out; None: never. ValueError: there is none, or something else."""
    blocks = _blocks(path)
    if not blocks or any(kind != b"X509 CRL" for kind, _ in blocks):
        raise ValueError("not revocation lists only")
    from cryptography import x509

    ends: list[datetime | None] = [x509.load_pem_x509_crl(text).next_update_utc for _, text in blocks]
    return [None if end is None else end.timestamp() for end in ends]


def _blocks(path: str) -> list[tuple[bytes, bytes]]:
    return [(block[1], block[0]) for block in _PEM.finditer(Path(path).read_bytes())]
