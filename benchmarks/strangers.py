"""Messages that share nobody: patient, visit, clinicians, places and organizations are each message's own.

A FHIR server refuses (409, 412) transactions that come at the same moment and create the same thing, whoever sends
them. What posts side by side without any order can only be measured with bundles that never meet. Synthetic: own work.
"""

from __future__ import annotations

from collections.abc import Iterator

_ADMIT = (
    "MSH|^~\\&|ADT{n}|SITE{n}|||20240305143012+0100||ADT^A01^ADT_A01|{n}|P|2.5.1\r"
    "EVN|A01|20240305143012+0100\r"
    "PID|1||P{n}^^^MRN{n}&1.2.3.{i}&ISO^MR||Test{n}^Bench^Q||19610317|F|||1 Row St {n}^^Lakeside^CA^90001^USA||"
    "555-{i}^PRN^PH|||M\r"
    "NK1|1|Next{n}^Of|SPO|||555-{i}\r"
    "PV1|1|I|W{n}^R{n}^B{n}^H{n}||||D{n}^Attending{n}^Ann^^^Dr^^^DOC{n}&1.2.4.{i}&ISO||||||||||||"
    "V{n}^^^VIS{n}&1.2.5.{i}&ISO^VN|||||||||||||||||||||||||20240305140000+0100\r"
    "AL1|1|DA|A{n}^Penicillin {n}^L{n}|MO|Rash\r"
)
_RESULT = (
    "MSH|^~\\&|LAB{n}|SITE{n}|||20240305150012+0100||ORU^R01^ORU_R01|{n}|P|2.5.1\r"
    "PID|1||P{n}^^^MRN{n}&1.2.3.{i}&ISO^MR||Test{n}^Bench||19610317|F\r"
    "PV1|1|I|W{n}^R{n}^B{n}^H{n}||||D{n}^Attending{n}^Ann^^^Dr^^^DOC{n}&1.2.4.{i}&ISO||||||||||||"
    "V{n}^^^VIS{n}&1.2.5.{i}&ISO^VN\r"
    "ORC|RE|O{n}^OE{n}|F{n}^LAB{n}||CM\r"
    "OBR|1|O{n}^OE{n}|F{n}^LAB{n}|58410-2^CBC^LN|||20240305130000+0100|||||||||"
    "D{n}^Attending{n}^Ann^^^Dr^^^DOC{n}&1.2.4.{i}&ISO||||||20240305145900+0100||LAB|F\r"
    "OBX|1|NM|718-7^Hemoglobin^LN||13.2|g/dL|12-16|N|||F|||20240305130000+0100\r"
    "OBX|2|NM|6690-2^Leukocytes^LN||7.4|10*3/uL|4-11|N|||F|||20240305130000+0100\r"
    "OBX|3|NM|777-3^Platelets^LN||250|10*3/uL|150-400|N|||F|||20240305130000+0100\r"
)


def strangers(name: str) -> Iterator[bytes]:
    """For ever, admissions and results by turns. `name`: letters; other names share nobody with these either."""
    number = 0
    while True:
        number += 1
        template = _ADMIT if number % 2 else _RESULT
        # ISO identifiers are numbers: the name's letters go in as their places in the alphabet
        digits = "".join(str(ord(letter) % 32) for letter in name)
        yield template.format(n=f"{name}{number}", i=f"{digits}.{number}").encode()
