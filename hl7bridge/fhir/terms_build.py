"""Writes `terms.json`, the codes of HL7's own code systems: `python -m hl7bridge.fhir.terms_build FILE.xml...`

The files are those of the R4 specification's definitions (version 4.0.1, in the public domain): v2-tables.xml,
v3-codesystems.xml and valuesets.xml, which also the official validator brings. Taken are the systems that are complete
and HL7's; not those of others, of which the specification holds parts. Beside them stand the country codes of ISO 3166:
those of two letters are listed in a value set of the specification, those of three here.

The codes of one system are one string, separated by blanks (a code with blanks inside stands between tabs), since they
are read at every start and looked at seldom. Nothing at run time imports this module.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

TARGET = Path(__file__).with_name("terms.json")
OURS = ("http://terminology.hl7.org/CodeSystem/", "http://hl7.org/fhir/")
LEFT_OUT = frozenset({"http://hl7.org/fhir/spdx-license", "http://hl7.org/fhir/resource-types"})
COUNTRIES = "urn:iso:std:iso:3166"
_THREE_LETTERS = """
ABW AFG AGO AIA ALA ALB AND ARE ARG ARM ASM ATA ATF ATG AUS AUT AZE BDI BEL BEN BES BFA BGD BGR BHR BHS BIH BLM BLR
BLZ BMU BOL BRA BRB BRN BTN BVT BWA CAF CAN CCK CHE CHL CHN CIV CMR COD COG COK COL COM CPV CRI CUB CUW CXR CYM CYP
CZE DEU DJI DMA DNK DOM DZA ECU EGY ERI ESH ESP EST ETH FIN FJI FLK FRA FRO FSM GAB GBR GEO GGY GHA GIB GIN GLP GMB
GNB GNQ GRC GRD GRL GTM GUF GUM GUY HKG HMD HND HRV HTI HUN IDN IMN IND IOT IRL IRN IRQ ISL ISR ITA JAM JEY JOR JPN
KAZ KEN KGZ KHM KIR KNA KOR KWT LAO LBN LBR LBY LCA LIE LKA LSO LTU LUX LVA MAC MAF MAR MCO MDA MDG MDV MEX MHL MKD
MLI MLT MMR MNE MNG MNP MOZ MRT MSR MTQ MUS MWI MYS MYT NAM NCL NER NFK NGA NIC NIU NLD NOR NPL NRU NZL OMN PAK PAN
PCN PER PHL PLW PNG POL PRI PRK PRT PRY PSE PYF QAT REU ROU RUS RWA SAU SDN SEN SGP SGS SHN SJM SLB SLE SLV SMR SOM
SPM SRB SSD STP SUR SVK SVN SWE SWZ SXM SYC SYR TCA TCD TGO THA TJK TKL TKM TLS TON TTO TUN TUR TUV TWN TZA UGA UKR
UMI URY USA UZB VAT VCT VEN VGB VIR VNM VUT WLF WSM YEM ZAF ZMB ZWE
"""
_N = "{http://hl7.org/fhir}"


def said(node: ElementTree.Element, name: str) -> str:
    found = node.find(_N + name)
    return "" if found is None else found.get("value", "")


def codes(node: ElementTree.Element) -> Iterator[str]:
    """The codes below, with those inside others."""
    for concept in node.findall(_N + "concept"):
        yield said(concept, "code")
        yield from codes(concept)


def build(files: Sequence[Path]) -> dict[str, str]:
    """The codes by system. A system whose definition does not call itself case sensitive is told apart in no place but
    `terms.Terms`: those are the v2 tables."""
    found: dict[str, dict[str, None]] = {}
    for file in files:
        for system in ElementTree.parse(file).getroot().iter(_N + "CodeSystem"):
            url = said(system, "url")
            if url.startswith(OURS) and url not in LEFT_OUT and said(system, "content") == "complete":
                found.setdefault(url, {}).update(dict.fromkeys(codes(system)))
        for value_set in ElementTree.parse(file).getroot().iter(_N + "ValueSet"):
            for part in value_set.iter(_N + "include"):
                if said(part, "system") == COUNTRIES:
                    found.setdefault(COUNTRIES, {}).update(dict.fromkeys(codes(part)))
    found.setdefault(COUNTRIES, {}).update(dict.fromkeys(_THREE_LETTERS.split()))
    return {url: joined(list(found[url])) for url in sorted(found) if found[url]}


def joined(words: Sequence[str]) -> str:
    return ("\t" if any(" " in word for word in words) else " ").join(words)


def render(terms: dict[str, str]) -> str:
    """As text: one system a line, so that a difference reads as one."""
    return "{\n" + ",\n".join(f"{json.dumps(url)}:{json.dumps(words)}" for url, words in terms.items()) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(render(build([Path(name) for name in sys.argv[1:]])), encoding="utf-8")
