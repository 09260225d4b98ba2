"""Which site option switches on a row that needs a local decision, and which value switches it off."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PERSON = (
    r"(CX\[Identifier\]#{0}|CX\[RelatedPerson-Mother\]#{1}|XCN\[(?:Patient|Practitioner)\]#{2}|XON\[Organization\]#{3})"
)
OPTIONS: tuple[tuple[str, Mapping[str, str], Mapping[str, str]], ...] = (
    # data types
    (_PERSON.format(8, 11, 11, 10), {"assigning-authority": "organization"}, {"assigning-authority": "system"}),
    (_PERSON.format(9, 12, 12, 11), {"assigning-authority": "system"}, {"assigning-authority": "organization"}),
    (r"XPN\[HumanName\]#1[89]", {"called-by": "yes"}, {"called-by": "no"}),
    (r"ED\[(Attachment|DocumentReference)\]#[89]", {"attachment-data": "yes"}, {"attachment-data": "no"}),
    (r"NM\[Quantity-LengthOfStay\]#[3-6]", {"length-of-stay": "yes"}, {"length-of-stay": "no"}),
    (r"NM\[positiveInt\]#3", {"contact-rank": "yes"}, {"contact-rank": "no"}),
    (r"XPN\[string\]#3", {"written-name": "given-first"}, {}),
    (r"CX\[RelatedPerson-Mother\]#4", {"mother-relationship": "MTH"}, {"mother-relationship": "NMTH"}),
    # segments
    (r"AL1\[AllergyIntolerance\]#1[123]", {"allergy-severity": "criticality"}, {"allergy-severity": "reaction"}),
    (r"AL1\[AllergyIntolerance\]#14", {"allergy-severity": "reaction"}, {"allergy-severity": "criticality"}),
    (r"(NK1\[RelatedPerson\]#42|PID\[Patient\]#31)", {"ssn-country": "us"}, {"ssn-country": "other"}),
    (r"(NK1\[RelatedPerson\]#43|PID\[Patient\]#32)", {"ssn-country": "other"}, {"ssn-country": "us"}),
    (r"OBR\[ServiceRequest\]#23", {"clinical-information": "supporting"}, {"clinical-information": "none"}),
    (r"OBR\[Specimen\]#4", {"placer-is-accession": "yes"}, {"placer-is-accession": "no"}),
    (r"OBR\[Specimen\]#1[67]", {"clinical-information": "fasting"}, {"clinical-information": "none"}),
    (r"ORC\[ServiceRequest\]#16", {"order-group": "ei"}, {}),  # both write PGN
    (r"ORC\[ServiceRequest\]#19", {"order-group": "eip"}, {}),
    (r"ORC\[ServiceRequest\]#1[567]", {"order-group": "ei"}, {"order-group": "eip"}),
    (r"ORC\[ServiceRequest\]#(18|19|2[0-3])", {"order-group": "eip"}, {"order-group": "ei"}),
    (r"PRT\[Device\]#13", {"device-number": "udi"}, {"device-number": "identifier"}),
    (r"PRT\[Device\]#14", {"device-number": "identifier"}, {"device-number": "udi"}),
    (r"PV1\[Patient\]#1[89]", {"vip-person": "yes"}, {"vip-person": "no"}),
    (r"ROL\[CareTeam\]#6", {"role-person": "practitioner"}, {"role-person": "patient"}),
    (r"ROL\[CareTeam\]#7", {"role-person": "patient"}, {"role-person": "practitioner"}),
    (r"PR1\[Procedure\]#3", {"procedure-status": "in-progress"}, {"procedure-status": "completed"}),
    (
        r"MSH\[Bundle\]#14",
        {"message-identifier-system": "urn:sentinel:message"},
        {"message-identifier-system": "urn:other"},
    ),
    (
        r"MSH\[Provenance-Transformation\]#6",
        {"transformation-policy": "urn:sentinel:policy"},
        {"transformation-policy": "urn:other"},
    ),
    # messages
    (r"(ADT_A\d\d|ORU_R01)#5(\.ref\d)?", {"provenance": "yes"}, {"provenance": "no"}),
    (r"(ADT_A(?!11)\d\d#8|ADT_A11#9|ORU_R01#7)(\.ref\d)?", {"software": "derivation"}, {"software": "no"}),
    (r"(ADT_A(?!11)\d\d#9|ADT_A11#10|ORU_R01#8)(\.ref\d)?", {"software": "source"}, {"software": "no"}),
    (r"(ADT_A01#50|ADT_A05#49|ADT_A06#50|ADT_A11#29)(\.ref\d)?", {"diagnosis-context": "patient"}, {}),
    (r"(ADT_A01#51|ADT_A05#50|ADT_A06#51|ADT_A11#30)(\.ref\d)?", {"diagnosis-context": "encounter"}, {}),
    (r"(ADT_A01#52|ADT_A05#51|ADT_A06#52|ADT_A11#31)(\.ref\d)?", {"diagnosis-context": "episode"}, {}),
    (r"ORU_R01#19(\.ref\d)?", {"next-of-kin-person": "yes"}, {"next-of-kin-person": "no"}),
    (r"ORU_R01#20", {"next-of-kin-person": "no"}, {}),
    (r"ORU_R01#(41|51)(\.ref\d)?", {"service-request": "yes"}, {"service-request": "no"}),
)


def settings_of(row_id: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """(on, off) for a row; empty where no option is needed."""
    for pattern, on, off in OPTIONS:
        if re.fullmatch(pattern, row_id):
            return on, off
    return {}, {}
