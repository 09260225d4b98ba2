"""What `hl7bridge doctor` looks at: one function a subject. Probe files are removed again.

What holds: a finding says what was tried, what came of it, and what to do; never a secret, never anything of a message.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp

from hl7bridge import zone
from hl7bridge.config import Config, Listener, is_reference, secret
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.mllp.tls import client_context, server_context

Grade = Literal["ok", "warn", "FAIL"]

# SQLite's WAL needs shared memory and honest locks; these file systems have neither, or lie about fsync
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})
EARLIEST = 1_735_689_600.0  # 2025-01-01: a clock before the program's own time is not set
SKEW = 300.0  # seconds: beyond, tokens and certificates begin to fail
SLOW_FSYNC = 0.1  # seconds: senders wait at least that long for their answer
SPARE_FILES = 128  # file descriptors beside those of connections: journal, tables, endpoint, logs
PROBE_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok    journal ./var/journal: written and synced in 2 ms`."""

    grade: Grade
    subject: str
    text: str
    remedy: str = ""


async def examine(config: Config) -> list[Finding]:
    """Everything, in the order a message takes."""
    running = await _is_running(config)
    findings = [
        *_ports(config, running),
        *_files_limit(config),
        *_journal(config),
        *_folder("dead letters", Path(config.dead_letters.path), "dead_letters.path"),
        *await asyncio.to_thread(lambda: list(_tables(config))),
        *_zones(config),
        *_clock(),
    ]
    if config.fhir.base_url.startswith("file:"):
        findings += _folder("bundles", Path(config.fhir.base_url.removeprefix("file:")), "fhir.base_url")
    else:
        findings += await _endpoint(config)
    return findings


# ---- ports ----


async def _is_running(config: Config) -> bool:
    """Does our daemon answer on the health port already?"""
    host = "127.0.0.1" if config.observe.host in ("", "0.0.0.0", "::") else config.observe.host
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(f"http://{host}:{config.observe.port}/healthz") as answer,
        ):
            return "checks" in await answer.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False


def _ports(config: Config, running: bool) -> Iterator[Finding]:
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
    try:
        server_context(listener.tls)
    except Hl7BridgeError as error:
        yield Finding("FAIL", f"listener {listener.name} TLS", str(error), "give PEM files this user can read")
    else:
        yield Finding("ok", f"listener {listener.name} TLS", f"certificate loads, clients: {listener.tls.client}")


def _files_limit(config: Config) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(listener.max_connections for listener in config.listeners) + config.fhir.concurrency + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        remedy = f"raise it (`ulimit -n`, LimitNOFILE=) to {needed} or lower max_connections"
        yield Finding("warn", "open files", f"the limit is {soft}, full use may need {needed}", remedy)
    else:
        yield Finding("ok", "open files", f"the limit is {soft}, full use needs {needed}")


# ---- disks ----


def _journal(config: Config) -> Iterator[Finding]:
    folder = Path(config.journal.path)
    yield from _folder("journal", folder, "journal.path")
    there = _nearest(folder)
    kind = _file_system(there)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding("FAIL", "journal disk", f"{there} is on {kind}", "put the journal on a local disk (SQLite WAL)")
    free = shutil.disk_usage(there).free
    if free < config.journal.min_free_bytes:
        text = f"{_mebibytes(free)} free, journal.min_free_bytes is {_mebibytes(config.journal.min_free_bytes)}"
        yield Finding("FAIL", "journal disk", text, "free space: until then every sender gets AR/CE 207")
    elif free < 4 * config.journal.min_free_bytes:
        yield Finding("warn", "journal disk", f"{_mebibytes(free)} free", "it will not last long")
    else:
        yield Finding("ok", "journal disk", f"{_mebibytes(free)} free")


def _folder(subject: str, folder: Path, key: str) -> Iterator[Finding]:
    """Can a file be written there and synced? The folder itself need not exist yet."""
    there = _nearest(folder)
    begun = time.perf_counter()
    try:
        with tempfile.TemporaryFile(prefix=".hl7bridge-doctor-", dir=there) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = f"let this user write there, or set {key}"
        yield Finding("FAIL", subject, f"{folder}: cannot be written: {error.strerror or type(error).__name__}", remedy)
        return
    took = time.perf_counter() - begun
    made = "" if folder.is_dir() else " (will be made)"
    text = f"{folder}{made}: written and synced in {took * 1000:.0f} ms"
    if took > SLOW_FSYNC:
        yield Finding("warn", subject, text, "a slow disk: every answer waits for it")
    else:
        yield Finding("ok", subject, text)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    here = folder.absolute()
    while not here.is_dir() and here != here.parent:
        here = here.parent
    return here


