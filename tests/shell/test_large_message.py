"""A large message with an embedded document stands in memory but few times on its way to a bundle."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.fhir.bundle import to_bytes
from hl7bridge.hl7v2.message import parse
from hl7bridge.mapping.functions import base64
from hl7bridge.mllp.framing import END, START, Frame, Framer
from hl7bridge.translation import build

HEAD = (
    b"MSH|^~\\&|DOCS|NORTH|HL7BRIDGE|NORTH|20240301120000+0100||ORU^R01^ORU_R01|L1|P|2.5.1\r"
    b"PID|1||4711^^^NORTH^MR||EXAMPLE^LARGE||19700101|F\r"
    b"OBR|1|P1|F1|18842-5^Discharge summary^LN|||20240301110000+0100|||||||||||||||20240301113000+0100|||F\r"
    b"OBX|1|ED|18842-5^Discharge summary^LN||^application^pdf^Base64^"
)
SIZE = 4 * 1024 * 1024


def large(size: int) -> bytes:
    return HEAD + b"QUJD" * (size // 4) + b"||||||F\r"


def peak(work: str, answer: object) -> None:
    """Sends the most that Python held while it worked, by the message's size; the message itself was there before."""
    mappings, raw = load_mappings(), large(SIZE)
    translate(large(100_000), mappings)  # the code of its tables is made
    gc.collect()
    gc.disable()  # nothing may have to wait for the collector
    tracemalloc.start()
    if work == "framing":
        framer = Framer(len(raw))
        framer.feed(START)
        for start in range(0, len(raw), 65_536):
            framer.feed(raw[start : start + 65_536])
        (event,) = framer.feed(END)
        assert isinstance(event, Frame) and len(event.payload) == len(raw)
    else:
        built = build(parse(raw), mappings)
        assert built.table
    held, most = tracemalloc.get_traced_memory()
    answer.send((held / len(raw), most / len(raw)))  # type: ignore[attr-defined]


def measured(work: str) -> tuple[float, float]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=peak, args=(work, theirs))
    process.start()
    assert ours.poll(120)
    found: tuple[float, float] = ours.recv()
    process.join()
    return found


def test_a_stream_is_kept_once_while_a_message_comes_in() -> None:
    held, most = measured("framing")
    assert held < 1.2
    assert most < 3.2  # a buffer that grows, and the payload it gives


def test_a_bundle_is_made_beside_two_copies_of_the_message_and_one_is_left() -> None:
    held, most = measured("translate")
    assert most < 2.2  # with the message itself, and the bundle's bytes that hold it twice, no more than five
    assert held < 1.1  # the document that the bundle holds, by both its elements


def test_the_document_is_in_the_bundle_as_it_was_sent() -> None:
    built = build(parse(large(40_000)), load_mappings())
    assert to_bytes(built.bundle).count(b"QUJD" * 10_000) == 2


@pytest.mark.parametrize(("sent", "kept"), [("QUJD", "QUJD"), ("QUI=", "QUI="), ("QUJ", "QUI="), ("QR==", "QQ==")])
def test_base64_that_is_not_as_an_encoder_writes_it_is_mended(sent: str, kept: str) -> None:
    assert base64(sent, "Base64") == kept


@pytest.mark.parametrize("sent", ["QU*D", "Q===", "Q"])
def test_what_is_no_base64_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="not in the encoding it names"):
        base64(sent, "Base64")
