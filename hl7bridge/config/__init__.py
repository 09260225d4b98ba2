"""One frozen settings object, from hl7bridge.yaml and HL7BRIDGE_* environment variables.

Every key is refused when unknown, with the nearest known key suggested; every mistake is reported at once as file,
line, key, reason. Secrets are references (`file:/run/secrets/x`, `env:NAME`), resolved when used and never printed.
"""

from hl7bridge.config.load import Settings, load, read
from hl7bridge.config.model import (
    MEBIBYTE,
    ApplicationAcks,
    Client,
    Config,
    Count,
    DeadLetters,
    Encryption,
    Fhir,
    Journal,
    Listener,
    ListenerTls,
    Mappings,
    Observe,
    Port,
    Retry,
    Seconds,
    Section,
    Sender,
    Smart,
    Tls,
    Tokens,
)
from hl7bridge.config.secrets import is_reference, secret, with_headers

__all__ = [
    "MEBIBYTE",
    "ApplicationAcks",
    "Client",
    "Config",
    "Count",
    "DeadLetters",
    "Encryption",
    "Fhir",
    "Journal",
    "Listener",
    "ListenerTls",
    "Mappings",
    "Observe",
    "Port",
    "Retry",
    "Seconds",
    "Section",
    "Sender",
    "Settings",
    "Smart",
    "Tls",
    "Tokens",
    "is_reference",
    "load",
    "read",
    "secret",
    "with_headers",
]
