"""The catalogue of reasons: why a message was not taken, not translated or not delivered.

One row per reason, used by the ACK (codes and ERR-3), the dead-letter directory names, the metrics' labels,
the logs and the docs. Code and tests use the names, never the strings. HL7 v2 sources: table 0008 (ack codes),
table 0357 (error conditions); which answer a reason earns: docs/behaviour.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Whose = Literal["sender", "analyst", "endpoint", "operator", "bridge"]


@dataclass(frozen=True, slots=True)
class Reason:
    """code: kebab-case, stable; whose: who has to act; original/enhanced: table 0008 codes; condition: table 0357."""

    code: str
    whose: Whose
    original: Literal["AE", "AR"]
    enhanced: Literal["CE", "CR"]
    condition: str
    sentence: str
    remedy: str


def _catalogue(*rows: Reason) -> dict[str, Reason]:
    return {row.code: row for row in rows}


UNPARSABLE = Reason(
    "unparsable",
    "sender",
    "AE",
    "CE",
    "100",
    "the block holds no HL7 v2 message",
    "the sender must start each block with an MSH segment that declares its separators",
)
NO_CONTROL_ID = Reason(
    "no-control-id",
    "sender",
    "AE",
    "CE",
    "101",
    "MSH-10 (message control id) is empty",
    "the sender must give every message a control id",
)
REUSED_CONTROL_ID = Reason(
    "reused-control-id",
    "sender",
    "AE",
    "CE",
    "205",
    "MSH-10 (message control id) came before with another message",
    "the sender must give every message a control id of its own; control_id_reuse: accept takes such messages as new",
)
SEQUENCE_NUMBER = Reason(
    "sequence-number",
    "sender",
    "AE",
    "CE",
    "207",
    "MSH-13 (sequence number) is not the number expected next",
    "MSA-4 of the answer has the number expected; the sender goes on from there, or resynchronises with -1",
)
INCOMPLETE = Reason(
    "incomplete",
    "sender",
    "AE",
    "CE",
    "100",
    "other parts of the message (MSH-14, DSC) did not come in time",
    "have the sender send the missing part: the message is then joined by itself; or see fragment_timeout",
)
REQUIRED_FIELD_MISSING = Reason(
    "required-field-missing",
    "sender",
    "AE",
    "CE",
    "101",
    "a required field is missing",
    "see the location in ERR-2; have the sender fill it or turn validation off for this listener",
)
DATA_TYPE_ERROR = Reason(
    "data-type-error",
    "sender",
    "AE",
    "CE",
    "102",
    "a value is not of its field's data type",
    "see the location in ERR-2",
)
TABLE_VALUE_NOT_FOUND = Reason(
    "table-value-not-found", "sender", "AE", "CE", "103", "a code is not in its HL7 table", "see the location in ERR-2"
)
VALUE_TOO_LONG = Reason(
    "value-too-long",
    "sender",
    "AE",
    "CE",
    "104",
    "a value is longer than its field allows",
    "see the location in ERR-2",
)
CARDINALITY = Reason(
    "cardinality",
    "sender",
    "AE",
    "CE",
    "198",
    "a segment or field occurs more often than the structure allows",
    "see the location in ERR-2",
)
SEGMENT_SEQUENCE = Reason(
    "segment-sequence",
    "sender",
    "AE",
    "CE",
    "100",
    "a segment of the message is missing or out of place",
    "see the location in ERR-2",
)
CHARSET = Reason(
    "charset",
    "sender",
    "AE",
    "CE",
    "102",
    "the bytes do not fit the character set that MSH-18 declares",
    "have the sender declare what it sends, or set charset_fallback for this sender",
)
TOO_LARGE = Reason(
    "too-large",
    "sender",
    "AE",
    "CE",
    "104",
    "the message is larger than this listener takes",
    "raise max_message_bytes of the listener if such messages are wanted",
)
UNSUPPORTED_TYPE = Reason(
    "unsupported-type",
    "sender",
    "AR",
    "CR",
    "200",
    "no table handles this message type",
    "stop sending it, add a message table, or set unknown_events: park",
)
UNSUPPORTED_EVENT = Reason(
    "unsupported-event",
    "sender",
    "AR",
    "CR",
    "201",
    "no table handles this trigger event",
    "stop sending it, add a message table, or set unknown_events: park",
)
UNSUPPORTED_PROCESSING_ID = Reason(
    "unsupported-processing-id",
    "sender",
    "AR",
    "CR",
    "202",
    "MSH-11 (processing id) is not accepted here",
    "check that a test system is not pointed at production",
)
UNSUPPORTED_VERSION = Reason(
    "unsupported-version",
    "sender",
    "AR",
    "CR",
    "203",
    "MSH-12 (version) is not accepted here",
    "versions 2.1 to 2.9 are accepted unless the listener narrows them",
)
SENDER_NOT_ALLOWED = Reason(
    "sender-not-allowed",
    "operator",
    "AR",
    "CR",
    "207",
    "the connection's certificate does not speak for this sender (MSH-3, MSH-4)",
    "see who connects (log, audit); if it is right, add its MSH-3 and MSH-4 to `senders` of its item in tls.clients",
)
STORAGE_FAILED = Reason(
    "storage-failed",
    "operator",
    "AR",
    "CE",
    "207",
    "the message could not be made durable",
    "see the disk of the journal: full, read-only or failing; the sender will resend",
)
BACKLOG_FULL = Reason(
    "backlog-full",
    "operator",
    "AR",
    "CE",
    "207",
    "the journal has reached its high-water mark",
    "see why delivery does not keep up; raise journal.max_backlog if the disk allows",
)
INTERNAL_ERROR = Reason(
    "internal-error",
    "bridge",
    "AR",
    "CE",
    "207",
    "the bridge failed on this message",
    "replay it after an update; please report the message id and the log line",
)
NOT_TRANSLATABLE = Reason(
    "not-translatable",
    "analyst",
    "AE",
    "CE",
    "207",
    "the tables do not lead from this message to a bundle",
    "see detail in reason.json; mend the table, then replay",
)
STRUCTURE = Reason(
    "structure",
    "sender",
    "AE",
    "CE",
    "100",
    "the segments do not form the structure the table expects",
    "see detail in reason.json",
)
INVALID_BUNDLE = Reason(
    "invalid-bundle",
    "analyst",
    "AE",
    "CE",
    "207",
    "the bundle the tables give is not valid FHIR",
    "see detail in reason.json; mend the table, then replay",
)
IDENTITY_CONFLICT = Reason(
    "identity-conflict",
    "sender",
    "AE",
    "CE",
    "207",
    "two different resources of the message claim one identity",
    "see detail in reason.json and mappings/identity.yaml",
)
ENDPOINT_REJECTED = Reason(
    "endpoint-rejected",
    "endpoint",
    "AE",
    "CE",
    "207",
    "the FHIR endpoint refused the bundle",
    "read the OperationOutcome in reason.json",
)
ENDPOINT_NOT_FOUND = Reason(
    "endpoint-not-found",
    "operator",
    "AE",
    "CE",
    "207",
    "the FHIR endpoint does not know this address",
    "check fhir.base_url and whether the server takes transactions at its base",
)
ENDPOINT_TOO_LARGE = Reason(
    "endpoint-too-large",
    "endpoint",
    "AE",
    "CE",
    "207",
    "the bundle is larger than the FHIR endpoint takes",
    "raise the server's limit, then replay",
)
ENDPOINT_ENTRY_REJECTED = Reason(
    "endpoint-entry-rejected",
    "endpoint",
    "AE",
    "CE",
    "207",
    "the FHIR endpoint refused an entry of the bundle",
    "read the response in reason.json",
)
DELIVERY_PENDING = Reason(
    "delivery-pending",
    "operator",
    "AE",
    "CE",
    "207",
    "the message is stored, but the FHIR endpoint did not take it within ack_timeout",
    "delivery goes on, and a resend is recognised; see why the endpoint is slow, or raise ack_timeout of the listener",
)
RETRIES_EXHAUSTED = Reason(
    "retries-exhausted",
    "endpoint",
    "AE",
    "CE",
    "207",
    "the FHIR endpoint could not take the bundle for as long as the retry schedule lasts",
    "mend the endpoint, then replay",
)

DAMAGED = Reason(
    "damaged",
    "operator",
    "AR",
    "CE",
    "207",
    "the stored message is not the one that was received",
    "see the disk; have the sender send it again under a new control id, or replay it with --edited; then purge",
)

CATALOGUE = _catalogue(
    DAMAGED,
    UNPARSABLE,
    NO_CONTROL_ID,
    REUSED_CONTROL_ID,
    SEQUENCE_NUMBER,
    INCOMPLETE,
    REQUIRED_FIELD_MISSING,
    DATA_TYPE_ERROR,
    TABLE_VALUE_NOT_FOUND,
    VALUE_TOO_LONG,
    CARDINALITY,
    SEGMENT_SEQUENCE,
    CHARSET,
    TOO_LARGE,
    UNSUPPORTED_TYPE,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_PROCESSING_ID,
    UNSUPPORTED_VERSION,
    SENDER_NOT_ALLOWED,
    STORAGE_FAILED,
    BACKLOG_FULL,
    INTERNAL_ERROR,
    NOT_TRANSLATABLE,
    STRUCTURE,
    INVALID_BUNDLE,
    IDENTITY_CONFLICT,
    ENDPOINT_REJECTED,
    ENDPOINT_NOT_FOUND,
    ENDPOINT_TOO_LARGE,
    ENDPOINT_ENTRY_REJECTED,
    DELIVERY_PENDING,
    RETRIES_EXHAUSTED,
)
