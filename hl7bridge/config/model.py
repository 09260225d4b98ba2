"""The settings as data: every key, its type, its default and what it means.

What holds: frozen, no unknown keys, no IO. A key's docstring is its text in docs/configuration.md, so it is written for
operators. Checks that look at two keys at once, or at the machine, stand in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr
from pydantic_core import PydanticCustomError

MEBIBYTE = 1024 * 1024
MOST_WORKERS = 64
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys."""

    # defer_build: one validator is made, for the whole, when a configuration is read; none for each section before
    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True, defer_build=True
    )


class Tls(Section):
    """What we show in TLS, and whom we trust."""

    certificate: str | None = None
    """PEM file with the certificate and its chain."""
    key: str | None = None
    """PEM file with the private key of `certificate`, not encrypted, readable by the daemon's user only."""
    ca: str | None = None
    """PEM file with the authorities that are trusted; toward a server, unset means the machine's own."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """The lowest TLS version spoken; `1.3` means 1.3 only."""


class Client(Section):
    """A certificate that may connect, and the senders it may speak for. An item fits when all it says of the
    certificate fits; with items in the list, a certificate that fits none of them is refused."""

    name: str = ""
    """A DNS name, IP address or URI of its subjectAltName; its common name only where it has none of these. Upper and
    lower case are one, but for URIs. Unset: any name."""
    fingerprint: str = ""
    """SHA-256 of the certificate or of its public key, as openssl prints it. Unset: any that `ca` vouches for."""
    senders: tuple[str, ...] = ()
    """MSH-3 and MSH-4 of its messages, as "EPIC|LAKESIDE"; "EPIC" alone or `*` for a side matches any. Empty: all. A
    sender that is listed anywhere here is taken from its certificates only."""


class ListenerTls(Tls):
    """TLS of a listener. `client: require` makes it mutual: IHE ATNA's node authentication."""

    client: Literal["none", "want", "require"] = "none"
    """Is a certificate asked of the sender (`want`), or demanded (`require`)? One that is given must be good."""
    revoked: str | None = None
    """PEM file with the revocation lists of the authorities that sign clients; one that has run out refuses all."""
    clients: tuple[Client, ...] = ()
    """Which certificates may connect; empty: all that `ca` vouches for."""
    warn_days: tuple[Count, ...] = (30, 7, 1)
    """A warning is logged this many days before a certificate or authority ends; for a revocation list, which lives for
    days, only the smallest counts."""


class ApplicationAcks(Section):
    """Where application ACKs go that are exchanges of their own: AA, AE or AR, once the message's fate is known."""

    host: str = ""
    """Who receives them: an MLLP listener on the sender's side."""
    port: Port = 0
    """Its port."""
    tls: Tls | None = None
    """TLS toward it: `ca` of its certificate, our `certificate` and `key`; unset means clear text."""
    after: Literal["delivered", "translated"] = "delivered"
    """When the fate is known: the endpoint took the message (or never will), or the tables lead to a bundle."""
    accept_ack: Literal["AL", "NE"] = "AL"
    """MSH-15 of the application ACK. AL: its receiver answers it, and without that answer it is sent again. NE: it is
    sent once, and nobody can know whether it came."""
    timeout: Seconds = 30.0
    """Seconds to wait for that answer."""
    give_up_after: Seconds = 86_400.0
    """After this many seconds an application ACK is given up: logged, counted, shown by `messages show`. The pauses
    between attempts and the circuit are those of `retry`."""


NeAl = Literal["by-version", "same-connection", "separate"]
OnStorageFailure = Literal["AE", "AR", "CE", "CR", "close"]


