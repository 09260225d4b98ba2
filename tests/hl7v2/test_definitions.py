import subprocess
import sys

import pytest

from hl7bridge.hl7v2.definitions import Component, Field, load_definitions
from hl7bridge.hl7v2.definitions_build import TARGET, render


def test_the_data_file_is_what_its_builder_makes() -> None:
    assert TARGET.read_text(encoding="utf-8") == render()


def test_loading_imports_no_hl7apy() -> None:
    load = "from hl7bridge.hl7v2.definitions import load_definitions; load_definitions()"
    script = f"import sys; {load}; assert 'hl7apy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("segment_id", "field"),
    [
        ("PID", Field(3, "patient identifier list", "CX", None, True)),
        ("PID", Field(2, "patient id", "CX", 1, False)),  # withdrawn in 2.7
        ("PID", Field(19, "ssn number patient", "ST", 1, False)),
        ("PID", Field(40, "patient telecommunication information", "XTN", None, False)),
        ("OBX", Field(5, "observation value", "varies", None, False)),
        ("OBX", Field(33, "observation related specimen identifier", "EIP", None, False)),
        ("AL1", Field(6, "identification date", "DT", 1, False)),
        ("MSH", Field(28, "special access restriction instructions", "ST", None, False)),
        ("DEV", Field(1, "action code", "ID", 1, True)),
    ],
)
def test_fields_are_as_the_last_version_that_has_them_says(segment_id: str, field: Field) -> None:
    assert load_definitions().field(segment_id, field.number) == field


@pytest.mark.parametrize(
    ("segment_id", "count"),
    [("MSH", 28), ("PID", 40), ("PV1", 54), ("OBX", 33), ("ORC", 38), ("OBR", 55), ("SPM", 35), ("PRT", 24), ("NTE", 9),
     ("DG1", 26), ("PR1", 25), ("IN1", 55), ("AL1", 6), ("EVN", 7)],
)  # fmt: skip
def test_segments_have_all_their_fields_without_gaps(segment_id: str, count: int) -> None:
    assert [field.number for field in load_definitions().fields(segment_id)] == list(range(1, count + 1))


def test_every_type_a_field_or_component_names_is_there() -> None:
    definitions = load_definitions()
    for segment_id in definitions.segment_ids():
        for field in definitions.fields(segment_id):
            assert definitions.has_datatype(field.type)
            assert field.max_repetitions is None or field.max_repetitions > 0
            for component in definitions.components(field.type):
                assert definitions.has_datatype(component.type)


def test_data_types_have_their_components_and_primitives_none() -> None:
    definitions = load_definitions()
    assert definitions.component("XPN", 1) == Component(1, "family name", "FN")
    assert definitions.component("TS", 2) == Component(2, "degree of precision", "ID")
    assert definitions.components("ST") == ()
    assert definitions.component("XPN", 99) is None


def test_what_the_standard_has_not_is_not_there() -> None:
    definitions = load_definitions()
    assert definitions.has_segment("PID") and not definitions.has_segment("ZPD")
    assert definitions.field("PID", 99) is None
    assert (definitions.fields("ZPD"), definitions.components("QQQ")) == ((), ())
    assert not definitions.has_datatype("QQQ")
