"""What a run is told in: lines for people, one object for programs. Sans-IO; no value of an answer stands in either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from hl7bridge.torture.case import Case, Verdict
from hl7bridge.torture.maker import Speaker
from hl7bridge.torture.runner import Load, Outcome

WIDTH = 100


def announcement(where: str, load: Load, speaker: Speaker) -> str:
    """What will be sent, before it is."""
    size = f"{load.bytes / 1024**2:.1f} MiB" if load.bytes >= 1024**2 else f"{load.bytes // 1024} KiB"
    return (
        f"{where}: {load.cases} cases, about {load.messages} blocks, {size}, "
        f"connections open at once: {load.connections}.\n"
        f"Synthetic messages {speaker.type.split('^ADT_')[0]}, version {speaker.version}, processing id "
        f"{speaker.processing_id}, from {speaker.application}|{speaker.facility} "
        f"to {speaker.to_application or '(empty)'}|{speaker.to_facility or '(empty)'},\n"
        f"about one invented patient, TORTURE-1. The receiver may store them and pass them on: "
        f"use it on systems for tests."
    )


def lines_of(outcome: Outcome, verbose: bool) -> list[str]:
    """One line for a pass; what was sent, expected and came for everything else, or with `verbose`."""
    case, verdict = outcome.case, outcome.judgement.verdict
    lines = [f"{verdict:<14}  {case.name:<24}  {case.title}"]
    if verdict is Verdict.PASS and not verbose:
        return lines
    facts = [
        ("sent", case.sent),
        ("expected", case.expects),
        ("legitimate too", case.alternative),
        ("came", f"{outcome.came}: {outcome.judgement.text}"),
        ("why", case.why),
        ("source", case.source),
    ]
    for what, text in facts:
        if text:
            pieces = wrap(text, WIDTH - 34) or [""]
            lines.append(f"{'':16}{what + ':':<16}{pieces[0]}")
            lines += [f"{'':32}{piece}" for piece in pieces[1:]]
    return lines


def summary(outcomes: Sequence[Outcome]) -> str:
    """`62 cases: 60 pass, 2 differ; 9.1 s`"""
    counts = Counter(outcome.judgement.verdict for outcome in outcomes)
    words = {Verdict.PASS: "pass", Verdict.FAIL: "fail", Verdict.DIFFERS: "differ", Verdict.NOT_APPLICABLE: "not run"}
    told = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict])
    return f"{len(outcomes)} cases: {told}; {sum(outcome.seconds for outcome in outcomes):.1f} s"


def facts_of(case: Case) -> dict[str, str]:
    """A case without a run."""
    keys = ("name", "section", "title", "sent", "expects", "alternative", "why", "source")
    return {key: getattr(case, key) for key in keys}


def facts(where: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """`{"target": …, "counts": {…}, "cases": [{…, "came", "judgement", "verdict", "seconds"}]}`"""
    counts = Counter(str(outcome.judgement.verdict) for outcome in outcomes)
    cases = [
        {
            **facts_of(outcome.case),
            "came": outcome.came,
            "judgement": outcome.judgement.text,
            "verdict": str(outcome.judgement.verdict),
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    return {"target": where, "counts": dict(counts), "cases": cases}
