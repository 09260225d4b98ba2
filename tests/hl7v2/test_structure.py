import pytest
from hl7v2_samples import ADT_A01, CORPUS, ORU_R01, corpus_files, feed, message, needs_corpus
from hypothesis import given
from hypothesis import strategies as st

from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.groups import Group
from hl7bridge.hl7v2.message import parse
from hl7bridge.hl7v2.structure import Arrangement, Structure, StructureError

ORU, ADT = Structure(ORU_R01), Structure(ADT_A01)
SHORT = {
    "PATIENT_RESULT": "PR", "ORDER_OBSERVATION": "OO", "OBSERVATION": "OBS", "PATIENT_OBSERVATION": "POBS",
    "SPECIMEN": "SP", "SPECIMEN_OBSERVATION": "SOBS", "COMMON_ORDER": "CO", "TIMING_QTY": "TQ", "PATIENT": "PAT",
}  # fmt: skip


def arrange(structure: Structure, ids: str) -> Arrangement:
    """Arranges MSH and segments given as `PID OBR OBX`, each with its position as its first field."""
    segments = [f"{segment_id}|{n}" for n, segment_id in enumerate(ids.split(), 2)]
    return structure.arrange(parse(message(*segments)).segments)


def tree(group: Group) -> str:
    """`OBR OBS(OBX NTE) OBS(OBX)`: groups by their short names, segments by their ids."""
    parts = []
    for member in group.members:
        if isinstance(member, Group):
            name = member.path.rpartition(".")[2]
            parts.append(f"{SHORT.get(name, name)}({tree(member)})")
        else:
            parts.append(member.path.rpartition(".")[2])
    return " ".join(parts)


@pytest.mark.parametrize(
    ("path", "segment_id", "repeats", "required", "parent"),
    [
        ("MSH", "MSH", False, True, ""),
        ("SFT", "SFT", True, False, ""),
        ("PATIENT_RESULT", "", True, True, ""),
        ("PATIENT_RESULT.PATIENT", "", False, False, "PATIENT_RESULT"),
        ("PATIENT_RESULT.PATIENT.PID", "PID", False, True, "PATIENT_RESULT.PATIENT"),
        ("PATIENT_RESULT.PATIENT.VISIT.PRT@PV1", "PRT", True, False, "PATIENT_RESULT.PATIENT.VISIT"),
        ("PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION", "", True, False, "PATIENT_RESULT.ORDER_OBSERVATION"),
        ("DSC", "DSC", False, False, ""),
    ],
)
def test_nodes_are_known_by_their_full_path(
    path: str, segment_id: str, repeats: bool, required: bool, parent: str
) -> None:
    node = ORU.nodes[path]
    assert (node.path, node.name) == (path, path.rpartition(".")[2])
    assert (node.segment_id, node.repeats, node.required, node.parent) == (segment_id, repeats, required, parent)
    assert repr(node) == f"<Node {path}>"


def test_brackets_of_one_thing_add_up_and_choices_are_optional() -> None:
    nodes = Structure("MSH { [ NTE ] } [ PD1 PV1 ] { AL1 | IAM } <OBR|RXO> [{ G: PID | NK1 [PV2] | {H: DG1} }]").nodes
    assert {path: (node.repeats, node.required) for path, node in nodes.items()} == {
        "MSH": (False, True), "NTE": (True, False), "PD1": (False, False), "PV1": (False, False),
        "AL1": (True, False), "IAM": (True, False), "OBR": (False, False), "RXO": (False, False),
        "G": (True, False), "G.PID": (False, False), "G.NK1": (False, False), "G.PV2": (False, False),
        "G.H": (True, False), "G.H.DG1": (False, True),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "nothing where"),
        ("   ", 3, "nothing where"),
        ("MSH pid", 4, "neither a bracket"),
        ("MSH PIDX", 4, "neither a bracket"),
        ("MSH ( PID )", 4, "neither a bracket"),
        ("MSH G: PID", 4, "behind an opening bracket"),
        ("MSH [PID", 4, "never closed"),
        ("MSH PID]", 7, "closes nothing"),
        ("MSH [PID}", 8, "closes nothing"),
        ("MSH []", 5, "nothing before"),
        ("MSH [| PID]", 5, "nothing before"),
        ("MSH [PID |]", 10, "nothing before"),
        ("MSH |", 5, "nothing where"),
        ("MSH {PID PV1}", 4, "needs a name"),
        ("MSH NTE [NTE]", 9, "stands twice"),
        ("MSH [A: PID] {A: PV1}", 13, "stands twice"),
        ("[" * 50 + "MSH" + "]" * 50, 40, "too many brackets"),
    ],
)
def test_bad_syntax_is_named_with_its_position(text: str, position: int, says: str) -> None:
    with pytest.raises(StructureError, match=says) as caught:
        Structure(text)
    assert caught.value.position == position
    assert isinstance(caught.value, ValueError)


