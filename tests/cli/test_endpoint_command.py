"""`hl7bridge endpoint`: making keys, publishing them, trying the authentication."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from hl7bridge.cli.main import cli
from hl7bridge.delivery.assertion import read_key

SENTINEL = "ZZSENTINELZZ"


def run(*words: str, config: Path | None = None) -> Result:
    return CliRunner().invoke(cli, [*(["--config", str(config)] if config else []), "endpoint", *words])


@pytest.mark.parametrize(("kind", "alg"), [("ec", "ES384"), ("rsa", "RS384")])
def test_a_new_key_is_private_and_told_by_its_kid_only(tmp_path: Path, kind: str, alg: str) -> None:
    file = tmp_path / "smart.pem"
    made = run("key", "--type", kind, str(file))
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.stdout == f"{alg} {read_key(file.read_text(), 'k').kid}\n"
    assert not any(line in made.output for line in file.read_text().splitlines() if "-" not in line)


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "smart.pem"
    file.write_text("the only copy")
    assert run("key", str(file)).exit_code == 4
    assert file.read_text() == "the only copy"


def settings(folder: Path, keys: list[Path], **more: str) -> Path:
    file = folder / "hl7bridge.yaml"
    smart = {"client_id": "bridge", "keys": [f"file:{key}" for key in keys]}
    url = more.pop("base_url", "https://fhir.example/r4")
    file.write_text(json.dumps({"fhir": {"base_url": url, "timeout": 5, "smart": smart | more}}))
    return file


def test_all_keys_are_published_and_nothing_private_with_them(tmp_path: Path) -> None:
    keys = [tmp_path / "new.pem", tmp_path / "old.pem"]
    made = [run("key", str(key)).stdout.split()[1] for key in keys]
    published = run("jwks", config=settings(tmp_path, keys))
    assert published.exit_code == 0, published.output
    found = json.loads(published.stdout)["keys"]
    assert [key["kid"] for key in found] == made
    assert all(key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in found)


def test_without_smart_there_is_nothing_to_publish(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("fhir: {base_url: 'https://fhir.example'}")
    refused = run("jwks", config=tmp_path / "c.yaml")
    assert refused.exit_code == 3 and "fhir.smart is not set" in refused.stderr


class Servers(BaseHTTPRequestHandler):
    """Token endpoint and FHIR server in one."""

    token: ClassVar[tuple[int, dict[str, object]]] = (200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(*self.token)

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Bearer {SENTINEL}"
        self.answer(200 if known else 401, {"resourceType": "CapabilityStatement"})

    def answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def servers() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Servers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_check_tries_key_token_and_server(tmp_path: Path, servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "smart.pem"
    run("key", str(key))
    given = {"access_token": SENTINEL, "token_type": "bearer", "expires_in": 300, "scope": "system/*.cruds"}
    monkeypatch.setattr(Servers, "token", (200, given))
    config = settings(tmp_path, [key], base_url=f"{servers}/fhir", token_url=f"{servers}/token")
    checked = run("check", config=config)
    assert checked.exit_code == 0, checked.output
    assert "ok    token: a token for 300 s for system/*.cruds" in checked.stdout
    assert "a FHIR server answers" in checked.stdout
    assert "warn  token endpoint: tokens come over clear text" in checked.stdout
    assert SENTINEL not in checked.output

    monkeypatch.setattr(Servers, "token", (401, {"error": "invalid_client", "error_description": SENTINEL}))
    key.chmod(0o644)
    refused = run("check", config=config)
    assert refused.exit_code == 4
    assert "FAIL  token: no token: invalid_client: register the keys of `hl7bridge endpoint jwks`" in refused.stdout
    assert "can be read by others" in refused.stdout
    assert SENTINEL not in refused.output

    key.write_text(SENTINEL)
    broken = run("check", config=config)
    assert "FAIL  endpoint keys: fhir.smart.keys.0: is no private key in PEM or JWK" in broken.stdout
    assert SENTINEL not in broken.output
