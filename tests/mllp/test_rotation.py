"""TLS files that change on disk (fault catalogue 52): what is taken into use, what is not, and what is said of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from paper_authority import Authority
from scripted_peer import PATIENCE, Bench, Script, bench

from hl7bridge.config import ListenerTls, Tls
from hl7bridge.errors import ConfigError
from hl7bridge.mllp.framing import frame
from hl7bridge.mllp.gate import Limits
from hl7bridge.tls.contexts import client_context
from hl7bridge.tls.rotation import DAY, Look, Rotating


class Site:
    """A listener's files, and an authority to make others of."""

    def __init__(self, folder: Path) -> None:
        (folder / "live").mkdir()
        self.authority = Authority(folder, "authority")
        self.live = folder / "live"
        self.put("first")
        shutil.copy(self.authority.file, self.live / "ca.pem")
        self.tls = ListenerTls(
            certificate=str(self.live / "server.crt"), key=str(self.live / "server.key"), ca=str(self.live / "ca.pem")
        )

    def put(self, name: str, key: bool = True, ends: float = 365, begins: float = -1) -> None:
        """Puts a new certificate in place, with its key or without."""
        certificate, secret = self.authority.issue("localhost", name, ends=ends, begins=begins)
        self.replace("server.crt", Path(certificate))
        if key:
            self.replace("server.key", Path(secret))

    def replace(self, name: str, source: Path) -> None:
        """As certbot and cert-manager do: another file takes the name."""
        fresh = self.live / f".{name}"
        shutil.copy(source, fresh)
        fresh.replace(self.live / name)

    def client(self, common: str = "") -> ssl.SSLContext:
        certificate, key = self.authority.issue(common) if common else (None, None)
        return client_context(Tls(ca=self.authority.file, certificate=certificate, key=key))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def shown(peer: Script) -> bytes:
    """What the server showed: the SHA-256 of its certificate."""
    der = peer.writer.get_extra_info("ssl_object").getpeercert(True)
    return hashlib.sha256(der).digest()


def on_disk(site: Site) -> bytes:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((site.live / "server.crt").read_text())).digest()


async def answered(b: Bench, peer: Script, message: bytes) -> bool:
    await peer.send(frame(message))
    return await peer.answer() == b"ACK " + message


async def test_a_new_certificate_serves_from_the_next_handshake_on_and_open_connections_stay(site: Site) -> None:
    async with bench({"tls": site.tls}) as b:
        before = await b.peer(site.client())
        assert await answered(b, before, b"1")
        site.put("second")
        after = await b.peer(site.client())
        assert shown(after) == on_disk(site) != shown(before)
        assert await answered(b, before, b"2")
        assert await answered(b, after, b"3")
        assert b.recorder.said.count(("rotated",)) == 1


async def test_a_bad_new_pair_keeps_the_old_one_is_told_once_and_is_taken_when_it_is_mended(site: Site) -> None:
    async with bench({"tls": site.tls}) as b:
        old = on_disk(site)
        site.put("second", key=False)  # the key has not come yet
        for message in (b"1", b"2"):
            peer = await b.peer(site.client())
            assert shown(peer) == old
            assert await answered(b, peer, message)
        complaints = [fact for fact in b.recorder.said if fact[0] == "not_rotated"]
        why = f"tls.key: {site.tls.key} is not the key of the certificate {site.tls.certificate}"
        assert complaints == [("not_rotated", why)]
        assert b.server.keys is not None and b.server.keys.refused == why
        site.replace("server.key", site.live.parent / "second.key")
        peer = await b.peer(site.client())
        assert shown(peer) == on_disk(site) != old
        assert b.server.keys.refused == ""


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("junk", "is too weak|are no certificate and its key"),
        ("gone", "there is no file"),
        ("ended", "has ended"),
        ("not begun", "is not valid yet"),
        ("encrypted key", "is encrypted; `openssl pkey"),
    ],
)
def test_what_is_unfit_is_not_taken_into_use_and_named(site: Site, how: str, told: str) -> None:
    keys = Rotating(site.tls)
    context = keys.context
    if how == "junk":
        (site.live / "server.crt").write_text("no pem")
    elif how == "gone":
        (site.live / "server.key").unlink()
    elif how == "encrypted key":
        key = serialization.load_pem_private_key((site.live / "server.key").read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        pkcs8 = serialization.PrivateFormat.PKCS8
        (site.live / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, locked))
    else:
        site.put("second", ends=-1 if how == "ended" else 9, begins=-2 if how == "ended" else 1)
    assert keys.look() is Look.REFUSED
    assert keys.context is context
    assert re.search(told, keys.refused)
    assert "secret" not in keys.refused
    assert keys.look() is keys.look(again=True) is Look.SAME  # told once


