"""Says at the end of a run how the guide's rows fared, by kind; with -v also every row that deviates, and why."""

from __future__ import annotations

from collections import Counter

import guide_session
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not guide_session.prover.cache_info().currsize:
        return
    outcomes = guide_session.prover().outcomes.values()
    counts = Counter((o.row.kind, o.row.testable, o.state) for o in outcomes)
    terminalreporter.section("rows of the HL7 v2-to-FHIR guide")
    for kind, testable in sorted({(kind, testable) for kind, testable, _ in counts}):
        said = [f"{counts[kind, testable, s]} {s}" for s in ("proven", "alone", "deviates", "failed")]
        terminalreporter.write_line(f"{kind} ({testable}): {', '.join(s for s in said if not s.startswith('0 '))}")
    if config.get_verbosity() > 0:
        for outcome in outcomes:
            if outcome.state == "deviates":
                terminalreporter.write_line(f"{outcome.row.id} deviates: {outcome.detail}")