@given(st.text(st.sampled_from("[]{}<>| \nMSHPIDAB:@")))
def test_any_text_is_a_structure_or_a_named_error(text: str) -> None:
    try:
        assert Structure(text).nodes
    except StructureError as error:
        assert 0 <= error.position <= len(text)


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("PID", "PATIENT_RESULT.PATIENT.PID"),
        ("OBSERVATION.OBX", "PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION.OBX"),
        ("PATIENT_OBSERVATION.OBX", "PATIENT_RESULT.PATIENT.PATIENT_OBSERVATION.OBX"),
        ("PRT@PV1", "PATIENT_RESULT.PATIENT.VISIT.PRT@PV1"),
        ("SPECIMEN", "PATIENT_RESULT.ORDER_OBSERVATION.SPECIMEN"),
        ("PATIENT_RESULT.PATIENT.PID", "PATIENT_RESULT.PATIENT.PID"),
    ],
)
def test_the_end_of_a_path_is_enough_where_it_is_unique(suffix: str, path: str) -> None:
    assert ORU.resolve(suffix) == path


def test_an_ambiguous_end_names_its_candidates_and_a_full_path_wins() -> None:
    with pytest.raises(ValueError, match=r"ORDER_OBSERVATION\.NTE.*OBSERVATION\.NTE"):
        ORU.resolve("NTE")
    with pytest.raises(ValueError, match="the structure has no ZZZ"):
        ORU.resolve("ZZZ")
    with pytest.raises(ValueError, match="has no BSERVATION"):
        ORU.resolve("BSERVATION.OBX")
    assert ADT.resolve("ROL") == "ROL"
    assert ADT.resolve("PROCEDURE.ROL") == "PROCEDURE.ROL"


@pytest.mark.parametrize(
    ("ends", "innermost"),
    [
        (["PID"], "PATIENT_RESULT"),
        (["PID", "PV1"], "PATIENT_RESULT"),
        (["PID", "OBR"], "PATIENT_RESULT"),
        (["ORC", "OBR"], "PATIENT_RESULT.ORDER_OBSERVATION"),
        (["OBSERVATION.OBX"], "PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION"),
        (["OBSERVATION.OBX", "SPM"], "PATIENT_RESULT.ORDER_OBSERVATION"),
        (["NK1"], "PATIENT_RESULT.PATIENT.NK1"),
        (["NK1", "NK1"], "PATIENT_RESULT.PATIENT.NK1"),
        (["NK1", "PID"], "PATIENT_RESULT"),
        (["MSH"], None),
        (["MSH", "PID"], None),
        (["SFT"], "SFT"),
        ([], None),
    ],
)
def test_the_innermost_repeating_group_or_segment_holds_all_paths(ends: list[str], innermost: str | None) -> None:
    assert ORU.innermost_repeating(map(ORU.resolve, ends)) == innermost


def test_an_unknown_path_repeats_nowhere() -> None:
    with pytest.raises(ValueError, match="has no PID"):
        ORU.innermost_repeating(["PID"])


