"""Code tables at work: a v2 code to a FHIR code, a coding to a coding; what is not mapped is kept, dropped or refused.

Sans-IO. Nothing is lost silently: every code without a row is counted, and a required binding never gets a code that
it does not know: the code as it came is then kept beside it (alternate-codes, see write.beside_primitive).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from hl7bridge import reasons
from hl7bridge.errors import TranslationError
from hl7bridge.fhir.resource import Body
from hl7bridge.fhir.terms import terms
from hl7bridge.mapping.functions import V2_SYSTEM
from hl7bridge.mapping.runtime import Run
from hl7bridge.mapping.schema import Code, CodeTable

LOCAL_SYSTEM = "urn:id:HL7"  # for a code that is none of the table it was sent for: it must not claim to be
CODED = ("Coding", "CodeableConcept", "Quantity")  # the types whose codes name their system


class Codes:
    """One code table, compiled for one row of one table (whose names the counts carry)."""

    __slots__ = (
        "_accepted",
        "_coding",
        "_fallback",
        "_local_system",
        "_map",
        "_otherwise",
        "_source",
        "_table",
        "_v2_system",
        "name",
    )

    def __init__(self, table: CodeTable, used_by: str, source: str) -> None:
        self.name = table.name
        self._map = table.map
        self._otherwise = table.otherwise
        self._v2_system = V2_SYSTEM + table.v2_table if table.v2_table else ""
        self._local_system = LOCAL_SYSTEM + table.v2_table
        self._accepted = {"", self._v2_system, table.system} | {code.system for code in table.map.values()}
        self._fallback = None
        if table.otherwise not in ("keep", "drop", "error"):
            self._fallback = Code(table.otherwise, table.system)
        self._table, self._source = used_by, source

    def text(self, run: Run, text: str, allowed: tuple[str, ...]) -> tuple[str, Body | None]:
        """The code for a primitive: (code, None), or ("", original) where a required binding does not know it."""
        found = self._map.get(text) or self._map.get(text.upper())
        if found is not None:
            return found.code, None
        self._unmapped(run, text)
        if self._fallback is not None:
            return self._fallback.code, None
        if self._otherwise == "drop":
            return "", None
        if not allowed or text in allowed:
            return text, None
        return "", self._original(text)

    def coding(self, run: Run, sent: Body) -> Body | None:
        """For a Coding: the translated one, or the one sent; None to drop it."""
        translated = self._translate(run, sent)
        if translated is None:
            return None if self._dropped(sent) else self._with_system(sent)
        return translated

    def concept(self, run: Run, sent: Body) -> Body:
        """For a CodeableConcept: the translation first, what was sent behind it where it differs."""
        kept: list[Body] = []
        first: Body | None = None
        for coding in sent.get("coding", ()):
            translated = self._translate(run, coding) if first is None else None
            if translated is not None:
                first = translated
                if _same(translated, coding, self._v2_system):
                    continue
            elif self._dropped(coding):
                continue
            kept.append(self._with_system(coding))
        if first is not None:
            kept.insert(0, first)
        if kept:
            sent["coding"] = kept
        else:
            sent.pop("coding", None)
        return sent

    def _translate(self, run: Run, coding: Body) -> Body | None:
        code = coding.get("code")
        if code is None or coding.get("system", "") not in self._accepted:
            return None
        found = self._map.get(code) or self._map.get(code.upper())
        if found is None:
            if coding.get("system", "") in ("", self._v2_system):
                self._unmapped(run, code)
                found = self._fallback
            if found is None:
                return None
        body: dict[str, Any] = {"system": found.system, "code": found.code}
        display = found.display or (coding.get("display") if found.code == code else None)
        if display:
            body["display"] = display
        return body

    def _dropped(self, coding: Body) -> bool:
        return self._otherwise == "drop" and coding.get("system", "") in ("", self._v2_system)

    def _with_system(self, coding: Body) -> Body:
        """The standard's system for a code of the standard; a site's own code in such a table is named as such."""
        code = coding.get("code")
        if not self._v2_system or code is None or coding.get("system", self._v2_system) != self._v2_system:
            return coding
        known = code in self._map or code.upper() in self._map
        return {**coding, "system": self._v2_system if known else self._local_system}

    def _original(self, text: str) -> Body:
        coding = {"system": self._local_system} if self._v2_system else {}
        return {"coding": [{**coding, "code": text}]}

    def _unmapped(self, run: Run, code: str) -> None:
        run.count("code-unmapped", self._table, self._source)
        if run.trace is not None:
            run.trace.codes.append((self.name, code))
        if self._otherwise == "error":
            raise TranslationError(
                reasons.NOT_TRANSLATABLE, f"{self._table}: the code in {self._source} is not in code table {self.name}"
            )


def honest(run: Run, table: str, source: str, type: str, body: Body) -> None:
    """No coding claims a system of HL7 that does not know its code: it gets a local name instead, and is counted.

    A code of a v2 table is spelled as the table spells it. `type`: one of CODED. `table`, `source`: the row that the
    count names; a row with a code table has counted already what that does not know, and says no table here.
    """
    known = terms()
    for coding in body.get("coding", ()) if type == "CodeableConcept" else (body,):
        system, code = coding.get("system"), coding.get("code")
        if system is None or code is None:
            continue
        if known.refuses(system, code):
            coding["system"] = _local_name(system)
            if table:
                run.count("code-unmapped", table, source)
        elif not code.isupper() and system.startswith(V2_SYSTEM):
            coding["code"] = known.spelling(system, code)


def _local_name(system: str) -> str:
    """urn:id:HL70203 for the v2 table, urn:id:v3-ActCode, urn:id:47 for others: what the sender may have meant."""
    table = system.removeprefix(V2_SYSTEM)
    if table != system:
        return LOCAL_SYSTEM + table
    return "urn:id:" + quote(re.split("[/:]", system)[-1], safe="")


def _same(translated: Body, sent: Body, v2_system: str) -> bool:
    system = sent.get("system") or v2_system
    return bool(translated["code"] == sent.get("code") and translated["system"] == system)
