"""What a FHIR server's answer says: its Bundle's entries, its OperationOutcome, its Retry-After. Sans-IO.

What holds: nothing read here is trusted to be safe. Diagnostics and details of an OperationOutcome may quote the
patient's data, so they live in `Issue`, which does not print them, and only the dead letter's reason.json may hold
them. What may be logged is the HTTP status and the issue codes that FHIR itself defines.
Sources: FHIR R4 http.html (transaction, batch), operationoutcome.html, valueset-issue-type; RFC 9110 10.2.3.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal

import orjson

RETRY_AFTER_MAX = 3600.0  # a server that asks for more than an hour is asked again after an hour
HEADER_MAX = 500  # characters kept of an ETag or a Location
WRITTEN_MAX = 500  # entries of which they are kept
ISSUES_MAX = 20  # a server may list thousands; an operator reads the first
TEXT_MAX = 4000  # characters kept of one diagnostics text

SEVERITIES = frozenset({"fatal", "error", "warning", "information"})
ISSUE_CODES = frozenset(
    """
    invalid structure required value invariant security login unknown expired forbidden suppressed processing
    not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension too-costly
    business-rule conflict transient lock-error no-store exception timeout incomplete throttled informational
    """.split()  # noqa: SIM905 - one word a line would be a page
)
BEARER_ERRORS = frozenset({"invalid_request", "invalid_token", "insufficient_scope"})
_BEARER_ERROR = re.compile(r"""\berror="?([a-z_]+)""")


@dataclass(frozen=True, slots=True)
class Issue:
    """One OperationOutcome.issue. `severity` and `code` are FHIR's words or "" and may be logged; the rest may not."""

    severity: str
    code: str
    diagnostics: str = field(default="", repr=False)
    details: str = field(default="", repr=False)
    expression: tuple[str, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, object]:
        """For reason.json: the keys of FHIR, the empty ones left out."""
        issue: dict[str, object] = {"severity": self.severity, "code": self.code}
        if self.details:
            issue["details"] = self.details
        if self.diagnostics:
            issue["diagnostics"] = self.diagnostics
        if self.expression:
            issue["expression"] = list(self.expression)
        return issue


@dataclass(frozen=True, slots=True)
class Response:
    """What came back over HTTP. `headers`: names in lower case; `truncated`: the body broke off or passed the bound."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    truncated: bool = False

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


MESSAGE_STATUS = {"ok": 200, "transient-error": 503, "fatal-error": 422}  # FHIR R4 valueset-response-code
Kind = Literal["empty", "truncated", "not-fhir", "outcome", "answer-bundle", "answer-message", "other-fhir"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an answer Bundle: its HTTP status (0 when it has none that can be read) and its issues."""

    status: int
    issues: tuple[Issue, ...]


@lru_cache(maxsize=64)
def _plain(digits: str) -> Entry:
    """Most entries say no more than a status. Of its text ("201 Created") the first three characters."""
    return Entry(int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() else 0, ())