class Sender(Section):
    """What differs for one sender of a listener: the first whose keys all match (an empty key matches any)."""

    application: str = ""
    """MSH-3.1 of the sender; empty matches any."""
    facility: str = ""
    """MSH-4.1 of the sender; empty matches any."""
    certificate: str = ""
    """Name of the sender's client certificate, as logs call it: common name, else SHA-256; empty matches any."""
    address: str = ""
    """Address or network (10.1.0.0/16) of a sender that shows no client certificate; empty matches any."""
    charset_fallback: str | None = None
    """As the listener's key of this name, for this sender."""
    timezone: str | None = None
    """As the listener's key of this name, for this sender."""
    overlays: tuple[str, ...] = ()
    """Folders laid over the tables for this sender, after the listener's."""
    processing_ids: tuple[str, ...] | None = None
    """As the listener's key of this name, for this sender."""
    versions: tuple[str, ...] | None = None
    """As the listener's key of this name, for this sender."""
    require_cr: bool | None = None
    """As the listener's key of this name, for this sender."""
    on_storage_failure: OnStorageFailure | None = None
    """As the listener's key of this name, for this sender."""
    control_id_reuse: Literal["accept", "refuse"] | None = None
    """As the listener's key of this name, for this sender."""
    sequence_numbers: bool | None = None
    """As the listener's key of this name, for this sender."""
    fragments: Literal["join", "off"] | None = None
    """As the listener's key of this name, for this sender."""
    ne_al: NeAl | None = None
    """As the listener's key of this name, for this sender."""
    application_acks: ApplicationAcks | None = None
    """As the listener's keys of this name, for this sender; all of them together."""


class Listener(Section):
    """One MLLP port."""

    name: str = "default"
    """How logs, metrics and `--listener` call it; unique."""
    host: str = "0.0.0.0"
    """Address to bind; 127.0.0.1 for this machine only."""
    port: Port = 6661
    """TCP port; 0 lets the system choose."""
    bind_wait: Annotated[float, Field(ge=0)] = 0.0
    """An address that cannot be bound at the start is tried again for this many seconds."""
    tls: ListenerTls | None = None
    """TLS for this port; unset means clear text."""
    allow: tuple[str, ...] = ()
    """Addresses and networks that may connect, such as 10.20.0.0/16 or 2001:db8::7; empty: all."""
    ack: Literal["committed", "translated", "delivered"] = "committed"
    """When the positive answer is given: on disk, translated too, or delivered too."""
    ack_timeout: Seconds = 30.0
    """`ack: delivered` waits this many seconds for the endpoint, then answers AE/CE 207."""
    validate_: Literal["off", "warn", "reject"] = Field(default="off", alias="validate")
    """Check messages against the version's own profile: not at all, count findings, or refuse."""
    unknown_events: Literal["refuse", "park"] = "refuse"
    """A message no table handles: AR/CR 200 or 201, or taken and put among the dead letters."""
    processing_ids: tuple[str, ...] = ("P", "T", "D")
    """MSH-11 values taken; others get AR/CR 202."""
    versions: tuple[str, ...] = ()
    """MSH-12 values taken; empty means 2.1 to 2.9."""
    charset_fallback: str | None = None
    """Character set for bytes that do not fit MSH-18; unset: such messages are refused with AE/CE 102."""
    timezone: str | None = None
    """Zone of times that carry no offset, such as Europe/Berlin; unset means the machine's."""
    commit_bytes: bool = False
    """MLLP Release 2: each block is answered by a commit byte once it is durable (ACK 0x06) or was not kept (NAK 0x15),
    before the HL7 answer."""
    on_storage_failure: OnStorageFailure | None = None
    """What a sender hears when its message could not be made durable: AE or CE (an error), AR or CR (a rejection), each
    said in the sender's own mode; `close`: no answer, the connection ends. Unset: AR in original mode, CE in enhanced.
    Choose what makes this sender send again."""
    control_id_reuse: Literal["accept", "refuse"] = "accept"
    """A control id (MSH-10) that came before with other bytes: a new message, counted; or refused with AE/CE 205."""
    sequence_numbers: bool = False
    """Senders number their messages in MSH-13 (HL7's sequence number protocol): one out of order is refused with AE/CE
    and the number expected in MSA-4."""
    fragments: Literal["join", "off"] = "join"
    """Messages sent in parts (MSH-14, DSC): joined to one, or each taken as a message."""
    fragment_timeout: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """After this many seconds without its other parts, a part is a dead letter (`incomplete`)."""
    ne_al: NeAl = "by-version"
    """MSH-15 NE or empty with MSH-16 AL, ER or SU: the application ACK on the same connection, as before 2.9, or as an
    exchange of its own, as from 2.9 on. `by-version` goes by MSH-12."""
    application_acks: ApplicationAcks | None = None
    """Where application ACKs of this port's messages go; unset: none are sent as exchanges of their own."""
    overlays: tuple[str, ...] = ()
    """Folders laid over the tables for this listener."""
    senders: tuple[Sender, ...] = ()
    """What differs for some senders of this port; the first that matches counts."""
    max_message_bytes: Count = 16 * MEBIBYTE
    """A larger message is answered AE/CE 104."""
    max_connections: Count = 256
    """Connections at once; further ones are closed at once."""
    idle_timeout: Seconds = 3600.0
    """No byte for this many seconds between messages: the connection is closed."""
    frame_timeout: Seconds = 30.0
    """No byte for this many seconds inside a message: the connection is closed."""
    total_frame_timeout: Seconds = 300.0
    """A message may take this many seconds altogether to arrive."""
    keepalive: Annotated[int, Field(ge=0, le=32_767)] = 60
    """After this many seconds of silence the kernel asks whether the sender is still there; one that does not answer
    for a minute is gone. 0: never."""
    require_cr: bool = False
    """`true`: the end byte (0x1C) without a carriage return behind it does not end a message."""


