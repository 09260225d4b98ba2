"""Ports: can each be bound, does the TLS of each listener load and last, are there descriptors for all connections?"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import stat
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from hl7bridge.config import Config, Listener
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.examine.finding import Finding, Grade
from hl7bridge.tls.rotation import DAY, Rotating

ANSWER_WITHIN = 2.0  # seconds
ANSWER_MAX = 1024 * 1024  # bytes
SPARE_FILES = 128  # file descriptors beside those of connections: journal, tables, endpoint, logs


async def is_running(config: Config) -> bool:
    """Does our daemon answer on the health port already?"""
    host = "127.0.0.1" if config.observe.host in ("", "0.0.0.0", "::") else config.observe.host
    return await asyncio.to_thread(_answers, host, config.observe.port)


def _answers(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=ANSWER_WITHIN)
    try:
        connection.request("GET", "/healthz")
        answer = json.loads(connection.getresponse().read(ANSWER_MAX))
    except (HTTPException, OSError, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and "checks" in answer


def ports(config: Config, running: bool) -> Iterator[Finding]:
    """Those of the listeners and of health; `running`: our daemon holds them."""
    for listener in config.listeners:
        yield _port(f"listener {listener.name}", listener.host, listener.port, running)
        yield from _listener_tls(listener)
    yield _port("health", config.observe.host, config.observe.port, running)


def _port(subject: str, host: str, port: int, running: bool) -> Finding:
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if running:
            return Finding("ok", subject, f"{where} is taken, and hl7bridge is running")
        why = error.strerror or type(error).__name__
        remedy = "see who has it with `ss -ltnp`, or choose another port; ports below 1024 need privileges"
        return Finding("FAIL", subject, f"{where} cannot be bound: {why}", remedy)
    return Finding("ok", subject, f"{where} can be bound")


def _listener_tls(listener: Listener) -> Iterator[Finding]:
    if listener.tls is None:
        if listener.host not in ("127.0.0.1", "::1", "localhost"):
            remedy = "set tls for it unless the network in between is trusted"
            yield Finding("warn", f"listener {listener.name}", "clear text, and reachable from other machines", remedy)
        return
    subject = f"listener {listener.name} TLS"
    try:
        keys = Rotating(listener.tls)
    except Hl7BridgeError as error:
        yield Finding("FAIL", subject, str(error), "give PEM files this user can read")
        return
    tls, now = listener.tls, time.time()
    asked = f", {len(tls.clients)} clients listed" if tls.clients else ""
    versions = "1.3" if tls.minimum == "1.3" else "1.2 and 1.3"
    yield Finding("ok", subject, f"certificate and key fit, TLS {versions}, clients: {tls.client}{asked}")
    for ending in keys.endings:
        left = (ending.at - now) / DAY
        soon = max(ending.warn_days(tls), default=0)
        grade: Grade = "FAIL" if left <= 0 else "warn" if left <= soon else "ok"
        remedy = "" if grade == "ok" else "put another in its place: it is taken into use without a restart"
        yield Finding(grade, subject, ending.told(now), remedy)
    if tls.key and (mode := stat.S_IMODE(Path(tls.key).stat().st_mode)) & 0o077:
        yield Finding("warn", subject, f"{tls.key} can be read by others (mode {mode:04o})", f"chmod 600 {tls.key}")


def files_limit(config: Config) -> Iterator[Finding]:
    """Open files: what the system allows, what full use needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # with TLS as many handshakes may be under way beside the connections, with two descriptors each
    most = sum(listener.max_connections * (3 if listener.tls else 1) for listener in config.listeners)
    needed = most + config.fhir.concurrency + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        remedy = f"raise it (`ulimit -n`, LimitNOFILE=) to {needed} or lower max_connections"
        yield Finding("warn", "open files", f"the limit is {soft}, full use may need {needed}", remedy)
    else:
        yield Finding("ok", "open files", f"the limit is {soft}, full use needs {needed}")
