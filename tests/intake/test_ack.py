"""The answer's bytes (fault catalogue, section B; HL7 v2.9.1 sections 2.8 and 2.9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge import reasons
from hl7bridge.hl7v2.ack import CONDITIONS, Stamp, accept, ack_code, batch, due, mode, reject, version_of
from hl7bridge.hl7v2.escape import DEFAULT
from hl7bridge.hl7v2.header import Header, read_header

STAMP = Stamp(datetime(2024, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=5, minutes=45))), "OWN1")


def header(
    *,
    version: str = "2.5.1",
    accept_ack: str = "",
    application_ack: str = "",
    control_id: bytes = b"C1",
    more: bytes = b"",
) -> Header:
    fields = [b"MSH", b"^~\\&", b"LAB", b"NORTH", b"EHR", b"SOUTH", b"20240101", b"", b"ADT^A01^ADT_A01", control_id]
    fields += [b"T^A", version.encode(), b"", b"", accept_ack.encode(), application_ack.encode(), b"", more]
    return read_header(b"|".join(fields) + b"\rEVN|A01\rPID|1||SENTINEL\r")


def segments(answer: bytes | None) -> dict[str, list[bytes]]:
    """Segment id -> fields, index = HL7's number."""
    assert answer is not None
    assert answer.endswith(b"\r")
    found = {}
    for line in answer[:-1].split(b"\r"):
        fields = line.split(b"|")
        if fields[0] == b"MSH":
            fields.insert(1, b"|")
        found[fields[0].decode()] = fields
    return found


def test_an_acceptance_is_made_anew_and_goes_back_where_the_message_came_from() -> None:
    assert accept(header(), STAMP) == (
        b"MSH|^~\\&|EHR|SOUTH|LAB|NORTH|20240229235958+0545||ACK^A01^ACK|OWN1|T^A|2.5.1\rMSA|AA|C1\r"
    )


def test_a_refusal_says_where_and_why() -> None:
    answer = reject(header(), reasons.NO_CONTROL_ID, STAMP, "MSH^1^10", "no id here")
    found = segments(answer)
    assert found["MSA"] == [b"MSA", b"AE", b"C1"]
    assert found["ERR"] == [
        b"ERR", b"", b"MSH^1^10", b"101^Required field missing^HL70357", b"E", b"", b"", b"", b"no id here"
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["2.1", "2.2", "2.3", "2.3.1", "2.4"])
def test_before_2_5_the_reason_stands_in_msa_3_and_the_old_err_1(version: str) -> None:
    found = segments(reject(header(version=version), reasons.UNSUPPORTED_EVENT, STAMP, "MSH^1^9", "what"))
    assert found["MSA"] == [b"MSA", b"AR", b"C1", b"what"]
    assert found["ERR"] == [b"ERR", b"MSH^1^9^201&Unsupported event code&HL70357"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.1", b"ACK"), ("2.2", b"ACK^A01"), ("2.3", b"ACK^A01"), ("2.3.1", b"ACK^A01^ACK"), ("2.9", b"ACK^A01^ACK"),
        ("", b"ACK^A01^ACK"), ("3.0", b"ACK^A01^ACK"),
    ],
)  # fmt: skip
def test_msh_9_of_the_answer_is_what_its_version_has(version: str, expected: bytes) -> None:
    assert segments(accept(header(version=version), STAMP))["MSH"][9] == expected


def test_a_version_that_is_missing_or_odd_is_repeated_or_replaced() -> None:
    assert segments(accept(header(version="9"), STAMP))["MSH"][12] == b"9"
    assert segments(accept(header(version=""), STAMP))["MSH"][12] == b"2.5.1"
    assert version_of("2.10") > version_of("2.9")


WORDS = ("", "NE", "AL", "ER", "SU")

# MSH-15, MSH-16, version -> code of an acceptance (or None: not sent), code of an error, code of a rejection
MATRIX = [
    ("", "", "2.5", "AA", "AE", "AR"),
    ("", "", "2.9", "AA", "AE", "AR"),
    ('""', '""', "2.5", "AA", "AE", "AR"),
    *(
        ("AL", app, version, "CA", "CE", "CR")
        for app in ("", "NE", "AL", "ER", "SU", "XX")
        for version in ("2.5", "2.9")
    ),
    *(("ER", app, version, None, "CE", "CR") for app in ("", "NE", "AL", "ER", "SU") for version in ("2.5", "2.9")),
    *(("SU", app, version, "CA", None, None) for app in ("", "NE", "AL", "ER", "SU") for version in ("2.5", "2.9")),
    *(("NE", app, version, None, None, None) for app in ("", "NE") for version in ("2.5", "2.9")),
    *(("NE", app, "2.9", None, None, None) for app in ("AL", "ER", "SU")),
    *((acc, "AL", version, "AA", "AE", "AR") for acc in ("NE", "") for version in ("2.3", "2.5", "2.8.2")),
    *((acc, "ER", "2.5", None, "AE", "AR") for acc in ("NE", "")),
    *((acc, "SU", "2.5", "AA", None, None) for acc in ("NE", "")),
    ("", "NE", "2.5", "CA", "CE", "CR"),
    ("", "AL", "2.9", "CA", "CE", "CR"),
    ("XX", "", "2.5", "CA", "CE", "CR"),
    ("XX", "NE", "2.5", "CA", "CE", "CR"),
    ("al", "ne", "2.5", "CA", "CE", "CR"),
]


