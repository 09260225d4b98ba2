"""A good bundle and mistakes to plant in it, one each: what the run-time check and the official validator must both find.

`MISTAKES`: name -> what to do with (bundle, Patient, Observation). `OURS`: what only the run-time check refuses, because
a server does. `GOOD`: what looks odd and is right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Plant = Callable[[Body, Body, Body], object]

URL = "urn:uuid:00000000-0000-4000-8000-00000000000"
V2 = "http://terminology.hl7.org/CodeSystem/v2-"
V3 = "http://terminology.hl7.org/CodeSystem/v3-"
UCUM = "http://unitsofmeasure.org"
ABSENT = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


def good() -> Body:
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:x", "value": "1"}],
        "name": [{"family": "Roe"}],
        "gender": "male",
        "birthDate": "1970-01-01",
    }
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": URL + "1"},
        "valueQuantity": {"value": 1.5, "unit": "g/dL", "system": UCUM, "code": "g/dL"},
    }
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry("1", patient), entry("2", observation)]}


def entry(number: str, resource: Body) -> Body:
    type = resource["resourceType"]
    return {"fullUrl": URL + number, "resource": resource, "request": {"method": "POST", "url": type}}


def planted(plant: Plant) -> Body:
    bundle = good()
    plant(bundle, bundle["entry"][0]["resource"], bundle["entry"][1]["resource"])
    return bundle


def patient(**parts: Any) -> Plant:
    return lambda b, p, o: p.update(copy.deepcopy(parts))


def name(**parts: Any) -> Plant:
    return lambda b, p, o: p["name"][0].update(parts)


def observation(**parts: Any) -> Plant:
    return lambda b, p, o: o.update(copy.deepcopy(parts))


def value(**parts: Any) -> Plant:
    return lambda b, p, o: (o.pop("valueQuantity"), o.update(copy.deepcopy(parts)))


def coded(system: str, code: str) -> Plant:
    return lambda b, p, o: o["code"]["coding"].append({"system": system, "code": code})


def more(number: str, **resource: Any) -> Plant:
    return lambda b, p, o: b["entry"].append(entry(number, copy.deepcopy(resource)))


def extension(**parts: Any) -> Plant:
    return patient(extension=[parts])


def quantity(**parts: Any) -> Plant:
    return lambda b, p, o: o["valueQuantity"].update(parts)


def request(number: int, **parts: Any) -> Plant:
    return lambda b, p, o: b["entry"][number]["request"].update(parts)


def without(*path: str | int) -> Plant:
    """Takes an element of the bundle away."""

    def plant(bundle: Any, p: Body, o: Body) -> None:
        for step in path[:-1]:
            bundle = bundle[step]
        del bundle[path[-1]]

    return plant


def no_code(b: Body, p: Body, o: Body) -> None:
    del p["gender"]
    p["_gender"] = {"extension": [ABSENT]}


def message(*, first: bool = True, focus: str = "1", full_url: bool = True, asked: bool = False) -> Plant:
    header = {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": V2 + "0003", "code": "A01"},
        "source": {"endpoint": "urn:id:ADT"},
        "focus": [{"reference": URL + focus}],
    }

    def plant(b: Body, p: Body, o: Body) -> None:
        b["type"] = "message"
        b["entry"].insert(0 if first else 2, entry("3", header))
        for part in b["entry"]:
            del part["request"]
        if asked:
            b["entry"][0]["request"] = {"method": "POST", "url": "MessageHeader"}
        if not full_url:
            del b["entry"][1]["fullUrl"]

    return plant


def patch(body: Body, url: str = "Patient?identifier=urn:x%7C1") -> Plant:
    part = {"fullUrl": URL + "3", "resource": body, "request": {"method": "PATCH", "url": url}}
    return lambda b, p, o: b["entry"].append(part)


OPERATION = {"name": "operation", "part": [{"name": "type", "valueCode": "delete"}]}
ENCOUNTER = {"resourceType": "Encounter", "status": "finished"}
CONDITION: Body = {"resourceType": "Condition", "subject": {"reference": URL + "1"}}
ALLERGY: Body = {"resourceType": "AllergyIntolerance", "patient": {"reference": URL + "1"}}
LINKED = [{"resourceType": "Patient", "id": "x"}]

# The sixteen of the validator's own probes.
SIXTEEN: dict[str, Plant] = {
    "01 gender code": patient(gender="M"),
    "02 unknown property": patient(sex="male"),
    "03 bad reference type": observation(subject={"reference": "Practitioner/1"}),
    "04 missing required": lambda b, p, o: o.pop("status"),
    "05 bad date": patient(birthDate="1970-13-01"),
    "06 value cardinality": patient(gender=["male"]),
    "07 code outside v2-0203": patient(
        identifier=[{"type": {"coding": [{"system": V2 + "0203", "code": "NOPE"}]}, "value": "1"}]
    ),
    "08 dangling reference": observation(subject={"reference": URL + "f"}),
    "09 empty text": name(family=""),
    "10 wrong encounter class": more("3", **ENCOUNTER, **{"class": {"system": V3 + "ActCode", "code": "NOTACODE"}}),
    "11 bad ucum": quantity(code="notaunit"),
    "12 transaction without request": without("entry", 0, "request"),
    "13 time without zone": observation(effectiveDateTime="2020-01-01T10:00:00"),
    "14 reference to the wrong entry": observation(encounter={"reference": URL + "1"}),
    "15 two values": observation(valueString="x"),
    "16 bad marital status": patient(maritalStatus={"coding": [{"system": V3 + "MaritalStatus", "code": "ZZ"}]}),
}
MISTAKES: dict[str, Plant] = {
    **SIXTEEN,
    "pat-1": patient(contact=[{"gender": "male"}]),
    "obs-3": observation(referenceRange=[{"type": {"text": "x"}}]),
    "obs-6": observation(dataAbsentReason={"text": "x"}),
    "obs-7": lambda b, p, o: o.update(component=[{"code": copy.deepcopy(o["code"]), "valueString": "x"}]),
    "per-1 by day": observation(effectivePeriod={"start": "2024-01-02", "end": "2024-01-01"}),
    "per-1 by minute": observation(
        effectivePeriod={"start": "2024-01-01T10:00:00+02:00", "end": "2024-01-01T07:30:00Z"}
    ),
    "bdl-1": lambda b, p, o: b.update(total=2),
    "bdl-3 request in a message": message(asked=True),
    "bdl-7": lambda b, p, o: b["entry"].append(copy.deepcopy(b["entry"][0])),
    "bdl-12": message(first=False),
    "ait-1": more("3", **ALLERGY),
    "con-4": more("3", **CONDITION, abatementString="x"),
    "org-1": more("3", resourceType="Organization", active=True),
    "org-3": more(
        "3", resourceType="Organization", name="A", telecom=[{"system": "phone", "value": "1", "use": "home"}]
    ),
    "att-1": patient(photo=[{"data": "aGk="}]),
    "cpt-2": patient(telecom=[{"value": "1"}]),
    "ext-1 neither": extension(url="urn:x"),
    "ext-1 both": extension(url="urn:x", valueString="a", extension=[{"url": "urn:y", "valueString": "a"}]),
    "qty-3": without("entry", 1, "resource", "valueQuantity", "system"),
    "rat-1": value(valueRatio={"numerator": {"value": 1}}),
    "rng-2": value(valueRange={"low": {"value": 2}, "high": {"value": 1}}),
    "inv-1": patch({"resourceType": "Parameters", "parameter": [{"name": "operation"}]}),
    "dom-3": observation(contained=LINKED),
    "empty list": patient(name=[]),
    "empty object": patient(name=[{}]),
    "empty element": patient(maritalStatus={}),
    "null": patient(gender=None),
    "null in a list": name(given=["a", None]),
    "nothing beside a value": patient(_gender={}),
    "extension in place of a required code": no_code,
    "text in place of a required concept": more("3", **CONDITION, clinicalStatus={"text": "x"}),
    "text of more than 1 MB": name(family="a" * (1024 * 1024 + 1)),
    "code with a blank before": lambda b, p, o: o["code"]["coding"][0].update(system="urn:q", code=" a"),
    "code with two blanks": lambda b, p, o: o["code"]["coding"][0].update(system="urn:q", code="a  b"),
    "uri with a blank": patient(identifier=[{"system": "urn:a b", "value": "1"}]),
    "identifier of a relative system": patient(identifier=[{"system": "abc", "value": "1"}]),
    "no object identifier": patient(identifier=[{"system": "urn:oid:9.a", "value": "1"}]),
    "no uuid": patient(identifier=[{"system": "urn:uuid:abc", "value": "1"}]),
    "id with a blank": patient(id="a b"),
    "id too long": patient(id="a" * 65),
    "29 February of no leap year": patient(birthDate="2023-02-29"),
    "a time in a date": patient(birthDate="2023-02-20T10:00:00Z"),
    "a time without seconds": observation(effectiveDateTime="2023-02-20T10:00Z"),
    "24 hours": observation(effectiveDateTime="2023-02-20T24:00:00Z"),
    "an offset of 15 hours": observation(effectiveDateTime="2023-02-20T23:59:00+15:00"),
    "the year 0": observation(effectiveDateTime="0000-02-20"),
    "an instant without time": observation(issued="2023-02-20"),
    "25 o'clock": value(valueTime="25:00:00"),
    "a number in quotes": quantity(value="1.5"),
    "a positive 0": patient(telecom=[{"rank": 0, "value": "1", "system": "phone"}]),
    "an integer too large": patient(multipleBirthInteger=2**31),
    "an integer in quotes": patient(multipleBirthInteger="1"),
    "an integer with a point": patient(multipleBirthInteger=1.0),
    "a boolean in quotes": patient(active="true"),
    "no base64": patient(photo=[{"contentType": "text/plain", "data": "a*b"}]),
    "base64 cut short": patient(photo=[{"contentType": "text/plain", "data": "aGk"}]),
    "code outside a v2 table in a value": value(
        valueCodeableConcept={"coding": [{"system": V2 + "0203", "code": "NOPE"}]}
    ),
    "code outside a v2 table in an extension": extension(
        url="urn:x", valueCoding={"system": V2 + "0203", "code": "NOPE"}
    ),
    "code outside a v3 system in a label": patient(
        meta={"security": [{"system": V3 + "Confidentiality", "code": "NOPE"}]}
    ),
    "code outside a system of FHIR": coded("http://hl7.org/fhir/administrative-gender", "NOPE"),
    "no country": coded("urn:iso:std:iso:3166", "QQQ"),
    "no unit in a coding": coded(UCUM, "notaunit"),
    "no unit in an extension": extension(url="urn:x", valueQuantity={"value": 1, "system": UCUM, "code": "notaunit"}),
    "no language": patient(language="zzzq-xx"),
    "no resource type": patient(resourceType="Pateint"),
    "reference to nothing contained": observation(encounter={"reference": "#x"}),
    "reference to a wrong contained one": observation(contained=LINKED, encounter={"reference": "#x"}),
    "absolute reference to a wrong type": observation(encounter={"reference": "http://a.b/fhir/Patient/1"}),
    "reference that is none": observation(encounter={"reference": "hello"}),
    "reference of another type than it says": observation(subject={"reference": URL + "1", "type": "Group"}),
    "reference of no type": observation(subject={"reference": URL + "1", "type": "Junk"}),
    "reference to a patch": lambda b, p, o: (
        patch({"resourceType": "Parameters", "parameter": [OPERATION]}, "Encounter?identifier=urn:x%7C1")(b, p, o),
        o.update(encounter={"reference": URL + "3"}),
    ),
    "relative fullUrl": lambda b, p, o: b["entry"][1].update(fullUrl="Observation/1"),
    "no fullUrl": without("entry", 1, "fullUrl"),
    "no fullUrl in a message": message(full_url=False),
    "focus on nothing": message(focus="f"),
    "no method": request(0, method="STORE"),
    "extension of a relative url": extension(url="x", valueString="a"),
    "script in a narrative": patient(text={"status": "generated", "div": DIV + "<script>x</script></div>"}),
    "empty narrative": patient(text={"status": "generated", "div": DIV + " </div>"}),
    "narrative without namespace": patient(text={"status": "generated", "div": "<div>x</div>"}),
}
OURS: dict[str, Plant] = {
    "control character": name(family="a\x07b"),
    "search for a wrong type": observation(encounter={"reference": "Patient?identifier=urn:x%7C1"}),
    "request for another type": request(0, url="Observation"),
    "put without a search": request(0, method="PUT"),
    "ifNoneExist of a put": request(0, method="PUT", url="Patient?identifier=1", ifNoneExist="identifier=1"),
    "patch of a resource": request(0, method="PATCH", url="Patient?identifier=1"),
    "delete with a resource": request(0, method="DELETE", url="Patient?identifier=1"),
    "request without url": without("entry", 0, "request", "url"),
    "entry that is no object": lambda b, p, o: b["entry"].append("x"),
    "resource that is no object": lambda b, p, o: b["entry"][0].update(resource="x"),
    "one value for a list": patient(name={"family": "Roe"}),
    "text for an object": patient(maritalStatus="S"),
}
GOOD: dict[str, Plant] = {
    "as it is": lambda b, p, o: None,
    "message": message(),
    "unknown beside what was sent": patient(gender="unknown", _gender={"extension": [ABSENT]}),
    "no birth date but a reason": lambda b, p, o: (p.pop("birthDate"), p.update(_birthDate={"extension": [ABSENT]})),
    "a gap with an extension": name(given=["a", None], _given=[None, {"extension": [ABSENT]}]),
    "a v2 code in lower case": patient(
        identifier=[{"type": {"coding": [{"system": V2 + "0203", "code": "mr"}]}, "value": "1"}]
    ),
    "a table that R4 has not": coded(V2 + "9999", "mr"),
    "a kelvin": quantity(code="K/uL"),
    "a leap second": observation(effectiveDateTime="2016-12-31T23:59:60Z"),
    "a fraction of a second": observation(effectiveDateTime="2023-02-20T23:59:00.1234567Z"),
    "a year": observation(effectiveDateTime="0212"),
    "another offset, later all the same": observation(
        effectivePeriod={"start": "2024-01-01T10:00:00+02:00", "end": "2024-01-01T08:30:00Z"}
    ),
    "contained": observation(
        contained=[{**ENCOUNTER, "id": "x", "class": {"system": V3 + "ActCode", "code": "AMB"}}],
        encounter={"reference": "#x"},
    ),
    "conditional reference": observation(encounter={"reference": "Encounter?identifier=urn:x%7C1"}),
    "identifier only": observation(encounter={"type": "Encounter", "identifier": {"system": "urn:x", "value": "1"}}),
    "conditional delete": lambda b, p, o: b["entry"].append(
        {"request": {"method": "DELETE", "url": "Observation?identifier=urn:x%7C1"}}
    ),
    "patch by Parameters": patch({"resourceType": "Parameters", "parameter": [OPERATION]}),
    "patch by JSON Patch": patch(
        {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10="}
    ),
    "narrative": patient(text={"status": "generated", "div": DIV + "<p>x &amp; y</p></div>"}),
    "tabs and lines": name(family="a\tb\nc"),
}
