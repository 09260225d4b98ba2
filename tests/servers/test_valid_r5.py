"""With `fhir-version: R5` the samples and the corpus give what HL7's R5 validator accepts.

Two of its errors lie with the packages it is delivered with. They are named here, each with what proves it, and counted
against what the bundles hold, so that no other error hides behind them.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split

pytestmark = pytest.mark.servers
ZONE = ZoneInfo("Europe/Vienna")
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
Validate = Callable[[bytes], dict[str, Any]]
Say = Callable[[str], None]

BASE = "http://hl7.org/fhir/StructureDefinition/"
ALTERNATE = f"{BASE}alternate-codes"
PURPOSE = f"{BASE}coding-purpose"
OF_R4 = "http://hl7.org/fhir/4.0/StructureDefinition/extension-"
THEIRS = {
    "alternate-codes": re.compile(rf"Value is '{ALTERNATE}' but is fixed to '{PURPOSE}' in the profile {ALTERNATE}\|"),
    "elements of R4": re.compile(rf"Extension url '{re.escape(OF_R4)}\S+' is not valid \(invalid Version '4\.0'\)"),
}


def held(value: Any) -> Counter[str]:
    """How often a bundle holds the extensions that the validator is wrong about."""
    found: Counter[str] = Counter()
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += held(part)
    if isinstance(value, dict):
        for extension in value.get("extension", ()):
            url = extension["url"]
            found["alternate-codes"] += url == ALTERNATE
            found["elements of R4"] += url.startswith(OF_R4)
    return +found


def judged(validate: Validate, files: list[Path], say: Say) -> Iterator[str]:
    """What is wrong with us; also a bundle in which the validator's own errors are not as many as their cause."""
    mappings = load_mappings(settings={"fhir-version": "R5"})
    count, excused = 0, Counter[str]()
    for file in files:
        for piece in split(file.read_bytes()):
            try:
                bundle = translate(piece.raw, mappings, zone=ZONE, charset_fallback="cp1252").bundle
            except MessageError:
                continue
            count += 1
            verdict = validate(bundle)
            theirs = Counter(name for name in THEIRS for i in verdict["issues"] if THEIRS[name].match(i["text"]))
            ours = [i for i in verdict["issues"] if not any(known.match(i["text"]) for known in THEIRS.values())]
            excused += theirs
            if verdict["dangling_urn_refs"] or ours or theirs != held(json.loads(bundle)):
                what = sorted({f"{issue['at']}: {issue['text']}"[:300] for issue in ours})
                yield f"{file.name}#{piece.number}: {theirs} of theirs for {held(json.loads(bundle))}; " + "; ".join(
                    what
                )
    assert count
    say(f"{count} bundles judged by the official R5 validator; errors of its own packages: {dict(excused)}")


def test_every_sample_in_r5_is_accepted_by_the_official_validator(validator_r5: Validate, say: Say) -> None:
    assert list(judged(validator_r5, sorted(SAMPLES.glob("*.hl7")), say)) == []


@pytest.mark.corpus
def test_every_corpus_message_in_r5_is_accepted_by_the_official_validator(
    validator_r5: Validate, corpus: Path, say: Say
) -> None:
    assert list(judged(validator_r5, sorted((corpus / "messages").glob("*.hl7")), say)) == []


def test_the_validators_package_gives_alternate_codes_the_url_of_another_extension(r5_package: Path) -> None:
    """As long as it does, no instance can be right."""
    with zipfile.ZipFile(r5_package) as jar:
        (name,) = [n for n in jar.namelist() if "hl7.fhir.uv.extensions" in n and n.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(jar.read(name))) as package:
            member = package.extractfile("package/StructureDefinition-alternate-codes.json")
            assert member is not None
            definition = json.load(member)
    assert definition["url"] == ALTERNATE
    fixed = [e.get("fixedUri") for e in definition["differential"]["element"] if e["path"] == "Extension.url"]
    assert fixed == [PURPOSE]


def test_the_validator_refuses_the_extension_for_an_element_of_any_other_version(validator_r5: Validate) -> None:
    """FHIR R5 (versions.html, extensions) names them; offline the validator knows the elements of no version."""
    for version, element in (
        ("3.0", "Patient.animal"),
        ("4.0", "Encounter.diagnosis.rank"),
        ("4.3", "Device.property"),
    ):
        url = f"http://hl7.org/fhir/{version}/StructureDefinition/extension-{element}"
        patient = {"resourceType": "Patient", "extension": [{"url": url, "valueString": "x"}]}
        (issue,) = validator_r5(json.dumps(patient).encode())["issues"]
        assert f"invalid Version '{version}'" in issue["text"]


def test_the_validator_finds_what_is_wrong_in_r5(validator_r5: Validate) -> None:
    wrong = {"resourceType": "Patient", "gender": "f", "birthDate": "1980-13-01", "communication": [{"language": {}}]}
    assert validator_r5(json.dumps(wrong).encode())["error"] >= 3
    assert not validator_r5(json.dumps({"resourceType": "Patient", "gender": "female"}).encode())["issues"]
