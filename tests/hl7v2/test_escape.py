import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.hl7v2.escape import DEFAULT, MAX_BLANKS, Separators, escape, unescape

SIGNS = [chr(c) for c in range(0x21, 0x7F) if not chr(c).isalnum()]
separator_sets = st.lists(st.sampled_from(SIGNS), min_size=6, max_size=6, unique=True).map(lambda s: Separators(*s))


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"cut\P\short", "cut#short"),
        (r"\H\loud\N\ quiet", "loud quiet"),
        (r"one\.br\two\.BR\three", "one\ntwo\nthree"),
        (r"a\.sp\b\.sp2\c\.sp+1\d\.sp0\e\.sp-3\f", "a\nb\n\nc\nd" + "e" + "f"),
        (r"a\.sk3\b\.sk 2\c", "a   b  c"),
        (r"\.in+4\a\.ti-2\b\.fi\c\.nf\d\.ce\e", "abcd\ne"),
        (r"\X41\\X42\C", "ABC"),
        (r"\X4142\C", "ABC"),
        (r"gr\XC3\\XBC\n", "grün"),
        (r"{\E\rtf1\E\ansi}", r"{\rtf1\ansi}"),
        (r"C:\temp\T\x", r"C:\temp&x"),
        (r"a \\ b", r"a \\ b"),
        (r"lone \ mark", r"lone \ mark"),
        ("", ""),
        ('""', '""'),
    ],
)
def test_every_sequence_becomes_what_it_stands_for(sent: str, meant: str) -> None:
    assert unescape(sent) == meant


@pytest.mark.parametrize(
    ("sent", "kinds"),
    [
        (r"\Zxx\ \Z12\ ", ["Z", "Z"]),
        (r"\C2842\ \M824041\ ", ["C", "M"]),
        (r"\.xy\ ", ["."]),
        (r"\XFF\ ", ["X"]),
        (r"\XF\ ", ["unknown", "unterminated"]),
        (r"\X41", ["unterminated"]),
        (r"a\b", ["unterminated"]),
        (r"\x41\ ", ["unknown", "unterminated"]),
    ],
)
def test_what_cannot_be_resolved_stays_as_sent_and_its_kind_is_reported(sent: str, kinds: list[str]) -> None:
    reported: list[str] = []
    assert unescape(sent, unknown=reported.append) == sent
    assert reported == kinds


def test_hex_bytes_are_read_in_the_character_set_of_the_message_and_else_as_utf_8() -> None:
    assert unescape(r"\XFC\ ", codec="iso8859-1") == "ü "
    assert unescape(r"\XC3BC\ ", codec="ascii") == "ü "
    assert unescape(r"\X0D\ ", codec="utf-16-le") == "\r "


def test_a_hex_run_ends_where_the_next_sequence_is_another() -> None:
    assert unescape(r"\X41\\T\\X42\\XZZ\ ") == r"A&B\XZZ\ "


def test_a_number_from_outside_does_not_decide_how_much_memory_is_taken() -> None:
    assert unescape(r"\.sk9999\ ") == " " * MAX_BLANKS + " "


def test_custom_separators_are_escaped_by_their_own_escape_character() -> None:
    custom = Separators("@", "~", "&", "#", "\\")
    assert escape("a@b~c#d\\", custom) == "a#F#b#S#c#E#d#T#"
    assert unescape("a#F#b", custom) == "a@b"
    assert unescape(r"a\F\b", custom) == r"a\F\b"


def test_the_truncation_character_is_escaped_only_where_the_message_has_one() -> None:
    assert escape("#", DEFAULT) == "#"
    assert escape("#", DEFAULT._replace(truncation="#")) == r"\P\ ".strip()


def test_control_characters_never_come_out_raw() -> None:
    assert escape("a\x0b\x1c\r\nb\tc") == "a\\X0B\\\\X1C\\\\X0D\\\\X0A\\b\tc"


def test_without_an_escape_character_separators_in_text_are_refused() -> None:
    bare = Separators("|", "\\", "~", "", "&")
    assert escape("plain", bare) == "plain"
    assert unescape(r"a\F\b", bare) == r"a\F\b"
    with pytest.raises(ValueError, match="no escape character"):
        escape("a|b", bare)


@given(st.text())
def test_escaped_text_comes_back_whole(text: str) -> None:
    assert unescape(escape(text)) == text


@given(
    st.text(st.sampled_from("\\XZFSRETPCM.brsp0A1D|^~&#\r\n\x0b ü")),
    separator_sets,
    st.sampled_from(["ascii", "cp1252", "iso2022_jp", "utf-16-le", "gb18030"]),
)
def test_escaped_text_comes_back_whole_under_any_separators_and_holds_none_of_them(
    text: str, separators: Separators, codec: str
) -> None:
    escaped = escape(text, separators)
    assert unescape(escaped, separators, codec) == text
    assert not set(escaped) & ({*separators[:3], separators.subcomponent, separators.truncation})


@given(st.text(st.sampled_from("\\XZFSRETPCM.brspkintcefi0A1D+- ")))
def test_any_text_resolves_without_an_exception(text: str) -> None:
    assert isinstance(unescape(text, codec="ascii"), str)