ORU_CASES = {
    "the usual": ("PID PV1 ORC OBR OBX OBX", "MSH PR(PAT(PID VISIT(PV1)) OO(CO(ORC) OBR OBS(OBX) OBS(OBX)))"),
    "without ORC": ("PID OBR OBX OBR OBX", "MSH PR(PAT(PID) OO(OBR OBS(OBX)) OO(OBR OBS(OBX)))"),
    "one ORC, many OBR": ("PID ORC OBR OBR", "MSH PR(PAT(PID) OO(CO(ORC) OBR) OO(OBR))"),
    "many ORC": ("PID ORC OBR ORC OBR", "MSH PR(PAT(PID) OO(CO(ORC) OBR) OO(CO(ORC) OBR))"),
    "ORC alone, twice": ("PID ORC ORC OBR", "MSH PR(PAT(PID) OO(CO(ORC)) OO(CO(ORC) OBR))"),
    "several patients": (
        "PID OBR OBX PID PV1 OBR OBX",
        "MSH PR(PAT(PID) OO(OBR OBS(OBX))) PR(PAT(PID VISIT(PV1)) OO(OBR OBS(OBX)))",
    ),
    "patients without results": ("PID PID OBR", "MSH PR(PAT(PID)) PR(PAT(PID) OO(OBR))"),
    "no patient": ("OBR OBX", "MSH PR(OO(OBR OBS(OBX)))"),
    "notes at every level": (
        "PID NTE ORC NTE OBR NTE OBX NTE NTE SPM OBX",
        "MSH PR(PAT(PID NTE) OO(CO(ORC) NTE OBR NTE OBS(OBX NTE NTE) SP(SPM SOBS(OBX))))",
    ),
    "OBX after SPM belongs to it": (
        "PID OBR OBX SPM OBX SPM",
        "MSH PR(PAT(PID) OO(OBR OBS(OBX) SP(SPM SOBS(OBX)) SP(SPM)))",
    ),
    "a note after SPM is the order's": ("PID OBR NTE SPM NTE OBR", "MSH PR(PAT(PID) OO(OBR NTE SP(SPM) NTE) OO(OBR))"),
    "no OBR behind PV1": ("PID PV1 OBX NTE OBX", "MSH PR(PAT(PID VISIT(PV1)) OO(OBS(OBX NTE) OBS(OBX)))"),
    "ORC but no OBR": ("PID ORC OBX OBX", "MSH PR(PAT(PID) OO(CO(ORC) OBS(OBX) OBS(OBX)))"),
    "OBX of a patient": ("PID OBX OBR OBX", "MSH PR(PAT(PID POBS(OBX)) OO(OBR OBS(OBX)))"),
    "timing before OBR": ("PID ORC TQ1 TQ2 OBR OBX", "MSH PR(PAT(PID) OO(CO(ORC) TQ(TQ1 TQ2) OBR OBS(OBX)))"),
    "timing after OBX": ("PID OBR OBX TQ1 TQ2 OBX", "MSH PR(PAT(PID) OO(OBR OBS(OBX) TQ(TQ1 TQ2) OBS(OBX)))"),
    "PV1 before PID": ("PV1 PID OBR", "MSH PR(PAT(VISIT(PV1) PID) OO(OBR))"),
    "PV1 after OBX": ("PID OBR OBX PV1 OBX", "MSH PR(PAT(PID VISIT(PV1)) OO(OBR OBS(OBX) OBS(OBX)))"),
    "PV2 after OBX": ("PID PV1 OBR PV2 PD1", "MSH PR(PAT(PID VISIT(PV1 PV2) PD1) OO(OBR))"),
    "PV2 without PV1": ("PID PV2 OBR", "MSH PR(PAT(PID VISIT(PV2)) OO(OBR))"),
    "PV2 before PV1": ("PID PV2 PV1 OBR", "MSH PR(PAT(PID VISIT(PV2 PV1)) OO(OBR))"),
    "a late ORC in front of nothing": ("PID OBR OBX ORC", "MSH PR(PAT(PID) OO(OBR OBS(OBX)) OO(CO(ORC)))"),
    "Z segments in between": ("ZAA PID ZPD OBR OBX ZBX OBX", "MSH PR(PAT(PID) OO(OBR OBS(OBX) OBS(OBX)))"),
    "the end": ("SFT SFT PID OBR DSC", "MSH SFT SFT PR(PAT(PID) OO(OBR)) DSC"),
}  # fmt: skip


@pytest.mark.parametrize(("ids", "shape"), ORU_CASES.values(), ids=ORU_CASES.keys())
def test_results_find_their_groups(ids: str, shape: str) -> None:
    arranged = arrange(ORU, ids)
    assert tree(arranged) == shape
    assert not arranged.problems


