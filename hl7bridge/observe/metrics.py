"""Every metric, once: name, labels, meaning. docs/metrics.md is made from here.

What holds: labels come from bounded sets only. Listeners are those of the configuration, reasons those of the
catalogue, a message type no table knows is `other`, and no family grows past MOST_CHILDREN (see families): a sender
cannot fill the memory with invented trigger events, nor put a value into a label.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hl7bridge import __version__
from hl7bridge.observe.families import OTHER as OTHER
from hl7bridge.observe.families import Child, Counter, Family, Gauge, Histogram
from hl7bridge.reasons import CATALOGUE

ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR", "none"})
CIRCUIT = {"closed": 0, "half-open": 1, "open": 2}
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Described:
    """One metric for the docs."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """The registry and its metrics. `types`: what the tables handle, such as `ADT^A01`; `know` sets it after a load."""

    def __init__(self, types: Collection[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        self._types = frozenset(types)
        self._messages()
        self._stream()
        self._state()
        ProcessCollector(registry=self.registry)

    def _messages(self) -> None:
        """What became of messages."""
        by_type = ("listener", "type")
        by_reason = (*by_type, "reason")
        self.received = self._counter("received", "messages that arrived whole, duplicates too", *by_type)
        self.acknowledged = self._counter(
            "acknowledged", "answers by MSA-1; code `none`: the sender wants none", "listener", "code", "reason"
        )
        self.duplicates = self._counter(
            "duplicates", "messages that came again and got their stored answer", "listener"
        )
        self.reused = self._counter(
            "reused_control_ids", "control ids that came again with other bytes: taken as new messages", "listener"
        )
        self.translated = self._counter("translated", "messages turned into a bundle", *by_type)
        self.translations = self._counter(
            "translations",
            "translations by the version of the tables; outcome: ok, or the reason it failed for",
            "mapping_version",
            "outcome",
        )
        self.delivered = self._counter("delivered", "bundles the endpoint took", *by_type)
        self.retried = self._counter(
            "retried", "deliveries put off for a later attempt; answer: 5xx, 4xx, no-answer …", *by_type, "answer"
        )
        self.dead = self._counter("dead", "messages that became dead letters", *by_reason)
        self.findings = self._counter("findings", "errors that `validate` found in messages", *by_type)
        self.issues = self._counter(
            "issues",
            "translation issues: code-unmapped, value-invalid, repetition-dropped …",
            "issue",
            "table",
            "field",
        )
        self.translate_seconds = self._histogram(
            "translate_seconds", FAST, "one translation, its queue included", "listener"
        )
        self.receive_to_ack = self._histogram(
            "receive_to_ack_seconds", FAST, "from the last byte of a message to its answer", "listener"
        )
        self.receive_to_delivered = self._histogram(
            "receive_to_delivered_seconds", SLOW, "from the last byte of a message to the endpoint's yes", "listener"
        )

        self.application_acks = self._counter(
            "application_acks",
            "application ACKs as exchanges of their own; outcome: sent, not-due (MSH-16), put-off, given-up",
            "channel",
            "code",
            "outcome",
        )
        self.application_acks_unwanted = self._counter(
            "application_acks_without_channel", "messages that ask for one where no channel is configured", "listener"
        )

    def _stream(self) -> None:
        """What the network does."""
        self.connections = self._gauge("open_connections", "MLLP connections now", "listener")
        self.connected = self._counter("connections", "MLLP connections accepted", "listener")
        self.refused = self._counter(
            "connections_refused",
            "connections not taken; cause: full, address, no-tls, expired, revoked, not-listed …",
            "listener",
            "cause",
        )
        self.starved = self._counter(
            "accept_failures",
            "moments in which no connection could be taken; cause: EMFILE, ENFILE …",
            "listener",
            "cause",
        )
        self.certificate_expiry = self._gauge(
            "certificate_expiry_seconds",
            "until a TLS file in use ends, negative after that; key: certificate, ca, revoked; listener: or fhir.tls",
            "listener",
            "key",
            "file",
        )
        self.rotations = self._counter(
            "certificate_reloads", "TLS files that changed on disk; outcome: done, refused", "listener", "outcome"
        )
        self.junk_bytes = self._counter("junk_bytes", "bytes between messages, ignored", "listener")
        self.broken_frames = self._counter(
            "broken_frames", "frames that never became a message: cut off, too large, timed out …", "listener", "fault"
        )
        self.unanswered = self._counter(
            "unanswered", "messages whose sender left before the answer; it will send them again", "listener"
        )
        self.attempt_seconds = self._histogram(
            "delivery_attempt_seconds", SLOW, "one request to the endpoint", "outcome"
        )
        self.tokens = self._counter(
            "endpoint_tokens", "tokens asked for at the endpoint's token server; outcome: ok, failed", "outcome"
        )

    def _state(self) -> None:
        """How things stand."""
        self.undelivered = self._gauge("undelivered", "messages in the journal that are not delivered and not dead")
        self.oldest = self._gauge("oldest_undelivered_seconds", "age of the oldest of them; 0 when there is none")
        self.dead_letters = self._gauge("dead_letters", "messages that need a person")
        self.circuit = self._gauge("circuit_state", "0 closed, 1 half-open (a probe is out), 2 open: nothing is sent")
        self.application_acks_pending = self._gauge(
            "application_acks_pending", "application ACKs that are to be sent", "channel"
        )
        self.application_ack_circuit = self._gauge(
            "application_ack_circuit_state", "as circuit_state, toward the receiver of application ACKs", "channel"
        )
        self.commit_seconds = self._histogram("journal_commit_seconds", FAST, "one durable commit (many messages)")
        self.commit_changes = self._histogram(
            "journal_commit_changes", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), "changes that shared one commit"
        )
        self.trouble = self._counter(
            "trouble", "failures of our own that are tried again: journal, dead-letters …", "what"
        )
        self.damage = self._counter(
            "damage",
            "what in the journal is not what was written: a message (a dead letter now), an application-ack (given up),"
            " or what stands in the way of retention",
            "what",
        )
        self.loop_lag = self._gauge("event_loop_lag_seconds", "how late the event loop woke up last")
        self.tables = self._gauge(
            "mapping_info",
            "always 1: the version of the tables in service; source: active (activated) or folders (configuration)",
            "version",
            "listener",
            "mapping_version",
            "source",
        )
        self.tables_since = self._gauge("mapping_since_seconds", "when these tables came into service, epoch seconds")
        self.activations = self._counter(
            "activations", "attempts to bring other tables into service; outcome: done, refused", "how", "outcome"
        )
        self.build = self._gauge("build_info", "always 1", "version", "mapping_version")

    def _counter(self, name: str, meaning: str, *labels: str) -> Family[Counter]:
        return self._made(Counter, "counter", f"hl7bridge_{name}_total", meaning, labels)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Family[Gauge]:
        return self._made(Gauge, "gauge", f"hl7bridge_{name}", meaning, labels)

    def _histogram(self, name: str, bounds: Sequence[float], meaning: str, *labels: str) -> Family[Histogram]:
        return self._made(partial(Histogram, bounds), "histogram", f"hl7bridge_{name}", meaning, labels)

    def _made(
        self, make: Callable[[], Child], kind: str, name: str, meaning: str, labels: tuple[str, ...]
    ) -> Family[Child]:
        self.described.append(Described(name, kind, labels, meaning))
        family = Family(make, kind, name, meaning, labels)
        self.registry.register(family)
        return family

    def know(self, types: Collection[str], mapping_version: str) -> None:
        """New tables: the types that may be labels, and the version in build_info."""
        self._types = frozenset(types)
        self.build.clear()
        self.build(__version__, mapping_version).set(1)

    def type(self, type: str) -> str:
        """A message type as a label."""
        return type if type in self._types else OTHER

    def text(self) -> bytes:
        """The exposition for Prometheus."""
        return generate_latest(self.registry)


def reason(code: str) -> str:
    """A reason as a label: of the catalogue, or empty, or `other`."""
    return code if code in CATALOGUE or not code else OTHER


def ack_code(code: str) -> str:
    return code if code in ACK_CODES else OTHER


_INTRODUCTION = """# Metrics

