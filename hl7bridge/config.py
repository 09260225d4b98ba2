"""One frozen settings object, from hl7bridge.yaml and HL7BRIDGE_* environment variables.

Every key is refused when unknown, with the nearest known key suggested; every mistake is reported at once as file, key,
reason. Secrets are references (`file:/run/secrets/x`, `env:NAME`), resolved when used and never printed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

MEBIBYTE = 1024 * 1024
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Tls(Section):
    """TLS of a listener (certificate, key, ca for clients) or toward the endpoint (ca; certificate and key for mutual TLS)."""

    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    client: Literal["none", "want", "require"] = "none"
    minimum: Literal["1.2", "1.3"] = "1.2"


class Sender(Section):
    """What differs for one sender of a listener, found by MSH-3 and MSH-4 (an empty key matches any)."""

    application: str = ""  # MSH-3.1
    facility: str = ""  # MSH-4.1
    charset_fallback: str | None = None
    timezone: str | None = None
    overlays: tuple[str, ...] = ()


class Listener(Section):
    """One MLLP port."""

    name: str = "default"
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 6661
    tls: Tls | None = None
    ack: Literal["committed", "translated", "delivered"] = "committed"
    ack_timeout: Seconds = 30.0  # ack: delivered waits this long for the endpoint, then answers AE/CE 207
    validate_: Literal["off", "warn", "reject"] = Field(default="off", alias="validate")
    unknown_events: Literal["refuse", "park"] = "refuse"
    processing_ids: tuple[str, ...] = ("P", "T", "D")
    versions: tuple[str, ...] = ()  # empty: 2.1 to 2.9
    charset_fallback: str | None = None  # None: bytes that do not fit are refused with AE/CE 102
    timezone: str | None = None  # None: the machine's zone
    overlays: tuple[str, ...] = ()
    senders: tuple[Sender, ...] = ()
    max_message_bytes: Count = 16 * MEBIBYTE
    max_connections: Count = 256
    idle_timeout: Seconds = 3600.0  # no byte for this long between frames
    frame_timeout: Seconds = 30.0  # no byte for this long inside a frame
    total_frame_timeout: Seconds = 300.0  # a frame may take this long altogether
    require_cr: bool = False  # True: FS without CR does not end a frame


class Journal(Section):
    """The durable record."""

    path: str = "./var/journal"
    retention_days: Annotated[float, Field(ge=0)] = 30.0  # delivered messages are kept this long; 0 keeps them for ever
    max_backlog: Count = 5_000_000  # undelivered messages; past it senders get AR/CE 207
    min_free_bytes: Annotated[int, Field(ge=0)] = 256 * MEBIBYTE  # less free space than this: the same answer


class Fhir(Section):
    """Where bundles go: an http(s) base URL or `file:DIRECTORY`."""

    base_url: str = "file:./var/out"
    timeout: Seconds = 30.0
    concurrency: Count = 8
    tls: Tls | None = None
    bearer_token: SecretStr | None = None  # a reference: file:… or env:…
    basic_user: str | None = None
    basic_password: SecretStr | None = None  # a reference
    headers: dict[str, str] = Field(default_factory=dict)


class Retry(Section):
    """Exponential backoff with full jitter."""

    first: Seconds = 1.0
    cap: Seconds = 300.0
    give_up_after: Seconds = 86_400.0 * 3  # then the message is a dead letter
    circuit_after: Count = 5  # failures in a row that open the circuit
    circuit_probe: Seconds = 10.0


class DeadLetters(Section):
    path: str = "./var/dlq"
    lane: Literal["free", "hold"] = "free"  # after a dead letter: does the patient's lane go on?


class Mappings(Section):
    path: str | None = None  # None: the shipped tables
    overlays: tuple[str, ...] = ()  # folders laid over, for every listener
    options: dict[str, str] = Field(default_factory=dict)


class Observe(Section):
    host: str = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535)] = 9661
    log_format: Literal["json", "console", "auto"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole configuration."""

    listeners: tuple[Listener, ...] = (Listener(),)
    journal: Journal = Journal()
    fhir: Fhir = Fhir()
    retry: Retry = Retry()
    dead_letters: DeadLetters = DeadLetters()
    mappings: Mappings = Mappings()
    observe: Observe = Observe()
    drain_timeout: Seconds = 30.0
