import traceback
from pathlib import Path

import hl7
import pytest
from hl7v2_samples import CORPUS, corpus_files, feed, message, needs_corpus
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.definitions import load_definitions
from hl7bridge.hl7v2.header import read_header
from hl7bridge.hl7v2.message import Message, is_null, parse
from hl7bridge.hl7v2.segment_ids import SEGMENT_IDS
from hl7bridge.reasons import CHARSET, UNPARSABLE

PID = 'PID|1||12345^^^GOOD&1.2.3&ISO^MR~678^^^SSA^SS||Doe&van^Jo\\T\\e^""||20000101|""|||A\\E\\B^^C'


def ids(parsed: Message) -> list[str]:
    return [segment.id for segment in parsed.segments]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("PID-3", "12345^^^GOOD&1.2.3&ISO^MR"),
        ("PID-3.1", "12345"),
        ("PID-3[2].1", "678"),
        ("PID-3[2].4.1", "SSA"),
        ("PID-3.4.2", "1.2.3"),
        ("PID-3.4.9", ""),
        ("PID-3.9", ""),
        ("PID-3[3].1", ""),
        ("PID-5.1", "Doe&van"),
        ("PID-5.1.2", "van"),
        ("PID-5.2", "Jo&e"),
        ("PID-5.3", '""'),
        ("PID-7.1.1", "20000101"),
        ("PID-11.1", "A\\B"),
        ("PID-40", ""),
        ("PV1-2", ""),
        ("OBX[2]-1", "2"),
        ("OBX[3]-1", ""),
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-2.1", "^~\\&"),
        ("MSH-2.2", ""),
        ("MSH-9.2", "R01"),
        ("MSH-10", "77"),
    ],
)
def test_a_path_gives_its_text_with_escapes_resolved(path: str, value: str) -> None:
    assert parse(message(PID, "OBX|1", "OBX|2", control_id="77")).get(path) == value


