"""Those we send to: the endpoint with its credentials, and the receivers of application ACKs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hl7bridge.config import Config, Smart, secret, with_headers
from hl7bridge.delivery.endpoint import HttpEndpoint, Probe, open_endpoint
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.examine import disks
from hl7bridge.examine.finding import Finding
from hl7bridge.mllp.client import MllpClient
from hl7bridge.replies import channels_of
from hl7bridge.tls.contexts import client_context

KEPT = "application ACKs are kept and sent when it is back"


async def endpoint(config: Config) -> list[Finding]:
    """The endpoint alone."""
    if config.fhir.base_url.startswith("file:"):
        return list(disks.folder("bundles", Path(config.fhir.base_url.removeprefix("file:")), "fhir.base_url"))
    return await _endpoint(config)


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


async def application_acks(config: Config) -> list[Finding]:
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
