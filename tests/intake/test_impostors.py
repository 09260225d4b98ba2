"""Which senders a certificate speaks for (fault catalogue 53)."""

from __future__ import annotations

import pytest
from test_intake import message

from hl7bridge.admission import speaks_for
from hl7bridge.config import Client, Listener, ListenerTls
from hl7bridge.hl7v2.header import read_header

CLIENTS = (
    Client(name="epic", senders=("EPIC|LAKESIDE", "EPIC|NORTH")),
    Client(name="lab", senders=("LAB",)),
    Client(name="site", senders=("*|SOUTH",)),
    Client(name="engine"),  # whatever nobody else speaks for
)


@pytest.mark.parametrize(
    ("certificate", "application", "facility", "speaks"),
    [
        ("epic", "EPIC", "LAKESIDE", True),
        ("epic", "EPIC", "NORTH", True),
        ("epic", "EPIC", "EAST", False),
        ("epic", "epic", "NORTH", False),  # letter by letter, as everywhere in MSH
        ("epic", "LAB", "NORTH", False),
        ("epic", "", "", False),
        ("lab", "LAB", "ANY", True),
        ("lab", "LAB", "", True),
        ("site", "ANY", "SOUTH", True),
        ("engine", "PACS", "EAST", True),
        ("engine", "", "", True),
        ("engine", "LAB", "EAST", False),
        ("engine", "EPIC", "NORTH", False),
        ("", "PACS", "EAST", True),  # no certificate, client: want
        ("", "EPIC", "LAKESIDE", False),
    ],
)
def test_a_sender_is_taken_from_its_certificates_only(
    certificate: str, application: str, facility: str, speaks: bool
) -> None:
    listener = Listener(tls=ListenerTls(client="want", clients=CLIENTS))
    raw = message().replace(b"|LAB|NORTH|", f"|{application}|{facility}|".encode(), 1)
    assert raw != message() or (application, facility) == ("LAB", "NORTH")
    fitting = tuple(client for client in CLIENTS if client.name == certificate)
    assert speaks_for(read_header(raw), fitting, listener) == speaks


def test_components_and_blanks_of_the_names_do_not_matter() -> None:
    listener = Listener(tls=ListenerTls(client="require", clients=(Client(name="a", senders=(" EPIC | LAKESIDE ",)),)))
    raw = message().replace(b"|LAB|NORTH|", b"|EPIC ^1.2.3^ISO|LAKESIDE^4.5^ISO|", 1)
    assert speaks_for(read_header(raw), listener.tls.clients if listener.tls else (), listener)


def test_without_a_list_everybody_speaks_for_all() -> None:
    for tls in (None, ListenerTls(client="require"), ListenerTls(client="require", clients=(Client(name="a"),))):
        assert speaks_for(read_header(message()), (), Listener(tls=tls))
