import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.errors import PeerError
from hl7bridge.hl7v2 import charset
from hl7bridge.hl7v2.charset import codec_of, declared_codec, decode, fallback_codec, narrow, wide_codec
from hl7bridge.reasons import CHARSET


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("", "ascii"),
        ("ASCII", "ascii"),
        ("US-ASCII", "ascii"),
        *((f"8859/{part}", f"iso8859-{part}") for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        ("ISO-8859-1", "iso8859-1"),
        ("iso8859_15", "iso8859-15"),
        ("UNICODE UTF-8", "utf-8"),
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("UNICODE UTF-16", "utf-16"),
        ("UNICODE UTF-32", "utf-32"),
        ("ISO IR6", "ascii"),
        ("ISO IR14", "iso2022_jp_ext"),
        ("ISO IR87", "iso2022_jp"),
        ("ISO IR159", "iso2022_jp_ext"),
        ("GB 18030-2000", "gb18030"),
        ("KS X 1001", "cp949"),
        ("BIG-5", "big5"),
        ("windows-1252", "cp1252"),
        ("WINDOWS 1252", "cp1252"),
        ("CP1252", "cp1252"),
        ("Windows-1250", "cp1250"),
        ("CNS 11643-1992", None),  # Python has no such codec
        ("ISO IR 999", None),
    ],
)
def test_the_names_of_table_0211_and_the_usual_wrong_ones_are_known(name: str, codec: str | None) -> None:
    assert codec_of(name) == codec
    if codec:
        "MSH".encode(codec)


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        ((), "ascii"),
        (("", "ISO IR87"), "iso2022_jp"),
        (("ISO IR14", "ISO IR87"), "iso2022_jp_ext"),
        (("", "ISO IR87", "ISO IR159"), "iso2022_jp_ext"),
        (("8859/1", "8859/2"), "iso8859-1"),
        (("UNICODE UTF-8", "ISO IR87"), "utf-8"),
        (("nonsense", "ISO IR87"), None),
    ],
)
def test_the_first_set_counts_and_japanese_ones_join_ascii(names: tuple[str, ...], codec: str | None) -> None:
    assert declared_codec(names) == codec


@pytest.mark.parametrize(
    ("raw", "declared", "text", "codec", "deviation"),
    [
        (b"MSH|a", [], "MSH|a", "ascii", ""),
        (b"MSH|a", ["UNICODE UTF-8"], "MSH|a", "utf-8", ""),
        (b"MSH|a", ["UNICODE UTF-16"], "MSH|a", "utf-8", charset.UTF8_UNDECLARED),
        (b"MSH|a", ["x"], "MSH|a", "ascii", charset.UNKNOWN_NAME),
        ("MSH|ü".encode(), ["UTF-8"], "MSH|ü", "utf-8", ""),
        ("MSH|ü".encode(), [], "MSH|ü", "utf-8", charset.UTF8_UNDECLARED),
        ("MSH|ü".encode(), ["UNICODE UTF-16"], "MSH|ü", "utf-8", charset.UTF8_UNDECLARED),
        ("MSH|ü".encode(), ["x"], "MSH|ü", "utf-8", charset.UNKNOWN_NAME),
        (b"MSH|\xfc", ["8859/1"], "MSH|ü", "iso8859-1", ""),
        (b"MSH|\x92\xfc", ["8859/1"], "MSH|’ü", "cp1252", charset.WINDOWS_1252),
        (b"MSH|\x81", ["8859/1"], "MSH|\x81", "iso8859-1", ""),
        (b"MSH|\xa4", ["8859/15"], "MSH|€", "iso8859-15", ""),
        (b"\xef\xbb\xbfMSH|\xc3\xbc", ["UTF-8"], "MSH|ü", "utf-8", ""),
        (b"\xef\xbb\xbfMSH|\xc3\xbc", ["8859/1"], "MSH|ü", "utf-8", charset.BYTE_ORDER_MARK),
        ("\ufeffMSH|ü".encode("utf-16-le"), ["UNICODE UTF-16"], "MSH|ü", "utf-16-le", ""),
        ("\ufeffMSH|ü".encode("utf-16-be"), [], "MSH|ü", "utf-16-be", charset.BYTE_ORDER_MARK),
        ("MSH|ü".encode("utf-16-be"), ["UNICODE UTF-16"], "MSH|ü", "utf-16-be", ""),
        ("\ufeffMSH|ü".encode("utf-32-le"), ["UNICODE UTF-32"], "MSH|ü", "utf-32-le", ""),
        ("MSH|ü".encode("utf-32-be"), ["UTF-32"], "MSH|ü", "utf-32-be", ""),
        ("MSH|山".encode("iso2022_jp"), ["", "ISO IR87"], "MSH|山", "iso2022_jp", ""),
        ("MSH|許功|".encode("big5"), ["BIG-5"], "MSH|許功|", "big5", ""),  # trail byte 5C, the escape character
    ],
)
def test_bytes_decode_as_declared_or_as_they_prove(
    raw: bytes, declared: list[str], text: str, codec: str, deviation: str
) -> None:
    assert decode(raw, declared) == (text, codec, deviation)
    assert decode(raw, declared, "cp850") == (text, codec, deviation)


