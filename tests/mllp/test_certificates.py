"""Who a certificate is, whether an item of `clients` means it, and the policy of the contexts."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from paper_authority import Authority, fingerprint
from scripted_peer import bench, eventually

from hl7bridge.config import Client, ListenerTls, Tls
from hl7bridge.mllp.framing import frame
from hl7bridge.tls.certificates import Identity, clients_of, fingerprint_of, identity_of
from hl7bridge.tls.contexts import client_context, server_context

NAMES: Sequence[x509.GeneralName] = (
    x509.DNSName("adt.Lakeside.example"),
    x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
    x509.UniformResourceIdentifier("urn:oid:2.999.1"),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "authority")


def identity(authority: Authority, common: str, names: Sequence[x509.GeneralName]) -> Identity:
    file, _ = authority.issue(common, "one", names=names)
    text = Path(file).read_text()
    decoded: Mapping[str, Any] = ssl._ssl._test_decode_cert(file)  # type: ignore[attr-defined]
    return identity_of(decoded, ssl.PEM_cert_to_DER_cert(text))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("adt.lakeside.example", True),
        ("ADT.LAKESIDE.EXAMPLE.", True),
        ("2001:DB8:0:0::7", True),
        ("urn:oid:2.999.1", True),
        ("URN:OID:2.999.1", False),  # letter by letter
        ("common", False),  # the common name does not count beside other names
        ("lakeside.example", False),
        ("adt.lakeside.example.evil.test", False),
        ("dt.lakeside.example", False),
    ],
)
def test_a_name_is_compared_by_its_kind(authority: Authority, wanted: str, fits: bool) -> None:
    who = identity(authority, "common", NAMES)
    assert bool(clients_of(who, [Client(name=wanted)])) == fits
    assert who.shown == "common"


def test_the_common_name_counts_where_there_is_no_other(authority: Authority) -> None:
    who = identity(authority, "ADT.lakeside.example", ())
    assert clients_of(who, [Client(name="adt.lakeside.example")])
    assert not clients_of(identity(authority, "10.0.0.7", ()), [Client(name="10.0.0.7")])  # an address is no DNS name


def test_a_certificate_without_any_name_is_called_by_its_fingerprint(authority: Authority) -> None:
    who = identity(authority, "", ())
    assert who.shown == who.fingerprint == fingerprint_of(fingerprint(str(authority.folder / "one.crt")))


def test_a_pin_is_of_the_certificate_or_of_its_key_and_both_conditions_of_an_item_count(authority: Authority) -> None:
    who = identity(authority, "adt", ())
    certificate = x509.load_pem_x509_certificate((authority.folder / "one.crt").read_bytes())
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    by_key = Client(fingerprint=f"SHA2-256(stdin)= {digest.finalize().hex()}")
    by_certificate = Client(fingerprint=fingerprint(str(authority.folder / "one.crt")), senders=("EPIC",))
    wrong_name = Client(name="lab", fingerprint=by_key.fingerprint)
    assert clients_of(who, [wrong_name, by_certificate, by_key]) == (by_certificate, by_key)


@pytest.mark.parametrize("text", ["", "3f9a", "sha1 Fingerprint=" + "AB:" * 19 + "AB", "x" * 64, "g" + "0" * 63])
def test_what_is_no_sha_256_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        fingerprint_of(text)


def test_ciphers_have_forward_secrecy_and_authenticated_encryption(authority: Authority) -> None:
    certificate, key = authority.issue("localhost")
    contexts = [server_context(ListenerTls(certificate=certificate, key=key)), client_context(Tls())]
    for context in contexts:
        names = {cipher["name"] for cipher in context.get_ciphers()}
        assert all(re.fullmatch(r"TLS_.*|ECDHE-.*(GCM|CHACHA20).*", name) for name in names), names
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION
        assert context.security_level >= 2
    assert contexts[0].num_tickets == 0 and contexts[0].options & ssl.OP_NO_TICKET
    assert contexts[1].check_hostname and contexts[1].verify_mode is ssl.CERT_REQUIRED


async def test_a_client_with_old_ciphers_only_is_refused_by_that_cause(authority: Authority) -> None:
    certificate, key = authority.issue("localhost")
    context = client_context(Tls(ca=authority.file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA256:ECDHE-ECDSA-AES256-SHA384")
    async with bench({"tls": ListenerTls(certificate=certificate, key=key)}) as b:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await b.peer(context)
        await b.recorder.until("denied", "no-common-cipher")


async def test_a_client_that_does_not_trust_us_is_told_apart(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("localhost")
    async with bench({"tls": ListenerTls(certificate=certificate, key=key)}) as b:
        context = client_context(Tls(ca=Authority(tmp_path, "stranger").file))
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(shake, context, b.server.port)
        await b.recorder.until("denied", "refused-by-peer")


def shake(context: ssl.SSLContext, port: int) -> None:
    """A handshake by OpenSSL's own sockets, which say why they refuse; asyncio's just go."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        context.wrap_socket(plain, server_hostname="localhost").close()


async def test_a_senders_own_certificate_may_be_its_authority(authority: Authority) -> None:
    """Pinning without an authority: what stands in `ca` is trusted by itself."""
    certificate, key = authority.issue("localhost")
    client, secret = authority.issue("adt.example")
    other = authority.issue("lab.example")
    tls = ListenerTls(certificate=certificate, key=key, ca=client, client="require")
    async with bench({"tls": tls}) as b:
        peer = await b.peer(client_context(Tls(ca=authority.file, certificate=client, key=secret)))
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            stranger = await b.peer(client_context(Tls(ca=authority.file, certificate=other[0], key=other[1])))
            await stranger.send(frame(b"two"))
            await stranger.answer()
        await b.recorder.until("denied", "unknown-authority")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("client", "told"),
    [
        ("none", "HANDSHAKE_FAILURE|CERTIFICATE_REQUIRED"),
        ("expired", "ALERT_CERTIFICATE_EXPIRED"),
        ("stranger", "ALERT_UNKNOWN_CA"),
    ],
)
async def test_a_sender_is_told_why_its_handshake_failed(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, client: str, told: str
) -> None:
    certificate, key = authority.issue("localhost")
    files: tuple[str | None, str | None] = (None, None)
    if client == "expired":
        files = authority.issue("late", begins=-9, ends=-1)
    elif client == "stranger":
        files = Authority(tmp_path, "stranger").issue("adt")
    context = client_context(Tls(ca=authority.file, certificate=files[0], key=files[1]))
    context.minimum_version = context.maximum_version = version
    tls = ListenerTls(certificate=certificate, key=key, ca=authority.file, client="require")
    async with bench({"tls": tls}) as b:
        with pytest.raises(ssl.SSLError, match=told):
            await asyncio.to_thread(speak, context, b.server.port)
        await eventually(lambda: b.server._door is not None and not b.server._door._handshakes)


def speak(context: ssl.SSLContext, port: int) -> None:
    """Sends a message, and reads."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as spoken,
    ):
        spoken.sendall(frame(b"one") * 100)
        spoken.recv(100)
