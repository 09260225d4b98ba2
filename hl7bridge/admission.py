"""Which messages a listener takes, and whose they are: header and message in, verdict and lanes out. Sans-IO.

The checks of HL7 v2.9.1 section 2.9 (type, event, processing id, version) come before anything else is looked at. A
lane is what must stay in order: a patient, by every identifier the message has for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from typing import Any, Final

from hl7bridge import reasons
from hl7bridge.config import ApplicationAcks, Client, Listener, Sender
from hl7bridge.errors import PeerError
from hl7bridge.hl7v2.ack import NeAl
from hl7bridge.hl7v2.header import Header, Kind
from hl7bridge.hl7v2.message import Message, is_null
from hl7bridge.reasons import Reason

Events = Callable[[str, str], Reason | None]  # message_code, trigger_event -> why no table handles it, None: one does

LANE_BYTES: Final = 8
_VERSION: Final = re.compile(r"2\.[1-9](\.[1-9])?")
_PATIENT_FIELDS: Final = {"PID": ((3,), (2, 4)), "MRG": ((1,), (4,))}  # the second where the first is empty: before 2.3


@dataclass(frozen=True, slots=True)
class Profile:
    """How one sender's messages are taken: the sender's keys, the listener's where those are unset."""

    charset_fallback: str | None
    processing_ids: tuple[str, ...]
    versions: tuple[str, ...]
    require_cr: bool
    on_storage_failure: str | None
    control_id_reuse: str
    ne_al: NeAl
    sequence_numbers: bool
    fragments: str
    fragment_timeout: float
    application_acks: ApplicationAcks | None
    channel: str  # what the journal calls the receiver of the application ACKs; "" where there is none


def profile_of(listener: Listener, sender: Sender | None) -> Profile:
    """The keys of configuration's own names."""

    def own(key: str) -> Any:
        value = getattr(sender, key, None)
        return getattr(listener, key) if value is None else value

    keys = {key: own(key) for key in Profile.__slots__ if key != "channel"}
    return Profile(**keys, channel=channel_of(listener, sender))


def channel_of(listener: Listener, sender: Sender | None) -> str:
    """The name of the channel for application ACKs: the listener's, or the sender's where it has its own; "": none."""
    if sender is not None and sender.application_acks is not None:
        keys = (sender.application, sender.facility, sender.certificate, sender.address)
        return f"{listener.name}/{'|'.join(keys).rstrip('|')}"
    return listener.name if listener.application_acks is not None else ""


