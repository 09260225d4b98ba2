"""HL7 v2 dates and times (DT, TM, DTM, TS) to FHIR date, dateTime, instant and time, with the precision that was sent.

What holds: nothing is made more precise than it came, except that FHIR's dateTime needs minutes and seconds where
hours are given (R4 datatypes, dateTime: zero-filled). No value appears in an exception text. A time without an offset
takes `default_offset` (from MSH-7) and else the offset that `zone` has at that moment: in the hour that occurs twice
when clocks go back, the first one (fold 0 of PEP 495); in the hour that does not exist when clocks go forward, the
offset before the change. A date without a time never gets an offset, and one sent with it is dropped: FHIR has no place
for it. Offsets of zones before standard time are rounded to minutes, as FHIR writes them.

Accepted spellings: YYYY[MM[DD[HH[MM[SS[.S+]]]]]][+/-ZZZZ] (v2.9.1 chapter 2A, DTM), and what other senders write,
2020-01-02T03:04:05.678Z with any part missing from the right and a blank for the T.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

FRACTION_DIGITS = 9  # FHIR R5 allows nine at most; v2 has four
_V2 = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]+))?)?)?)?)?)?"
    r"(Z|[+-][0-9]{4})?\Z"
)
_ISO = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?)?)?)?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?\Z"
)
_TIME = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]+))?)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?\Z")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):?([0-5][0-9])\Z")
_PRECISIONS = {"Y": 1, "L": 2, "D": 3, "H": 4, "M": 5, "S": 6}  # table 0529: TS.2


# year, month, day, hour, minute, second, fraction, offset as sent; "" from the first part that was not
_Parts = tuple[str, ...]


def to_date(text: str, precision: str = "") -> str:
    """FHIR date: YYYY, YYYY-MM or YYYY-MM-DD; a time in `text` is checked and dropped.

    precision: TS.2 (table 0529: Y L D H M S), further limits what is taken. ValueError for anything that is no date.
    """
    return _date(_parts(text, precision))


def to_datetime(text: str, zone: tzinfo, default_offset: str | None = None, precision: str = "") -> str:
    """FHIR dateTime: like `to_date`, or with a time, always down to the second, and an offset.

    zone, default_offset ("+0100"): see the module's text. ValueError for anything that is no date or time.
    """
    parts = _parts(text, precision)
    return _moment(parts, zone, default_offset) if parts[3] else _date(parts)


def to_instant(text: str, zone: tzinfo, default_offset: str | None = None, precision: str = "") -> str:
    """FHIR instant. ValueError when less than seconds were sent, or for anything that is no date and time."""
    parts = _parts(text, precision)
    if not parts[5]:
        raise ValueError("less precise than a second")
    return _moment(parts, zone, default_offset)


def to_time(text: str) -> str:
    """FHIR time: HH:MM:SS[.S+] from HH[MM[SS[.S+]]]; an offset is dropped, FHIR's time has none. Else ValueError."""
    found = _TIME.match(text.strip())
    if found is None:
        raise ValueError("not a time")
    hour, minute, second, fraction = found.groups("")
    _check_time(hour, minute, second)
    return _clock(hour, minute, second, fraction)


def offset_of(text: str) -> str | None:
    """The offset in a DTM such as MSH-7, for `default_offset`: "+0100", None when it has none or is malformed."""
    try:
        return _parts(text, "")[7] or None
    except ValueError:
        return None


def _parts(text: str, precision: str) -> _Parts:
    text = text.strip()
    found = _V2.match(text) or _ISO.match(text)
    if found is None:
        raise ValueError("not a date or time")
    parts: _Parts = found.groups("")
    year, month, day, hour, minute, second, _, offset = parts
    if offset:
        _offset(offset)
    if hour:
        _check_time(hour, minute, second)
    # most days need no calendar
    if year == "0000" or month == "00" or month > "12" or day == "00" or (day > "28" and not _in_calendar(*parts[:3])):
        raise ValueError("no such day in the calendar")
    return _limited(parts, precision) if precision else parts


def _in_calendar(year: str, month: str, day: str) -> bool:
    return int(day) <= monthrange(int(year), int(month))[1]


def _limited(parts: _Parts, precision: str) -> _Parts:
    keep = _PRECISIONS.get(precision.strip().upper())
    if keep is None or keep == 6:
        return parts  # an unknown degree limits nothing
    return (*parts[:keep], *("",) * (7 - keep), parts[7])


def _check_time(hour: str, minute: str, second: str) -> None:
    """24:00 is no time in FHIR, and 60 seconds are: leap seconds."""
    if hour > "23" or minute > "59" or second > "60":
        raise ValueError("no such time of day")


def _date(parts: _Parts) -> str:
    year, month, day = parts[:3]
    if day:
        return f"{year}-{month}-{day}"
    return f"{year}-{month}" if month else year


def _clock(hour: str, minute: str, second: str, fraction: str) -> str:
    clock = f"{hour}:{minute or '00'}:{second or '00'}"
    return f"{clock}.{fraction[:FRACTION_DIGITS]}" if fraction else clock


def _moment(parts: _Parts, zone: tzinfo, default_offset: str | None) -> str:
    year, month, day, hour, minute, second, fraction, sent = parts
    if sent or default_offset:
        offset = _offset(sent or default_offset or "")
    else:
        offset = _offset_at(zone, int(year), int(month), int(day), int(hour), int(minute or 0))
    return f"{year}-{month}-{day}T{_clock(hour, minute, second, fraction)}{offset}"


@lru_cache(maxsize=256)
def _offset(text: str) -> str:
    """Z, +01:00. FHIR takes -12:00 … +14:00 and a little more; -0000 (unknown in some standards) stays as it is."""
    if text == "Z":
        return text
    found = _OFFSET.match(text)
    if found is None or (found[2] == "14" and found[3] != "00"):
        raise ValueError("no such offset from UTC")
    return f"{found[1]}{found[2]}:{found[3]}"


def _offset_at(zone: tzinfo, year: int, month: int, day: int, hour: int, minute: int) -> str:
    try:
        offset = datetime(year, month, day, hour, minute, tzinfo=zone).utcoffset()
    except OverflowError:
        offset = None
    if offset is None:
        raise ValueError("the time zone has no offset at this time")
    return _written(offset)


@lru_cache(maxsize=256)
def _written(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