@pytest.mark.parametrize(("accept_ack", "application_ack", "version", "good", "error", "rejection"), MATRIX)
def test_msh_15_and_msh_16_decide_what_is_sent(
    accept_ack: str, application_ack: str, version: str, good: str | None, error: str | None, rejection: str | None
) -> None:
    message = header(version=version, accept_ack=accept_ack, application_ack=application_ack)
    answers = (
        accept(message, STAMP),
        reject(message, reasons.CHARSET, STAMP),
        reject(message, reasons.UNSUPPORTED_TYPE, STAMP),
    )
    codes = [segments(answer)["MSA"][1].decode() if answer else None for answer in answers]
    assert codes == [good, error, rejection]
    if answers[0]:
        assert len(segments(answers[0])["MSH"]) == 13  # MSH-15 and 16 are not valued in an accept acknowledgement


def test_storage_failure_is_ar_or_ce() -> None:
    assert ack_code(header(), reasons.STORAGE_FAILED) == "AR"
    assert ack_code(header(accept_ack="AL"), reasons.STORAGE_FAILED) == "CE"
    assert ack_code(None, reasons.UNPARSABLE) == "AE"


def test_an_acknowledgement_is_never_acknowledged() -> None:
    came = read_header(b"MSH|^~\\&|A|B|C|D|1||ACK|X|P|2.5|||AL|AL\rMSA|AA|C1\r")
    assert accept(came, STAMP) is None
    assert reject(came, reasons.INTERNAL_ERROR, STAMP) is None
    assert not due(came, positive=True)


def test_a_response_with_data_gets_the_accept_acknowledgement_it_asks_for_and_no_other() -> None:
    """An ORR holds an MSA and is a message of its own: in original mode it ends the exchange."""
    orr = b"MSH|^~\\&|A|B|C|D|1||ORR^O02|X|P|2.3|||%s\rMSA|AA|C1\r"
    asking = read_header(orr % b"AL")
    assert segments(reject(asking, reasons.UNSUPPORTED_TYPE, STAMP))["MSA"][1:3] == [b"CR", b"X"]
    assert accept(read_header(orr % b""), STAMP) is None
    assert accept(read_header(orr % b"NE"), STAMP) is None


def test_an_acknowledgement_that_lost_its_msa_is_not_acknowledged_either() -> None:
    assert accept(read_header(b"MSH|^~\\&|A|B|C|D|1||ACK^A01|X|P|2.5\r"), STAMP) is None


def test_what_cannot_be_read_is_answered_without_inventing_a_control_id() -> None:
    found = segments(reject(None, reasons.UNPARSABLE, STAMP))
    assert found["MSA"] == [b"MSA", b"AE", b""]
    assert found["ERR"][3].startswith(b"100^")
    assert found["MSH"][10] == b"OWN1"


CONTROL_IDS = st.binary(max_size=250).map(lambda b: bytes(c for c in b if c not in b"\r\n|\x0b\x1c"))


@given(CONTROL_IDS, st.sampled_from(["2.1", "2.3", "2.5.1", "2.9", ""]))
def test_msa_2_is_msh_10_byte_for_byte(control_id: bytes, version: str) -> None:
    message = header(control_id=control_id, version=version)
    assert segments(accept(message, STAMP))["MSA"][2] == control_id
    assert segments(reject(message, reasons.CHARSET, STAMP))["MSA"][2] == control_id


@pytest.mark.parametrize(
    "control_id", [b"\xe4\xf6\xfc\xff", b"x" * 200, b"A\\F\\B", b"A^B~C&D", b" padded ", "µ".encode()]
)
def test_unusual_control_ids_come_back_verbatim(control_id: bytes) -> None:
    assert segments(accept(header(control_id=control_id), STAMP))["MSA"][2] == control_id


def test_the_character_set_is_repeated_when_an_answer_needs_it() -> None:
    needs = segments(accept(header(control_id=b"\xe4", more=b"8859/1"), STAMP))["MSH"]
    assert (len(needs), needs[18]) == (19, b"8859/1")
    assert len(segments(accept(header(more=b"8859/1"), STAMP))["MSH"]) == 13