class Profiles:
    """The profiles of one listener, each made once."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._profiles = {sender: profile_of(listener, sender) for sender in (None, *listener.senders)}

    def __call__(self, header: Header, peer: str) -> Profile:
        """`peer`: as sender_of."""
        return self._profiles[sender_of(header, self._listener, peer)]

    @property
    def all(self) -> Collection[Profile]:
        """Every profile a message may meet here."""
        return self._profiles.values()


def events_of(handled: Collection[tuple[str, str]]) -> Events:
    """The look-up for a set of (message_code, trigger_event)."""
    pairs = frozenset(handled)
    codes = frozenset(code for code, _ in pairs)

    def why_not(message_code: str, trigger_event: str) -> Reason | None:
        if (message_code, trigger_event) in pairs:
            return None
        return reasons.UNSUPPORTED_EVENT if message_code in codes else reasons.UNSUPPORTED_TYPE

    return why_not


def admit(header: Header, profile: Profile, events: Events, *, park: bool = False) -> Reason | None:
    """None: the message is taken, and a table handles it. A reason: it is taken and parked, for that reason.

    `park`: what no table handles is parked rather than refused. Raises PeerError when the message is not taken.
    """
    if not header.control_id.strip() or is_null(text_of(header.control_id)):
        raise PeerError(reasons.NO_CONTROL_ID, location="MSH^1^10")
    if not header.message_code:
        raise PeerError(reasons.UNSUPPORTED_TYPE, "MSH-9 (message type) is empty", "MSH^1^9")
    reason = events(header.message_code, header.trigger_event)
    if reason is not None and not park:
        raise PeerError(reason, location="MSH^1^9^1^1" if reason is reasons.UNSUPPORTED_TYPE else "MSH^1^9^1^2")
    if header.processing_id not in profile.processing_ids:
        raise PeerError(reasons.UNSUPPORTED_PROCESSING_ID, location="MSH^1^11")
    version = header.version
    if not (version in profile.versions if profile.versions else _VERSION.fullmatch(version)):
        raise PeerError(reasons.UNSUPPORTED_VERSION, location="MSH^1^12")
    return reason


def speaks_for(header: Header, clients: Collection[Client], listener: Listener) -> bool:
    """May a connection whose certificate fits these items of `tls.clients` (none: it has no certificate) send this?

    An item without `senders` speaks for every sender but those that other items name.
    """
    if listener.tls is None or not any(client.senders for client in listener.tls.clients):
        return True
    application, facility = _names(header)
    if any(_among(application, facility, client.senders) for client in clients):
        return True
    named = any(_among(application, facility, client.senders) for client in listener.tls.clients)
    return not named and (not clients or any(not client.senders for client in clients))


def _among(application: str, facility: str, senders: Sequence[str]) -> bool:
    """`EPIC|LAKESIDE`, `EPIC`, `*|LAKESIDE`: MSH-3.1 and MSH-4.1, letter by letter."""
    for sender in senders:
        wanted, _, place = (part.strip() for part in sender.partition("|"))
        if wanted in ("", "*", application) and place in ("", "*", facility):
            return True
    return False


def _names(header: Header) -> tuple[str, str]:
    """MSH-3.1 and MSH-4.1."""
    return header.kind.of(_names_in)


def _names_in(kind: Kind) -> tuple[str, str]:
    application, facility = (kind.separators.components(text_of(kind.field(number)))[0].strip() for number in (3, 4))
    return application, facility


def sender_of(header: Header, listener: Listener, peer: str = "") -> Sender | None:
    """The first of the listener's senders that MSH-3.1, MSH-4.1 and the peer fit.

    `peer`: the name of its certificate or, where it shows none, its address, as the journal keeps it.
    """
    if not listener.senders:
        return None
    application, facility = _names(header)
    for sender in listener.senders:
        named = sender.application in ("", application) and sender.facility in ("", facility)
        if named and sender.certificate in ("", peer) and (not sender.address or _is_in(peer, sender.address)):
            return sender
    return None


def _is_in(peer: str, network: str) -> bool:
    """Is the peer called by an address of this network? One called by its certificate's name is not."""
    try:
        return ip_address(peer.partition("%")[0]) in ip_network(network, strict=False)
    except ValueError:
        return False


def address_of(header: Header) -> str:
    """MSH-3 and MSH-4 as sent, joined by "|": who the journal says a message is from."""
    return header.kind.of(_address_in)


def _address_in(kind: Kind) -> str:
    return text_of(kind.field(3) + b"|" + kind.field(4))


def control_id_of(header: Header) -> str:
    """MSH-10 as the journal keeps it."""
    return text_of(header.control_id)


def type_of(header: Header | None) -> str:
    """ADT^A01; "" when there is none."""
    if header is None or not header.message_code:
        return ""
    event = header.trigger_event
    return f"{header.message_code}^{event}" if event else header.message_code


def text_of(raw: bytes) -> str:
    """A value of MSH: UTF-8, or else Latin-1, which has a character for every byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def lanes_of(message: Message) -> tuple[str, ...]:
    """A key for each patient identifier of PID-3 and MRG-1 (all repetitions, all segments): hashed, never clear text.

    An identifier is its value (CX.1) and its assigning authority (CX.4); upper and lower case are one, since too few
    lanes cost time and too many cost the order. No identifier: no lane.
    """
    keys: dict[str, None] = {}
    repetitions = message.separators.repetitions
    for segment in message.among(_PATIENT_FIELDS):
        for fields in _PATIENT_FIELDS[segment.id]:
            found = [
                key for field in fields for raw in repetitions(segment.field(field)) if (key := _key(message, raw))
            ]
            if found:
                keys.update(dict.fromkeys(found))
                break
    return tuple(keys)


def _key(message: Message, identifier: str) -> str:
    """The hash of one CX; "" when it has no value."""
    parts = message.separators.components(identifier)
    value = message.text(parts[0]).strip()
    if not value or is_null(value):
        return ""
    authority = message.text(parts[3]).strip() if len(parts) > 3 else ""
    return blake2b(f"{value}\x1f{authority}".casefold().encode("utf-8", "replace"), digest_size=LANE_BYTES).hexdigest()