class Journal(Section):
    """The durable record."""

    path: str = "./var/journal"
    """Folder of the journal; it belongs on a local disk that honours fsync."""
    retention_days: Annotated[float, Field(ge=0)] = 30.0
    """Delivered messages are kept this many days; 0 keeps them for ever. Undelivered ones are never removed."""
    max_backlog: Count = 5_000_000
    """Undelivered messages; past it senders get AR/CE 207."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 256 * MEBIBYTE
    """Less free space than this: the same answer."""


class Smart(Section):
    """SMART Backend Services: tokens for the endpoint, got by a signed statement; `hl7bridge endpoint` makes keys."""

    client_id: str = ""
    """Who we are to the token endpoint: what the server's people registered."""
    keys: tuple[SecretStr, ...] = ()
    """References to private keys (`file:…`, `env:…`): PEM or JWK, EC P-384 or RSA. The first signs, all are public."""
    token_url: str | None = None
    """Token endpoint; unset: as the server's .well-known/smart-configuration says."""
    scopes: tuple[str, ...] = ("system/*.cruds",)
    """What the token shall allow, as the server spells it, such as system/Patient.cruds or system/*.write."""
    audience: str | None = None
    """`aud` of the statement, for servers that want their issuer there; unset: the token endpoint."""
    parameters: dict[str, str] = Field(default_factory=dict)
    """Further parameters of the token request, such as `resource` or `audience`."""
    jwks_url: str | None = None
    """Where our public keys are published, if the server wants it said (`jku`)."""
    tls: Tls | None = None
    """TLS toward the token endpoint; unset: as fhir.tls."""


class Encryption(Section):
    """Messages, answers, edits and dead letters are encrypted (AES-256-GCM) where keys are given."""

    keys: dict[str, str] = Field(default_factory=dict)
    """Keys by id, each a reference (`file:…`, `env:…`) to 32 bytes in base64 (`hl7bridge keys new`). Older keys stay
    until `hl7bridge keys rotate` has done its work."""
    active: str = ""
    """Id of the key that new data is encrypted with."""
    accept_clear: bool = False
    """Without keys, journal and dead letters are stored in clear: `true` says that this is meant (the disk itself is
    encrypted, say), and `doctor` does not warn of it."""


class Tokens(Section):
    """Identifiers of patients go to the endpoint as tokens where a key is given (see docs/security.md)."""

    key: SecretStr | None = None
    """A reference (`file:…`, `env:…`) to 32 bytes in base64 (`hl7bridge keys new`). Once in use it stays: other tokens
    would be other patients."""
    types: tuple[str, ...] = ("MR", "SS")
    """Codes of the identifier's type (PID-3.5, table 0203) that are replaced."""
    systems: tuple[str, ...] = ()
    """`system` of identifiers that are replaced whatever their type."""