def _file_system(folder: Path) -> str:
    """The type of the file system a folder is on; empty where /proc does not tell."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if folder.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _mebibytes(count: int) -> str:
    return f"{count / (1024 * 1024):,.0f} MiB"


# ---- tables, zones, clock ----


def _tables(config: Config) -> Iterator[Finding]:
    from hl7bridge.tablesets import load, wanted

    for folders in wanted(config):
        subject = "tables" + (f" with {', '.join(folders)}" if folders else "")
        try:
            mappings = load(config, folders)
        except Hl7BridgeError as error:
            first, *rest = str(error).splitlines()
            more = f" (and {len(rest)} more)" if rest else ""
            yield Finding("FAIL", subject, first + more, "`hl7bridge mappings check` names every mistake")
        else:
            yield Finding("ok", subject, f"{len(mappings.events)} events, version {mappings.version}")


def _zones(config: Config) -> Iterator[Finding]:
    machine = str(zone.machine())
    for listener in config.listeners:
        if listener.timezone is None:
            grade: Grade = "warn" if machine in ("UTC", "Etc/UTC", "localtime") else "ok"
            remedy = "set timezone of the listener if its senders are elsewhere" if grade == "warn" else ""
            text = f"times without an offset take the machine's zone, {machine}"
            yield Finding(grade, f"listener {listener.name} zone", text, remedy)
        else:
            yield Finding("ok", f"listener {listener.name} zone", f"times without an offset are {listener.timezone}")


def _clock() -> Iterator[Finding]:
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        yield Finding("FAIL", "clock", f"says {told}", "set it: MSH-7, retention and certificates depend on it")
    else:
        yield Finding("ok", "clock", f"says {told}")


# ---- endpoint ----


async def _endpoint(config: Config) -> list[Finding]:
    fhir = config.fhir
    subject = f"endpoint {fhir.base_url}"
    try:
        headers = {key: secret(text) if is_reference(text) else text for key, text in fhir.headers.items()}
        headers["Accept"] = "application/fhir+json"
        auth = None
        if fhir.bearer_token is not None:
            headers["Authorization"] = f"Bearer {secret(fhir.bearer_token.get_secret_value())}"
        if fhir.basic_user is not None and fhir.basic_password is not None:
            auth = aiohttp.BasicAuth(fhir.basic_user, secret(fhir.basic_password.get_secret_value()), "utf-8")
        context = client_context(fhir.tls) if fhir.tls is not None else True
    except Hl7BridgeError as error:
        return [Finding("FAIL", subject, str(error), "mend the reference or the file")]
    findings = []
    if fhir.base_url.startswith("http:") and (auth is not None or fhir.bearer_token is not None):
        findings.append(Finding("warn", subject, "credentials go over clear text", "use https"))
    try:
        timeout = aiohttp.ClientTimeout(total=min(PROBE_TIMEOUT, fhir.timeout))
        async with aiohttp.ClientSession(timeout=timeout, auth=auth) as session:
            url = fhir.base_url.rstrip("/") + "/metadata"
            async with session.get(url, headers=headers, ssl=context, allow_redirects=False) as answer:
                body: Any = await answer.json(content_type=None) if answer.status == 200 else None
                findings += _judged(subject, answer.status, body, answer.headers.get("Date", ""))
    except TimeoutError:
        findings.append(Finding("FAIL", subject, "no answer in time", "see whether it runs, and the way to it"))
    except aiohttp.ClientSSLError as error:
        remedy = "set fhir.tls.ca to the authority of its certificate"
        findings.append(Finding("FAIL", subject, f"TLS fails: {type(error).__name__}", remedy))
    except (aiohttp.ClientError, OSError) as error:
        remedy = "see whether it runs, and the way to it (name, firewall, proxy)"
        findings.append(Finding("FAIL", subject, f"cannot be reached: {type(error).__name__}", remedy))
    except ValueError:
        findings.append(
            Finding("FAIL", subject, "/metadata is not JSON", "is fhir.base_url the base of a FHIR server?")
        )
    return findings


def _judged(subject: str, status: int, body: Any, date: str) -> Iterator[Finding]:
    """What GET /metadata tells (FHIR R4, http.html#capabilities)."""
    if status in (401, 403):
        yield Finding(
            "FAIL", subject, f"/metadata answers {status}", "check bearer_token, or basic_user and basic_password"
        )
        return
    if status != 200 or not isinstance(body, dict) or body.get("resourceType") != "CapabilityStatement":
        what = f"/metadata answers {status}" if status != 200 else "/metadata is no CapabilityStatement"
        yield Finding("FAIL", subject, what, "is fhir.base_url the base of a FHIR server?")
        return
    version = str(body.get("fhirVersion", ""))[:20]
    if not version.startswith("4."):
        yield Finding(
            "FAIL", subject, f"speaks FHIR {version or '(it does not say)'}", "hl7bridge writes FHIR R4 (4.0.1)"
        )
    else:
        yield Finding("ok", subject, f"answers, FHIR {version}")
    modes = [
        str(interaction.get("code"))
        for rest in body.get("rest") or []
        for interaction in rest.get("interaction") or []
        if isinstance(interaction, dict)
    ]
    if "transaction" not in modes:
        yield Finding("warn", subject, "does not say that it takes transactions", "bundles are sent as transactions")
    try:
        skew = abs(parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return
    if skew > SKEW:
        yield Finding(
            "warn", "clock", f"differs from the endpoint's by {skew:,.0f} s", "let both follow one time server"
        )
