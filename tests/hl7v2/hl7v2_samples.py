"""What several tests here share: where the corpus is, and full structures of two messages."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.message import Message, parse

CORPUS = Path(os.environ.get("HL7BRIDGE_CORPUS", Path(__file__).parents[2].parent / "shared" / "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real messages is not here")

ORU_R01 = """
MSH [{SFT}] [UAC]
{ PATIENT_RESULT:
  [ PATIENT: PID [PD1] [{PRT}] [{NTE}] [{NK1}] [{ARV}]
    [{ PATIENT_OBSERVATION: OBX [{PRT@OBX}] }]
    [ VISIT: PV1 [PV2] [{PRT@PV1}] ] ]
  { ORDER_OBSERVATION:
    [ COMMON_ORDER: ORC [{PRT}] ]
    OBR [{NTE}] [{PRT}]
    [{ TIMING_QTY: TQ1 [{TQ2}] }]
    [CTD]
    [{ OBSERVATION: OBX [{PRT}] [{NTE}] }]
    [{FT1}] [{CTI}]
    [{ SPECIMEN: SPM [{ SPECIMEN_OBSERVATION: OBX [{PRT}] }] }]
    [{ DEVICE: DEV [{OBX}] }] } }
[DSC]
"""

ADT_A01 = """
MSH [{SFT}] [UAC] EVN PID [PD1] [{ARV}] [{ROL}] [{NK1}]
PV1 [PV2] [{ARV@PV1}] [{ROL@PV1}] [{DB1}] [{OBX}] [{AL1}] [{DG1}] [DRG]
[{ PROCEDURE: PR1 [{ROL}] }]
[{GT1}]
[{ INSURANCE: IN1 [IN2] [{IN3}] [{ROL}] [{AUT}] [{RF1}] }]
[ACC] [UB1] [UB2] [PDA]
"""


def corpus_files() -> list[Path]:
    return sorted((CORPUS / "messages").glob("*.hl7")) if CORPUS.is_dir() else []


def feed() -> Iterator[Message]:
    """The 2,000-message feed, parsed."""
    for piece in split((CORPUS / "simhospital_sample.hl7").read_bytes()):
        yield parse(piece.raw)


def message(*segments: str, control_id: str = "1", kind: str = "ORU^R01") -> bytes:
    """An own synthetic message: MSH is made, the segments follow."""
    return "\r".join([f"MSH|^~\\&|A|B|C|D|20240102030405||{kind}|{control_id}|P|2.5.1", *segments, ""]).encode()
