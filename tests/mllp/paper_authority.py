"""Authorities of paper: certificates of every kind a test needs, their keys and revocation lists, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC)
PEM = serialization.Encoding.PEM
USAGE = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


def days(number: float) -> datetime.datetime:
    """That many days from now."""
    return NOW + datetime.timedelta(days=number)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, common: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = name(common)
        self.file = str(folder / f"{common}.pem")
        self._write(self.file, self._sign(self.subject, self.key.public_key(), ca=True))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        ca: bool = False,
        names: Sequence[x509.GeneralName] = LOCAL,
        begins: float = -1,
        ends: float = 365,
        usage: str = "",
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(days(begins))
            .not_valid_after(days(ends))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([USAGE[usage]]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, file: str, certificate: x509.Certificate) -> None:
        Path(file).write_bytes(certificate.public_bytes(PEM))

    def issue(
        self,
        common: str,
        file: str = "",
        *,
        names: Sequence[x509.GeneralName] = LOCAL,
        begins: float = -1,
        ends: float = 365,
        usage: str = "",
    ) -> tuple[str, str]:
        """Files of a certificate and its key. `begins`, `ends`: days from now; `usage`: client, server or any."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = str(self.folder / f"{file or common}.crt"), self.folder / f"{file or common}.key"
        signed = self._sign(name(common), key.public_key(), names=names, begins=begins, ends=ends, usage=usage)
        self._write(certificate, signed)
        secret.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        secret.chmod(0o600)
        return certificate, str(secret)

    def revoke(self, *certificates: str, file: str = "revoked.crl", ends: float = 7) -> str:
        """The file of a revocation list with these certificates."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(days(-2))
            .next_update(days(ends))
        )
        for certificate in certificates:
            number = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(days(-1)).build()
            builder = builder.add_revoked_certificate(revoked)
        path = self.folder / file
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(PEM))
        return str(path)


def fingerprint(certificate: str) -> str:
    """SHA-256 of the first certificate of a file, as openssl prints it."""
    print_ = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).fingerprint(hashes.SHA256())
    return "sha256 Fingerprint=" + print_.hex(":").upper()
