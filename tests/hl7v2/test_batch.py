from collections.abc import Callable

import pytest
from hl7v2_samples import CORPUS, corpus_files, message, needs_corpus
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.hl7v2 import batch
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.message import parse

ONE, TWO, THREE = (message("PID|1", control_id=str(n)) for n in (1, 2, 3))
FHS, BHS, FTS = b"FHS|^~\\&|A\r", b"BHS|^~\\&|A\r", b"FTS|1\r"


def bts(count: int | str) -> bytes:
    return f"BTS|{count}\r".encode()


def raws(data: bytes) -> list[bytes]:
    return [piece.raw for piece in split(data)]


def problems(data: bytes) -> list[list[str]]:
    return [piece.problems for piece in split(data)]


def framed(*blocks: bytes) -> bytes:
    return b"".join(b"\x0b" + block + b"\x1c\r" for block in blocks)


@pytest.mark.parametrize("data", [b"", b"\r\n", b" \t\n", b"\xef\xbb\xbf", b"\r\n\xef\xbb\xbf\r\n"])
def test_blank_input_has_no_pieces(data: bytes) -> None:
    assert raws(data) == []


@pytest.mark.parametrize(
    "data",
    [
        ONE,
        ONE + TWO,
        ONE + b"\r\n" + TWO + b"\n\n" + THREE,
        FHS + BHS + ONE + TWO + bts(2) + FTS,
        BHS + ONE + TWO + bts(2),
        FHS + BHS + ONE + bts(1) + BHS + TWO + bts(1) + b"FTS|2\r",
        FHS + ONE + TWO + FTS,
        FHS + BHS + ONE + bts("") + b"FTS",
        b"\r\n" + ONE + TWO,
        b"\xef\xbb\xbf" + FHS + b"\xef\xbb\xbf" + BHS + ONE + bts(1) + FTS,
        BHS + bts(0),
        FHS + FTS,
    ],
)
@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("wrap", [bytes, framed])
def test_messages_come_out_whole_from_any_envelope_and_line_end(
    data: bytes, end: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    data = data.replace(b"\r\n", b"\r").replace(b"\n", b"\r").replace(b"\r", end)
    whole = [m.replace(b"\r", end) for m in (ONE, TWO, THREE) if m.replace(b"\r", end) in data]
    pieces = list(split(wrap(data)))
    if wrap is framed and not whole:
        assert [(piece.raw, piece.problems) for piece in pieces] == [(data, [batch.EMPTY_FRAME])]
        return
    assert [piece.raw for piece in pieces] == whole
    assert [piece.number for piece in pieces] == list(range(1, len(whole) + 1))
    assert not any(piece.problems for piece in pieces)


def test_every_frame_is_a_piece_and_two_messages_in_one_frame_are_two() -> None:
    assert raws(framed(ONE, TWO + THREE) + b"\r\n" + framed(ONE)) == [ONE, TWO, THREE, ONE]


def test_a_single_message_comes_back_as_it_was_in_blocks_of_any_shape() -> None:
    for data in (ONE, ONE.rstrip(), ONE.replace(b"\r", b"\n"), ONE.replace(b"\r", b"\r\n"), ONE.lower()):
        assert raws(data) == [data]
    assert raws(ONE + b"\r\r") == raws(b"\r\n" + ONE) == [ONE]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (BHS + ONE + bts(2), [[batch.WRONG_BATCH_COUNT]]),
        (BHS + ONE + TWO + b"BTS|x\r", [[], [batch.WRONG_BATCH_COUNT]]),
        (BHS + ONE + b"BTS|1^\r", [[]]),
        (BHS + bts(3), [[batch.WRONG_BATCH_COUNT]]),
        (FHS + BHS + ONE + bts(1) + b"FTS|7\r", [[batch.WRONG_FILE_COUNT]]),
        (FHS + BHS + ONE + FTS, [[batch.NO_BTS]]),
        (BHS + ONE, [[batch.NO_BTS]]),
        (FHS + BHS + ONE + bts(1), [[batch.NO_FTS]]),
        (BHS + ONE + BHS + TWO + bts(1), [[batch.NO_BTS], []]),
        (FHS + ONE + FHS + TWO + FTS, [[batch.NO_FTS], []]),
        (ONE + bts(1), [[batch.NO_BHS]]),
        (ONE + FTS, [[batch.NO_FHS]]),
        (ONE + bts(1) + TWO + bts(1), [[batch.NO_BHS], [batch.NO_BHS]]),
        (FHS, [[batch.NO_FTS]]),
    ],
)
def test_wrong_envelopes_are_reported_and_lose_nothing(data: bytes, found: list[list[str]]) -> None:
    assert problems(data) == found


def test_a_malformed_message_in_the_middle_does_not_stop_the_rest() -> None:
    assert raws(BHS + ONE + b"MSH|^~\r" + THREE + bts(3)) == [ONE, b"MSH|^~\r", THREE]


def test_lines_without_a_message_are_a_piece_with_its_problem() -> None:
    pieces = list(split(b"junk\r" + ONE + bts(1) + b"PID|9\r" + TWO))
    assert [(piece.raw, piece.problems) for piece in pieces] == [
        (b"junk\r", [batch.NO_MESSAGE]),
        (ONE, [batch.NO_BHS]),
        (b"\rPID|9\r", [batch.NO_MESSAGE]),
        (TWO, []),
    ]