class Fhir(Section):
    """Where bundles go."""

    base_url: str = "file:./var/out"
    """`http://` or `https://` base of a FHIR R4 server, or `file:DIRECTORY`."""
    timeout: Seconds = 30.0
    """Seconds a request may take."""
    concurrency: Count = 8
    """Requests in flight at once; one patient's never overlap."""
    tls: Tls | None = None
    """`ca` of the server; `certificate` and `key` for mutual TLS."""
    bearer_token: SecretStr | None = None
    """A reference to the token: `file:…` or `env:…`; read again after a 401."""
    basic_user: str | None = None
    """User of HTTP basic authentication."""
    basic_password: SecretStr | None = None
    """A reference to the password of `basic_user`: `file:…` or `env:…`."""
    smart: Smart | None = None
    """SMART Backend Services, in place of a token or password."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further request headers, such as a tenant; a value may be a reference (`file:…`, `env:…`)."""


class Retry(Section):
    """Exponential backoff with full jitter."""

    first: Seconds = 1.0
    """Upper bound of the first wait, in seconds; it doubles from attempt to attempt."""
    cap: Seconds = 300.0
    """Upper bound of any wait."""
    give_up_after: Seconds = 86_400.0 * 3
    """After this many seconds the message is a dead letter."""
    circuit_after: Count = 5
    """Failures in a row that open the circuit: then nothing is sent but a probe."""
    circuit_probe: Seconds = 10.0
    """Seconds between probes while the circuit is open."""


class DeadLetters(Section):
    """Messages that need a person."""

    path: str = "./var/dlq"
    """Folder of the dead letters: `<reason>/<date>/<message id>/`."""
    lane: Literal["free", "hold"] = "free"
    """After a dead letter the patient's later messages go on (`free`) or wait for it (`hold`)."""


class Mappings(Section):
    """The tables."""

    path: str | None = None
    """Folder of the tables; unset means the shipped ones."""
    overlays: tuple[str, ...] = ()
    """Folders laid over the tables, for every listener."""
    options: dict[str, str] = Field(default_factory=dict)
    """Site decisions, as an overlay's options.yaml would `set` them."""


def _workers(value: object) -> str | int:
    """One sentence for both: the errors of a union speak of its parts."""
    number = str(value)
    if number == "auto" or (not isinstance(value, bool) and number.isdecimal() and int(number) <= MOST_WORKERS):
        return number if number == "auto" else int(number)
    raise PydanticCustomError("workers", f"must be auto or a whole number from 0 to {MOST_WORKERS}")


Workers = Annotated[Literal["auto"] | int, PlainValidator(_workers)]


class Translate(Section):
    """Where messages are translated."""

    workers: Workers = "auto"
    """Processes that translate, each with its own copy of the tables (70 MB and more); `auto`: one for each core, at
    most 8; 0: in threads of the daemon, which answers senders more slowly then."""
    timeout: Seconds = 60.0
    """A message whose translation takes this many seconds is a dead letter (internal-error); its process is replaced.
    Not with `workers: 0`."""
    lineage: Literal["recomputed", "stored"] = "recomputed"
    """`stored`: keep with each message where every element came from (paths, no values; takes time and room), so that
    `messages show --lineage` still tells it when the tables have changed."""


class Observe(Section):
    """Health, metrics and logs."""

    host: str = "0.0.0.0"
    """Address of /healthz, /readyz and /metrics."""
    port: Port = 9661
    """Port of /healthz, /readyz and /metrics; 0 lets the system choose."""
    log_format: Literal["json", "console", "auto"] = "auto"
    """One JSON object a line, or for people; `auto`: for people when standard error is a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line that is written."""


class Config(Section):
    """The whole configuration."""

    listeners: tuple[Listener, ...] = (Listener(),)
    journal: Journal = Journal()
    encryption: Encryption = Encryption()
    tokens: Tokens = Tokens()
    fhir: Fhir = Fhir()
    retry: Retry = Retry()
    dead_letters: DeadLetters = DeadLetters()
    mappings: Mappings = Mappings()
    translate: Translate = Translate()
    observe: Observe = Observe()
    drain_timeout: Seconds = 30.0
    """On SIGTERM, seconds given to answers and deliveries under way before the process ends."""
    event_loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """What the daemon runs on; `auto`: uvloop where it is installed (`pip install hl7bridge[fast]`), else asyncio."""