Made by `make docs` from `hl7bridge/observe/metrics.py`; a test keeps it so. Served at `http://HOST:9661/metrics`, with
the usual `process_*` beside them. No label ever holds a value from a message: `listener` is a name of the
configuration, `type` a message type the tables handle or `other`, `reason` a code of `hl7bridge/reasons.py`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""

_ALERTS = """
## Worth an alert
| when | means |
|---|---|
| `hl7bridge_oldest_undelivered_seconds > 900` | deliveries do not keep up, or the endpoint is away |
| `increase(hl7bridge_dead_total[1h]) > 0` | a message needs a person: `hl7bridge dlq list` |
| `hl7bridge_circuit_state == 2` for 10 minutes | the endpoint is down; senders are still acknowledged |
| `increase(hl7bridge_application_acks_total{outcome="given-up"}[1h]) > 0` | a sender is never told a message's fate |
| `increase(hl7bridge_acknowledged_total{reason="storage-failed"}[5m]) > 0` | the disk fails: senders get AR/CE 207 |
| `increase(hl7bridge_damage_total[1h]) > 0` | the journal's file or disk is damaged: look before it spreads |
| `increase(hl7bridge_issues_total{issue="code-unmapped"}[1d]) > 0` | a code the tables do not know |
| `hl7bridge_certificate_expiry_seconds{key!="revoked"} < 604800` | a certificate ends within a week |
| `hl7bridge_certificate_expiry_seconds{key="revoked"} < 86400` | no new revocation list came: soon all are refused |
| `increase(hl7bridge_certificate_reloads_total{outcome="refused"}[1h]) > 0` | a new certificate is unfit |
| `increase(hl7bridge_connections_refused_total{cause!="full"}[15m]) > 0` | somebody is not let in: see the log |
"""


def document() -> str:
    """docs/metrics.md."""
    rows = []
    for metric in Metrics().described:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n")
    return _INTRODUCTION + "".join(rows) + _ALERTS
