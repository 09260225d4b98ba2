from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.hl7v2.datetime import offset_of, to_date, to_datetime, to_instant, to_time

CHATHAM = ZoneInfo("Pacific/Chatham")  # +12:45, +13:45 in summer
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("sent", "date"),
    [
        ("1985", "1985"),
        ("198504", "1985-04"),
        ("19850412", "1985-04-12"),
        (" 19850412 ", "1985-04-12"),
        ("1985041223", "1985-04-12"),
        ("19850412235959.1+0100", "1985-04-12"),
        ("1985-0800", "1985"),
        ("198504+0100", "1985-04"),
        ("20240229", "2024-02-29"),
        ("1985-04", "1985-04"),
        ("1985-04-12", "1985-04-12"),
        ("1985-04-12T10:11:12Z", "1985-04-12"),
        ("00010101", "0001-01-01"),
    ],
)
def test_a_date_keeps_the_precision_that_was_sent(sent: str, date: str) -> None:
    assert to_date(sent) == date
    if len(sent.strip().split("+")[0]) <= 8:
        assert to_datetime(sent, CHATHAM) == to_datetime(sent, CHATHAM, "+0100") == date


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("1985041223", "1985-04-12T23:00:00+12:45"),
        ("198501122359", "1985-01-12T23:59:00+13:45"),
        ("19850412235958", "1985-04-12T23:59:58+12:45"),
        ("19850412235958.1", "1985-04-12T23:59:58.1+12:45"),
        ("19850412235958.123456789012", "1985-04-12T23:59:58.123456789+12:45"),
        ("19850412235958.0000-0500", "1985-04-12T23:59:58.0000-05:00"),
        ("1985041223+0000", "1985-04-12T23:00:00+00:00"),
        ("1985041223-0000", "1985-04-12T23:00:00-00:00"),
        ("198504122359+1400", "1985-04-12T23:59:00+14:00"),
        ("19850412235960Z", "1985-04-12T23:59:60Z"),
        ("1985-04-12T23", "1985-04-12T23:00:00+12:45"),
        ("1985-04-12 23:59", "1985-04-12T23:59:00+12:45"),
        ("1985-04-12T23:59:58.25Z", "1985-04-12T23:59:58.25Z"),
        ("1985-04-12T23:59:58-03:30", "1985-04-12T23:59:58-03:30"),
    ],
)
def test_a_time_has_seconds_and_an_offset(sent: str, moment: str) -> None:
    assert to_datetime(sent, CHATHAM) == moment


@pytest.mark.parametrize("sent", ["19850412235958", "1985-04-12T23:59:58"])
def test_the_offset_of_the_header_goes_before_the_zone_and_the_fields_own_before_both(sent: str) -> None:
    assert to_datetime(sent, CHATHAM, "-0330").endswith("-03:30")
    assert to_datetime(sent, CHATHAM, "Z").endswith("Z")
    assert to_datetime(sent + "+0200", CHATHAM, "-0330").endswith("+02:00")


def test_the_hour_that_comes_twice_is_the_first_and_the_one_that_never_comes_has_the_offset_before() -> None:
    assert to_datetime("202410270230", BERLIN).endswith("+02:00")
    assert to_datetime("202410270300", BERLIN).endswith("+01:00")
    assert to_datetime("202403310230", BERLIN).endswith("+01:00")
    assert to_datetime("202403310300", BERLIN).endswith("+02:00")


def test_offsets_before_standard_time_are_rounded_to_minutes() -> None:
    assert to_datetime("188001010000", BERLIN).endswith("+00:53")  # local mean time was +00:53:28
    assert to_datetime("188001010000", timezone(timedelta(hours=-3, seconds=-31))).endswith("-03:01")


@pytest.mark.parametrize(
    ("precision", "moment"),
    [
        ("Y", "1985"),
        ("L", "1985-04"),
        ("d", "1985-04-12"),
        ("H", "1985-04-12T23:00:00+01:00"),
        ("M", "1985-04-12T23:59:00+01:00"),
        ("S", "1985-04-12T23:59:58.1+01:00"),
        ("?", "1985-04-12T23:59:58.1+01:00"),
        ("", "1985-04-12T23:59:58.1+01:00"),
    ],
)
def test_the_degree_of_precision_takes_away_what_was_not_meant(precision: str, moment: str) -> None:
    assert to_datetime("19850412235958.1+0100", CHATHAM, precision=precision) == moment
    assert moment.startswith(to_date("19850412235958.1+0100", precision))


