"""Coding systems by their v2 names (table 0396 and the spellings senders use), as FHIR's uris.

Source: HL7 table 0396 and the code system registry of FHIR R4 (terminologies-systems). Keys in upper case.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_SNOMED = "http://snomed.info/sct"
_LOINC = "http://loinc.org"
_ICD9CM = "http://hl7.org/fhir/sid/icd-9-cm"
_CPT = "http://www.ama-assn.org/go/cpt"

CODING_SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "LN": _LOINC,
        "LOINC": _LOINC,
        "SCT": _SNOMED,
        "SCT2": _SNOMED,
        "SNM": _SNOMED,
        "SNM3": _SNOMED,
        "SNT": _SNOMED,
        "SNOMED": _SNOMED,
        "SNOMEDCT": _SNOMED,
        "SNOMED-CT": _SNOMED,
        "SNOMED CT": _SNOMED,
        "I9": _ICD9CM,
        "I9C": _ICD9CM,
        "I9CDX": _ICD9CM,
        "I9CP": _ICD9CM,
        "ICD9": _ICD9CM,
        "ICD-9": _ICD9CM,
        "ICD9CM": _ICD9CM,
        "ICD-9-CM": _ICD9CM,
        "I10": "http://hl7.org/fhir/sid/icd-10",
        "ICD10": "http://hl7.org/fhir/sid/icd-10",
        "ICD-10": "http://hl7.org/fhir/sid/icd-10",
        "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
        "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
        "ICD-10-CM": "http://hl7.org/fhir/sid/icd-10-cm",
        "I10P": "http://www.cms.gov/Medicare/Coding/ICD10",
        "ICDO3": "http://terminology.hl7.org/CodeSystem/icd-o-3",
        "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
        "CVX": "http://hl7.org/fhir/sid/cvx",
        "MVX": "http://terminology.hl7.org/CodeSystem/MVX",
        "UCUM": "http://unitsofmeasure.org",
        "C4": _CPT,
        "CPT": _CPT,
        "CPT4": _CPT,
        "CPT-4": _CPT,
        "HCPCS": "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets",
        "CD2": "http://www.ada.org/cdt",
        "NDC": "http://hl7.org/fhir/sid/ndc",
        "UNII": "http://fdasis.nlm.nih.gov",
        "ATC": "http://www.whocc.no/atc",
        "NUCC": "http://nucc.org/provider-taxonomy",
        "CDCREC": "urn:oid:2.16.840.1.113883.6.238",
        "ISO3166_1": "urn:iso:std:iso:3166",
        "ISO3166": "urn:iso:std:iso:3166",
        "ISO3166_2": "urn:iso:std:iso:3166:-2",
        "ISO4217": "urn:iso:std:iso:4217",
        "BCP47": "urn:ietf:bcp:47",
    }
)
