"""Why no row can touch a field or element that somebody asks for: the standards have none of that name.

Sans-IO. What is asked for is the asker's own words (PID-99, Patient.nme), never a value of a message.
"""

from __future__ import annotations

import re

from hl7bridge.fhir.model import model
from hl7bridge.hl7v2.definitions import load_definitions
from hl7bridge.mapping.walk import did_you_mean

_WHICH = re.compile(r"@\d+|\[\d+\]|\(.*?\)")  # which entry, repetition or slice is meant


def there_is_none(what: str) -> str:
    """`PID has no field 99, its last is PID-39`; "" where the standards have it, or do not say (a Z segment)."""
    what = _WHICH.sub("", what)
    segment, _, field = what.partition("-")
    standard = load_definitions()
    number = field.partition(".")[0]
    known = standard.fields(segment) if standard.has_segment(segment) else ()
    if known and number.isdigit() and int(number) > known[-1].number:
        return f"{segment} has no field {number}, its last is {segment}-{known[-1].number}"
    at, *names = what.split(".")
    for name in (name.removeprefix("_") for name in names):
        elements = model().elements(at) if at in model().types else {}
        if elements and name not in elements and not model().choices(at, name):
            return f"{at} has no element {name!r}{did_you_mean(name, elements)}"
        at = elements[name].type if name in elements else ""
    return ""
