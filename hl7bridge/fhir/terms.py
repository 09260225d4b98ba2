"""The codes of HL7's own code systems, so that no coding claims a system that does not know its code.

Sans-IO but for reading `terms.json` beside this file once (terms_build.py writes it from R4's definitions). A server
that checks terminology refuses such a coding, and a reader would take a site's own code for the standard's. Systems of
others (LOINC, SNOMED, ICD) are not in it: of them nothing is known here. UCUM and language tags are grammars.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import orjson

from hl7bridge.fhir import ucum
from hl7bridge.fhir.model import Model

_FILE = Path(__file__).with_name("terms.json")
_NO_CASE = "http://terminology.hl7.org/CodeSystem/v2-"  # only the v2 tables leave the case open
LANGUAGES = "urn:ietf:bcp:47"


def is_language(tag: str) -> bool:
    """Whether a text has the form of a language tag: `de`, `de-AT`, `zh-Hans`."""
    return _LANGUAGE(tag) is not None


_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*").fullmatch
_GRAMMARS: Mapping[str, Callable[[str], bool]] = MappingProxyType({ucum.SYSTEM: ucum.is_known, LANGUAGES: is_language})


class Terms:
    """Immutable; a system's codes are split when it is first asked for."""

    def __init__(self, data: Mapping[str, str]) -> None:
        self._data = data
        self._codes: dict[str, frozenset[str]] = {}

    def with_codes_of(self, model: Model) -> Terms:
        """These and the codes that the required bindings of a model have: R5 gave some systems of R4 more codes."""
        data = dict(self._data)
        for type_ in model.types:
            for element in model.elements(type_).values():
                if element.system in data and "\t" not in data[element.system]:
                    data[element.system] = " ".join(dict.fromkeys([*data[element.system].split(), *element.codes]))
        return Terms(data)

    def spelling(self, system: str, code: str) -> str:
        """The code as its system spells it: R4's edition of the v2 tables leaves the case open, R5's does not."""
        if system.startswith(_NO_CASE) and not self.refuses(system, code) and code not in self._as_written(system):
            upper = code.upper()
            return next((known for known in self._as_written(system) if known.upper() == upper), code)
        return code

    def _as_written(self, system: str) -> Sequence[str]:
        said = self._data.get(system, "")
        return said.split("\t" if "\t" in said else " ")

    def codes(self, system: str) -> frozenset[str] | None:
        """The codes of a system, in each case that is right; None where no list of them is known here."""
        known = self._codes.get(system)
        if known is None:
            said = self._data.get(system)
            if said is None:
                return None
            words = said.split("\t" if "\t" in said else " ")
            if system.startswith(_NO_CASE):
                words += [word.lower() for word in words]
            known = self._codes[system] = frozenset(words)
        return known

    def has_grammar(self, system: str) -> bool:
        """Whether the codes of a system are told by their form."""
        return system in _GRAMMARS

    def refuses(self, system: str, code: str) -> bool:
        """Whether the system is one of those known here and has no such code."""
        known = self.codes(system)
        if known is None:
            grammar = _GRAMMARS.get(system)
            return grammar is not None and not grammar(code)
        if code in known:
            return False
        return not (system.startswith(_NO_CASE) and code.lower() in known)


@cache
def terms() -> Terms:
    """The codes of R4's systems, read at first use."""
    return Terms(orjson.loads(_FILE.read_bytes()))
