"""Every cell of MSH-15 x MSH-16, before 2.9 and from 2.9 on (fault catalogue 32; the table of docs/behaviour.md).

A cell says what is answered here and when (`A` original or `C` enhanced; AL, ER, SU, NE), and behind the slash on which
outcome an application acknowledgement follows as an exchange of its own (`-`: none).
"""

from __future__ import annotations

import pytest
from test_ack import STAMP

from hl7bridge import reasons
from hl7bridge.hl7v2.ack import NeAl, Stamp, accept, ack_code, later, reject, wanted
from hl7bridge.hl7v2.header import Header, read_header

WORDS = ("AL", "NE", "ER", "SU", "", "XX")
#                 MSH-16: AL        NE        ER        SU        empty     unknown      MSH-15:
BEFORE = {
    "AL": "C AL/AL  C AL/-  C AL/ER  C AL/SU  C AL/-  C AL/AL",
    "NE": "A AL/-   C NE/-  A ER/-   A SU/-   C NE/-  A AL/-",
    "ER": "C ER/AL  C ER/-  C ER/ER  C ER/SU  C ER/-  C ER/AL",
    "SU": "C SU/AL  C SU/-  C SU/ER  C SU/SU  C SU/-  C SU/AL",
    "": "A AL/-   C AL/-  A ER/-   A SU/-   A AL/-  A AL/-",
    "XX": "C AL/AL  C AL/-  C AL/ER  C AL/SU  C AL/-  C AL/AL",
}
FROM_2_9 = BEFORE | {
    "NE": "C NE/AL  C NE/-  C NE/ER  C NE/SU  C NE/-  C NE/AL",
    "": "C AL/AL  C AL/-  C AL/ER  C AL/SU  A AL/-  C AL/AL",
}


def cells(table: dict[str, str], *versions: str) -> list[tuple[str, str, str, str]]:
    found = []
    for asked, row in table.items():
        for word, cell in zip(WORDS, (f"{a} {b}" for a, b in zip(*[iter(row.split())] * 2, strict=True)), strict=True):
            found += [(asked, word, version, cell) for version in versions]
    return found


BY_VERSION = [
    *cells(BEFORE, "2.1", "2.3.1", "2.5", "2.5.1", "2.8.2", "", "2.x"),
    *cells(FROM_2_9, "2.9", "2.9.1"),
]


def message(accept_ack: str, application_ack: str, version: str) -> Header:
    return read_header(f"MSH|^~\\&|A|B|C|D|1||ADT^A01|C1|P|{version}|||{accept_ack}|{application_ack}\r".encode())


def held(header: Header, cell: str, ne_al: NeAl, stamp: Stamp) -> None:
    family, rest = cell.split()
    here, after = rest.split("/")
    positive = accept(header, stamp, ne_al)
    negative = reject(header, reasons.CHARSET, stamp, ne_al=ne_al)
    assert (positive is not None, negative is not None) == (wanted(here, True), wanted(here, False))
    for answer, code in ((positive, f"MSA|{family}A|C1"), (negative, f"MSA|{family}E|C1")):
        assert answer is None or code.encode() in answer
    assert ack_code(header, reasons.UNSUPPORTED_TYPE, ne_al=ne_al) == f"{family}R"
    assert later(header, ne_al) == ("" if after == "-" else after)


@pytest.mark.parametrize(("accept_ack", "application_ack", "version", "cell"), BY_VERSION)
def test_each_cell_is_answered_as_the_table_says(
    accept_ack: str, application_ack: str, version: str, cell: str
) -> None:
    held(message(accept_ack, application_ack, version), cell, "by-version", STAMP)


@pytest.mark.parametrize(("accept_ack", "application_ack", "version", "cell"), cells(BEFORE, "2.5", "2.9"))
def test_a_sender_bound_to_the_same_connection_is_answered_as_before_2_9(
    accept_ack: str, application_ack: str, version: str, cell: str
) -> None:
    held(message(accept_ack, application_ack, version), cell, "same-connection", STAMP)


@pytest.mark.parametrize(("accept_ack", "application_ack", "version", "cell"), cells(FROM_2_9, "2.5", "2.9"))
def test_a_sender_bound_to_separate_channels_is_answered_as_from_2_9(
    accept_ack: str, application_ack: str, version: str, cell: str
) -> None:
    held(message(accept_ack, application_ack, version), cell, "separate", STAMP)


@pytest.mark.parametrize("accept_ack", WORDS)
@pytest.mark.parametrize("application_ack", WORDS)
@pytest.mark.parametrize("ne_al", ["by-version", "same-connection", "separate"])
def test_an_acknowledgement_is_owed_nothing_in_any_cell(accept_ack: str, application_ack: str, ne_al: NeAl) -> None:
    ack = read_header(f"MSH|^~\\&|A|B|C|D|1||ACK^A01|C1|P|2.9|||{accept_ack}|{application_ack}\rMSA|AA|X\r".encode())
    assert accept(ack, STAMP, ne_al) is None and reject(ack, reasons.CHARSET, STAMP, ne_al=ne_al) is None
    assert later(ack, ne_al) == ""
