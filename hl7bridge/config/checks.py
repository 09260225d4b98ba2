"""What must hold between keys, and names that must exist: one function a rule, each yields (path, reason).

Looks at the machine only for what every start needs (folders of tables, the zone database); ports, disks and peers are
`doctor`'s.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hl7bridge import zone
from hl7bridge.config import shape
from hl7bridge.config.model import Config, Fhir, ListenerTls, Sender, Tls
from hl7bridge.config.secrets import is_reference

Mistake = tuple[shape.Path, str]
Network = IPv4Network | IPv6Network

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it is a metric label and part of file names
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")  # it stands in front of every sealed text
_ANY_HOST = frozenset({"", "0.0.0.0", "::", "*"})
_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(r"secret|password", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 token
VERSIONS = tuple("2.1 2.2 2.3 2.3.1 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2 2.9 2.9.1".split())  # noqa: SIM905
PROCESSING_IDS = ("P", "T", "D")  # table 0103


def check(config: Config) -> list[Mistake]:
    """Every mistake between keys."""
    rules = (
        *(_names, _ports, _tls, _addresses, _versions, _senders, _replies, _zones, _charsets, _folders),
        *(_endpoint, _credentials, _smart, _waits, _encryption),
    )
    return [mistake for rule in rules for mistake in rule(config)]


def _names(config: Config) -> Iterator[Mistake]:
    if not config.listeners:
        yield ("listeners",), "needs at least one listener"
    seen: dict[str, int] = {}
    for index, listener in enumerate(config.listeners):
        path = ("listeners", index, "name")
        if not _NAME.fullmatch(listener.name):
            yield path, "must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        if listener.name in seen:
            yield path, f"is the name of listeners.{seen[listener.name]} too; two listeners need two names"
        seen.setdefault(listener.name, index)


def _ports(config: Config) -> Iterator[Mistake]:
    """Two listeners cannot share a port; an address for all interfaces overlaps every other."""
    taken = [("observe", config.observe.host, config.observe.port)]
    for index, listener in enumerate(config.listeners):
        for other, host, port in taken:
            overlap = host == listener.host or host in _ANY_HOST or listener.host in _ANY_HOST
            if port == listener.port != 0 and overlap:
                yield ("listeners", index, "port"), f"port {port} is taken by {other} already"
        taken.append((f"listeners.{index}", listener.host, listener.port))


def _tls(config: Config) -> Iterator[Mistake]:
    for index, listener in enumerate(config.listeners):
        if listener.tls is not None:
            path: shape.Path = ("listeners", index, "tls")
            yield from _pair(listener.tls, path)
            if listener.tls.certificate is None and listener.tls.key is None:
                yield (*path, "certificate"), "a listener with TLS needs a certificate and its key"
            if listener.tls.client != "none" and listener.tls.ca is None:
                yield (*path, "ca"), f"client: {listener.tls.client} needs the authorities that are trusted"
            yield from _clients(listener.tls, path)
    smart = config.fhir.smart
    toward: list[tuple[shape.Path, Tls | None]] = [
        (("fhir", "tls"), config.fhir.tls),
        (("fhir", "smart", "tls"), smart.tls if smart is not None else None),
    ]
    for place, tls in toward:
        if tls is not None:
            yield from _pair(tls, place)


def _clients(tls: ListenerTls, path: shape.Path) -> Iterator[Mistake]:
    for key in ("ca", "revoked", "clients"):
        if getattr(tls, key) and tls.client == "none":
            yield (*path, key), "is about clients' certificates, and none is asked for; set client: require, or want"
    for index, client in enumerate(tls.clients):
        here = (*path, "clients", index)
        if not client.name and not client.fingerprint:
            yield (*here, "name"), "name or fingerprint: one of them says which certificate is meant"
        if client.fingerprint and not _SHA256.fullmatch(re.sub(r"[:\s]", "", client.fingerprint.rpartition("=")[2])):
            remedy = "`openssl x509 -in FILE -noout -fingerprint -sha256` prints it"
            yield (*here, "fingerprint"), f"must be a SHA-256, 64 hexadecimal digits; {remedy}"
        if "*" in client.name:
            yield (*here, "name"), "must be one whole name; there are no wildcards"
        for number, sender in enumerate(client.senders):
            if not sender.strip(" |") or sender.count("|") > 1 or "^" in sender:
                text = 'must be MSH-3 and MSH-4 as "EPIC|LAKESIDE", "EPIC" or "*|LAKESIDE", their first components'
                yield (*here, "senders", number), text


def _addresses(config: Config) -> Iterator[Mistake]:
    for index, listener in enumerate(config.listeners):
        for number, text in enumerate(listener.allow):
            path = ("listeners", index, "allow", number)
            try:
                ip_network(text)
            except ValueError:
                try:
                    meant = ip_network(text, strict=False)
                except ValueError:
                    yield (
                        path,
                        f"'{text}' is no address and no network; such are 10.20.0.7, 10.20.0.0/16, 2001:db8::/32",
                    )
                else:
                    yield path, f"'{text}' is not the first address of its network; did you mean {meant}?"


def _pair(tls: Tls, path: shape.Path) -> Iterator[Mistake]:
    if tls.key is not None and tls.certificate is None:
        yield (*path, "key"), "a key without a certificate"
    if tls.certificate is not None and tls.key is None:
        yield (*path, "certificate"), "a certificate without its key"


def _versions(config: Config) -> Iterator[Mistake]:
    for path, versions in _by_sender(config, "versions"):
        for version in versions:
            if version not in VERSIONS:
                known = ", ".join(VERSIONS)
                yield path, f"'{version}' is no HL7 v2 version; known: {known}"
    for path, ids in _by_sender(config, "processing_ids"):
        if not ids:
            yield path, "an empty list takes no message at all; leave the key out, or name P, T or D"
        for one in ids:
            if one not in PROCESSING_IDS:
                yield path, f"'{one}' is no processing id (MSH-11, table 0103): P production, T training, D debugging"


def _senders(config: Config) -> Iterator[Mistake]:
    """Each can be met: its own keys make sense together, and no sender before it takes all of its messages."""
    for index, listener in enumerate(config.listeners):
        asks = listener.tls is not None and listener.tls.client != "none"
        for number, sender in enumerate(listener.senders):
            path: shape.Path = ("listeners", index, "senders", number)
            if sender.certificate and not asks:
                yield (*path, "certificate"), "the listener asks no sender for a certificate; see tls.client"
            if sender.certificate and sender.address:
                yield (*path, "address"), "counts for senders without a certificate; give one or the other"
            if sender.address and _network(sender.address) is None:
                yield (
                    (*path, "address"),
                    f"'{sender.address}' is no address or network, such as 10.1.2.3 or 10.1.0.0/16",
                )
            for before, other in enumerate(listener.senders[:number]):
                if _covers(other, sender):
                    yield path, f"never counts: senders.{before} matches all it matches, and comes before it"
                    break


def _replies(config: Config) -> Iterator[Mistake]:
    for path, channel in _by_sender(config, "application_acks"):
        if not channel.host:
            yield (*path, "host"), "who receives the application ACKs?"
        if channel.port == 0:
            yield (*path, "port"), "which port receives the application ACKs?"
        if channel.tls is not None:
            yield from _pair(channel.tls, (*path, "tls"))


def _covers(one: Sender, other: Sender) -> bool:
    """Does `one` match whatever `other` matches?"""
    named = all(getattr(one, key) in ("", getattr(other, key)) for key in ("application", "facility", "certificate"))
    if not named or not one.address:
        return named
    wide, narrow = _network(one.address), _network(other.address)
    return wide is not None and narrow is not None and _within(narrow, wide)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _within(narrow: Network, wide: Network) -> bool:
    if isinstance(narrow, IPv4Network) and isinstance(wide, IPv4Network):
        return narrow.subnet_of(wide)
    return isinstance(narrow, IPv6Network) and isinstance(wide, IPv6Network) and narrow.subnet_of(wide)


def _by_sender(config: Config, key: str) -> Iterator[tuple[shape.Path, Any]]:
    """The values of a key that listeners and their senders share."""
    for index, listener in enumerate(config.listeners):
        for path, place in [
            (("listeners", index), listener),
            *((("listeners", index, "senders", number), sender) for number, sender in enumerate(listener.senders)),
        ]:
            if (value := getattr(place, key)) is not None:
                yield (*path, key), value


def _zones(config: Config) -> Iterator[Mistake]:
    for path, name in _by_sender(config, "timezone"):
        try:
            zone.named(name)
        except ValueError as error:
            yield path, str(error)


def _charsets(config: Config) -> Iterator[Mistake]:
    for path, name in _by_sender(config, "charset_fallback"):
        try:
            known = codecs.lookup(name)
        except (LookupError, ValueError):
            yield path, f"no character set is called '{name}'; names are like iso-8859-1 or cp1252"
        else:
            if not known._is_text_encoding:
                yield path, f"'{name}' is no character set of texts"


def _folders(config: Config) -> Iterator[Mistake]:
    if config.mappings.path is not None and not Path(config.mappings.path).is_dir():
        yield ("mappings", "path"), f"there is no folder '{config.mappings.path}'"
    lists: list[tuple[shape.Path, tuple[str, ...]]] = [(("mappings", "overlays"), config.mappings.overlays)]
    for index, listener in enumerate(config.listeners):
        lists.append((("listeners", index, "overlays"), listener.overlays))
        for number, sender in enumerate(listener.senders):
            lists.append((("listeners", index, "senders", number, "overlays"), sender.overlays))
    for path, folders in lists:
        for position, folder in enumerate(folders):
            if not Path(folder).is_dir():
                yield (*path, position), f"there is no folder '{folder}'"


def _endpoint(config: Config) -> Iterator[Mistake]:
    path, url = ("fhir", "base_url"), config.fhir.base_url
    if url.startswith("file:"):
        if not url.removeprefix("file:").strip("/"):
            yield path, "file: needs a folder behind it, such as file:./var/out"
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield path, "must be http://…, https://… or file:FOLDER"
        return
    if parts.username is not None or parts.password is not None:
        yield path, "a secret is not written here; use basic_user and basic_password"
    if parts.query or parts.fragment:
        yield path, "is the base of a FHIR server and has no '?' or '#'"
    if config.fhir.tls is not None and parts.scheme == "http":
        yield ("fhir", "tls"), "is set, but base_url is http, not https"


def _credentials(config: Config) -> Iterator[Mistake]:
    fhir: Fhir = config.fhir
    if fhir.bearer_token is not None and (fhir.basic_user is not None or fhir.basic_password is not None):
        yield ("fhir", "bearer_token"), "either a bearer token or basic authentication, not both"
    if fhir.basic_user is not None and fhir.basic_password is None:
        yield ("fhir", "basic_user"), "needs basic_password (file:… or env:…)"
    if fhir.basic_password is not None and fhir.basic_user is None:
        yield ("fhir", "basic_password"), "needs basic_user"
    for name, value in fhir.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            yield ("fhir", "headers", name), "is no HTTP header name"
        if _SECRET_HEADER.search(name) and not is_reference(value):
            yield ("fhir", "headers", name), "a secret is not written here; give its place as file:PATH or env:NAME"
        if "\n" in value or "\r" in value:
            yield ("fhir", "headers", name), "a header is one line"


_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 3.3
_RESERVED = frozenset({"grant_type", "scope", "client_assertion_type", "client_assertion"})


def _smart(config: Config) -> Iterator[Mistake]:
    fhir, at = config.fhir, ("fhir", "smart")
    smart = fhir.smart
    if smart is None:
        return
    if fhir.bearer_token is not None or fhir.basic_user is not None:
        yield at, "either smart, a bearer token or basic authentication, not two of them"
    if fhir.base_url.startswith("file:"):
        yield at, "is set, but base_url is a folder, not a server"
    if not smart.client_id:
        yield (*at, "client_id"), "is needed: the name the server's people registered"
    if not smart.keys:
        yield (*at, "keys"), "needs a key, such as file:/etc/hl7bridge/smart.pem; `hl7bridge endpoint key` makes one"
    for index, scope in enumerate(smart.scopes):
        if not _SCOPE.fullmatch(scope):
            yield (*at, "scopes", index), "is no scope; one item a scope, such as system/Patient.cruds"
    if not smart.scopes:
        yield (*at, "scopes"), "needs at least one scope, such as system/*.cruds"
    for key, url in (("token_url", smart.token_url), ("jwks_url", smart.jwks_url)):
        if url is not None and not _is_web_address(url):
            yield (*at, key), "must be http://… or https://…, without user, password and '#'"
    for name in smart.parameters:
        if name in _RESERVED:
            yield (*at, "parameters", name), "is set by hl7bridge itself"
        if _SECRET_PARAMETER.search(name):
            yield (*at, "parameters", name), "a secret is not written here; SMART signs with keys instead"


def _is_web_address(url: str) -> bool:
    parts = urlsplit(url)
    named = parts.scheme in ("http", "https") and bool(parts.hostname)
    return named and parts.username is None and not parts.fragment and url.isascii() and " " not in url


def _waits(config: Config) -> Iterator[Mistake]:
    if config.retry.first > config.retry.cap:
        yield ("retry", "first"), f"is longer than retry.cap ({config.retry.cap:g})"
    for index, listener in enumerate(config.listeners):
        if listener.frame_timeout > listener.total_frame_timeout:
            yield ("listeners", index, "frame_timeout"), "is longer than total_frame_timeout"


def _encryption(config: Config) -> Iterator[Mistake]:
    keys, active = config.encryption.keys, config.encryption.active
    for id, reference in keys.items():
        if not _KEY_ID.fullmatch(id):
            yield ("encryption", "keys", id), "must be 1 to 32 letters, digits, '.', '_' or '-'"
        if not is_reference(reference):
            yield ("encryption", "keys", id), "a secret is not written here; give its place as file:PATH or env:NAME"
    if keys and not active:
        yield ("encryption", "keys"), "are given, but encryption.active does not say which one encrypts"
    if active and active not in keys:
        yield ("encryption", "active"), f"'{active}' is not among encryption.keys"