def test_the_old_files_put_back_are_no_trouble_any_more(site: Site) -> None:
    keys = Rotating(site.tls)
    good = (site.live / "server.crt").read_bytes()
    stamp = (site.live / "server.crt").stat()
    (site.live / "server.crt").write_text("no pem")
    assert keys.look() is Look.REFUSED
    (site.live / "server.crt").write_bytes(good)
    os.utime(site.live / "server.crt", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert keys.look() is Look.SAME
    assert keys.refused == ""


def test_a_certificate_that_begins_later_is_taken_when_its_time_has_come(site: Site) -> None:
    clock = [time.time()]
    keys = Rotating(site.tls, clock=lambda: clock[0])
    site.put("second", begins=1)
    assert keys.look() is Look.REFUSED
    clock[0] += 2 * DAY
    assert keys.look() is Look.SAME  # a handshake does not try the same files again
    assert keys.look(again=True) is Look.DONE


async def test_files_are_looked_at_though_nobody_connects(site: Site) -> None:
    async with bench({"tls": site.tls}, limits=Limits(look_every=0.01)) as b:
        site.put("second")
        await b.recorder.until("rotated")


async def test_a_certificate_revoked_later_loses_its_connection_in_order_and_others_come_again(site: Site) -> None:
    revoked = site.authority.revoke(file="live/revoked.crl")
    tls = site.tls.model_copy(update={"client": "require", "revoked": revoked})
    async with bench({"tls": tls}) as b:
        bad, good = site.client("lab.example"), site.client("adt.example")
        first, second = await b.peer(bad), await b.peer(good)
        assert await answered(b, second, b"0")
        await first.send(frame(b"hold 1"))
        await b.recorder.until("frame", 6)
        site.authority.revoke(str(site.authority.folder / "lab.example.crt"), file="live/revoked.crl")
        b.server.look()
        b.echo.go.set()
        assert await first.answer() == b"ACK hold 1"  # what it sent before is still answered
        assert await first.closed()
        assert await second.closed()
        assert b.recorder.said.count(("dropped", "trust")) == 2
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await answered(b, await b.peer(bad), b"2")
        await b.recorder.until("denied", "revoked")
        assert await answered(b, await b.peer(good), b"3")


async def test_a_session_does_not_outlive_the_revocation_of_its_certificate(site: Site) -> None:
    """TLS 1.2 sessions are kept by the context they were made in, and new files make a new one; tickets there are none."""
    revoked = site.authority.revoke(file="live/revoked.crl")
    tls = site.tls.model_copy(update={"client": "require", "revoked": revoked})
    context = site.client("lab.example")
    async with bench({"tls": tls}) as b:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, version
            peer = await b.peer(context)
            assert await answered(b, peer, b"1")
            session = peer.writer.get_extra_info("ssl_object").session
            assert not session.has_ticket
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        peer = await b.peer(context)
        assert await answered(b, peer, b"2")
        session = peer.writer.get_extra_info("ssl_object").session
        site.authority.revoke(str(site.authority.folder / "lab.example.crt"), file="live/revoked.crl")
        resumed = await asyncio.to_thread(resume, context, session, b.server.port)
        assert resumed is False
        await b.recorder.until("denied", "revoked")


def resume(context: ssl.SSLContext, session: ssl.SSLSession, port: int) -> bool:
    """Tries to connect with a former session. Was it good for anything?"""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as spoken:
                spoken.sendall(frame(b"resumed"))
                return spoken.recv(100) != b""
        except (ssl.SSLError, ConnectionError):
            return False


async def test_a_certificate_that_ended_since_its_session_began_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed session brings the certificate that was verified when it began."""
    context = site.client("adt.example")
    async with bench({"tls": site.tls.model_copy(update={"client": "require"})}) as b:
        now = time.time()
        monkeypatch.setattr("hl7bridge.mllp.peer.time.time", lambda: now + 366 * DAY)
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await answered(b, await b.peer(context), b"1")
        await b.recorder.until("denied", "expired")
        monkeypatch.undo()
        assert await answered(b, await b.peer(context), b"2")


def test_each_file_warns_at_its_days_once_and_when_it_has_ended(site: Site) -> None:
    clock = [time.time()]
    revoked = site.authority.revoke(file="live/revoked.crl", ends=20)
    tls = site.tls.model_copy(update={"client": "want", "revoked": revoked, "warn_days": (30, 7)})
    site.put("short", ends=40)
    keys = Rotating(tls, clock=lambda: clock[0])
    told = []
    for day in range(45):
        told += [(day, ending.told(clock[0]).split()[-2:]) for ending in keys.warnings()]
        clock[0] += DAY
    assert [day for day, _ in told] == [10, 13, 20, 33, 40]  # 13 and 20: the revocation list's
    assert [words for _, words in told if words[0] != "has"] == [["30", "days"], ["7", "days"], ["7", "days"]]
    site.put("fresh")
    assert keys.look(again=True) is Look.REFUSED  # the revocation list has run out meanwhile
    site.authority.revoke(file="live/revoked.crl", ends=700)
    assert keys.look(again=True) is Look.DONE
    assert keys.warnings() == []
    assert {ending.key for ending in keys.endings} == {"certificate", "ca", "revoked"}


def test_a_file_of_revocation_lists_that_holds_a_certificate_is_refused(site: Site) -> None:
    """OpenSSL would take such a certificate for an authority."""
    tls = site.tls.model_copy(update={"client": "require", "revoked": site.authority.file})
    with pytest.raises(ConfigError, match="is no PEM file of revocation lists only; `openssl crl -inform der"):
        Rotating(tls)


async def test_a_revocation_list_that_has_run_out_refuses_all_and_says_so(site: Site) -> None:
    revoked = site.authority.revoke(file="live/revoked.crl", ends=-1)
    tls = site.tls.model_copy(update={"client": "require", "revoked": revoked})
    async with bench({"tls": tls}) as b:
        assert ("ending", "revoked") in b.recorder.said
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await answered(b, await b.peer(site.client("adt.example")), b"1")
        await b.recorder.until("denied", "revocation-list")
        site.authority.revoke(file="live/revoked.crl")
        assert await answered(b, await b.peer(site.client("adt.example")), b"2")
