"""What follows from every answer a FHIR endpoint may give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge import reasons
from hl7bridge.delivery.answer import RETRY_AFTER_MAX, Response, read_body, retry_after
from hl7bridge.delivery.outcome import (
    FAILURE,
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

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SENTINEL = "ZZSENTINELZZ"


def outcome_body(*codes: str, diagnostics: str = SENTINEL) -> bytes:
    issues = [{"severity": "error", "code": code, "diagnostics": diagnostics} for code in codes]
    return json.dumps({"resourceType": "OperationOutcome", "issue": issues}).encode()


def answer_bundle(*statuses: str, kind: str = "transaction-response", outcome: Any = None) -> bytes:
    entries: list[dict[str, Any]] = [{"response": {"status": status}} for status in statuses]
    if outcome is not None:
        entries[-1]["response"]["outcome"] = outcome
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()


def judged(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, sent: int = 2, truncated: bool = False
) -> Outcome:
    return judge(Response(status, headers or {}, body, truncated), sent, NOW)


def test_a_transaction_whose_entries_all_went_well_is_delivered() -> None:
    assert judged(200, answer_bundle("201 Created", "200 OK")) == Delivered(200)
    assert judged(200, answer_bundle("201", "204", kind="batch-response")) == Delivered(200)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_an_empty_success_of_a_server_that_answers_minimally_is_delivered(status: int) -> None:
    assert judged(status) == Delivered(status)
    assert judged(status, b" \r\n", {"content-type": "application/fhir+json;charset=utf-8"}) == Delivered(status)


@pytest.mark.parametrize(
    ("status", "body", "headers", "truncated"),
    [
        (200, b"<html>Sign in</html>", {}, False),
        (200, b"", {"content-type": "text/html"}, False),
        (206, b"", {}, False),
        (200, b'{"resourceType": "Bundle", "type": "transaction-resp', {}, False),
        (200, answer_bundle("201", "201"), {}, True),
        (200, b"", {}, True),
        (200, b"[]", {}, False),
        (200, b'"ok"', {}, False),
        (200, b'{"status": "ok"}', {}, False),
        (200, b"\xff\xfe", {}, False),
        (200, b"[" * 100_000, {}, False),
        (200, answer_bundle("201"), {}, False),
        (200, answer_bundle("201", "201", "201"), {}, False),
        (200, b'{"resourceType": "Bundle", "type": "transaction-response"}', {}, False),
        (200, answer_bundle("201", ""), {}, False),
        (200, b'{"resourceType": "Bundle", "type": "batch-response", "entry": [null, {"response": 3}]}', {}, False),
    ],
)
def test_a_success_that_does_not_prove_itself_is_asked_again(
    status: int, body: bytes, headers: dict[str, str], truncated: bool
) -> None:
    outcome = judged(status, body, headers, truncated=truncated)
    assert isinstance(outcome, RetryAt)
    assert outcome.blame is Blame.EITHER


def test_a_server_that_stored_the_bundle_instead_of_processing_it_is_misconfigured() -> None:
    assert isinstance(judged(201, b'{"resourceType": "Bundle", "type": "transaction"}'), Misconfigured)


def test_a_success_with_an_operation_outcome_is_judged_by_its_severity() -> None:
    note = b'{"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}'
    assert judged(200, note) == Delivered(200)
    refused = judged(200, outcome_body("invalid"))
    assert isinstance(refused, Dead) and refused.reason is reasons.ENDPOINT_REJECTED


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", Dead),
        ("404", Dead),
        ("422", Dead),
        ("301", Dead),
        ("409", RetryAt),
        ("412", RetryAt),
        ("500", RetryAt),
        ("503", RetryAt),
        ("401", Unauthorised),
        ("403", Unauthorised),
    ],
)
def test_one_failed_entry_of_a_batch_decides_by_its_own_status(status: str, kind: type) -> None:
    outcome = judged(200, answer_bundle("201", status, kind="batch-response"))
    assert type(outcome) is kind
    if isinstance(outcome, Dead):
        assert outcome.reason is reasons.ENDPOINT_ENTRY_REJECTED
        assert outcome.detail.startswith("entry 2:")
    if isinstance(outcome, RetryAt):
        assert outcome.blame is Blame.MESSAGE
    if isinstance(outcome, Unauthorised):
        assert not outcome.at_once


def test_the_worst_entry_decides_and_its_outcome_is_kept() -> None:
    body = answer_bundle("201", "409", "422", kind="batch-response", outcome=json.loads(outcome_body("invalid")))
    outcome = judged(200, body, sent=3)
    assert isinstance(outcome, Dead)
    assert outcome.detail == "entry 3: 422 (invalid)"
    assert outcome.operation_outcome[0].diagnostics == SENTINEL


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, reasons.ENDPOINT_REJECTED),
        (404, reasons.ENDPOINT_NOT_FOUND),
        (410, reasons.ENDPOINT_NOT_FOUND),
        (413, reasons.ENDPOINT_TOO_LARGE),
        (418, reasons.ENDPOINT_REJECTED),
        (422, reasons.ENDPOINT_REJECTED),
    ],
)
def test_a_refusal_by_a_fhir_server_is_dead_with_its_operation_outcome(status: int, reason: reasons.Reason) -> None:
    outcome = judged(status, outcome_body("processing"))
    assert isinstance(outcome, Dead)
    assert outcome.reason is reason
    assert outcome.status == status
    assert outcome.operation_outcome[0].as_dict() == {
        "severity": "error",
        "code": "processing",
        "diagnostics": SENTINEL,
    }


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_without_a_body_is_dead(status: int) -> None:
    assert isinstance(judged(status), Dead)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (404, b"<html>"), (410, b""), (400, b"<html>plain http</html>")]
)
def test_a_refusal_that_no_fhir_server_wrote_is_retried_before_it_is_dead(status: int, body: bytes) -> None:
    outcome = judged(status, body)
    assert isinstance(outcome, RetryAt)
    assert outcome.blame is Blame.EITHER
    assert outcome.instead is not None and outcome.instead.detail == f"HTTP {status}, not from a FHIR server"


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize(
    ("code", "text"),
    [("not-found", ""), ("processing", "HAPI-1091: Invalid match URL"), ("processing", "HAPI-1094: x")],
)
def test_a_conditional_reference_that_does_not_resolve_yet_gets_quick_tries(status: int, code: str, text: str) -> None:
    outcome = judged(status, outcome_body(code, diagnostics=text))
    assert isinstance(outcome, RetryAt)
    assert outcome.quick and outcome.blame is Blame.MESSAGE
    assert outcome.instead is not None and outcome.instead.operation_outcome


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_is_retried_quickly_and_blames_the_message(status: int) -> None:
    outcome = judged(status, outcome_body("conflict"))
    assert isinstance(outcome, RetryAt)
    assert outcome.quick and outcome.blame is Blame.MESSAGE
    assert outcome.issues[0].code == "conflict"


@pytest.mark.parametrize("status", [100, 408, 421, 425, 500, 502, 504, 506, 508, 599, 600, 0])
def test_a_failure_that_may_be_either_s_is_retried(status: int) -> None:
    outcome = judged(status)
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.EITHER


@pytest.mark.parametrize("status", [429, 503, 507])
def test_a_failure_that_is_the_endpoint_s_is_retried_and_blames_it(status: int) -> None:
    outcome = judged(status, headers={"retry-after": "7"})
    assert isinstance(outcome, RetryAt) and outcome.blame is Blame.ENDPOINT
    assert outcome.after == 7.0


@pytest.mark.parametrize(("status", "at_once"), [(401, True), (403, False), (407, True), (511, True)])
def test_refused_credentials_never_make_a_dead_letter(status: int, at_once: bool) -> None:
    outcome = judged(status, outcome_body("login"))
    assert isinstance(outcome, Unauthorised) and outcome.at_once is at_once


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 402, 405, 406, 415, 426, 431, 501, 505])
def test_an_address_that_takes_no_transaction_is_the_operators(status: int) -> None:
    assert isinstance(judged(status, headers={"location": "https://elsewhere.example/"}), Misconfigured)


@pytest.mark.parametrize("kind", get_args(Failed))
def test_a_failure_of_the_transport_is_never_dead(kind: Failed) -> None:
    outcome = judge(TransportFailure(kind, "EX"), 1, NOW)
    assert not isinstance(outcome, Dead | Delivered)
    assert outcome.why.endswith("(EX)")
    assert set(FAILURE) == set(get_args(Failed))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("99999999999999999999", RETRY_AFTER_MAX),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MAX),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u0665", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date_and_bounded(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


@given(st.text(max_size=40))
def test_whatever_stands_in_retry_after_nothing_is_raised(text: str) -> None:
    seconds = retry_after({"retry-after": text}, NOW)
    assert seconds is None or 0.0 <= seconds <= RETRY_AFTER_MAX


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceType", "type", "entry", "response", "status", "outcome", "issue", "details", "code"]
            ),
            inner
            | st.sampled_from(["Bundle", "OperationOutcome", "batch-response", "transaction-response", "201", "500"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.integers(0, 999), st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_back_there_is_an_outcome_and_no_success_without_a_2xx(status: int, body: bytes) -> None:
    outcome = judged(status, body)
    assert isinstance(outcome, Delivered | RetryAt | Dead | Unauthorised | Misconfigured)
    assert not isinstance(outcome, Delivered) or 200 <= status < 300


@pytest.mark.parametrize("status", [200, 400, 401, 404, 409, 422, 500])
def test_what_the_server_said_of_the_patient_is_in_nothing_that_is_printed(status: int) -> None:
    body = outcome_body("invalid", SENTINEL)
    outcome = judged(status, body)
    assert SENTINEL not in repr(outcome)
    assert SENTINEL not in repr(Response(status, {"x": SENTINEL}, body))
    assert SENTINEL not in getattr(outcome, "detail", "") + getattr(outcome, "why", "")
    assert read_body(Response(200, {}, body)).issues[1].code == ""  # no word of FHIR, so not kept as one


def test_of_a_flood_of_issues_only_the_first_are_kept() -> None:
    outcome = judged(422, outcome_body(*["invalid"] * 5_000, diagnostics="x" * 10_000))
    assert isinstance(outcome, Dead)
    assert len(outcome.operation_outcome) == 20
    assert len(outcome.operation_outcome[0].diagnostics) == 4_000


@pytest.mark.parametrize(
    ("code", "expected"), [("ok", Delivered), ("transient-error", RetryAt), ("fatal-error", Dead), ("junk", RetryAt)]
)
def test_the_answer_to_a_message_is_judged_by_its_response_code(code: str, expected: type[Outcome]) -> None:
    header = {"resourceType": "MessageHeader", "response": {"code": code}}
    body = json.dumps({"resourceType": "Bundle", "type": "message", "entry": [{"resource": header}]}).encode()
    assert isinstance(judged(200, body, sent=9), expected)
