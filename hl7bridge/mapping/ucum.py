"""Whether a unit is written in UCUM, so that it may carry UCUM's system.

Sans-IO. Source: UCUM 2.1, case sensitive. The units and prefixes are those of the clinical laboratory and bedside. What
UCUM would read as something the sender does not mean is left out on purpose, since calling it UCUM would change a
result's meaning: kelvin (K/uL is thousands), coulomb and farad (C and F are temperatures), henry (pH), exa (EU is ELISA
units).
"""

from __future__ import annotations

import re

SYSTEM = "http://unitsofmeasure.org"

_PREFIXES = ("M", "k", "h", "d", "c", "m", "u", "n", "p", "f", "a")
_METRIC_TEXT = """
m s g mol Hz N Pa J W A V Ohm S Cel lm Bq Gy Sv l L bar eV g% cal osm eq U kat [iU] [IU] dyn Ci m[H2O] m[Hg]
"""
_PLAIN_TEXT = """
10* 10^ % [ppth] [ppm] [ppb] [pptr] deg min h d a mo wk [degF] [pH] [in_i] [ft_i] [lb_av] [oz_av] [gr] [drp] [tsp_us]
[tbs_us] [foz_us] [cup_us] [diop] [HPF] [LPF] [arb'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [CFU] [PFU] [FEU]
[EU] [ELU] [Ch] [Cal] [MET] [wood'U]
"""
_METRIC = frozenset(_METRIC_TEXT.split())
_PLAIN = frozenset(_PLAIN_TEXT.split())
_ANNOTATION = re.compile(r"\{[\x21-\x7a\x7c\x7e]*\}")
_FACTOR = re.compile(r"[0-9]+\Z")
_EXPONENT = re.compile(r"(.*?)([+-]?[0-9]+)\Z", re.DOTALL)


def is_ucum(unit: str) -> bool:
    """`mg/dL`, `10*3/uL`, `mm[Hg]`, `{cells}/uL`, `%`: yes. `mEq/L`, `sec`, `K/uL`, `IU/L`: no."""
    if not unit.isascii() or not unit or unit.startswith("."):
        return False
    bare = _ANNOTATION.sub("\0", unit)
    if "{" in bare or "}" in bare:
        return False
    return _is_term(bare)


def _is_term(term: str) -> bool:
    """Components joined by `.` and `/`, with brackets; `/` may lead. The text between [ ] is not divided."""
    parts = re.split(r"[./](?![^\[]*\])", term.removeprefix("/"))
    depth = 0
    for part in parts:
        stripped = part.lstrip("(")
        depth += len(part) - len(stripped)
        closed = stripped.rstrip(")")
        depth -= len(stripped) - len(closed)
        if depth < 0 or not _is_component(closed):
            return False
    return depth == 0


def _is_component(component: str) -> bool:
    unit = component.removesuffix("\0")
    if not unit:
        return component == "\0"
    if "\0" in unit:
        return False
    if _FACTOR.match(unit) or _is_unit(unit):
        return True
    match = _EXPONENT.match(unit)
    return match is not None and _is_unit(match[1])


def _is_unit(unit: str) -> bool:
    if unit in _METRIC or unit in _PLAIN:
        return True
    return any(unit.startswith(prefix) and unit[len(prefix) :] in _METRIC for prefix in _PREFIXES)