@given(st.permutations(list("#*!@%$+")), st.sampled_from(["2.3", "2.6"]))
def test_an_answer_has_the_separators_of_its_message(signs: list[str], version: str) -> None:
    field, encoding = signs[0], "".join(signs[1:5])
    raw = f"MSH{field}" + field.join([encoding, "A", "B", "C", "D", "1", "", f"ADT{signs[1]}A08", "ID", "P", version])
    answer = reject(read_header(raw.encode()), reasons.STRUCTURE, STAMP, "PID^2^3", f"a {field} and {encoding} in it")
    assert answer is not None
    msh, msa, err, _ = answer.decode().split("\r")
    assert msh.startswith(f"MSH{field}{encoding}{field}C{field}D{field}A{field}B{field}")
    assert msa.split(field)[:3] == ["MSA", "AE", "ID"]
    if version == "2.6":
        assert err.split(field)[2] == f"PID{signs[1]}2{signs[1]}3"
        assert len(err.split(field)) == 9
    else:
        assert len(msa.split(field)) == 4


@pytest.mark.parametrize("encoding", ["^~", "^", "", "^~\\&#", "^~\\&#%", "||", "^^^^"])
def test_short_long_and_odd_encoding_characters_still_get_an_answer(encoding: str) -> None:
    came = read_header(f"MSH|{encoding}|A|B|C|D|1||ADT^A01|ID|P|2.6\r".encode())
    assert b"MSA|AE|" in (reject(came, reasons.CHARSET, STAMP, "PID^1", "text & more") or b"")


def test_separators_that_clash_leave_an_answer_that_can_still_be_read() -> None:
    """With ^ as MSH-1 and nothing in MSH-2 there is no component separator; with a backslash no escape character."""
    caret = b"MSH^^A^B^C^D^1^^ADT^ID^P^%s\r"
    old, new = (reject(read_header(caret % v), reasons.CHARSET, STAMP, "PID^1^5") or b"" for v in (b"2.3", b"2.5"))
    assert old.endswith(b"\rMSA^AE^ID^" + reasons.CHARSET.sentence.encode() + b"\rERR^\r")
    assert b"\rERR^^PID 1 5^102^E^^^^" in new
    backslash = rb"MSH\^~\A\B\C\D\1\\ADT^A01\ID\P\2.5" + b"\r"
    answer = reject(read_header(backslash), reasons.CHARSET, STAMP, None, "a\\b^c") or b""
    assert answer.endswith(b"\\a b c\r")


def test_no_value_of_the_message_but_its_header_is_in_an_answer() -> None:
    for reason in reasons.CATALOGUE.values():
        assert b"SENTINEL" not in (reject(header(), reason, STAMP) or b"")


def test_every_reason_has_its_condition_text() -> None:
    assert {reason.condition for reason in reasons.CATALOGUE.values()} <= set(CONDITIONS)


def test_long_texts_are_cut_to_their_fields() -> None:
    assert len(segments(reject(header(version="2.3"), reasons.CHARSET, STAMP, None, "x" * 999))["MSA"][3]) == 80
    assert len(segments(reject(header(), reasons.CHARSET, STAMP, None, "x" * 999))["ERR"][8]) == 250


def test_a_batch_of_answers_refers_to_the_batch_that_came() -> None:
    answers = [accept(header(control_id=b"C%d" % i), STAMP) or b"" for i in range(2)]
    whole = batch(answers, b"BHS|^~\\&|LAB|NORTH|EHR|SOUTH|20240101||||B77", DEFAULT, STAMP)
    lines = whole.split(b"\r")
    assert lines[0] == b"BHS|^~\\&|EHR|SOUTH|LAB|NORTH|20240229235958+0545||||OWN1|B77"
    assert [line[:3] for line in lines] == [b"BHS", b"MSH", b"MSA", b"MSH", b"MSA", b"BTS", b""]
    assert lines[5] == b"BTS|2"
    assert batch([], b"FHS|^~\\&", DEFAULT, STAMP).startswith(b"BHS|^~\\&|||||")
    assert batch([], b"FHS|^~\\&", DEFAULT, STAMP, "a|b").endswith(b"BTS|0|a\\F\\b\r")


def test_the_mode_of_a_plain_message_is_original() -> None:
    assert mode(header()) == (False, "AL")
    assert STAMP.now.astimezone(UTC) < datetime(2024, 3, 1, tzinfo=UTC)
    assert "OWN1" not in repr(STAMP)


def test_a_mark_of_a_block_in_the_header_is_not_repeated_in_an_answer() -> None:
    for raw in (b"MSH|^~\\&|A\x1cB|C|||2024||ADT^A08|1|P|2.5\r", b"MSH|^~\\&|A|C|||2024||ADT^A08|1\x1c2|P|2.3\r"):
        answer = reject(read_header(raw), reasons.UNPARSABLE, STAMP)
        assert answer is not None and b"\x1c" not in answer
        assert b"MSA|AE|\r" in answer, "half a control id is none"
