"""What follows from an endpoint's answer: delivered, retried, dead, or the whole delivery waits. Sans-IO.

A table first (`STATUS`, `FAILURE`), code second. What holds and why:

- A bundle counts as delivered only when the server says so in FHIR: a 2xx with an answer Bundle that has one 2xx entry
  for each entry sent. A 2xx with an HTML page, a broken body or an entry missing is asked again: delivery is
  idempotent, a lost message is not. An empty 200, 201, 202 or 204 is delivered (servers honouring
  `Prefer: return=minimal`; a transaction is all or nothing), unless its Content-Type says it is a page.
- Credentials and addresses are the operator's: 401, 403, 3xx and the like never make a dead letter, they open the
  circuit and everything waits. So does a 404 or a 400 that no FHIR server wrote (no OperationOutcome): one wrong
  character in fhir.base_url must not dead-letter a hospital. While other messages pass it is this message, after all,
  and `RetryAt.instead` says what it becomes.
- Redirects are not followed: a POST that is followed may be sent as a GET, or to a host that may not see the data.
- 409 and 412 come from conditional creates that raced (HAPI): asked again within half a second.
- A conditional reference that does not resolve yet (HAPI-1091, HAPI-1094, issue code not-found) gets a few quick
  tries before it is dead.
- A refusal whose OperationOutcome says `transient` or a code below it may pass: asked again, dead once others pass.
- `why` and `detail` hold statuses, FHIR's issue codes and counts: safe to log. `issues` are not: reason.json only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from hl7bridge import reasons
from hl7bridge.delivery.answer import Body, Issue, Response, bearer_error, proof_of, read_body, retry_after
from hl7bridge.reasons import Reason


class Blame(StrEnum):
    """Whom a failure that may pass tells about: decides on the circuit and on whether attempts count (see retry)."""

    MESSAGE = "message"  # the endpoint works
    EITHER = "either"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Delivered:
    """`proof`: for the receipts, what the server answered: hashes, ETag, Location; see answer.proof_of."""

    status: int = 200
    proof: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Dead:
    """`detail` is safe to log. `operation_outcome` is for reason.json only."""

    reason: Reason
    detail: str
    operation_outcome: tuple[Issue, ...] = field(default=(), repr=False)
    status: int = 0
    proof: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Ask again. `after`: seconds the server asked for, None: the schedule decides; `quick`: at first within 0.5 s.

    `instead`: what the message becomes when a few tries did not help, rather than retries-exhausted after days.
    """

    after: float | None
    why: str
    blame: Blame
    quick: bool = False
    instead: Dead | None = None
    issues: tuple[Issue, ...] = field(default=(), repr=False)
    status: int = 0


@dataclass(frozen=True, slots=True)
class Unauthorised:
    """The credentials are at fault. `at_once`: the circuit opens now; otherwise it counts as any failure.

    (403: a server's policy may refuse one kind of message only.)
    """

    why: str
    at_once: bool = True
    status: int = 0


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The address does not take transactions: the circuit opens now, the operator has to act."""

    why: str
    status: int = 0


Outcome = Delivered | RetryAt | Dead | Unauthorised | Misconfigured

Failed = Literal[
    "refused",
    "dns",
    "tls",
    "connect-timeout",
    "timeout",
    "disconnected",
    "protocol",
    "disk",
    "secret",
    "address",
    "token",
    "token-refused",
]


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No answer came. `note`: an errno name, an exception's class, a sentence of ours; never a text of the peer.

    `after`: seconds the token endpoint asked us to wait.
    """

    kind: Failed
    note: str = ""
    after: float | None = None