@pytest.mark.parametrize("path", ["PID", "PID-0", "PID-3.0", "PID-3[0]", "pid-3", "PID.3", "PID-3.1.1.1", "PID-3 "])
def test_a_malformed_path_is_the_programmers_error(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        parse(message(PID)).get(path)


def test_repetitions_are_raw_and_an_empty_field_has_none() -> None:
    parsed = parse(message(PID))
    assert parsed.repetitions("PID-3") == ["12345^^^GOOD&1.2.3&ISO^MR", "678^^^SSA^SS"]
    assert parsed.repetitions("PID-4") == parsed.repetitions("PV1-3") == []
    assert parsed.repetitions("MSH-2") == ["^~\\&"]
    with pytest.raises(ValueError, match="not the path of a field"):
        parsed.repetitions("PID-3.1")


def test_null_is_not_empty() -> None:
    parsed = parse(message(PID))
    pid = parsed.all("PID")[0]
    assert is_null(pid.field(8)) and not is_null(pid.field(4)) and not is_null("")
    assert parsed.text(pid.field(8)) == '""'


def test_fields_are_numbered_as_hl7_numbers_them() -> None:
    parsed = parse(message("ZPD|a|b"))
    assert parsed.segments[0].fields[:5] == ["MSH", "|", "^~\\&", "A", "B"]
    assert parsed.segments[1].fields == ["ZPD", "a", "b"]
    assert parsed.segments[1].field(2) == "b"
    assert parsed.segments[1].field(3) == ""


def test_positions_count_segments_and_occurrences_those_of_one_id() -> None:
    parsed = parse(message("OBR|1", "OBX|1", "NTE|1", "OBX|2"))
    assert [(s.id, s.position, s.occurrence) for s in parsed.segments] == [
        ("MSH", 1, 1), ("OBR", 2, 1), ("OBX", 3, 1), ("NTE", 4, 1), ("OBX", 5, 2),
    ]  # fmt: skip
    first = parsed.first("OBX")
    assert first is not None and first.position == 3
    assert parsed.first("PV1") is None


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\n", "\r\n\r\n"])
def test_any_line_end_and_blank_lines_are_one_segment_end(end: str) -> None:
    raw = message(PID, "NTE", "ZZ9|x").replace(b"\r", end.encode())
    for data in (raw, raw.rstrip(b"\r\n"), b"\r\n " + raw, b"\xef\xbb\xbf" + raw, raw + b"\r\n\n"):
        parsed = parse(data)
        assert ids(parsed) == ["MSH", "PID", "NTE", "ZZ9"]
        assert parsed.get("ZZ9-1") == "x"
        assert parsed.get("PID-11.3") == "C"


def test_line_ends_may_be_mixed_in_one_message() -> None:
    raw = b"MSH|^~\\&|||||||ADT^A01|7\rEVN|A01\nPID|1\r\nPV1|1\n\rZZZ|1\n"
    assert ids(parse(raw)) == ["MSH", "EVN", "PID", "PV1", "ZZZ"]


def test_a_line_that_begins_no_segment_continues_the_field_before() -> None:
    raw = message("OBX|1|TX|||FINDINGS:\nLungs are clear.\n\nHeart | size", "and more", "NAD", "see|above||F", "ZTX|1")
    parsed = parse(raw)
    assert ids(parsed) == ["MSH", "OBX", "ZTX"]
    assert parsed.get("OBX-5") == "FINDINGS:\nLungs are clear.\n\nHeart "
    assert parsed.get("OBX-6") == " size\nand more\nNAD\nsee"


def test_in_a_message_of_line_feeds_text_continues_too() -> None:
    parsed = parse(b"MSH|^~\\&|||||||ORU^R01|7\nOBX|1|TX|||one\ntwo\nNTE\nOBX|2\n")
    assert ids(parsed) == ["MSH", "OBX", "NTE", "OBX"]
    assert parsed.get("OBX-5") == "one\ntwo"


def test_a_line_feed_needs_a_segment_with_its_separator_where_carriage_returns_end_segments() -> None:
    parsed = parse(b"MSH|^~\\&|||||||ORU^R01|7\rOBX|1|TX|||one\nNTE\nZZZ|1\rNTE\r")
    assert ids(parsed) == ["MSH", "OBX", "ZZZ", "NTE"]
    assert parsed.get("OBX-5") == "one\nNTE"


def test_segment_ids_in_lower_case_are_upper_case() -> None:
    assert ids(parse(b"msh|^~\\&|||||||ADT^A01|7\rpid|1\rzpd|1\rnte\r")) == ["MSH", "PID", "ZPD", "NTE"]


def test_custom_separators_are_used_throughout() -> None:
    parsed = parse(b"MSH@~&#\\@A@B@@@@@ADT~A01@7@P@2.5\rPID@1@@x~~~H\\1.2&y@@D#F#oe~J\r")
    assert parsed.get("PID-3[2].1") == "y"
    assert parsed.get("PID-3.4.2") == "1.2"
    assert parsed.get("PID-5.1") == "D@oe"


def test_a_separator_the_message_has_not_never_splits() -> None:
    parsed = parse(b"MSH|~|||||||ADT~A01|7\rPID|a~b\r")  # component ~, so there is no repetition separator
    assert parsed.repetitions("PID-1") == ["a~b"]
    assert parsed.get("PID-1.2") == "b"


@pytest.mark.parametrize(
    "raw",
    [b"", b"PID|1\r", b"FHS|^~\\&|\rMSH|^~\\&|\r", b"junk\rMSH|^~\\&|\r", message("PID|1") + message("PID|2")],
)
def test_what_is_not_one_message_is_unparsable(raw: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse(raw)
    assert caught.value.reason is UNPARSABLE


def test_a_short_header_is_a_message_all_the_same() -> None:
    assert ids(parse(b"MSH|^~")) == ["MSH"]


def test_bytes_that_do_not_fit_are_refused_or_take_the_fallback() -> None:
    raw = message("PID|1||||M\xfcller").decode("utf-8").encode("latin-1")
    with pytest.raises(PeerError) as caught:
        parse(raw)
    assert caught.value.reason is CHARSET
    parsed = parse(raw, charset_fallback="8859/1")
    assert (parsed.get("PID-5"), parsed.charset, parsed.charset_deviation) == ("Müller", "iso8859-1", "fallback")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_is_parsed(codec: str) -> None:
    parsed = parse(("\ufeff" + message("PID|1||||Müller\\X0D\\").decode()).encode(codec))
    assert parsed.get("PID-5") == "Müller\r"
    assert parsed.charset == codec


def test_a_message_never_prints_its_content() -> None:
    secret = "SENTINEL"
    parsed = parse(message(f"PID|{secret}||{secret}", control_id=secret))
    assert secret not in repr(parsed) + repr(parsed.segments) + repr(parsed.header) + repr(vars)
    for raw in (b"MSH|^~\\&|SENTINEL\xff\rPID|\xff", b"SENTINEL", b"MSH|SENTINEL|", b"MSHSENTINEL|"):
        with pytest.raises(PeerError) as caught:
            parse(raw)
        assert secret not in "".join(traceback.format_exception_only(caught.value))


def test_the_known_segment_ids_are_those_of_the_definitions() -> None:
    assert set(load_definitions().segment_ids()) == SEGMENT_IDS


@given(st.binary())
def test_any_bytes_are_a_message_or_a_named_error(raw: bytes) -> None:
    _read_all(raw)


@given(st.text(st.sampled_from('MSHPIDZ|^~\\&\r\n X01"ü')))
def test_anything_behind_a_header_is_a_message_or_a_named_error(text: str) -> None:
    _read_all(b"MSH|^~\\&|" + text.encode())


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n|"), max_size=20), max_size=8))
def test_fields_come_back_as_they_were_sent(fields: list[str]) -> None:
    parsed = parse(b"MSH|^~\\&|||||||ADT^A01|7\rZZZ|" + "|".join(fields).encode() + b"\rZZY|1\r")
    assert parsed.segments[1].fields[1:] == (fields or [""])


@given(
    st.sampled_from(
        ["8859/1", "UTF-8", "~ISO IR87", "ISO IR159", "GB 18030-2000", "BIG-5", "KS X 1001", "x", "UNICODE"]
    ),
    st.binary(),
)
def test_any_bytes_under_any_declared_set_are_a_message_or_a_named_error(name: str, raw: bytes) -> None:
    _read_all(b"MSH|^~\\&|||||||ADT^A01|7|P|2.5||||||" + name.encode() + b"\rPID|" + raw)


def _read_all(raw: bytes) -> None:
    try:
        parsed = parse(raw)
    except PeerError:
        return
    for segment in parsed.segments:
        for number in range(len(segment.fields)):
            for repetition in segment.repetitions(number):
                for component in parsed.separators.components(repetition):
                    parsed.text(component)
                    parsed.separators.subcomponents(component)


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_every_real_message_parses_or_is_refused_by_name(path: Path) -> None:
    refused = {"ipf_a40_latin1_undeclared": CHARSET, "own_adt_a01_cp1252_undeclared": CHARSET}
    for piece in split(path.read_bytes()):
        if path.stem in refused:
            with pytest.raises(PeerError) as caught:
                parse(piece.raw)
            assert caught.value.reason is refused[path.stem]
            assert parse(piece.raw, charset_fallback="cp1252").charset_deviation == "fallback"
        else:
            assert parse(piece.raw).segments[0].id == "MSH"


@pytest.mark.corpus
@needs_corpus
def test_the_whole_feed_parses() -> None:
    parsed = list(feed())
    assert len(parsed) == 2000
    assert all(message.get("MSH-10") for message in parsed)
    assert sum(message.charset_deviation == "utf-8-undeclared" for message in parsed) > 0


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: path.stem)
def test_python_hl7_reads_the_same_fields(path: Path) -> None:
    """A second opinion, on what both can read: python-hl7 knows neither continuation lines nor mixed line ends."""
    if path.stem in ("own_oru_raw_linebreak", "cosyte_mixed_eol", "own_adt_a04_iso2022jp", "pyhl7_broken_batch"):
        pytest.skip("beyond python-hl7")
    for piece in split(path.read_bytes()):
        parsed = parse(piece.raw, charset_fallback="cp1252")
        if len(parsed.segments) == 1:
            continue  # a header cut short
        text = piece.raw.removeprefix(b"\xef\xbb\xbf").decode(parsed.charset)
        other = hl7.parse("\r".join(line for line in text.replace("\r", "\n").split("\n") if line))
        assert [str(segment[0]).upper() for segment in other] == ids(parsed)
        for theirs, ours in zip(other, parsed.segments, strict=True):
            start = 3 if ours.id == "MSH" else 1
            assert [str(theirs[n]) for n in range(start, len(theirs))] == ours.fields[start:]
        for segment_id, number, component in [
            ("MSH", 10, 1), ("PID", 3, 1), ("PID", 5, 1), ("PID", 5, 2), ("PV1", 3, 1), ("OBR", 4, 1), ("OBX", 3, 1),
        ]:  # fmt: skip
            if segment_id not in {str(segment[0]) for segment in other}:
                continue
            try:
                theirs_text = other.extract_field(segment_id, 1, number, 1, component, 1)
            except IndexError:  # its way to say that a component is not there
                theirs_text = ""
            assert parsed.get(f"{segment_id}-{number}.{component}.1") == (theirs_text or "")


def test_the_corpus_has_the_files_it_should() -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real messages is not here")
    assert len(corpus_files()) == 72


def test_a_megabyte_of_blanks_is_refused_without_costing_its_square() -> None:
    blanks = b" " * 1_000_000  # a quadratic search would not end within a day
    with pytest.raises(PeerError):
        read_header(blanks)
    assert len(list(split(blanks))) <= 1
