"""Whether a unit is written in UCUM, so that it may carry UCUM's system.

Sans-IO. Source: UCUM 2.1, case sensitive. The units and prefixes are those of the clinical laboratory and bedside. What
UCUM would read as something the sender does not mean is left out on purpose, since calling it UCUM would change a
result's meaning: kelvin (K/uL is thousands), coulomb and farad (C and F are temperatures), henry (pH), exa (EU is ELISA
units).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

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
# The rest of UCUM: what only `is_known` takes.
_MORE_PREFIXES = ("Y", "Z", "E", "P", "T", "G", "da", "z", "y", "Ki", "Mi", "Gi", "Ti")
_MORE_METRIC_TEXT = """
sr F Wb T H lx ar t u pc [c] [h] [k] [eps_0] [mu_0] [e] [m_e] [m_p] [G] [g] [ly] gf Ky Gal erg P Bi St Mx G Oe Gb sb
Lmb ph R RAD REM cal_[15] cal_[20] cal_m cal_IT cal_th tex Np B B[SPL] B[V] B[mV] B[uV] B[10.nV] B[W] B[kW] st mho
bit By Bd rad K C cd
"""
_MORE_PLAIN_TEXT = """
[pi] gon ' '' a_t a_j a_g mo_s mo_j mo_g AU atm [lbf_av] [yd_i] [mi_i] [fth_i] [nmi_i] [kn_i] [sin_i] [sft_i]
[syd_i] [cin_i] [cft_i] [cyd_i] [bf_i] [cr_i] [mil_i] [cml_i] [hd_i] [ft_us] [yd_us] [in_us] [rd_us] [ch_us] [lk_us]
[rch_us] [rlk_us] [fth_us] [fur_us] [mi_us] [acr_us] [srd_us] [smi_us] [sct] [twp] [mil_us] [in_br] [ft_br] [rd_br]
[ch_br] [lk_br] [fth_br] [pc_br] [yd_br] [mi_br] [nmi_br] [kn_br] [acr_br] [gal_us] [bbl_us] [qt_us] [pt_us]
[gil_us] [fdr_us] [min_us] [crd_us] [bu_us] [gal_wi] [pk_us] [dqt_us] [dpt_us] [foz_m] [cup_m] [tsp_m] [tbs_m]
[gal_br] [pk_br] [bu_br] [qt_br] [pt_br] [gil_br] [foz_br] [fdr_br] [min_br] [dr_av] [scwt_av] [lcwt_av] [ston_av]
[lton_av] [stone_av] [pwt_tr] [oz_tr] [lb_tr] [sc_ap] [dr_ap] [oz_ap] [lb_ap] [oz_m] [lne] [pnt] [pca] [pnt_pr]
[pca_pr] [pied] [pouce] [ligne] [didot] [cicero] [degR] [Btu_39] [Btu_59] [Btu_60] [Btu_m] [Btu_IT] [Btu_th] [Btu]
[HP] [den] [in_i'H2O] [in_i'Hg] [PRU] [p'diop] %[slope] [mesh_i] [hnsf'U] [hp'_X] [hp'_C] [hp'_M] [hp'_Q] [hp_X]
[hp_C] [hp_M] [hp_Q] [kp_X] [kp_C] [kp_M] [kp_Q] [S] [USP'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U] [knk'U]
[mclg'U] [tb'U] [CCID_50] [TCID_50] [EID_50] [FFU] [BAU] [AU] [Amb'a'1'U] [PNU] [Lf] [D'ag'U] Ao b att [psi] circ
sph [car_m] [car_Au] [smoot] bit_s
"""


class _Units(NamedTuple):
    prefixes: tuple[str, ...]
    metric: frozenset[str]
    plain: frozenset[str]


_CLINICAL = _Units(_PREFIXES, frozenset(_METRIC_TEXT.split()), frozenset(_PLAIN_TEXT.split()))
_EVERY = _Units(
    _PREFIXES + _MORE_PREFIXES,
    _CLINICAL.metric | frozenset(_MORE_METRIC_TEXT.split()),
    _CLINICAL.plain | frozenset(_MORE_PLAIN_TEXT.split()),
)
_ANNOTATION = re.compile(r"\{[\x21-\x7a\x7c\x7e]*\}")
_FACTOR = re.compile(r"[0-9]+\Z")
_EXPONENT = re.compile(r"(.*?)([+-]?[0-9]+)\Z", re.DOTALL)
_SHORT = 100  # characters


def is_ucum(unit: str) -> bool:
    """`mg/dL`, `10*3/uL`, `mm[Hg]`, `{cells}/uL`, `%`: yes. `mEq/L`, `sec`, `K/uL`, `IU/L`: no."""
    return _is_expression(unit, _CLINICAL)


def is_known(unit: str) -> bool:
    """Whether UCUM can read it at all: `K/uL` (kelvin) too. What the check of a finished resource asks."""
    return _is_known(unit) if len(unit) <= _SHORT else _is_expression(unit, _EVERY)


@lru_cache(maxsize=1024)
def _is_known(unit: str) -> bool:
    """Of a unit of ordinary length: the same few come again and again."""
    return _is_expression(unit, _EVERY)


def _is_expression(unit: str, units: _Units) -> bool:
    if not unit.isascii() or not unit or unit.startswith("."):
        return False
    bare = _ANNOTATION.sub("\0", unit)
    if "{" in bare or "}" in bare:
        return False
    return _is_term(bare, units)


def _is_term(term: str, units: _Units) -> bool:
    """Components joined by `.` and `/`, with brackets; `/` may lead. The text between [ ] is not divided."""
    parts = re.split(r"[./](?![^\[]*\])", term.removeprefix("/"))
    depth = 0
    for part in parts:
        stripped = part.lstrip("(")
        depth += len(part) - len(stripped)
        closed = stripped.rstrip(")")
        depth -= len(stripped) - len(closed)
        if depth < 0 or not _is_component(closed, units):
            return False
    return depth == 0


def _is_component(component: str, units: _Units) -> bool:
    unit = component.removesuffix("\0")
    if not unit:
        return component == "\0"
    if "\0" in unit:
        return False
    if _FACTOR.match(unit) or _is_unit(unit, units):
        return True
    match = _EXPONENT.match(unit)
    return match is not None and _is_unit(match[1], units)


def _is_unit(unit: str, units: _Units) -> bool:
    if unit in units.metric or unit in units.plain:
        return True
    return any(unit.startswith(prefix) and unit[len(prefix) :] in units.metric for prefix in units.prefixes)
