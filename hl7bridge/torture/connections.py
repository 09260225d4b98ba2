"""Connections: how peers come, go, and keep each other waiting. Sans-IO."""

from __future__ import annotations

from hl7bridge.mllp.framing import frame
from hl7bridge.torture.case import Await, Case, Close, Deaf, Finish, Listen, Open, Pause, Plan, Send, Step, case
from hl7bridge.torture.judge import DIFFERS, each_connection, taken, unanswered
from hl7bridge.torture.maker import Maker

# the first bytes of a TLS 1.2 ClientHello that offers one cipher: enough for a receiver to see that it is no MLLP
_CLIENT_HELLO = bytes.fromhex(
    "160301002d0100002903030000000000000000000000000000000000000000000000000000000000000000000002c02f0100"
)


@case(
    "connections",
    "A pause before the first byte",
    sent="nothing for a while, then a message",
    expects="one answer",
    why="engines connect long before they have something to say",
    source="robustness",
)
def late_first_byte(make: Maker) -> Plan:
    one = make.id()
    return Plan((Open(), Pause(5), Send(frame(make.message(one))), Await()), taken(one))


@case(
    "connections",
    "A pause between two messages",
    sent="a message, its answer awaited, nothing for a while, another message",
    expects="two answers",
    why="nights are quiet",
    source="robustness",
)
def idle_between(make: Maker) -> Plan:
    one, two = make.ids(2)
    steps = (Send(frame(make.message(one))), Await(), Pause(5), Send(frame(make.message(two))), Await(2))
    return Plan(steps, taken(one, two))


@case(
    "connections",
    "A load balancer looks whether the port is open",
    sent="ten connections that are closed without a byte",
    expects="the receiver goes on",
    why="it happens every few seconds, all day",
    source="robustness",
)
def probes(make: Maker) -> Plan:
    return Plan(tuple(step for n in range(10) for step in (Open(n), Close(n))), taken())


@case(
    "connections",
    "A load balancer that resets",
    sent="ten connections that are reset without a byte",
    expects="the receiver goes on",
    why="as before",
    source="robustness",
)
def probes_that_reset(make: Maker) -> Plan:
    return Plan(tuple(step for n in range(10) for step in (Open(n), Close(n, reset=True))), taken())


@case(
    "connections",
    "The sender says FIN right behind its message",
    sent="a message and FIN, and the answer is waited for",
    expects="one answer",
    why="scripts do it; the message is whole and was taken",
    source="TCP, half-closed connections",
    alternative="no answer: FIN is taken for the end of both directions",
)
def half_close(make: Maker) -> Plan:
    one = make.id()
    return Plan((Send(frame(make.message(one))), Finish(), Await()), taken(one, missing=DIFFERS), clear_only=True)


@case(
    "connections",
    "The sender is gone before its answer",
    sent="a message and RST at once; then, on another connection, the same message",
    expects="one answer on the other connection",
    why="the answer is lost; the sender asks again, and must get one",
    source="HL7 v2.9.1 ch. 2, resending",
    alternative="it is refused there as a duplicate",
)
def gone_before_the_answer(make: Maker) -> Plan:
    one = make.id()
    block = frame(make.message(one))
    steps = (Send(block), Close(reset=True), Pause(), Send(block, 1), Await(1, 1))
    return Plan(steps, taken(one, negative=DIFFERS, connection=1))


@case(
    "connections",
    "A sender that reads its answers late",
    sent="40 messages in one write, not reading for a while, then reading",
    expects="40 answers, in order",
    why="answers must not be lost, nor overtake each other, because a peer is slow",
    source="robustness",
)
def slow_reader(make: Maker) -> Plan:
    ids = make.ids(40)
    data = b"".join(frame(make.message(i)) for i in ids)
    return Plan((Open(), Deaf(True), Send(data), Pause(3), Deaf(False), Await(40)), taken(*ids))


@case(
    "connections",
    "Two senders, byte by byte in turn",
    sent="two messages on two connections, a byte here, a byte there",
    expects="each answer on its own connection",
    why="a buffer that two connections share mixes two patients",
    source="robustness",
    alternative="one of them is not served: one connection at a time",
)
def two_in_turn(make: Maker) -> Plan:
    ids = make.ids(2)
    blocks = [frame(make.message(i)) for i in ids]
    steps: list[Step] = [Open(0), Open(1)]
    for place in range(max(map(len, blocks))):
        steps += [Send(block[place : place + 1], n) for n, block in enumerate(blocks) if place < len(block)]
    return Plan((*steps, Await(1, 0), Await(1, 1)), each_connection(*ids))


@case(
    "connections",
    "Ten senders at once",
    sent="a message on each of ten connections that are open together",
    expects="each answer on its own connection",
    why="as before",
    source="robustness",
    alternative="some are not served: a limit to connections",
)
def ten_at_once(make: Maker) -> Plan:
    ids = make.ids(10)
    steps: list[Step] = [Open(n) for n in range(10)]
    steps += [Send(frame(make.message(control_id)), n) for n, control_id in enumerate(ids)]
    steps += [Await(1, n) for n in range(10)]
    return Plan(tuple(steps), each_connection(*ids))


@case(
    "connections",
    "A web browser",
    sent="an HTTP request",
    expects="no HL7 answer; the connection ended, or the bytes thrown away",
    why="port scanners and wrong configurations",
    source="robustness",
    alternative="a negative answer",
)
def http_request(make: Maker) -> Plan:
    data = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return Plan((Send(data), Listen(), Close()), unanswered(negative=DIFFERS))


@case(
    "connections",
    "TLS to a port without it",
    sent="the first bytes of a TLS handshake, in the clear",
    expects="no HL7 answer; the connection ended, or the bytes thrown away",
    why="wrong configurations",
    source="robustness",
    alternative="a negative answer",
)
def tls_hello(make: Maker) -> Plan:
    return Plan((Send(_CLIENT_HELLO), Listen(), Close()), unanswered(negative=DIFFERS), clear_only=True)


CASES: tuple[Case, ...] = tuple(thing for thing in list(vars().values()) if isinstance(thing, Case))
