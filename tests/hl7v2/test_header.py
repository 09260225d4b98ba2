import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.header import Kind, read_header, read_separators
from hl7bridge.reasons import UNPARSABLE

FULL = (
    b"MSH|^~\\&|APP^1.2^ISO|FAC|TO|THERE|20240102030405+0100||adt^a01^ADT_A99|ID\\T\\\xff 7|P^T|2.5.1^DEU|42|c|AL|ne|"
    b"DEU|~ISO IR87||ISO 2022-1994"
)


def test_every_field_is_where_the_standard_has_it() -> None:
    header = read_header(FULL + b"\rPID|1\r")
    assert header.separators == ("|", "^", "~", "\\", "&", "")
    assert header.raw_separators == b"|^~\\&"
    assert header.sending_application == b"APP^1.2^ISO"
    assert header.sending_facility == b"FAC"
    assert header.receiving_application == b"TO"
    assert header.receiving_facility == b"THERE"
    assert header.date_time == b"20240102030405+0100"
    assert (header.message_code, header.trigger_event, header.structure) == ("ADT", "A01", "ADT_A99")
    assert header.control_id == b"ID\\T\\\xff 7"
    assert (header.processing_id, header.version) == ("P", "2.5.1")
    assert (header.sequence_number, header.continuation) == (b"42", b"c")
    assert (header.accept_ack, header.application_ack) == ("AL", "NE")
    assert header.charsets == ("", "ISO IR87")
    assert header.field(20) == b"ISO 2022-1994"
    assert not header.is_ack


@pytest.mark.parametrize("length", range(4, len(FULL)))
def test_a_header_cut_anywhere_gives_what_is_there(length: int) -> None:
    cut, whole = read_header(FULL[:length]), read_header(FULL)
    for number in range(3, 21):
        assert whole.field(number).startswith(cut.field(number))
    assert cut.field(99) == b""


@pytest.mark.parametrize(
    "before", [b"", b"\r\n", b"  ", b"\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf ", b"junk\r", b"FHS|^~\\&|\rBHS|^~\\&|\n"]
)
def test_msh_is_found_behind_blanks_marks_and_other_lines(before: bytes) -> None:
    assert read_header(before + b"MSH|^~\\&|||||||ADT^A01|7").control_id == b"7"


def test_a_header_in_lower_case_and_one_in_utf_16_are_read() -> None:
    assert read_header(b"msh|^~\\&|||||||ADT^A01|7").control_id == b"7"
    assert read_header("MSH|^~\\&|||||||ADT^A01|ü\rPID".encode("utf-16")).control_id == "ü".encode()


