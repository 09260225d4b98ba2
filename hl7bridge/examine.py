"""What `hl7bridge doctor` looks at: one function a subject. Probe files are removed again.

What holds: a finding says what was tried, what came of it, and what to do; never a secret, never anything of a message.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from hl7bridge import zone
from hl7bridge.config import Config, Listener, Smart, secret, with_headers
from hl7bridge.delivery.disk import wider_than_private
from hl7bridge.delivery.endpoint import HttpEndpoint, Probe, open_endpoint
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.journal.files import DATABASE, whole
from hl7bridge.mllp.client import MllpClient
from hl7bridge.reasons import DAMAGED
from hl7bridge.replies import channels_of
from hl7bridge.sealing import open_keyring
from hl7bridge.tls.contexts import client_context
from hl7bridge.tls.rotation import DAY, Rotating

Grade = Literal["ok", "warn", "FAIL"]

# SQLite's WAL needs shared memory and honest locks; these file systems have neither, or lie about fsync
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})
EARLIEST = 1_735_689_600.0  # 2025-01-01: a clock before the program's own time is not set
SLOW_FSYNC = 0.1  # seconds: senders wait at least that long for their answer
KEPT = "application ACKs are kept and sent when it is back"
SPARE_FILES = 128  # file descriptors beside those of connections: journal, tables, endpoint, logs


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
        *_at_rest(config),
        *await asyncio.to_thread(lambda: list(_tables(config))),
        *_zones(config),
        *_clock(),
    ]
    return [*findings, *await endpoint(config), *await _application_acks(config)]


async def _application_acks(config: Config) -> list[Finding]:
    """Does each receiver of application ACKs take a connection? Nothing is sent."""
    findings = []
    for name, keys in channels_of(config).items():
        subject = f"application ACKs of {name} to {keys.host}:{keys.port}"
        try:
            tls = client_context(keys.tls) if keys.tls else None
            async with MllpClient(keys.host, keys.port, tls) as client:
                await client.connect()
        except Hl7BridgeError as error:
            remedy = f"see listeners … application_acks and the network; {KEPT}"
            findings.append(Finding("FAIL", subject, str(error).partition(": ")[2] or str(error), remedy))
        else:
            findings.append(Finding("ok", subject, "takes connections" + (" with TLS" if tls else " in clear text")))
    return findings


async def endpoint(config: Config) -> list[Finding]:
    """The endpoint alone."""
    if config.fhir.base_url.startswith("file:"):
        return list(_folder("bundles", Path(config.fhir.base_url.removeprefix("file:")), "fhir.base_url"))
    return await _endpoint(config)


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


def _files_limit(config: Config) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # with TLS as many handshakes may be under way beside the connections, with two descriptors each
    most = sum(listener.max_connections * (3 if listener.tls else 1) for listener in config.listeners)
    needed = most + config.fhir.concurrency + SPARE_FILES
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


def _at_rest(config: Config) -> Iterator[Finding]:
    """Who may read what is stored, whether it is encrypted, whether something of it is damaged."""
    roots = [Path(config.journal.path), Path(config.dead_letters.path)]
    wide = wider_than_private(*roots)
    if wide:
        text = f"{wide[0]}" + (f" and {len(wide) - 1} more" if len(wide) > 1 else "") + " can be read by other users"
        yield Finding("FAIL", "modes", text, f"chmod -R go-rwx {' '.join(map(str, roots))}")
    else:
        yield Finding("ok", "modes", "journal and dead letters are this user's only")
    try:
        keyring = open_keyring(config.encryption)
    except Hl7BridgeError as error:
        yield Finding("FAIL", "encryption", str(error), "give the keys; nothing is lost meanwhile")
        return
    files = [Path(reference.removeprefix("file:")) for reference in config.encryption.keys.values()]
    open_keys = [path for path in files if path.is_file() and path.stat().st_mode & 0o077]
    if open_keys:
        yield Finding("FAIL", "encryption", f"{open_keys[0]} can be read by other users", f"chmod 600 {open_keys[0]}")
    elif keyring.active:
        yield Finding("ok", "encryption", f"at rest by '{keyring.active}', {len(keyring.ids)} keys load")
    elif config.encryption.accept_clear:
        yield Finding("ok", "encryption", "none: messages are stored in clear, as encryption.accept_clear says")
    else:
        remedy = "`hl7bridge keys new` makes a key; where the disk itself is encrypted, set encryption.accept_clear"
        yield Finding("warn", "encryption", "none: messages are stored in clear", remedy)
    damaged = roots[1] / DAMAGED.code
    if damaged.is_dir() and any(damaged.iterdir()):
        remedy = "see the disk, then `hl7bridge journal verify` and `hl7bridge dlq list --reason damaged`"
        yield Finding("FAIL", "journal content", "damaged messages are among the dead letters", remedy)
    yield from _file_of(roots[0])


def _file_of(journal: Path) -> Iterator[Finding]:
    """Every page of the journal's file, where that takes a second at most."""
    subject = "journal file"
    remedy = "see the disk; `hl7bridge journal verify` names what is hit, `journal salvage` saves the rest"
    try:
        sound = whole(journal)
    except Hl7BridgeError as error:
        yield Finding("FAIL", subject, str(error), remedy)
        return
    if sound is None:
        yield Finding("ok", subject, "too large to be looked at in passing: `hl7bridge journal verify` reads all of it")
    elif not sound:
        yield Finding("FAIL", subject, "pages of it are damaged", remedy)
    elif (journal / DATABASE).exists():
        yield Finding("ok", subject, "every page is whole")


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
    """The tables that a start serves: the active version, or the configuration's folders; and whether they differ."""
    from hl7bridge.service.activation import served, told
    from hl7bridge.service.versions import Versions

    store = Versions(config.journal.path)
    try:
        active = store.active()
        ready = served(config, store, active) if active is not None else None
    except Hl7BridgeError as error:
        yield _unfit("active tables", error, "`hl7bridge mappings versions` lists others; `mappings activate VERSION`")
        return
    found = list(_folders(config))
    if active is None or ready is None:
        yield from found
        return
    told_ = f"{len(ready.tables.types)} events, {told(ready.version.id, active)}; they decide, not the folders"
    yield Finding("ok", "tables", told_)
    now = {mappings.version for mappings in ready.tables.sets.values()}
    if any(finding.grade == "FAIL" for finding in found):
        remedy = "nothing is served from them; mend them before the next `hl7bridge mappings activate`"
        yield Finding("warn", "tables", "the configuration's folders do not load", remedy)
    elif not all(any(version in finding.text for version in now) for finding in found):
        remedy = "`hl7bridge mappings activate` takes them; `hl7bridge diff --old active` shows what that changes"
        yield Finding("warn", "tables", "the configuration's folders hold other tables", remedy)


