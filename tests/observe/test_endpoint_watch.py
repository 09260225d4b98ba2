"""What people hear of tokens and certificates toward the endpoint: log, metrics, health."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hl7bridge.condition import Condition
from hl7bridge.config import Config
from hl7bridge.observe.metrics import Metrics
from hl7bridge.observe.watch import EndpointWatch, WorkerWatch
from hl7bridge.tls.rotation import DAY, Ending


class Log:
    """Keeps what it is told: (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def of(self, level: str) -> list[dict[str, Any]]:
        return [fields for found, _, fields in self.lines if found == level]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def watch(log: Log, metrics: Metrics) -> EndpointWatch:
    return EndpointWatch(metrics, log)  # type: ignore[arg-type]


async def checks(watch: EndpointWatch, log: Log, metrics: Metrics, folder: Path) -> dict[str, tuple[bool, str]]:
    smart = {"client_id": "c", "keys": ["env:KEY"]}
    config = Config.model_validate(
        {"fhir": {"base_url": "https://x", "smart": smart}, "journal": {"path": str(folder)}}
    )
    condition = Condition(config, metrics, WorkerWatch(metrics, log), watch)  # type: ignore[arg-type]
    await condition.refresh()
    found = await condition.ready()
    assert all(check.informational for check in found if check.name in ("token", "tls-fhir.tls", "circuit"))
    return {check.name: (check.ok, check.detail) for check in found}


async def test_no_token_is_warned_of_once_for_each_cause_and_shown_in_health(
    watch: EndpointWatch, log: Log, metrics: Metrics, tmp_path: Path
) -> None:
    for why in ("no token: a", "no token: a", "no token: b"):
        watch.no_token(why)
    assert [fields["detail"] for fields in log.of("warning")] == ["no token: a", "no token: b"]
    assert (await checks(watch, log, metrics, tmp_path))["token"] == (False, "no token: b")
    watch.token(300.0)
    watch.token(300.0)
    assert len(log.of("info")) == 1 and len(log.of("debug")) == 1
    assert (await checks(watch, log, metrics, tmp_path))["token"][0]
    shown = metrics.text().decode()
    assert 'hl7bridge_endpoint_tokens_total{outcome="failed"} 3.0' in shown
    assert 'hl7bridge_endpoint_tokens_total{outcome="ok"} 2.0' in shown


async def test_a_certificate_toward_the_endpoint_is_told_before_it_ends_and_when_its_successor_is_unfit(
    watch: EndpointWatch, log: Log, metrics: Metrics, tmp_path: Path
) -> None:
    later, soon = (
        Ending("ca", "/ca.pem", time.time() + 300 * DAY),
        Ending("certificate", "/c.pem", time.time() + 5 * DAY),
    )
    watch.certificates("fhir.tls", (later, soon), None)
    assert [fields["path"] for fields in log.of("warning")] == ["/c.pem"]
    assert (await checks(watch, log, metrics, tmp_path))["tls-fhir.tls"][0]
    watch.certificates("fhir.tls", (), "fhir.tls.key: is not the key")
    ok, detail = (await checks(watch, log, metrics, tmp_path))["tls-fhir.tls"]
    assert not ok and "the old serve on: fhir.tls.key: is not the key" in detail
    watch.certificates("fhir.tls", (later,), "")
    assert (await checks(watch, log, metrics, tmp_path))["tls-fhir.tls"][0]
    shown = metrics.text().decode()
    assert 'certificate_expiry_seconds{file="/ca.pem",key="ca",listener="fhir.tls"}' in shown
    assert '"/c.pem"' not in shown
    for outcome in ("done", "refused"):
        assert f'certificate_reloads_total{{listener="fhir.tls",outcome="{outcome}"}} 1.0' in shown