@pytest.mark.parametrize(
    ("raw", "declared"),
    [
        (b"MSH|\xfc", []),
        (b"MSH|\xfc", ["UNICODE UTF-8"]),
        (b"MSH|\xfc", ["no such set"]),
        (b"MSH|\xfc", ["CNS 11643-1992"]),
        (b"MSH|\xa5", ["8859/3"]),
        (b"\xef\xbb\xbfMSH|\xfc", []),
    ],
)
def test_bytes_that_fit_nothing_are_refused_or_take_the_fallback(raw: bytes, declared: list[str]) -> None:
    with pytest.raises(PeerError) as caught:
        decode(raw, declared)
    assert caught.value.reason is CHARSET
    assert caught.value.location == "MSH^1^18"
    text, codec, deviation = decode(raw, declared, "windows-1252")
    assert text.endswith(bytes([raw[-1]]).decode("cp1252"))
    assert (codec, deviation) == ("cp1252", charset.FALLBACK)


def test_half_a_wide_character_is_refused_too() -> None:
    with pytest.raises(PeerError):
        decode("\ufeffMSH|".encode("utf-16-le") + b"\xfc", [])


def test_a_fallback_that_does_not_fit_either_is_an_error_and_not_a_question_mark() -> None:
    with pytest.raises(PeerError):
        decode(b"MSH|\xfc", [], "ascii")


@pytest.mark.parametrize(("name", "codec"), [("8859/1", "iso8859-1"), ("latin2", "iso8859-2"), ("cp850", "cp850")])
def test_a_fallback_is_named_as_hl7_or_python_does(name: str, codec: str) -> None:
    assert fallback_codec(name) == codec


@pytest.mark.parametrize("name", ["klingon", " ", "base64", "\0"])
def test_a_fallback_that_is_no_character_set_is_an_error_of_the_configuration(name: str) -> None:
    with pytest.raises(ValueError, match="no known character set"):
        fallback_codec(name)


def test_wide_text_is_told_from_narrow() -> None:
    assert wide_codec(b"MSH|") is None
    assert wide_codec(b"M\x00X\x00") is None
    assert narrow("\ufeffMSH|ü".encode("utf-16-le")) == "\ufeffMSH|ü".encode()
    assert narrow(b"\xff\xfeM") == b"\xef\xbb\xbf\xef\xbf\xbd"


@given(st.binary(), st.lists(st.text(max_size=12), max_size=3))
def test_any_bytes_decode_or_are_refused_by_reason(raw: bytes, declared: list[str]) -> None:
    try:
        text, codec, _ = decode(raw, declared)
    except PeerError as error:
        assert error.reason is CHARSET
    else:
        assert "\ufffd" not in text or "\ufffd".encode(codec) in raw
