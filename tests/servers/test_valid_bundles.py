"""Every bundle is valid: the corpus, the feed and the samples through `translate`, judged by the official validator.

`make validate-feed FEED=…` judges every bundle of a feed of one's own: some 20 messages a second.
"""

from __future__ import annotations

import lzma
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hl7bridge import load_mappings, translate
from hl7bridge.errors import MessageError
from hl7bridge.hl7v2.batch import split

ZONE = ZoneInfo("Europe/Vienna")
Validate = Callable[[bytes], dict[str, Any]]
Say = Callable[[str], None]
SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def _translated(files: list[Path], say: Say, **settings: str) -> Iterator[tuple[str, bytes]]:
    """(name, bundle) of everything that translates; prints the share and the reasons of the rest."""
    mappings = load_mappings(settings=settings)
    reasons: Counter[str] = Counter()
    for file in files:
        for piece in split(lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()):
            try:
                bundle = translate(piece.raw, mappings, zone=ZONE, charset_fallback="cp1252").bundle
            except MessageError as error:
                reasons[error.reason.code] += 1
            else:
                reasons["translated"] += 1
                yield f"{file.name}#{piece.number}", bundle
    total = sum(reasons.values())
    say(f"{total} messages: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()))


def _judged(validate: Validate, files: list[Path], say: Say, **settings: str) -> tuple[int, list[str]]:
    wrong, count = [], 0
    for name, bundle in _translated(files, say, **settings):
        count += 1
        verdict = validate(bundle)
        if verdict["fatal"] or verdict["error"] or verdict["dangling_urn_refs"]:
            what = {f"{issue['at']}: {issue['text']}"[:300] for issue in verdict["issues"]}
            wrong.append(f"{name}: {verdict['dangling_urn_refs']} dangling; " + "; ".join(sorted(what)))
    say(f"{count} bundles judged by the official validator, {len(wrong)} with errors or dangling references")
    return count, wrong


@pytest.mark.servers
def test_every_sample_gives_a_bundle_that_the_official_validator_accepts(validator: Validate, say: Say) -> None:
    count, wrong = _judged(validator, sorted(SAMPLES.glob("*.hl7")), say)
    assert count >= 20
    assert not wrong, "\n".join(wrong)


@pytest.mark.servers
def test_every_sample_gives_a_valid_message_with_narratives(validator: Validate, say: Say) -> None:
    settings = {"bundle-type": "message", "narrative": "generated"}
    count, wrong = _judged(validator, sorted(SAMPLES.glob("*.hl7")), say, **settings)
    assert count >= 20
    assert not wrong, "\n".join(wrong)


@pytest.mark.servers
@pytest.mark.corpus
def test_every_corpus_message_gives_a_valid_bundle_or_a_named_reason(
    validator: Validate, corpus: Path, say: Say
) -> None:
    count, wrong = _judged(validator, sorted((corpus / "messages").glob("*.hl7")), say)
    assert count >= 60
    assert not wrong, "\n".join(wrong)


@pytest.mark.servers
@pytest.mark.corpus
@pytest.mark.slow
def test_every_message_of_the_feed_gives_a_valid_bundle_or_a_named_reason(
    validator: Validate, corpus: Path, say: Say
) -> None:
    count, wrong = _judged(validator, [corpus / "simhospital_sample.hl7"], say)
    assert count >= 1200
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])


@pytest.mark.servers
@pytest.mark.slow
def test_every_message_of_a_named_feed_gives_a_valid_bundle_or_a_named_reason(validator: Validate, say: Say) -> None:
    feed = os.environ.get("FEED")
    if not feed:
        pytest.skip("no FEED named: make validate-feed FEED=feed.hl7.xz")
    count, wrong = _judged(validator, [Path(feed)], say)
    assert count
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])
