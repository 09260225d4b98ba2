"""Who may connect to a TLS listener (fault catalogue 49, 50): every server, every client, every version.

docs/security.md shows this matrix; the last test compares them.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import pytest
from paper_authority import Authority, fingerprint
from scripted_peer import Bench, bench

from hl7bridge.config import Client, ListenerTls, Tls
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.framing import frame
from hl7bridge.tls.contexts import client_context

SECURITY: Final = Path(__file__).parents[2] / "docs" / "security.md"
NAME: Final = "adt.lakeside.example"
VERSIONS: Final = {
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
SERVERS: Final = ("none", "want", "require")
CLIENTS: Final[dict[str, Denial | None]] = {  # the client, and why it is refused where certificates are looked at
    "no certificate": Denial.NO_CERTIFICATE,
    "good": None,
    "expired": Denial.EXPIRED,
    "of another authority": Denial.AUTHORITY,
    "made for servers": Denial.PURPOSE,
    "revoked": Denial.REVOKED,
    "of another name": Denial.NOT_LISTED,
    "not the pinned one": Denial.NOT_LISTED,
}


def refused(server: str, client: str, version: str) -> Denial | None:
    """What must come of it: None means accepted."""
    if version == "1.1":
        return Denial.VERSION
    if server == "none" or (server == "want" and client == "no certificate"):
        return None
    return CLIENTS[client]


class Scene:
    """One authority, one server's files, and the files of every client."""

    def __init__(self, folder: Path) -> None:
        (folder / "other").mkdir()
        self.authority, stranger = Authority(folder, "authority"), Authority(folder / "other", "stranger")
        certificate, key = self.authority.issue("localhost", usage="server")
        issue = self.authority.issue
        self.files: dict[str, tuple[str, str]] = {
            "good": issue(NAME, "good", names=(), usage="client"),
            "expired": issue(NAME, "expired", names=(), begins=-9, ends=-1),
            "of another authority": stranger.issue(NAME, names=()),
            "made for servers": issue(NAME, "server-only", names=(), usage="server"),
            "revoked": issue(NAME, "revoked", names=()),
            "of another name": issue("lab.lakeside.example", "name", names=()),
            "not the pinned one": issue(NAME, "pin", names=()),
        }
        pinned = [self.files[client][0] for client in self.files if client != "not the pinned one"]
        revoked = self.authority.revoke(self.files["revoked"][0])
        self.listener = ListenerTls(certificate=certificate, key=key)
        self.asking: dict[str, Any] = {
            "ca": self.authority.file,
            "revoked": revoked,
            "clients": tuple(Client(name=NAME.upper(), fingerprint=fingerprint(file)) for file in pinned),
        }

    def server(self, client: str) -> ListenerTls:
        asking = self.asking if client != "none" else {}
        return self.listener.model_copy(update={"client": client, **asking})

    def context(self, client: str, version: str) -> ssl.SSLContext:
        certificate, key = self.files.get(client, (None, None))
        context = client_context(Tls(ca=self.authority.file, certificate=certificate, key=key))
        if version == "1.1":
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = VERSIONS[version]
        return context


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("matrix"))


async def is_served(b: Bench, context: ssl.SSLContext, message: bytes) -> bool:
    """Is the message of a client with this context answered?"""
    try:
        peer = await b.peer(context)
        await peer.send(frame(message))
        return await peer.answer() == b"ACK " + message
    except (ssl.SSLError, ConnectionError, EOFError):
        return False


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
async def test_exactly_who_may_is_let_in_and_the_next_good_one_is_served(
    scene: Scene, server: str, client: str, version: str
) -> None:
    denial = refused(server, client, version)
    async with bench({"tls": scene.server(server)}) as b:
        assert await is_served(b, scene.context(client, version), b"one") == (denial is None)
        if denial is not None:
            await b.recorder.until("denied", denial.value)
            assert b.echo.seen == []
        assert await is_served(b, scene.context("good", "1.3"), b"two")
        assert sum(fact[0] == "denied" for fact in b.recorder.said) == (denial is not None)


def matrix() -> str:
    """The table of docs/security.md."""
    lines = ["| client | `none` | `want` | `require` |", "|---|---|---|---|"]
    for client in CLIENTS:
        cells = [_cell({version: refused(server, client, version) for version in ("1.2", "1.3")}) for server in SERVERS]
        words = "shows no certificate" if client == "no certificate" else f"certificate: {client}"
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines.append("| any, with TLS 1.1 or older | " + " | ".join([f"refused, `{Denial.VERSION}`"] * 3) + " |")
    return "\n".join(lines)


def _cell(by_version: dict[str, Denial | None]) -> str:
    assert len(set(by_version.values())) == 1  # 1.2 and 1.3 are treated alike
    denial = by_version["1.3"]
    return "accepted" if denial is None else f"refused, `{denial}`"


def test_the_matrix_in_the_docs_is_the_one_that_is_tested() -> None:
    assert matrix() in SECURITY.read_text("utf-8"), matrix()
