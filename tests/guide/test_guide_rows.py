"""Every testable row of the guide, one test each: a message in which it must show, and one in which it must not.

The messages and what must come of them are made from the guide's sheets alone (guide_cases.py). Five ways a row can fare:
`proven` through a message, `alone` (no message of the guide reaches the data type or code table: it is applied by
itself), `deviates` (the tables say why, and the row that stands in for it writes; `mappings conformance` counts it so, too),
`behind` (a message's row whose segment map's rows all deviate), `failed`.
"""

from __future__ import annotations

from collections import Counter

import guide_session
import pytest
from guide_sheet import Row

GUIDE = guide_session.guide()
KINDS = ("message", "message-ref", "segment", "datatype", "codesystem")
EVERY = [*GUIDE.tested(*KINDS), *GUIDE.tested(*KINDS, testable="config")] if GUIDE else []
TESTABLE = {"message": 207, "message-ref": 135, "segment": 679, "datatype": 429, "codesystem": 1424}
DECIDED = {"message": 41, "message-ref": 58, "segment": 67, "datatype": 25}


@pytest.mark.skipif(GUIDE is None, reason="no guide: ../shared/ig is absent (or set HL7BRIDGE_CORPUS beside it)")
def test_all_testable_rows_of_the_guide_are_read() -> None:
    assert GUIDE is not None
    assert Counter(r.kind for r in GUIDE.rows.values() if r.testable == "yes") == TESTABLE
    assert Counter(r.kind for r in GUIDE.rows.values() if r.testable == "config") == DECIDED


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.id)
def test_the_row_shows_when_its_condition_is_true_and_not_when_it_is_false(row: Row) -> None:
    outcome = guide_session.prover().prove(row)
    assert outcome.state != "failed", f"{row.id}: {row.v2_path} -> {row.fhir_path}: {outcome.detail}"
    if outcome.state == "deviates":
        assert guide_session.verdicts()[row.id] in ("deviates", "unmapped"), f"conformance counts {row.id} as held"
