"""Entries of the audit as FHIR R4 AuditEvent resources, for the hospital's audit repository (IHE ATNA's RESTful form).

Sans-IO. Codes are DICOM's (PS3.16 CID 400 and 401), as FHIR's audit-event-type and -sub-type value sets bind them.
An AuditEvent names who, when, what and on which message; like the audit itself it holds no value of a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

DCM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBSERVER = "hl7bridge"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How an action is told: event type, sub-type, C R U D E, and the outcome (0 success, 4 minor, 8 serious)."""

    type: tuple[str, str]
    subtype: tuple[str, str] | None
    action: str
    outcome: str = "0"


_PATIENT_RECORD = ("110110", "Patient Record")
_SECURITY_ALERT = ("110113", "Security Alert")
_APPLICATION = ("110100", "Application Activity")
_CONFIGURATION = ("110131", "Software Configuration")
_KINDS: tuple[tuple[str, _Kind], ...] = (  # by how the action begins; the first that fits
    ("show", _Kind(_PATIENT_RECORD, None, "R")),
    ("decrypt", _Kind(_PATIENT_RECORD, None, "R")),
    ("export", _Kind(_PATIENT_RECORD, None, "R")),
    ("reveal", _Kind(_PATIENT_RECORD, None, "R")),
    ("replay", _Kind(_PATIENT_RECORD, None, "E")),
    ("edit", _Kind(_PATIENT_RECORD, None, "U")),
    ("purge", _Kind(_PATIENT_RECORD, None, "D")),
    ("refuse mappings", _Kind(_SECURITY_ALERT, _CONFIGURATION, "U", "4")),
    ("refuse", _Kind(_SECURITY_ALERT, ("110126", "Node Authentication"), "E", "8")),
    ("rotate", _Kind(_SECURITY_ALERT, ("110132", "Use of Restricted Function"), "U")),
)
_OTHER = _Kind(_SECURITY_ALERT, _CONFIGURATION, "U")  # activate, rollback, change configuration …


def audit_event(
    number: int, at: float, actor: str, action: str, subject: str, detail: str, hash: bytes
) -> dict[str, Any]:
    """The AuditEvent of one entry; its id is the entry's hash, so that sending it twice makes one resource.

    at: seconds since the epoch. hash: the entry's, 32 bytes.
    """
    kind = next((kind for beginning, kind in _KINDS if action.startswith(beginning)), _OTHER)
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": hash.hex(),
        "type": _coding(kind.type),
        "action": kind.action,
        "recorded": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": kind.outcome,
        "outcomeDesc": action,
        "agent": [{"who": {"display": actor or "unknown"}, "requestor": True}],
        "source": {"observer": {"display": OBSERVER}},
    }
    if kind.subtype:
        event["subtype"] = [_coding(kind.subtype)]
    event["entity"] = [_entity(number, subject, detail)]
    return event


def _entity(number: int, subject: str, detail: str) -> dict[str, Any]:
    entity: dict[str, Any] = {"type": {"system": ENTITY_TYPE, "code": "2", "display": "System Object"}}
    if subject:
        entity["name"] = subject
    entity["detail"] = [{"type": "audit entry", "valueString": str(number)}]
    if detail:
        entity["detail"].append({"type": "detail", "valueString": detail})
    return entity


def _coding(code: tuple[str, str]) -> dict[str, str]:
    return {"system": DCM, "code": code[0], "display": code[1]}
