"""A sender whose first message comes in the same packet as the end of its TLS handshake."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hl7bridge.config import Listener
from hl7bridge.mllp.server import MllpServer

PATIENCE = 20.0
FRAME = b"\x0bMSH|^~\\&|A|B|||2024||ADT^A08|1|P|2.5\r\x1c\r"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "crt.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").touch(0o600)
    (folder / "key.pem").write_bytes(secret)
    return folder / "crt.pem", folder / "key.pem"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_message_in_the_packet_that_ends_the_handshake_is_answered(
    certificate: tuple[Path, Path], version: ssl.TLSVersion
) -> None:
    tls = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    listener = Listener.model_validate({"host": "127.0.0.1", "port": 0, "tls": tls})

    async def handle(payload: bytes, peer: Any) -> bytes:
        return b"MSA|AA|1\r"

    def refuse(*_: object) -> bytes:
        raise AssertionError("nothing here is refused")

    server = MllpServer(listener, handle, refuse)
    await server.start()
    try:
        context = ssl.create_default_context(cafile=str(certificate[0]))
        context.minimum_version = context.maximum_version = version
        async with asyncio.timeout(PATIENCE):
            assert await _spoken(server.port, context) == b"\x0bMSA|AA|1\r\x1c\r"
    finally:
        await server.drain(1)


async def _spoken(port: int, context: ssl.SSLContext) -> bytes:
    """Shakes hands by hand; what the client has to send last goes out together with the message."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(come, go, server_hostname="localhost")
    try:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(go.read())
                come.write(await reader.read(65536))
        client.write(FRAME)
        writer.write(go.read())
        while True:
            try:
                return client.read(65536)
            except ssl.SSLWantReadError:
                come.write(await reader.read(65536))
    finally:
        writer.transport.abort()
