"""Metrics: each once, documented, with labels from bounded sets."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hl7bridge.observe.families import MOST_CHILDREN, OTHER, Counter, Family
from hl7bridge.observe.metrics import Metrics, ack_code, document, reason


def samples(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name + str(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_every_family_that_is_served_is_described() -> None:
    metrics = Metrics()
    served = {family.name for family in metrics.registry.collect() if not family.name.startswith("process_")}
    described = {metric.name.removesuffix("_total") for metric in metrics.described}
    assert served == described
    assert len(described) == len(metrics.described)


def test_every_metric_stands_in_the_document() -> None:
    text = document()
    for metric in Metrics().described:
        assert f"| `{metric.name}` | {metric.kind} |" in text


def test_a_type_that_no_table_handles_is_other() -> None:
    metrics = Metrics()
    metrics.know(["ADT^A01"], "abc")
    assert metrics.type("ADT^A01") == "ADT^A01"
    assert metrics.type("EVERY^WOMAN") == OTHER


def test_reasons_and_codes_outside_their_catalogues_are_other() -> None:
    assert (reason("charset"), reason(""), reason("EVERYWOMAN")) == ("charset", "", OTHER)
    assert (ack_code("AA"), ack_code("EVERYWOMAN")) == ("AA", OTHER)


def test_a_child_is_kept_and_counts() -> None:
    metrics = Metrics()
    child = metrics.received("adt", "ADT^A01")
    assert metrics.received("adt", "ADT^A01") is child
    child.inc(2)
    metrics.undelivered().set(7)
    found = samples(metrics)
    assert found["hl7bridge_received_total['ADT^A01', 'adt']"] == 2
    assert found["hl7bridge_undelivered[]"] == 7


def test_a_family_stops_growing_and_counts_the_rest_as_other() -> None:
    family = Family(Counter, "counter", "fields_total", "", ["field"])
    children = {id(family(str(number))) for number in range(MOST_CHILDREN + 500)}
    assert len(children) == MOST_CHILDREN + 1
    family("new").inc()
    assert family("new") is family(OTHER)
    assert len([sample for metric in family.collect() for sample in metric.samples]) == MOST_CHILDREN + 1


def test_a_child_has_all_its_labels() -> None:
    with pytest.raises(ValueError, match="2 labels"):
        Metrics().received("adt")


def test_a_name_is_given_once() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.registry.register(Family(Counter, "counter", "hl7bridge_received_total", "again", ["listener"]))


def test_a_histogram_counts_up_to_and_with_each_bound() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.0011, 10.0, 11.0):
        metrics.translate_seconds("adt").observe(seconds)
    found = samples(metrics)
    name = "hl7bridge_translate_seconds"
    buckets = {bound: found[f"{name}_bucket{sorted(['adt', bound])}"] for bound in ("0.001", "0.0025", "10.0", "+Inf")}
    assert buckets == {"0.001": 1, "0.0025": 2, "10.0": 3, "+Inf": 4}
    assert found[f"{name}_count['adt']"] == 4
    assert found[f"{name}_sum['adt']"] == pytest.approx(21.0021)


def test_new_tables_replace_the_build_information() -> None:
    metrics = Metrics()
    metrics.know([], "old")
    metrics.know([], "new")
    assert [key for key in samples(metrics) if "build_info" in key] == ["hl7bridge_build_info['0.1.0', 'new']"]