def _folders(config: Config) -> Iterator[Finding]:
    from hl7bridge.service.tablesets import load, wanted

    for folders in wanted(config):
        subject = "tables" + (f" with {', '.join(folders)}" if folders else "")
        try:
            mappings = load(config, folders)
        except Hl7BridgeError as error:
            yield _unfit(subject, error, "`hl7bridge mappings check` names every mistake")
        else:
            yield Finding("ok", subject, f"{len(mappings.events)} events, version {mappings.version}")


def _unfit(subject: str, error: Hl7BridgeError, remedy: str) -> Finding:
    first, *rest = str(error).splitlines()
    return Finding("FAIL", subject, first + (f" (and {len(rest)} more)" if rest else ""), remedy)


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
    """A CapabilityStatement at /metadata, by the very code that delivers: same session, TLS and credentials."""
    fhir = config.fhir
    subject = f"endpoint {fhir.base_url}"
    findings = []
    by_token = fhir.smart is not None or fhir.bearer_token is not None
    if fhir.base_url.startswith("http:") and (fhir.basic_user is not None or by_token):
        findings.append(Finding("warn", subject, "credentials go over clear text", "use https"))
    if fhir.smart is not None:
        findings += _keys(fhir.smart)
    try:
        for reference in (fhir.bearer_token, fhir.basic_password):
            if reference is not None:
                secret(reference.get_secret_value())
        endpoint = open_endpoint(with_headers(fhir), secret)
    except Hl7BridgeError as error:
        return [*findings, Finding("FAIL", subject, str(error), "mend the reference or the file")]
    try:
        probe = await endpoint.probe()
        token = await endpoint.probe_token() if isinstance(endpoint, HttpEndpoint) else None
    finally:
        await endpoint.close()
    text, _, remedy = probe.text.removeprefix(f"{fhir.base_url.rstrip('/')}/metadata: ").partition("; ")
    if token is not None:
        findings.append(_token(token))
    return [*findings, Finding("ok" if probe.ok else "FAIL", subject, text, remedy)]


def _keys(smart: Smart) -> Iterator[Finding]:
    """The keys that sign for us: can they be read, and by us alone?"""
    from hl7bridge.delivery.assertion import jwks, read_key

    subject = "endpoint keys"
    if smart.token_url is not None and smart.token_url.startswith("http:"):
        yield Finding("warn", "token endpoint", "tokens come over clear text", "use https")
    keys = []
    for index, reference in enumerate(smart.keys):
        place = reference.get_secret_value()
        try:
            keys.append(read_key(secret(place), f"fhir.smart.keys.{index}"))
        except Hl7BridgeError as error:
            yield Finding("FAIL", subject, str(error), "mend the reference or the file")
            continue
        if place.startswith("file:") and Path(place.removeprefix("file:")).stat().st_mode & 0o077:
            yield Finding("warn", subject, f"{place} can be read by others", "chmod 600")
    try:
        jwks(keys)
    except Hl7BridgeError as error:
        yield Finding("FAIL", subject, str(error), "give each its own kid")
    else:
        told = ", ".join(f"{key.alg} {key.kid}" for key in keys)
        yield Finding("ok", subject, f"{told}; the first signs")


def _token(probe: Probe) -> Finding:
    if not probe.ok:
        remedy = "what is registered at the token server must agree with fhir.smart and `hl7bridge endpoint jwks`"
        return Finding("FAIL", "token", probe.text, remedy)
    remedy = "set this machine's clock" if "clock" in probe.text else "ask the server's people, or ask for fewer scopes"
    return Finding("warn" if probe.warn else "ok", "token", probe.text, remedy if probe.warn else "")