@dataclass(frozen=True, slots=True)
class Body:
    """A body, read: what it is, the entries of an answer Bundle, the issues of an OperationOutcome at its top.

    `content`: the JSON object that it is, for `proof_of`.
    """

    kind: Kind
    entries: tuple[Entry, ...] = ()
    issues: tuple[Issue, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def read_body(response: Response) -> Body:
    """Reads a response's body. Never raises: what cannot be read is `not-fhir`, what broke off is `truncated`."""
    if response.truncated:
        return Body("truncated")
    if not response.body.strip():
        return Body("empty")
    try:
        content = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        looks_like_json = response.body.lstrip()[:1] == b"{"
        return Body("truncated" if looks_like_json else "not-fhir")
    if not isinstance(content, dict):
        return Body("not-fhir")
    resource, type = content.get("resourceType"), content.get("type")
    if not isinstance(resource, str):
        return Body("not-fhir", content=content)
    if resource == "OperationOutcome":
        return Body("outcome", (), tuple(_issues(content)), content)
    if resource == "Bundle" and type in ("transaction-response", "batch-response"):
        return Body("answer-bundle", tuple([_entry(entry) for entry in _listed(content)]), (), content)
    if resource == "Bundle" and type == "message":
        return Body("answer-message", (Entry(_message_status(content), ()),), (), content)
    return Body("other-fhir", content=content)


def _message_status(bundle: Mapping[str, Any]) -> int:
    """MessageHeader.response.code as the HTTP status that means the same; 0 where none can be read."""
    listed = bundle.get("entry")
    first = listed[0] if isinstance(listed, list) and listed else None
    header = first.get("resource") if isinstance(first, dict) else None
    response = header.get("response") if isinstance(header, dict) else None
    code = response.get("code") if isinstance(response, dict) else None
    return MESSAGE_STATUS.get(code, 0) if isinstance(code, str) else 0


def _listed(bundle: Mapping[str, Any]) -> list[Any]:
    entries = bundle.get("entry")
    return entries if isinstance(entries, list) else []


def _entry(entry: object) -> Entry:
    response = entry.get("response") if isinstance(entry, dict) else None
    if not isinstance(response, dict):
        return _plain("")
    status, outcome = response.get("status"), response.get("outcome")
    told = _plain(status[:3] if isinstance(status, str) else "")
    return Entry(told.status, tuple(_issues(outcome))) if isinstance(outcome, dict) else told


def _issues(outcome: Mapping[str, Any]) -> Iterator[Issue]:
    listed = outcome.get("issue")
    for issue in (listed if isinstance(listed, list) else [])[:ISSUES_MAX]:
        if not isinstance(issue, dict):
            continue
        details = issue.get("details")
        expression = issue.get("expression") or issue.get("location")
        yield Issue(
            severity=_known(issue.get("severity"), SEVERITIES),
            code=_known(issue.get("code"), ISSUE_CODES),
            diagnostics=_text(issue.get("diagnostics")),
            details=_text(details.get("text")) if isinstance(details, dict) else "",
            expression=tuple(_text(part) for part in expression[:5]) if isinstance(expression, list) else (),
        )


def _known(word: object, words: frozenset[str]) -> str:
    return word if isinstance(word, str) and word in words else ""


def _text(value: object) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def bearer_error(headers: Mapping[str, str]) -> str:
    """Why a bearer token was refused (RFC 6750 3.1, WWW-Authenticate), as one of that standard's words, else ""."""
    found = _BEARER_ERROR.search(headers.get("www-authenticate", "")[:TEXT_MAX])
    return _known(found.group(1), BEARER_ERRORS) if found else ""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Retry-After in seconds from `now` (seconds since the epoch), 0 to RETRY_AFTER_MAX; None: absent or unreadable.

    Both of RFC 9110's forms: delay-seconds and HTTP-date.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX)
    when = http_date(text)
    return None if when is None else min(max(when - now, 0.0), RETRY_AFTER_MAX)


def http_date(text: str) -> float | None:
    """An HTTP-date (RFC 9110 5.6.7) as seconds since the epoch; None: unreadable."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def proof_of(response: Response, body: Body) -> dict[str, object]:
    """For the receipts: the SHA-256 of the answer, its ETag and Location, and those of its entries. `body`: as read.

    What a server calls its resources may be made from a patient's identifiers: to be guarded like the message.
    """
    proof: dict[str, object] = {"answer_sha256": hashlib.sha256(response.body).hexdigest()}
    for name in ("etag", "location"):
        if name in response.headers:
            proof[name] = response.headers[name][:HEADER_MAX]
    answers = [entry.get("response") for entry in _listed(body.content)[:WRITTEN_MAX] if isinstance(entry, dict)]
    told = [answer for answer in answers if isinstance(answer, dict)]
    if any("location" in answer or "etag" in answer for answer in told):
        written = [[str(answer.get(key, ""))[:HEADER_MAX] for key in ("location", "etag")] for answer in told]
        if any(location or etag for location, etag in written):
            proof["written"] = written
    return proof