ADT_CASES = {
    "in order": (
        "EVN PID PD1 NK1 NK1 PV1 PV2 OBX AL1 DG1 PR1 ROL GT1 IN1 IN2 IN1 ROL",
        "MSH EVN PID PD1 NK1 NK1 PV1 PV2 OBX AL1 DG1 PROCEDURE(PR1 ROL) GT1 INSURANCE(IN1 IN2) INSURANCE(IN1 ROL)",
    ),
    "ROL behind PID and behind PV1": ("EVN PID ROL PV1 ROL ROL", "MSH EVN PID ROL PV1 ROL@PV1 ROL@PV1"),
    "no EVN": ("PID PV1 ROL", "MSH PID PV1 ROL@PV1"),
    "late EVN": ("PID EVN PV1", "MSH PID EVN PV1"),
    "no PID": ("EVN PV1", "MSH EVN PV1"),
    "no PV1": ("EVN PID AL1 PV1", "MSH EVN PID AL1 PV1"),
    "AL1 after DG1": ("EVN PID PV1 DG1 AL1 DG1", "MSH EVN PID PV1 DG1 AL1 DG1"),
    "ROL after DG1": ("EVN PID PV1 DG1 ROL", "MSH EVN PID PV1 DG1 ROL"),
    "IN2 without IN1, twice": (
        "EVN PID PV1 IN2 IN3 IN2",
        "MSH EVN PID PV1 INSURANCE(IN2 IN3) INSURANCE(IN2)",
    ),
    "PR1 after GT1": ("EVN PID PV1 PR1 GT1 PR1 ROL GT1", "MSH EVN PID PV1 PROCEDURE(PR1) GT1 PROCEDURE(PR1 ROL) GT1"),
    "GT1 after insurance": ("EVN PID PV1 IN1 GT1 IN2", "MSH EVN PID PV1 INSURANCE(IN1 IN2) GT1"),
}


@pytest.mark.parametrize(("ids", "shape"), ADT_CASES.values(), ids=ADT_CASES.keys())
def test_admissions_find_their_places(ids: str, shape: str) -> None:
    arranged = arrange(ADT, ids)
    assert tree(arranged) == shape
    assert not arranged.problems


@pytest.mark.parametrize(
    ("structure", "ids", "position", "path"),
    [
        (ADT, "EVN PID PV1 PID", 5, "PID"),
        (ADT, "EVN PID PID PV1", 4, "PID"),
        (ADT, "EVN PID PV1 PV1", 5, "PV1"),
        (ADT, "EVN PID PV1 IN1 IN2 IN2", 7, "INSURANCE.IN2"),
        (ORU, "PID PV1 OBR OBX PV1", 6, "PATIENT_RESULT.PATIENT.VISIT.PV1"),
        (ORU, "PID PV2 PV2 OBR", 4, "PATIENT_RESULT.PATIENT.VISIT.PV2"),
        (ORU, "PID PD1 PD1 OBR", 4, "PATIENT_RESULT.PATIENT.PD1"),
        (ORU, "PID OBR CTD CTD OBX", 5, "PATIENT_RESULT.ORDER_OBSERVATION.CTD"),
    ],
)
def test_a_segment_too_many_is_a_problem_and_merged_nowhere(
    structure: Structure, ids: str, position: int, path: str
) -> None:
    arranged = arrange(structure, ids)
    assert [(p.position, p.path) for p in arranged.problems] == [(position, path)]
    assert arranged.problems[0].segment_id == ids.split()[position - 2]
    assert position not in [segment.position for _, segment, _ in arranged.walk()]
    assert len(list(arranged.walk())) == len(ids.split())


def test_a_sender_without_patients_opens_a_result_for_each_visit() -> None:
    assert tree(arrange(ORU, "PV1 OBR PV1 OBR")) == "MSH PR(PAT(VISIT(PV1)) OO(OBR)) PR(PAT(VISIT(PV1)) OO(OBR))"


def test_orders_whose_required_beginning_never_comes_are_kept_apart() -> None:
    orders = Structure("MSH [PID] { ORDER: ORC OBR [{NTE}] [{ OBSERVATION: OBX }] }")
    assert tree(arrange(orders, "PID OBR OBX OBR OBX")) == "MSH PID ORDER(OBR OBS(OBX)) ORDER(OBR OBS(OBX))"
    arranged = arrange(orders, "PID ORC OBR OBX OBR")
    assert [p.path for p in arranged.problems] == ["ORDER.OBR"]


def test_observations_that_come_before_any_order_keep_out_of_the_next() -> None:
    plain = Structure("MSH PID { ORDER: [ORC] OBR [{NTE}] [{ OBSERVATION: OBX [{NTE}] }] }")
    assert tree(arrange(plain, "PID OBX OBX OBR OBX")) == "MSH PID ORDER(OBS(OBX) OBS(OBX)) ORDER(OBR OBS(OBX))"


def test_unknown_segments_stay_beside_the_group_they_followed() -> None:
    arranged = arrange(ORU, "ZAA PID ZPD OBR OBX ZBX MRG OBX")
    assert [(leaf.segment.id, leaf.path, leaf.group.path) for leaf in arranged.unplaced] == [
        ("ZAA", "", ""),
        ("ZPD", "", "PATIENT_RESULT.PATIENT"),
        ("ZBX", "", "PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION"),
        ("MRG", "", "PATIENT_RESULT.ORDER_OBSERVATION.OBSERVATION"),
    ]
    assert repr(arranged.unplaced[0]) == "<Leaf ZAA at 2>"