@pytest.mark.parametrize(
    "sent",
    [
        "", " ", '""', "PIDDOB!", "-050", "220241021101112", "198", "19851", "0000", "00000101", "198500", "198513",
        "19850100", "19850132", "20230229", "19850431", "1985010124", "198501012360", "19850101235961", "19850101235",
        "19850101235959.", "19850101.5", "198501012359.5", "19850101+0160", "19850101+1500", "19850101+1401", "1985^D",
        "19850101 10", "1985-1-1", "1985-01-01T", "1985/01/01", "1985-01-01T10:11:12+1", "１９８５", "19850101\n1",
        "20240101T1011", "99991231235959999",
    ],
)  # fmt: skip
def test_what_is_no_date_is_refused_without_its_value(sent: str) -> None:
    for convert in (to_date, lambda text: to_datetime(text, BERLIN), lambda text: to_instant(text, BERLIN)):
        with pytest.raises(ValueError) as caught:
            convert(sent)
        assert not sent.strip() or sent not in str(caught.value)
        assert caught.value.__cause__ is None
    assert offset_of(sent) is None


def test_an_instant_needs_seconds() -> None:
    assert to_instant("20240102030405", BERLIN) == "2024-01-02T03:04:05+01:00"
    assert to_instant("20240102030405.5+0000", BERLIN) == "2024-01-02T03:04:05.5+00:00"
    for sent in ("202401020304", "2024010203", "20240102", "2024"):
        with pytest.raises(ValueError, match="less precise than a second"):
            to_instant(sent, BERLIN)
    with pytest.raises(ValueError, match="less precise"):
        to_instant("20240102030405", BERLIN, precision="M")


@pytest.mark.parametrize(
    ("sent", "time"),
    [
        ("23", "23:00:00"),
        ("2359", "23:59:00"),
        ("235958", "23:59:58"),
        ("235958.25", "23:59:58.25"),
        ("235958.25+0100", "23:59:58.25"),
        ("23:59", "23:59:00"),
        ("23:59:60Z", "23:59:60"),
        (" 08 ", "08:00:00"),
    ],
)
def test_a_time_of_day_has_seconds_and_no_offset(sent: str, time: str) -> None:
    assert to_time(sent) == time


@pytest.mark.parametrize("sent", ["", "8", "24", "2400", "2360", "235961", "235", "20240101", "2359.5", "23:5", "noon"])
def test_what_is_no_time_is_refused_without_its_value(sent: str) -> None:
    with pytest.raises(ValueError) as caught:
        to_time(sent)
    assert not sent or sent not in str(caught.value)


def test_the_offset_of_a_header_is_found() -> None:
    assert offset_of("20240102030405+0100") == "+0100"
    assert offset_of("2024-01-02T03:04:05Z") == "Z"
    assert offset_of("20240102") is None


class Zone(tzinfo):
    def utcoffset(self, when: object) -> timedelta | None:
        return None

    def tzname(self, when: object) -> str | None:
        return None

    def dst(self, when: object) -> timedelta | None:
        return None


class OverflowingZone(Zone):
    def utcoffset(self, when: object) -> timedelta | None:
        raise OverflowError


@pytest.mark.parametrize("zone", [Zone(), OverflowingZone()])
def test_a_zone_without_an_offset_is_a_named_error(zone: tzinfo) -> None:
    with pytest.raises(ValueError, match="no offset"):
        to_datetime("2024010203", zone)


@given(
    st.datetimes(),
    st.sampled_from(["%Y", "%Y%m", "%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d%H%M%S.%f"]),
)
def test_every_moment_at_every_precision_converts(when: datetime, form: str) -> None:
    sent = when.strftime(form).zfill(len(when.strftime(form)))
    sent = f"{when.year:04d}" + sent[len(when.strftime("%Y")) :]
    written = to_datetime(sent, BERLIN)
    digits = written.translate({ord(c): None for c in "-:T"})
    assert digits.startswith(sent)
    assert ("T" in written) == (len(sent) > 8)


@given(st.text(st.sampled_from("0123456789+-:.TZ ^"), max_size=26))
def test_any_text_converts_or_is_a_value_error(text: str) -> None:
    for convert in (to_date, lambda t: to_datetime(t, BERLIN), lambda t: to_instant(t, BERLIN), to_time):
        try:
            convert(text)
        except ValueError as error:
            assert not text.strip() or len(text) < 3 or text not in str(error)
