"""TLS toward the endpoint against a real TLS server: who is trusted, who we are, and files that change underneath."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from scripted_server import CREATED, SHIPMENT, ScriptedServer, opened, serving

from hl7bridge.config import Tls, secret
from hl7bridge.delivery.assertion import new_key
from hl7bridge.delivery.endpoint import EndpointObserver, HttpEndpoint
from hl7bridge.delivery.outcome import Blame, Delivered, Outcome, RetryAt
from hl7bridge.delivery.tls import LOOK, Contexts
from hl7bridge.errors import UnavailableError
from hl7bridge.tls.rotation import Ending

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder. `file`: its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(self.subject, self.key, -1, 30).add_extension(constraints, critical=True)
        made = builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.certificate = made.public_bytes(serialization.Encoding.PEM)
        self.file.write_bytes(self.certificate)

    def issue(self, name: str, *, client: bool = False, begins: int = -1, ends: int = 30) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if name == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            self._builder(subject, key, begins, ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        pair = Pair(self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: int, ends: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begins * DAY)
            .not_valid_after(NOW + ends * DAY)
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


def server_side(pair: Pair, clients: Authority | None = None, highest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients is not None:
        context.load_verify_locations(clients.file)
        context.verify_mode = ssl.CERT_REQUIRED
    if highest is not None:
        context.maximum_version = highest
    return context


def shown_by(server: ScriptedServer) -> list[str]:
    """Lets the server note the common name of each client certificate it is shown."""
    names: list[str] = []

    def play(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        names.extend(value for part in certificate.get("subject", ()) for _, value in part)
        return web.json_response(CREATED)

    server.plays = [play]
    return names


async def sent(url: str, **tls: object) -> Outcome:
    async with opened(url, tls={name: str(value) for name, value in tls.items()}) as endpoint:
        return await endpoint.deliver(SHIPMENT)


def assert_tls_failed(outcome: Outcome, said: str = "") -> None:
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT, outcome
    assert outcome.why.startswith("TLS failed") and said in outcome.why, outcome.why


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_of_our_authority_gets_the_bundle(authority: Authority, version: ssl.TLSVersion) -> None:
    context = server_side(authority.issue("localhost"), highest=version)
    async with serving(context) as server:
        assert await sent(server.url, ca=authority.file) == Delivered(200)


async def test_a_server_is_pinned_by_its_own_certificate(authority: Authority) -> None:
    pinned, other = authority.issue("localhost"), Authority(authority.folder, "twin").issue("localhost")
    async with serving(server_side(pinned)) as server:
        assert await sent(server.url, ca=pinned.certificate) == Delivered(200)
        assert_tls_failed(await sent(server.url, ca=other.certificate))


async def test_a_server_of_another_authority_gets_nothing(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with serving(server_side(stranger.issue("localhost"))) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file), "certificate")
        assert server.requests == []


async def test_a_server_whose_certificate_names_another_gets_nothing(authority: Authority) -> None:
    async with serving(server_side(authority.issue("elsewhere.example"))) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file), "ostname mismatch")
        assert server.requests == []


@pytest.mark.parametrize(("begins", "ends", "said"), [(-9, -1, "expired"), (1, 9, "not yet valid")])
async def test_a_server_certificate_out_of_its_time_is_refused(
    authority: Authority, begins: int, ends: int, said: str
) -> None:
    async with serving(server_side(authority.issue("localhost", begins=begins, ends=ends))) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file), said)


async def test_a_server_that_shows_a_client_s_certificate_is_refused(authority: Authority) -> None:
    async with serving(server_side(authority.issue("localhost", client=True))) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file))


async def test_a_server_without_1_3_is_refused_where_1_3_is_the_least(authority: Authority) -> None:
    context = server_side(authority.issue("localhost"), highest=ssl.TLSVersion.TLSv1_2)
    async with serving(context) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file, minimum="1.3"))
        assert await sent(server.url, ca=authority.file) == Delivered(200)


async def test_a_server_with_old_ciphers_only_is_refused(authority: Authority) -> None:
    context = server_side(authority.issue("localhost"), highest=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # CBC: RFC 9325 recommends it no more
    async with serving(context) as server:
        assert_tls_failed(await sent(server.url, ca=authority.file))


async def test_our_certificate_opens_a_server_that_asks_for_one(authority: Authority) -> None:
    ours = authority.issue("bridge.example", client=True)
    async with serving(server_side(authority.issue("localhost"), authority)) as server:
        names = shown_by(server)
        assert await sent(server.url, ca=authority.file, certificate=ours.certificate, key=ours.key) == Delivered(200)
        assert names == ["bridge.example"]


async def test_without_a_certificate_or_with_a_stranger_s_everything_waits(
    authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "stranger").issue("bridge.example", client=True)
    async with serving(server_side(authority.issue("localhost"), authority)) as server:
        for tls in ({}, {"certificate": foreign.certificate, "key": foreign.key}):
            outcome = await sent(server.url, ca=authority.file, **tls)
            # with TLS 1.3 the server's refusal may come only when we already read its answer
            assert isinstance(outcome, RetryAt) and outcome.blame in (Blame.ENDPOINT, Blame.EITHER)
        assert server.requests == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Told(EndpointObserver):
    def __init__(self) -> None:
        self.said: list[tuple[bool, str]] = []

    def certificates(self, key: str, endings: Sequence[Ending], unfit: str | None) -> None:
        assert key == "fhir.tls" and bool(endings) is not bool(unfit)
        self.said.append((not unfit, unfit or ""))


def with_clock(endpoint: HttpEndpoint, clock: Clock, told: Told) -> None:
    contexts = endpoint._http._contexts
    assert contexts is not None
    contexts._clock, contexts._next, contexts._observer = clock, clock.now, told


async def test_a_certificate_rotated_on_disk_is_shown_without_a_restart_and_a_bad_one_keeps_the_old(
    authority: Authority,
) -> None:
    ours, clock, told = authority.issue("first.example", client=True), Clock(), Told()
    files = {"ca": str(authority.file), "certificate": str(ours.certificate), "key": str(ours.key)}
    async with serving(server_side(authority.issue("localhost"), authority)) as server:
        names = shown_by(server)
        async with opened(server.url, tls=files) as endpoint:
            with_clock(endpoint, clock, told)

            async def sent_after(change: Callable[[], object]) -> str:
                change()
                clock.now += LOOK + 0.1
                assert await endpoint.deliver(SHIPMENT) == Delivered(200)
                return names[-1]

            second = authority.issue("second.example", client=True)
            assert await sent_after(lambda: None) == "first.example"
            assert (
                await sent_after(lambda: ours.certificate.write_bytes(second.certificate.read_bytes()))
                == "first.example"
            )
            assert told.said[-1][0] is False and str(ours.key) in told.said[-1][1]
            assert await sent_after(lambda: None) == "first.example"
            assert len(told.said) == 1  # told once
            assert await sent_after(lambda: ours.key.write_bytes(second.key.read_bytes())) == "second.example"
            assert told.said[1:] == [(True, "")]
            assert await sent_after(ours.key.unlink) == "second.example"
            assert await sent_after(lambda: authority.file.write_text("rubbish")) == "second.example"
            assert [renewed for renewed, _ in told.said] == [False, True, False, False]
            ended = authority.issue("ended.example", client=True, begins=-9, ends=-1)
            authority.file.write_bytes(authority.certificate)
            ours.certificate.write_bytes(ended.certificate.read_bytes())
            assert await sent_after(lambda: ours.key.write_bytes(ended.key.read_bytes())) == "second.example"
            assert "has ended" in told.said[-1][1]


async def test_an_authority_rotated_on_disk_is_trusted_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    successor, clock = Authority(tmp_path, "successor"), Clock()
    context = server_side(successor.issue("localhost"))
    async with serving(context) as server, opened(server.url, tls={"ca": str(authority.file)}) as endpoint:
        with_clock(endpoint, clock, Told())
        assert_tls_failed(await endpoint.deliver(SHIPMENT))
        authority.file.write_bytes(authority.file.read_bytes() + successor.file.read_bytes())
        clock.now += LOOK + 0.1
        assert await endpoint.deliver(SHIPMENT) == Delivered(200)


async def test_a_token_endpoint_of_another_authority_is_trusted_by_its_own_and_shown_our_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    theirs, key = Authority(tmp_path, "tokens"), tmp_path / "smart.pem"
    key.write_bytes(new_key("ec"))
    ours = authority.issue("bridge.example", client=True)
    mutual = {"ca": str(authority.file), "certificate": str(ours.certificate), "key": str(ours.key)}
    to_fhir, to_tokens = server_side(authority.issue("localhost"), authority), server_side(theirs.issue("localhost"))
    async with serving(to_fhir) as server, serving(to_tokens) as tokens:
        names = shown_by(server)
        tokens.plays = [lambda _: web.json_response({"access_token": "t", "token_type": "bearer", "expires_in": 300})]
        smart: dict[str, object] = {"client_id": "c", "keys": [f"file:{key}"], "token_url": f"{tokens.url}/token"}
        async with opened(server.url, secret, tls=mutual, smart=smart) as endpoint:
            outcome = await endpoint.deliver(SHIPMENT)
        assert isinstance(outcome, RetryAt) and outcome.why.startswith("no token (token endpoint: TLS failed")
        assert server.requests == []
        async with opened(server.url, secret, tls=mutual, smart=smart | {"tls": {"ca": str(theirs.file)}}) as endpoint:
            assert await endpoint.deliver(SHIPMENT) == Delivered(200)
        assert names == ["bridge.example"]
        assert server.requests[0][2]["Authorization"] == "Bearer t"


def test_files_are_looked_at_now_and_then_and_not_for_every_bundle(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    contexts = Contexts(Tls(ca=str(authority.file)), clock=clock)
    looks: list[float] = []
    monkeypatch.setattr(contexts, "_look", lambda: looks.append(clock.now) or contexts._marks)
    for _ in range(1_000):
        contexts.current()
        clock.now += LOOK / 100
    assert 9 <= len(looks) <= 10


def test_files_that_are_unfit_at_the_start_are_named(authority: Authority, tmp_path: Path) -> None:
    ours, other = authority.issue("a.example", client=True), authority.issue("b.example", client=True)
    with pytest.raises(UnavailableError, match=r"fhir\.tls.*is not the key|fhir\.tls.*no certificate and its key"):
        Contexts(Tls(certificate=str(ours.certificate), key=str(other.key)))
    with pytest.raises(UnavailableError, match=r"fhir\.smart\.tls.*none\.pem"):
        Contexts(Tls(ca=str(tmp_path / "none.pem")), "fhir.smart.tls")
