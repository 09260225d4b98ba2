"""TLS toward senders (fault catalogue 49-51): what is refused, what is not, and that the rest goes on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from paper_authority import Authority
from scripted_peer import PATIENCE, bench

from hl7bridge.config import ListenerTls, Tls
from hl7bridge.errors import ConfigError
from hl7bridge.mllp.client import MllpClient, NoAnswer, NotSent
from hl7bridge.mllp.framing import frame
from hl7bridge.tls.contexts import client_context, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def server_tls(authority: Authority) -> ListenerTls:
    certificate, key = authority.issue("localhost")
    return ListenerTls(certificate=certificate, key=key, ca=authority.file)


def client(authority: Authority, common: str = "", signer: Authority | None = None) -> ssl.SSLContext:
    if not common:
        return client_context(Tls(ca=authority.file))
    certificate, key = (signer or authority).issue(common)
    return client_context(Tls(ca=authority.file, certificate=certificate, key=key))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_taken(
    server_tls: ListenerTls, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = client(authority)
    context.minimum_version = context.maximum_version = version
    async with bench({"tls": server_tls}) as b:
        peer = await b.peer(context)
        await peer.send(frame(b"one") + frame(b"two"))  # with or right behind the handshake's last record
        assert [await peer.answer(), await peer.answer()] == [b"ACK one", b"ACK two"]
        assert b.echo.peers[0].certificate == ""


async def test_tls_1_2_is_refused_where_1_3_is_the_minimum(server_tls: ListenerTls, authority: Authority) -> None:
    context = client(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with bench({"tls": server_tls.model_copy(update={"minimum": "1.3"})}) as b:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await b.peer(context)
        peer = await b.peer(client(authority))
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_1_1_is_refused(server_tls: ListenerTls, authority: Authority) -> None:
    context = client(authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with bench({"tls": server_tls}) as b:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await b.peer(context)


async def test_a_plain_sender_on_a_tls_port_is_closed_and_others_are_served(
    server_tls: ListenerTls, authority: Authority
) -> None:
    async with bench({"tls": server_tls}) as b:
        plain = await b.peer()
        await plain.send(frame(b"one"))
        await plain.closed()
        assert b.echo.seen == []
        peer = await b.peer(client(authority))
        await peer.send(frame(b"two"))
        assert await peer.answer() == b"ACK two"


async def test_a_tls_sender_on_a_plain_port_is_closed_and_others_are_served(authority: Authority) -> None:
    async with bench({"frame_timeout": 0.02}) as b:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.wait_for(b.peer(client(authority)), PATIENCE)
        assert b.echo.seen == []
        plain = await b.peer()
        await plain.send(frame(b"two"))
        assert await plain.answer() == b"ACK two"


async def test_a_handshake_that_stalls_is_cut_off(server_tls: ListenerTls) -> None:
    async with bench({"tls": server_tls, "frame_timeout": 0.03}) as b:
        stalled = await b.peer()
        assert await stalled.closed()
        assert b.recorder.said == [("denied", "stalled")]


async def test_a_required_certificate_names_the_peer(server_tls: ListenerTls, authority: Authority) -> None:
    async with bench({"tls": server_tls.model_copy(update={"client": "require"})}) as b:
        peer = await b.peer(client(authority, "lab.example.org"))
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"
        assert b.echo.peers[0].name == "lab.example.org"


@pytest.mark.parametrize("common", ["", "other.example.org"], ids=["no certificate", "another authority's"])
async def test_a_sender_without_the_required_certificate_is_refused(
    server_tls: ListenerTls, authority: Authority, stranger: Authority, common: str
) -> None:
    async with bench({"tls": server_tls.model_copy(update={"client": "require"})}) as b:
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            peer = await b.peer(client(authority, common, stranger))
            await peer.send(frame(b"one"))
            await peer.answer()
        assert b.echo.seen == []


async def test_a_wanted_certificate_may_be_missing_but_not_be_wrong(
    server_tls: ListenerTls, authority: Authority, stranger: Authority
) -> None:
    async with bench({"tls": server_tls.model_copy(update={"client": "want"})}) as b:
        peer = await b.peer(client(authority))
        await peer.send(frame(b"one"))
        assert await peer.answer() == b"ACK one"
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            wrong = await b.peer(client(authority, "other.example.org", stranger))
            await wrong.send(frame(b"two"))
            await wrong.answer()
        assert b.echo.seen == [b"one"]


async def test_draining_a_tls_port_answers_what_came_whole(server_tls: ListenerTls, authority: Authority) -> None:
    async with bench({"tls": server_tls}) as b:
        peer = await b.peer(client(authority))
        await peer.send(frame(b"hold 1"))
        await b.recorder.until("frame", 6)
        draining = asyncio.create_task(b.server.drain(PATIENCE))
        await b.recorder.until("dropped", "drain")
        b.echo.go.set()
        assert await peer.answer() == b"ACK hold 1"
        assert await peer.closed()
        assert await draining == 0


async def test_the_client_refuses_a_server_of_another_authority(server_tls: ListenerTls, stranger: Authority) -> None:
    async with (
        bench({"tls": server_tls}) as b,
        MllpClient("127.0.0.1", b.server.port, client_context(Tls(ca=stranger.file))) as sender,
    ):
        with pytest.raises(NotSent, match="no TLS with"):
            await sender.connect()


async def test_the_client_speaks_tls(server_tls: ListenerTls, authority: Authority) -> None:
    async with bench({"tls": server_tls}) as b:
        sent = b"MSH|^~\\&|A|B|C|D|1||ADT^A01|77|P|2.5\r"
        b.echo.answers[sent] = b"MSH|^~\\&|C\rMSA|AA|77\r"
        async with MllpClient("127.0.0.1", b.server.port, client(authority)) as sender:
            assert (await sender.send(sent)).accepted


def test_what_a_tls_listener_lacks_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        server_context(ListenerTls(client="require"))
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == ["tls.certificate", "tls.key", "tls.ca"]


def test_files_that_are_missing_or_wrong_are_named(tmp_path: Path, server_tls: ListenerTls) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no pem")
    with pytest.raises(ConfigError, match=r"tls\.key: there is no file"):
        server_context(server_tls.model_copy(update={"key": str(tmp_path / "none.key")}))
    with pytest.raises(ConfigError, match=r"tls\.certificate: .* are no certificate and its key"):
        server_context(server_tls.model_copy(update={"certificate": str(junk)}))
    with pytest.raises(ConfigError, match=r"tls\.ca: .* holds no certificates"):
        server_context(server_tls.model_copy(update={"ca": str(junk)}))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_client_says_why_the_server_refused_it(
    server_tls: ListenerTls, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = client(authority)
    context.minimum_version = context.maximum_version = version
    async with (
        bench({"tls": server_tls.model_copy(update={"client": "require"})}) as b,
        MllpClient("127.0.0.1", b.server.port, context) as sender,
    ):
        with pytest.raises((NotSent, NoAnswer), match="_ALERT_"):
            await sender.send(b"MSH|^~\\&|A|B|C|D|1||ADT^A01|77|P|2.5\r")
