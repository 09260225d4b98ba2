"""Ports for a whole house."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oauth_server import OAuthServer, installed


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure of a proof so that it is seen, also when the test passes or runs in a process of pytest-xdist."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", file=sys.stderr, flush=True)

    return tell


@pytest.fixture
def ports() -> tuple[int, int, int]:
    """Three TCP ports of the loopback interface that are free now."""
    probes = [socket.socket() for _ in range(3)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        first, second, third = (probe.getsockname()[1] for probe in probes)
        return first, second, third
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture
def oauth_server(fhir_server: Any, tmp_path: Path) -> Iterator[OAuthServer]:
    """An OAuth server of the test's own in front of the session's FHIR server."""
    server = OAuthServer(installed(), fhir_server.base_url, tmp_path)
    try:
        yield server
    finally:
        server.close()