def test_walking_is_in_the_order_of_the_message_for_every_group() -> None:
    arranged = arrange(ORU, "PID OBR OBX PV1 NTE OBX")
    assert [segment.position for _, segment, _ in arranged.walk()] == [1, 2, 3, 4, 5, 6, 7]
    result = arranged.members[1]
    assert isinstance(result, Group)
    assert [segment.id for _, segment, _ in result.walk()] == ["PID", "OBR", "OBX", "PV1", "NTE", "OBX"]
    for path, segment, group in arranged.walk():
        assert ORU.nodes[path].segment_id == segment.id
        assert ORU.nodes[path].parent == group.path
        assert group.find(segment.id) is not None
    assert repr(arranged) == "<Group message of 2>"
    assert repr(arranged.leaves[1]) == "<Leaf PATIENT_RESULT.PATIENT.PID at 2>"


def test_another_segment_is_found_in_the_group_below_it_and_then_around() -> None:
    arranged = arrange(ORU, "PID NTE ORC OBR NTE OBX NTE OBX ORC OBR OBX PID OBR")

    def found(at: int, segment_id: str) -> int | None:
        group = next(group for _, segment, group in arranged.walk() if segment.position == at)
        segment = group.find(segment_id)
        return segment.position if segment else None

    assert found(4, "OBR") == 5  # from ORC to its OBR
    assert found(10, "OBR") == 11
    assert found(7, "OBR") == found(9, "OBR") == 5
    assert found(12, "ORC") == 10
    assert found(5, "NTE") == 6  # the order's own before those of its observations
    assert found(9, "NTE") == 6  # this observation has none: the order around has
    assert found(7, "NTE") == 8
    assert found(12, "PID") == 2
    assert found(14, "PID") == 13
    assert found(7, "PV1") is None
    assert found(2, "MSH") == 1


def test_situations_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hl7bridge.hl7v2.arrangement.MAX_STATES", 3)
    small = Structure(ORU_R01)
    assert tree(arrange(small, ORU_CASES["the usual"][0])) == ORU_CASES["the usual"][1]
    assert len(small._arranger._states) == 3


IDS = "SFT PID PD1 NTE NK1 PV1 PV2 ORC OBR OBX SPM TQ1 TQ2 CTD PRT DSC EVN PR1 ROL GT1 IN1 IN2 ZZZ"


@given(st.lists(st.sampled_from(IDS.split()), max_size=25))
@pytest.mark.parametrize("structure", [ORU, ADT])
def test_every_segment_of_any_message_is_in_exactly_one_place(structure: Structure, ids: list[str]) -> None:
    arranged = arrange(structure, " ".join(ids))
    positions = [segment.position for _, segment, _ in arranged.walk()]
    assert positions == sorted(positions)
    everything = [
        *positions,
        *(leaf.segment.position for leaf in arranged.unplaced),
        *(p.position for p in arranged.problems),
    ]
    assert sorted(everything) == list(range(1, len(ids) + 2))
    assert sorted(s.position for _, s, _ in Group.walk(arranged)) == positions
    check_once(structure, arranged)
    assert tree(arranged) == tree(arrange(structure, " ".join(ids)))


def check_once(structure: Structure, group: Group) -> None:
    """Nothing that is allowed once in its group is there twice."""
    paths = [member.path for member in group.members]
    assert all(paths.count(path) == 1 or structure.nodes[path].repeats for path in paths)
    for member in group.members:
        if isinstance(member, Group):
            assert member.parent is group
            check_once(structure, member)


@pytest.mark.corpus
@needs_corpus
def test_real_messages_find_a_place_for_all_that_the_structure_knows() -> None:
    problems = {}
    for path in corpus_files():
        for piece in split(path.read_bytes()):
            parsed = parse(piece.raw, charset_fallback="cp1252")
            structure = ORU if parsed.header.message_code == "ORU" else ADT
            arranged = structure.arrange(parsed.segments)
            check_once(structure, arranged)
            if arranged.problems:
                problems[path.stem] = [problem.path for problem in arranged.problems]
    assert problems == {"cosyte_a24": ["PID"]}


@pytest.mark.corpus
@needs_corpus
def test_the_feed_arranges_without_a_problem() -> None:
    assert CORPUS.is_dir()
    for parsed in feed():
        if parsed.header.message_code in ("ADT", "ORU"):
            structure = ORU if parsed.header.message_code == "ORU" else ADT
            assert not structure.arrange(parsed.segments).problems