Verb = Literal["deliver", "retry", "dead", "credentials", "address"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: what to do, and the part of it that differs."""

    verb: Verb
    blame: Blame = Blame.EITHER
    quick: bool = False
    reason: Reason = reasons.ENDPOINT_REJECTED
    at_once: bool = True


DELIVER = Row("deliver")
ADDRESS = Row("address")
REJECTED = Row("dead")
NOT_FOUND = Row("dead", reason=reasons.ENDPOINT_NOT_FOUND)
TRY_AGAIN = Row("retry", Blame.EITHER)
ENDPOINT_DOWN = Row("retry", Blame.ENDPOINT)
CONFLICT = Row("retry", Blame.MESSAGE, quick=True)

STATUS: Mapping[int, Row] = MappingProxyType(
    {
        400: REJECTED,
        401: Row("credentials"),
        402: ADDRESS,
        403: Row("credentials", at_once=False),
        404: NOT_FOUND,
        405: ADDRESS,  # this address takes no POST
        406: ADDRESS,
        407: Row("credentials"),
        408: TRY_AGAIN,
        409: CONFLICT,
        410: NOT_FOUND,
        412: CONFLICT,
        413: Row("dead", reason=reasons.ENDPOINT_TOO_LARGE),
        415: ADDRESS,  # does not know application/fhir+json
        421: TRY_AGAIN,
        422: REJECTED,
        423: Row("retry", Blame.MESSAGE),
        424: Row("retry", Blame.MESSAGE),
        425: TRY_AGAIN,
        426: ADDRESS,
        429: ENDPOINT_DOWN,
        431: ADDRESS,
        500: TRY_AGAIN,  # HAPI answers 500 for some bundles, and for all of them when its database is gone
        501: ADDRESS,
        502: TRY_AGAIN,
        503: ENDPOINT_DOWN,
        504: TRY_AGAIN,
        505: ADDRESS,
        507: ENDPOINT_DOWN,
        511: Row("credentials"),
    }
)
CLASS: Mapping[int, Row] = MappingProxyType({1: TRY_AGAIN, 2: DELIVER, 3: ADDRESS, 4: REJECTED, 5: TRY_AGAIN})

FAILURE: Mapping[Failed, tuple[Row, str]] = MappingProxyType(
    {
        "refused": (ENDPOINT_DOWN, "connection refused"),
        "dns": (ENDPOINT_DOWN, "the host name does not resolve"),
        "tls": (ENDPOINT_DOWN, "TLS failed"),
        "connect-timeout": (ENDPOINT_DOWN, "no connection in time"),
        "timeout": (TRY_AGAIN, "no answer in time"),  # it may have been taken: idempotent, so asking again is safe
        "disconnected": (Row("retry", Blame.EITHER, quick=True), "connection lost"),  # often a stale kept-alive one
        "protocol": (TRY_AGAIN, "no HTTP answer"),
        "disk": (ENDPOINT_DOWN, "the directory cannot be written"),
        "secret": (Row("credentials"), "the credentials cannot be read"),
        "address": (ADDRESS, "fhir.base_url is no address"),
        "token": (ENDPOINT_DOWN, "no token"),  # the token endpoint is down: as if the endpoint were
        "token-refused": (Row("credentials"), "no token"),
    }
)

EMPTY_IS_DELIVERED = frozenset({200, 201, 202, 204})
FHIR_JSON = frozenset({"", "application/fhir+json", "application/json"})
TRANSIENT = frozenset({"transient", "lock-error", "no-store", "timeout", "incomplete", "throttled"})  # issue-type
UNRESOLVED = ("HAPI-1091", "HAPI-1094")  # no match for a conditional reference; referenced resource not found


def judge(answer: Response | TransportFailure, sent: int, now: float) -> Outcome:
    """The outcome of one attempt. `sent`: entries in the bundle; `now`: seconds since the epoch, for Retry-After."""
    if isinstance(answer, TransportFailure):
        row, text = FAILURE[answer.kind]
        return _of_row(row, f"{text} ({answer.note})" if answer.note else text, 0, Body("empty"), answer.after)
    body = read_body(answer)
    outcome = _judged(answer, body, sent, now)
    match outcome:
        case Delivered(status=status):
            return Delivered(status, proof_of(answer, body))
        case Dead():
            return replace(outcome, proof=proof_of(answer, body))
    return outcome


def _judged(answer: Response, body: Body, sent: int, now: float) -> Outcome:
    row = row_of(answer.status)
    if row.verb == "deliver":
        return _of_success(answer, body, sent)
    after = retry_after(answer.headers, now)
    error = bearer_error(answer.headers) if row.verb == "credentials" else ""
    why = f"HTTP {answer.status}" + (f" ({error})" if error else _codes(body.issues))
    outcome = _of_row(row, why, answer.status, body, after)
    return _doubted(outcome, body) if isinstance(outcome, Dead) else outcome


def row_of(status: int) -> Row:
    """The table's row for a status, by its class where it has none of its own."""
    return STATUS.get(status) or CLASS.get(status // 100, TRY_AGAIN)


def _of_row(row: Row, why: str, status: int, body: Body, after: float | None) -> Outcome:
    match row.verb:
        case "deliver":
            return Delivered(status)
        case "retry":
            return RetryAt(after, why, row.blame, row.quick, issues=body.issues, status=status)
        case "dead":
            return Dead(row.reason, why, body.issues, status)
        case "credentials":
            return Unauthorised(why, row.at_once, status)
        case "address":
            return Misconfigured(why, status)


def _doubted(dead: Dead, body: Body) -> Outcome:
    """A refusal that may not be the server's last word: see the module's text on 404, 400 and unresolved references."""
    if body.kind == "outcome":
        if _may_pass(body.issues):
            return RetryAt(None, dead.detail, Blame.EITHER, False, dead, body.issues, dead.status)
        unresolved = any(
            issue.code == "not-found" or any(mark in issue.diagnostics + issue.details for mark in UNRESOLVED)
            for issue in body.issues
        )
        if dead.status in (400, 404) and unresolved:
            return RetryAt(None, dead.detail, Blame.MESSAGE, True, dead, body.issues, dead.status)
        return dead
    if dead.status in (404, 410) or (dead.status == 400 and body.kind == "not-fhir"):
        doubted = replace(dead, detail=f"{dead.detail}, not from a FHIR server")
        return RetryAt(None, doubted.detail, Blame.EITHER, False, doubted, (), dead.status)
    return dead


def _may_pass(issues: Sequence[Issue]) -> bool:
    """Does the server say, by FHIR's codes, that all that went wrong may pass?"""
    errors = [issue for issue in issues if issue.severity in ("error", "fatal")]
    return bool(errors) and all(issue.code in TRANSIENT for issue in errors)


def _of_success(answer: Response, body: Body, sent: int) -> Outcome:
    status = answer.status
    match body.kind:
        case "empty":
            if status in EMPTY_IS_DELIVERED and answer.media_type in FHIR_JSON:
                return Delivered(status)
            return _unproven(f"HTTP {status} without an answer Bundle", status)
        case "answer-bundle":
            return _of_entries(body, status, sent)
        case "answer-message":
            return _of_entries(body, status, 1)
        case "outcome":
            if any(issue.severity in ("error", "fatal") for issue in body.issues):
                detail = f"HTTP {status} with an OperationOutcome{_codes(body.issues)}"
                return Dead(reasons.ENDPOINT_REJECTED, detail, body.issues, status)
            return Delivered(status)
        case "other-fhir":
            return Misconfigured(f"HTTP {status} with a resource that answers no transaction", status)
        case "truncated":
            return _unproven(f"HTTP {status} with a body that broke off", status)
        case "not-fhir":
            return _unproven(f"HTTP {status} with a body that is not FHIR JSON", status)


def _unproven(why: str, status: int) -> RetryAt:
    return RetryAt(None, why, Blame.EITHER, status=status)


def _of_entries(body: Body, status: int, sent: int) -> Outcome:
    """Every entry by its own status; the worst decides: dead before credentials before retry."""
    if len(body.entries) != sent:
        return _unproven(f"HTTP {status} with {len(body.entries)} answers for {sent} entries", status)
    worst: Outcome = Delivered(status)
    if all(row_of(told).verb == "deliver" for told in {entry.status for entry in body.entries}):
        return worst
    for number, entry in enumerate(body.entries, 1):
        outcome = _of_entry(number, entry.status, entry.issues)
        if _RANK[type(outcome)] > _RANK[type(worst)]:
            worst = outcome
    return worst


_RANK: Mapping[type, int] = MappingProxyType(
    {Delivered: 0, RetryAt: 1, Misconfigured: 2, Unauthorised: 3, Dead: 4},
)


def _of_entry(number: int, status: int, issues: tuple[Issue, ...]) -> Outcome:
    if status == 0:
        return _unproven(f"entry {number} without a status", status)
    row = row_of(status)
    why = f"entry {number}: {status}{_codes(issues)}"
    if row.verb in ("dead", "address"):  # the server took the request, so it is this entry and not the address
        return Dead(reasons.ENDPOINT_ENTRY_REJECTED, why, issues, status)
    outcome = _of_row(row, why, status, Body("outcome", issues=issues), None)
    if isinstance(outcome, RetryAt):
        return replace(outcome, blame=Blame.MESSAGE)
    return replace(outcome, at_once=False) if isinstance(outcome, Unauthorised) else outcome


def _codes(issues: tuple[Issue, ...]) -> str:
    codes = sorted({issue.code for issue in issues if issue.code})
    return f" ({', '.join(codes)})" if codes else ""
