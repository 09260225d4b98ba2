"""What crosses between the worker and an endpoint: a bundle on its way, a look at the endpoint, who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hl7bridge.delivery.outcome import Outcome
from hl7bridge.tls.rotation import Ending


@dataclass(frozen=True, slots=True)
class Shipment:
    """A bundle on its way. `entries`: how many the bundle has, so that a short answer is noticed."""

    id: str
    received_at: float
    bundle: bytes = field(repr=False)
    entries: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Is it there? `text` is for the operator: what is wrong and what to do. `warn`: it works, but not as meant."""

    ok: bool
    text: str
    warn: bool = False


class Endpoint(Protocol):
    """Takes bundles. `probe` is for doctor and readyz and changes nothing there."""

    async def deliver(self, shipment: Shipment) -> Outcome: ...
    async def probe(self) -> Probe: ...
    async def close(self) -> None: ...


class EndpointObserver:
    """Is told what concerns the endpoint and no message; does nothing itself. Every text may be logged."""

    def token(self, lasts: float) -> None:
        """A token was given for so many seconds."""

    def no_token(self, why: str) -> None:
        """The token endpoint gave none."""

    def certificates(self, key: str, endings: Sequence[Ending], unfit: str | None) -> None:
        """TLS files are in use and end then. `key`: fhir.tls, fhir.smart.tls, or listeners.NAME.application_acks.tls;
        `unfit`: None at the start, "" where they were taken after a change, else why the changed ones were not, and
        those from before stay."""
