"""Every kind of answer a FHIR endpoint may give, as bytes on the wire, and the words docs/behaviour.md has for what follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from hl7bridge.delivery.answer import Response
from hl7bridge.delivery.outcome import (
    CLASS,
    FAILURE,
    STATUS,
    Blame,
    Dead,
    Delivered,
    Failed,
    Misconfigured,
    Outcome,
    RetryAt,
    TransportFailure,
    Unauthorised,
    judge,
)

SENT = 2  # entries of the bundle that is answered
NOW = 1_700_000_000.0
SENTINEL = "ZZSENTINELZZ"
JSON = "application/fhir+json;charset=utf-8"


@dataclass(frozen=True)
class Case:
    """`answer`: how the page calls it. `cut`: so many bytes of the body are missing when the connection ends."""

    answer: str
    status: int
    body: bytes = b""
    media_type: str = JSON
    cut: int = 0

    @property
    def response(self) -> Response:
        return Response(self.status, {"content-type": self.media_type}, self.body, bool(self.cut))

    @property
    def outcome(self) -> Outcome:
        return judge(self.response, SENT, NOW)


def issues(*codes: str, text: str = SENTINEL, severity: str = "error") -> bytes:
    listed = [{"severity": severity, "code": code, "diagnostics": text} for code in codes]
    return json.dumps({"resourceType": "OperationOutcome", "issue": listed}).encode()


def bundle(*statuses: str, kind: str = "transaction-response", outcome: bytes = b"") -> bytes:
    entries: list[dict[str, Any]] = [{"response": {"status": status}} for status in statuses]
    if outcome:
        entries[-1]["response"]["outcome"] = json.loads(outcome)
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()


GOOD = bundle("201 Created", "200 OK")
HTML = b"<html><title>Sign in</title></html>"
PATIENT = b'{"resourceType": "Patient", "id": "1"}'

SPECIAL = [
    Case("200 with an answer for each entry, all 2xx", 200, GOOD),
    Case("200 with an answer for each entry, all 2xx", 200, GOOD, "text/plain"),
    Case("200 with an answer for each entry, all 2xx", 200, bundle("201", "204", kind="batch-response")),
    Case("200, 201, 202, 204 without a body", 200),
    Case("200, 201, 202, 204 without a body", 201),
    Case("200, 201, 202, 204 without a body", 202),
    Case("200, 201, 202, 204 without a body", 204),
    Case("200 with an OperationOutcome without errors", 200, issues("informational", severity="information")),
    Case("200 with an OperationOutcome of errors", 200, issues("invalid")),
    Case("200 without a body, but a web page's Content-Type", 200, b"", "text/html"),
    Case("200 with a web page", 200, HTML, "text/html"),
    Case("200 with XML, or anything but FHIR JSON", 200, b"<Bundle/>", "application/fhir+xml"),
    Case("200 with XML, or anything but FHIR JSON", 200, b"[]"),
    Case("200 with a body that breaks off", 200, GOOD, cut=10),
    Case("200 with a body that breaks off", 200, GOOD[:-10]),
    Case("200 with fewer or more answers than entries", 200, bundle("201")),
    Case("200 with fewer or more answers than entries", 200, bundle("201", "201", "201")),
    Case("200 with another resource", 200, PATIENT),
    Case("an entry without a status", 200, bundle("201", "")),
    Case("an entry 400, 404, 410, 413, 422 or another 4xx", 200, bundle("201", "400")),
    Case("an entry 400, 404, 410, 413, 422 or another 4xx", 200, bundle("201", "404")),
    Case("an entry 400, 404, 410, 413, 422 or another 4xx", 200, bundle("201", "422", outcome=issues("invalid"))),
    Case("an entry 301, 405, 415, 501", 200, bundle("201", "301")),
    Case("an entry 301, 405, 415, 501", 200, bundle("201", "405")),
    Case("an entry 301, 405, 415, 501", 200, bundle("201", "501")),
    Case("an entry 409, 412", 200, bundle("201", "409")),
    Case("an entry 409, 412", 200, bundle("201", "412", kind="batch-response")),
    Case("an entry 401, 403", 200, bundle("201", "401")),
    Case("an entry 401, 403", 200, bundle("201", "403")),
    Case("an entry 408, 429, 500, 502, 503, 504", 200, bundle("201", "500")),
    Case("an entry 408, 429, 500, 502, 503, 504", 200, bundle("201", "503")),
    Case("an entry 408, 429, 500, 502, 503, 504", 200, bundle("201", "429")),
    Case("400, 404 whose OperationOutcome says that a reference did not resolve", 400, issues("not-found")),
    Case("400, 404 whose OperationOutcome says that a reference did not resolve", 404, issues("not-found")),
    Case(
        "400, 404 whose OperationOutcome says that a reference did not resolve",
        400,
        issues("processing", text="HAPI-1091"),
    ),
    Case("4xx whose OperationOutcome says that it may pass (`transient` …)", 400, issues("transient")),
    Case("4xx whose OperationOutcome says that it may pass (`transient` …)", 422, issues("throttled", "timeout")),
    Case("400 with a page, 404 and 410 without an OperationOutcome", 400, HTML, "text/html"),
    Case("400 with a page, 404 and 410 without an OperationOutcome", 404),
    Case("400 with a page, 404 and 410 without an OperationOutcome", 404, HTML, "text/html"),
    Case("400 with a page, 404 and 410 without an OperationOutcome", 410),
]


def by_status() -> Iterator[Case]:
    """A row of the code's own table each: an OperationOutcome where the verb looks for one."""
    for status in STATUS:
        yield Case(f"{status}", status, issues("processing"))
    for first in CLASS:
        known = {1: 102, 3: 302, 4: 418, 5: 599}
        if first in known:
            yield Case(f"other {first}xx" if first in (4, 5) else f"{first}xx", known[first], issues("processing"))


def described(outcome: Outcome) -> tuple[str, str, str]:
    """What follows; does the attempt count against the message; what of the circuit. In the page's words."""
    match outcome:
        case Delivered():
            return "delivered", "-", "closes"
        case Dead(reason=reason):
            return f"dead letter, `{reason.code}`", "-", "closes"
        case Unauthorised(at_once=at_once):
            return "waits for the credentials", "never", "opens at once" if at_once else "one failure"
        case Misconfigured():
            return "waits for the address", "never", "opens at once"
        case RetryAt(quick=quick, blame=blame, instead=instead):
            then = f", after a few tries `{instead.reason.code}`" if instead is not None else ""
            how = "tried again within half a second, then by the schedule" if quick else "tried again"
            counts = "never" if blame is Blame.ENDPOINT else "once others pass"
            return how + then, counts, "closes" if blame is Blame.MESSAGE else "one failure"


NAMED = {"token": "the token endpoint is down", "token-refused": "the token endpoint refuses us"}


def table() -> list[str]:
    """The page's rows: what has one outcome stands in one row, in the order of the cases."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for case in [*SPECIAL, *by_status()]:
        named = found.setdefault(described(case.outcome), [])
        if case.answer not in named:
            named.append(case.answer)
    for kind in get_args(Failed):
        named = NAMED.get(kind, FAILURE[kind][1])
        found.setdefault(described(judge(TransportFailure(kind), SENT, NOW)), []).append(named)
    return [f"| {_joined(answers)} | {' | '.join(words)} |" for words, answers in found.items()]


def _joined(answers: list[str]) -> str:
    numbers = [answer for answer in answers if answer.isdigit()]
    rest = [answer for answer in dict.fromkeys(answers) if not answer.isdigit()]
    return "; ".join(([", ".join(sorted(numbers))] if numbers else []) + rest)