@pytest.mark.parametrize("envelope", [FHS, BHS])
def test_an_envelope_inside_a_message_is_taken_out_and_reported(envelope: bytes) -> None:
    data = b"MSH|^~\\&|A\r" + envelope + b"PID|1\r" + bts(1)
    (piece,) = split(data)
    assert [segment.id for segment in parse(piece.raw).segments] == ["MSH", "PID"]
    assert batch.ENVELOPE_INSIDE in piece.problems
    assert batch.WRONG_BATCH_COUNT not in piece.problems


def test_an_envelope_that_breaks_off_another_is_reported_at_the_message_it_stands_in() -> None:
    (piece,) = split(BHS + b"MSH|^~\\&|A\r" + BHS + b"PID|1\r" + bts(1))
    assert piece.raw == b"MSH|^~\\&|A\r\rPID|1\r"
    assert piece.problems == [batch.NO_BTS, batch.ENVELOPE_INSIDE]


def test_bytes_outside_frames_are_pieces_with_their_problem() -> None:
    pieces = list(split(b"junk" + framed(ONE) + b"more" + framed(TWO)))
    assert [(piece.raw, piece.problems) for piece in pieces] == [
        (b"junk", [batch.OUTSIDE_FRAME]),
        (ONE, []),
        (b"\rmore", [batch.OUTSIDE_FRAME]),
        (TWO, []),
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x0b\x1c\r", [(b"", [batch.EMPTY_FRAME])]),
        (b"\x0bgarbage\x1c\r", [(b"garbage", [batch.NO_MESSAGE])]),
        (b"\x0b" + ONE, [(ONE, [batch.UNENDED_FRAME])]),
        (b"\x0b" + ONE + framed(TWO), [(ONE, [batch.UNENDED_FRAME]), (TWO, [])]),
        (b"\x0b" + ONE + b"\x1c" + TWO, [(ONE, []), (TWO, [batch.OUTSIDE_FRAME])]),
        (framed(ONE.replace(b"PID|1", b"PID|\x0b1\x1c2")), [(ONE.replace(b"PID|1", b"PID|\x0b1\x1c2"), [])]),
        (b"\x0b\r\n\xef\xbb\xbf" + ONE + b"\x1c\r\n", [(b"\xef\xbb\xbf" + ONE, [])]),
    ],
)
def test_broken_frames_lose_nothing(data: bytes, found: list[tuple[bytes, list[str]]]) -> None:
    assert [(piece.raw, piece.problems) for piece in split(data)] == found


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32-be"])
def test_a_wide_file_gives_pieces_that_parse(codec: str) -> None:
    text = (ONE + message("PID|1||||Müller", control_id="2")).decode()
    first, second = split(text.encode(codec))
    assert parse(first.raw).get("MSH-10") == "1"
    assert parse(second.raw).get("PID-5") == "Müller"


def test_a_piece_does_not_print_its_content() -> None:
    assert "PID" not in repr(list(split(ONE)))


def test_msh_in_the_text_of_a_field_starts_no_message() -> None:
    data = message("OBX|1|TX|||see MSH|and MSHX\nMSHAPE is a word")
    assert raws(data) == [data]


@given(st.binary())
def test_any_bytes_split_without_an_exception(data: bytes) -> None:
    list(split(data))


parts = st.sampled_from(
    [
        ONE,
        TWO,
        FHS,
        BHS,
        FTS,
        bts(1),
        b"\x0b",
        b"\x1c",
        b"\x1c\r",
        b"\r",
        b"\n",
        b"junk\r",
        b"MSH",
        b"\xef\xbb\xbf",
        b" ",
    ]
)


@given(st.lists(parts, max_size=12).map(b"".join))
def test_no_message_is_lost_however_envelopes_and_frames_are_mixed(data: bytes) -> None:
    pieces = list(split(data))
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    together = b"".join(piece.raw for piece in pieces)
    assert together.count(b"ORU^R01") == data.count(b"ORU^R01")
    for name in (b"junk",):
        assert together.count(name) == data.count(name)


@pytest.mark.corpus
@needs_corpus
def test_the_corpus_has_the_messages_its_manifest_says() -> None:
    found = {path.stem: list(split(path.read_bytes())) for path in corpus_files()}
    assert sum(map(len, found.values())) == 79  # 78 and the malformed one in the middle of a batch
    assert len(found["cosyte_file_multi_batch"]) == 3
    assert [len(piece.raw) > 10 for piece in found["cosyte_batch_bad_middle"]] == [True, False, True]
    assert found["cosyte_batch_count_mismatch"][-1].problems == [batch.WRONG_BATCH_COUNT]
    assert found["pyhl7_broken_batch"][0].problems == [batch.ENVELOPE_INSIDE, batch.NO_BHS]
    assert len(found["dex_two_messages"]) == len(found["rs_batch"]) == 2
    for path in corpus_files():
        again = list(split(framed(*(piece.raw for piece in found[path.stem]))))
        assert [piece.raw for piece in again] == [piece.raw for piece in found[path.stem]]


@pytest.mark.corpus
@needs_corpus
def test_the_feed_has_two_thousand_messages() -> None:
    assert sum(not piece.problems for piece in split((CORPUS / "simhospital_sample.hl7").read_bytes())) == 2000
