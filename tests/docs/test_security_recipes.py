"""The commands of docs/security.md do what the page says: they make files that a listener and a sender work with."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "mllp"))
from scripted_peer import bench

from hl7bridge.config import Client, Config, ListenerTls, Tls
from hl7bridge.config.load import load
from hl7bridge.mllp.framing import frame
from hl7bridge.tls.contexts import client_context

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder the commands were run in, and what they printed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: the commands of docs/security.md are not run")
    folder = tmp_path_factory.mktemp("recipes")
    script = "set -euo pipefail\n" + "".join(SHELL.findall(PAGE.read_text("utf-8")))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


async def is_served(folder: Path, tls: ListenerTls) -> bool:
    own = {"certificate": str(folder / "epic.pem"), "key": str(folder / "epic.key")}
    async with bench({"tls": tls}) as b:
        try:
            peer = await b.peer(client_context(Tls(ca=str(folder / "ca.pem"), **own)))
            await peer.send(frame(b"one"))
            return await peer.answer() == b"ACK one"
        except (ssl.SSLError, ConnectionError, EOFError):
            return False


def listener(folder: Path, revoked: str = "revoked.pem", **client: str) -> ListenerTls:
    return ListenerTls(
        certificate=str(folder / "server.pem"),
        key=str(folder / "server.key"),
        ca=str(folder / "ca.pem"),
        revoked=str(folder / revoked),
        client="require",
        clients=(Client(**client),),
    )


async def test_the_commands_make_files_that_work_together(made: tuple[Path, str]) -> None:
    folder, _ = made
    assert await is_served(folder, listener(folder, name="epic.lakeside.example"))
    assert not await is_served(folder, listener(folder, name="epic"))  # there is a subjectAltName
    assert not await is_served(folder, listener(folder, "revoked-with-epic.pem", name="epic.lakeside.example"))


async def test_both_fingerprints_are_taken_as_openssl_prints_them(made: tuple[Path, str]) -> None:
    folder, printed = made
    certificate, key = [line for line in printed.splitlines() if re.search(r"[0-9A-Fa-f:]{64,}$", line)]
    assert "Fingerprint=" in certificate
    for fingerprint in (certificate, key):
        assert await is_served(folder, listener(folder, fingerprint=fingerprint))
    wrong = certificate[:-2] + ("00" if certificate[-2:] != "00" else "11")
    assert not await is_served(folder, listener(folder, fingerprint=wrong))


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    [text] = [text for text in YAML.findall(PAGE.read_text("utf-8")) if text.startswith("listeners:")]
    (tmp_path / "site.yaml").write_text(text, "utf-8")
    loaded: Config = load(tmp_path / "site.yaml", {})
    tls = loaded.listeners[0].tls
    assert tls is not None and [client.senders for client in tls.clients] == [
        ("EPIC|LAKESIDE", "EPIC|NORTH"),
        ("LAB",),
        (),
    ]


def test_a_server_shows_what_openssl_expects(made: tuple[Path, str]) -> None:
    folder, _ = made

    async def seen() -> str:
        tls = ListenerTls(certificate=str(folder / "server.pem"), key=str(folder / "server.key"))
        async with bench({"tls": tls}) as b:
            command = [
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{b.server.port}",
                "-CAfile",
                str(folder / "ca.pem"),
            ]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            output, _ = await process.communicate()
            return output.decode()

    output = asyncio.run(seen())
    assert "Verify return code: 0 (ok)" in output
    assert "Compression: NONE" in output