@pytest.mark.parametrize(
    "raw",
    [b"", b"MSH", b"PID|1", b"xMSH|^~\\&|", b"MSHA^~\\&A", b"MSH ^~\\&", b"MSH\x0b^~", b"MSH\xa6^~", b"MSH|ABCD|x|"],
)
def test_without_msh_and_separators_there_is_no_header(raw: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        read_header(raw)
    assert caught.value.reason is UNPARSABLE


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_any_line_end_closes_the_header(end: bytes) -> None:
    assert read_header(b"MSH|^~\\&|||||||ADT^A01|7" + end + b"PID|1").control_id == b"7"


@pytest.mark.parametrize(
    ("rest", "is_ack"),
    [
        (b"\rMSA|AA|1\r", True),
        (b"\nMSA|AA|1", True),
        (b"\r\nmsa|AA|1", True),
        (b"\rSFT|x\rMSA|AE|1", True),
        (b"\rPID|MSA|x", False),
        (b"\rOBX|1|TX|||MSA|", False),
    ],
)
def test_an_msa_segment_makes_it_an_acknowledgement(rest: bytes, is_ack: bool) -> None:
    assert read_header(b"MSH|^~\\&|||||||ACK|7|P|2.5" + rest).is_ack is is_ack


@pytest.mark.parametrize(
    ("msh9", "version", "rest", "event"),
    [
        (b"ADT^A04", b"2.1", b"\rEVN|A08|", "A04"),
        (b"ADT", b"2.1", b"\rEVN|a04|20200101", "A04"),
        (b"ADT", b"2.1", b"\nEVN|A04", "A04"),
        (b"ADT^^ADT_A01", b"2.5", b"\rPID|", ""),
        (b"ORU", b"2.1", b"\rPID|", "R01"),
        (b"ORU", b"2.5", b"\rPID|", ""),
        (b"", b"", b"", ""),
    ],
)
def test_the_event_of_old_versions_is_found(msh9: bytes, version: bytes, rest: bytes, event: str) -> None:
    assert read_header(b"MSH|^~\\&|||||||" + msh9 + b"|7|P|" + version + rest).trigger_event == event


@pytest.mark.parametrize(
    ("signs", "separators"),
    [
        (b"^~\\&", "^~\\&"),
        (b"^~\\&#", "^~\\&#"),
        (b"^~\\&#xyz", "^~\\&#"),
        (b"", "^~\\&"),
        (b"^", "^~\\&"),
        (b"^~", "^~\\&"),
        (b"~", ["~", "", "\\", "&", ""]),
        (b"\\", ["\\", "~", "", "&", ""]),
        (b"^^\\&", "^~\\&"),
        (b"^~\\&|"[:4] + b"^", "^~\\&"),
        (b"^~\\ ", "^~\\&"),
        (b"\xa6~\\&", "^~\\&"),
        (b"~&#\\", "~&#\\"),
        (b"\x1d\x1e\x1f&", "\x1d\x1e\x1f&"),
    ],
)
def test_missing_encoding_characters_take_their_defaults_unless_they_clash(
    signs: bytes, separators: str | list[str]
) -> None:
    found = read_separators(b"|", signs)
    assert list(found[1:]) == list(separators) + [""] * (5 - len(separators))


def test_the_field_separator_is_never_taken_again() -> None:
    assert read_separators(b"^", b"~\\") == ("^", "~", "\\", "", "&", "")


def test_no_value_shows_when_a_header_is_printed() -> None:
    assert repr(read_header(FULL)) == "<Header>"


@given(st.binary())
def test_any_bytes_give_a_header_or_are_unparsable(raw: bytes) -> None:
    _read_everything(raw)


@given(st.binary(max_size=80))
def test_any_bytes_behind_msh_give_a_header_or_are_unparsable(raw: bytes) -> None:
    _read_everything(b"MSH" + raw)
    _read_everything(b"MSH|^~\\&|" + raw)


def _read_everything(raw: bytes) -> None:
    try:
        header = read_header(raw)
    except PeerError as error:
        assert error.reason is UNPARSABLE
        return
    for name in dir(type(header)):
        if isinstance(getattr(type(header), name), property):
            getattr(header, name)


COMMON = b"MSH|^~\\&|LAB|NORTH|HUB|SOUTH|%s|%s|ADT^A08|%s|P|2.5.1|%s|%s|AL|NE||8859/1\rPID|1\r"


def test_headers_of_one_sender_share_what_they_have_in_common() -> None:
    one = read_header(COMMON % (b"20240101", b"", b"1", b"", b""))
    other = read_header(COMMON % (b"20240102", b"S", b"2", b"7", b"C"))
    assert one.kind is other.kind
    assert (one.control_id, other.control_id) == (b"1", b"2")
    assert (other.date_time, other.sequence_number, other.continuation) == (b"20240102", b"7", b"C")
    assert one.charsets == ("8859/1",)


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 9, 11, 12, 15, 16, 18])
def test_what_else_differs_makes_another_kind(number: int) -> None:
    plain = COMMON % (b"", b"", b"1", b"", b"")
    line, _, rest = plain.partition(b"\r")
    fields = line.split(b"|")
    fields[number - 1] = b"^~\\&#" if number == 2 else b"X2"
    changed = read_header(b"|".join(fields) + b"\r" + rest)
    assert changed.kind is not read_header(plain).kind
    assert changed.kind.field(number) == changed.field(number) == fields[number - 1]


@pytest.mark.parametrize("fields", range(2, 22))
def test_a_kind_has_each_field_in_its_place_however_short_msh_is(fields: int) -> None:
    values = [b"MSH", b"^~\\&", *(b"V%d" % number for number in range(3, 22))][:fields]
    header = read_header(b"|".join(values) + b"\r")
    for number in (*range(1, 7), 9, 11, 12, *range(15, 25)):
        assert header.kind.field(number) == header.field(number)


def test_an_event_that_stands_in_evn_is_of_the_kind() -> None:
    raw = b"MSH|^~\\&|A||||||ADT|1|P|2.1\rEVN|%s\r"
    first, second = read_header(raw % b"A01"), read_header(raw % b"A02")
    assert (first.trigger_event, second.trigger_event) == ("A01", "A02")
    assert first.kind is not second.kind
    assert first.kind is read_header(raw % b"A01").kind


def test_a_long_header_is_not_kept() -> None:
    raw = b"MSH|^~\\&|" + b"A" * 600 + b"||||||ADT^A01|1|P|2.5\r"
    assert read_header(raw).kind is not read_header(raw).kind


def test_what_follows_from_a_kind_is_worked_out_once() -> None:
    kind = read_header(COMMON % (b"", b"", b"1", b"", b"")).kind
    asked: list[object] = []

    def made(_kind: Kind, more: object = None) -> int:
        asked.append(more)
        return len(asked)

    assert [kind.of(made), kind.of(made), kind.of(made, "x"), kind.of(made, "x"), kind.of(made)] == [1, 1, 2, 2, 1]
    assert repr(kind) == "<Kind>"
