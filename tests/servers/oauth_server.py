"""A real OAuth server and a guard in front of the real FHIR server (oauth/server.mjs), run with node."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).with_name("oauth")
FILES = ("package.json", "package-lock.json", "server.mjs")
OLDEST_NODE = 20
INSTALLS_WITHIN = 300.0


def installed() -> Path:
    """The folder with the server and its packages, installed once for each state of the files; skips without node."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no OAuth server: {tool} is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"no OAuth server: node {version} is older than {OLDEST_NODE}")
    contents = b"".join((FOLDER / name).read_bytes() for name in FILES)
    cache = Path(os.environ.get("SERVERS_CACHE") or Path.home() / ".cache" / "hl7bridge-servers")
    folder = cache / f"oauth-{hashlib.sha256(contents).hexdigest()[:12]}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(FOLDER / name, folder / name)
        command = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALLS_WITHIN, check=False)
        if done.returncode:
            assert not os.environ.get("CI"), f"npm ci failed:\n{done.stderr[-2000:]}"
            pytest.skip("no OAuth server: npm could not install its packages")
        (folder / "installed").touch()
    return folder


class OAuthServer:
    """`token`: the token endpoint; `fhir`: the base of the FHIR server behind the guard; `jwks`: the client's keys."""

    def __init__(self, folder: Path, upstream: str, scratch: Path) -> None:
        self.jwks = scratch / "client-jwks.json"
        self.jwks.write_text('{"keys": []}')
        self._log = (scratch / "oauth.log").open("wb")
        self._process = subprocess.Popen(
            ["node", str(folder / "server.mjs"), upstream, str(self.jwks)], stdout=subprocess.PIPE, stderr=self._log
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the OAuth server ended:\n{(scratch / 'oauth.log').read_text()}"
        places = json.loads(line)
        self.token, self.fhir, self._control = places["token"], places["fhir"], places["control"]

    def change(self, **what: Any) -> dict[str, int]:
        """Changes what follows; gives the counts: tokens, refusedTokens, bundles, refused, distinct."""
        request = urllib.request.Request(self._control, json.dumps(what).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def register(self, jwks: dict[str, Any]) -> None:
        """The client publishes these keys, and the server has read them."""
        self.jwks.write_text(json.dumps(jwks))
        self.change(forget_keys=True)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
